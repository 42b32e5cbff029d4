package semantics

import (
	"os"
	"path/filepath"
	"testing"
)

// An agent's ordinary session in a shell (notes, searches, edits in place, atomic
// replacement, moves, copies, archives) prints the same as on a local disk.
func TestAgentSession(t *testing.T) {
	scripts := filepath.Join("..", "..", "..", "testdata", "scripts")
	want, err := os.ReadFile(filepath.Join(scripts, "agent-session.want"))
	if err != nil {
		t.Fatal(err)
	}
	script, err := filepath.Abs(filepath.Join(scripts, "agent-session.sh"))
	if err != nil {
		t.Fatal(err)
	}
	onEach(t, func(t *testing.T, p place) {
		if got := run(t, p.dir, "sh", script, p.dir); got != string(want) {
			t.Errorf("it printed\n%s\nwant\n%s", got, want)
		}
	})
}
