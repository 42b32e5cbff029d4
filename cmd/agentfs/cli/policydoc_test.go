package cli

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/agentfs/agentfs/backends/policy"
)

// The example in docs/policy.md gives what the table below it says.
func TestPolicyDoc(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "policy.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "```yaml\n")
	text, rest, ok := strings.Cut(rest, "```\n")
	if !ok {
		t.Fatal("no example")
	}
	c, err := readConfig(writeConfig(t, text), nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.policy()
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for line := range strings.Lines(rest) {
		cells := strings.Split(line, " | ")
		if !strings.HasPrefix(line, "| /") || len(cells) != 4 {
			continue
		}
		rows++
		uid, err := strconv.ParseUint(cells[1], 10, 32)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		want, err := policy.ParseAccess(cells[2])
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		d := p.Decide(treeName(strings.TrimPrefix(cells[0], "| ")), uint32(uid))
		if d.Access != want {
			t.Errorf("%sgot %v", line, d.Access)
		}
		if rule, ok := strings.CutPrefix(cells[3], "rule "); ok && !strings.HasPrefix(rule, strconv.Itoa(d.Number)) {
			t.Errorf("%srule %d decides", line, d.Number)
		}
	}
	if rows != 10 {
		t.Errorf("%d rows", rows)
	}
}
