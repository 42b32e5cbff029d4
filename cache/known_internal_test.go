package cache

import (
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/tree"
)

// made makes a directory with a file in it, which the store has when it returns.
func made(t *testing.T, f *FS, name string) *tree.Node {
	t.Helper()
	n, _, err := f.Mkdir(t.Context(), f.Root(), name, backends.CreateAttr{Mode: 0o755})
	if err != nil {
		t.Fatal(err)
	}
	_, _, h, err := f.Create(t.Context(), n, "f", 0, backends.CreateAttr{Mode: 0o644})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(h.Flush(t.Context()), h.Close(t.Context()), f.SyncDir(t.Context(), f.Root())); err != nil {
		t.Fatal(err)
	}
	return n.(*tree.Node)
}

// A removal in the store makes nothing known for longer: what somebody else puts
// under the name is seen when the ttl since it was removed here is over.
func TestRemovedIsKnownSinceThen(t *testing.T) {
	f, m := newOverMemory(t, time.Hour)
	n := made(t, f, "d")
	if err := f.Unlink(t.Context(), n, "f"); err != nil {
		t.Fatal(err)
	}
	d := dirOf(n)
	d.mu.Lock()
	at := d.absent["f"]
	d.mu.Unlock()
	if err := f.SyncDir(t.Context(), f.Root()); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Put(t.Context(), "d/f", io.NewSectionReader(strings.NewReader("theirs"), 0, 6), backends.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.Lookup(t.Context(), n, "f"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("within the ttl: %v", err)
	}
	d.mu.Lock()
	if now := d.absent["f"]; at.IsZero() || !now.Equal(at) {
		t.Errorf("removed at %v, and known to be gone since %v", at, now)
	}
	d.absent["f"] = at.Add(-time.Hour)
	d.mu.Unlock()
	if _, _, err := f.Lookup(t.Context(), n, "f"); err != nil {
		t.Errorf("after the ttl: %v", err)
	}
}
