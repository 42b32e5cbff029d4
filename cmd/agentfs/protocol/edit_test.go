package protocol_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/local"
	"github.com/agentfs/agentfs/cmd/agentfs/protocol"
)

// In a file of DOS lines an edit keeps them, however the texts are given.
func TestEditKeepsLineEnds(t *testing.T) {
	for _, c := range []struct{ text, old, new, want string }{
		{"a\r\nb\r\nc\r\n", "a\nb", "x\ny\nz", "x\r\ny\r\nz\r\nc\r\n"},
		{"a\r\nb\r\n", "a\r\nb", "x\r\ny", "x\r\ny\r\n"},
		{"a\r\nb\r\n", "b", "c\nd", "a\r\nc\r\nd\r\n"},
		{"a\nb\r\n", "b", "c\nd", "a\nc\nd\r\n"},
		{"a\r\nb\nc\r\n", "b\nc", "x\ny", "a\r\nx\ny\r\n"}, // only there as it was given
		{"a\nb\n", "a", "x\r\ny", "x\r\ny\nb\n"},
		{"no line end", "end", "start\n", "no line start\n"},
	} {
		s := newStore(t, map[string]string{"f": c.text})
		if _, err := tree(s).Edit(t.Context(), "f", c.old, c.new, protocol.EditOptions{}); err != nil {
			t.Errorf("%q: %v", c.text, err)
		}
		if got := content(t, s, "f"); got != c.want {
			t.Errorf("%q with %q for %q: %q, want %q", c.text, c.new, c.old, got, c.want)
		}
	}
}

// An edit keeps the mode.
func TestEditKeepsMode(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "run.sh")
	if err := errors.Join(os.WriteFile(file, []byte("#!/bin/sh\n"), 0o600), os.Chmod(file, 0o751)); err != nil {
		t.Fatal(err)
	}
	s, err := local.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	res, err := tree(s).Edit(t.Context(), "run.sh", "/bin/sh", "/bin/bash", protocol.EditOptions{})
	if err != nil || res.Mode != "0751" {
		t.Errorf("%+v, %v", res, err)
	}
	if fi, err := os.Stat(file); err != nil || fi.Mode().Perm() != 0o751 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
}

// A dry run shows the difference and changes nothing; a version that is asked for
// has to be there.
func TestEditDryRunAndVersion(t *testing.T) {
	s := newStore(t, map[string]string{"f": "1\n2\n3\n4\n5\n6\n7\n8\n9\n"})
	res, err := tree(s).Edit(t.Context(), "f", "5", "five", protocol.EditOptions{DryRun: true})
	const want = "--- a/f\n+++ b/f\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n"
	if err != nil || res.Diff != want {
		t.Errorf("the difference is\n%s, %v", res.Diff, err)
	}
	if content(t, s, "f") != "1\n2\n3\n4\n5\n6\n7\n8\n9\n" {
		t.Error("a dry run has changed the file")
	}
	if _, err := tree(s).Edit(t.Context(), "f", "5", "five", protocol.EditOptions{IfVersion: "old"}); !errors.Is(err, backends.ErrChanged) {
		t.Errorf("another version: %v", err)
	}
	if _, err := tree(s).Edit(t.Context(), "f", "5", "five", protocol.EditOptions{IfVersion: res.Version}); err != nil {
		t.Errorf("this version: %v", err)
	}
}

// Of many occurrences the error counts all and shows the first lines, cut to a
// bearable length.
func TestEditShowsLines(t *testing.T) {
	s := newStore(t, map[string]string{"f": strings.Repeat("an x and "+strings.Repeat("y", 1000)+"\n", 30)})
	var several *protocol.AmbiguousError
	_, err := tree(s).Edit(t.Context(), "f", "x", "z", protocol.EditOptions{})
	if !errors.As(err, &several) || several.Count != 30 || len(several.Lines) != 20 || several.Lines[19].Number != 20 || len(several.Lines[19].Text) != 160 {
		t.Errorf("%v", err)
	}
	if text := protocol.Describe(err); !strings.Contains(text, "30 times") || !strings.Contains(text, "and more") || len(text) > 5000 {
		t.Errorf("%d bytes: %s", len(text), text)
	}
}
