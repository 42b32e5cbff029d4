package cli

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

var update = flag.Bool("update", false, "write testdata/help.txt anew")

// The help of all commands, in one file, so that a change to it is seen in a
// review.
func TestHelp(t *testing.T) {
	var all bytes.Buffer
	var show func(cmd *cobra.Command)
	show = func(cmd *cobra.Command) {
		if name := cmd.Name(); name == "help" || name == "completion" {
			return // cobra's own
		}
		all.WriteString("=== " + cmd.CommandPath() + "\n\n")
		cmd.SetOut(&all)
		if err := cmd.Help(); err != nil {
			t.Fatal(err)
		}
		all.WriteString("\n")
		for _, c := range cmd.Commands() {
			show(c)
		}
	}
	p := &program{out: &all, err: &all}
	show(p.rootCommand())
	golden := filepath.Join("testdata", "help.txt")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, all.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if all.String() != string(want) {
		t.Errorf("the help has changed; look at it and run: go test ./cmd/agentfs/cli -run TestHelp -update\n%s", all.String())
	}
	for line := range strings.Lines(all.String()) {
		if strings.Contains(line, "\t") {
			t.Errorf("a tab in %q", line)
		}
	}
}
