package cache

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/memory"
	"github.com/agentfs/agentfs/backends/memory/memorytest"
)

// sixMethods hides what a store can do beyond them.
type sixMethods struct{ backends.Store }

func newOverMemory(t *testing.T, ttl time.Duration) (*FS, *memory.Store) {
	t.Helper()
	m := memorytest.New(t, memory.Config{NoTmpfs: true, Size: 1 << 30})
	return newOver(t, sixMethods{m}, Config{TTL: ttl}), m
}

// newOver returns a cache of s with a directory of its own, until the test ends.
func newOver(t *testing.T, s backends.Store, cfg Config) *FS {
	t.Helper()
	cfg.Dir, cfg.Identity = t.TempDir(), "test:"+t.Name()
	f := openInternal(t, s, cfg)
	t.Cleanup(func() { closeNow(t, f) })
	return f
}

// openInternal returns a cache of s in the directory of cfg.
func openInternal(t *testing.T, s backends.Store, cfg Config) *FS {
	t.Helper()
	f, err := New(t.Context(), s, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// closeNow ends a cache of which all can be stored.
func closeNow(t *testing.T, f *FS) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := f.Close(ctx); err != nil {
		t.Error(err)
	}
}

// Files that come and go leave nothing behind, whether they are written and
// closed before they are removed or after: no node, no content, no bytes that
// count, nothing that waits.
func TestRemovedFilesLeaveNothing(t *testing.T) {
	rounds := 400
	if testing.Short() {
		rounds = 100
	}
	f, _ := newOverMemory(t, time.Hour)
	ctx := t.Context()
	for i := range rounds {
		name := strconv.Itoa(i)
		_, _, h, err := f.Create(ctx, f.Root(), name, os.O_RDWR, backends.CreateAttr{Mode: 0o644})
		if err != nil {
			t.Fatal(err)
		}
		finish := func() {
			if _, err := h.WriteAt(ctx, []byte("x"), 0); err != nil {
				t.Fatal(err)
			}
			if err := h.Flush(ctx); err != nil {
				t.Fatal(err)
			}
			if err := h.Close(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if i%2 == 0 {
			finish()
		}
		if err := f.Unlink(ctx, f.Root(), name); err != nil {
			t.Fatal(err)
		}
		if i%2 == 1 {
			finish()
		}
	}
	if err := f.SyncDir(ctx, f.Root()); err != nil {
		t.Fatal(err)
	}
	time.Sleep(linger + 100*time.Millisecond) // an open may be on its way when a name goes
	f.room.spares.end()
	contents, err := os.ReadDir(filepath.Join(f.room.dir, "content"))
	if err != nil {
		t.Fatal(err)
	}
	contents = slices.DeleteFunc(contents, func(e os.DirEntry) bool { return slabFile(e.Name()) })
	used, _ := f.room.usage()
	slots := f.room.slab.count - uint64(len(f.room.slab.free))
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.idle.Len() > 0 || f.q.len() > 0 || len(contents) > 0 || slots > 0 || used > 0 || f.tree.Nodes() != 1 {
		t.Errorf("after %d removed files: %d idle, %d pending, %d contents, %d slots, %d bytes, %d nodes",
			rounds, f.idle.Len(), f.q.len(), len(contents), slots, used, f.tree.Nodes())
	}
}

// A directory that somebody else has removed is gone with all that was below
// it: the count of nodes is that of the tree.
func TestNodesOfRemovedDirectories(t *testing.T) {
	f, m := newOverMemory(t, 0)
	ctx := t.Context()
	for range 3 {
		for i := range 50 {
			body := io.NewSectionReader(strings.NewReader("x"), 0, 1)
			if _, err := m.Put(ctx, fmt.Sprintf("d/f%d", i), body, backends.PutOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		d, _, err := f.Lookup(ctx, f.Root(), "d")
		if err != nil {
			t.Fatal(err)
		}
		if list, err := f.ReadDir(ctx, d); err != nil || len(list) != 50 {
			t.Fatalf("%d names, %v", len(list), err)
		}
		for i := range 50 {
			if err := m.Remove(ctx, fmt.Sprintf("d/f%d", i), backends.If{}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := m.Stat(ctx, "d"); err == nil {
			if err := m.Remove(ctx, "d", backends.If{}); err != nil {
				t.Fatal(err)
			}
		}
		if list, err := f.ReadDir(ctx, f.Root()); err != nil || len(list) > 0 {
			t.Fatalf("the root has %v, %v", list, err)
		}
	}
	if n := f.tree.Nodes(); n != 1 {
		t.Errorf("only the root is left, and %d nodes are counted", n)
	}
}

// What a directory remembers of changed names costs little per change, and
// goes when no question can be older.
func TestChangedNames(t *testing.T) {
	d := &dir{}
	const n = 20000
	gone := 0 // how often all of them were gone through
	for i := range n {
		name := strconv.Itoa(i)
		before := d.pruned
		d.begin(name)
		d.end(name)
		if d.pruned != before {
			gone++
		}
	}
	if gone > 3 {
		t.Errorf("%d changes went through all names %d times", n, gone)
	}
	if len(d.changing) > 0 || len(d.changed) != n {
		t.Errorf("%d names changing, %d changed lately, want none and %d", len(d.changing), len(d.changed), n)
	}
	for name, at := range d.changed {
		d.changed[name] = at.Add(-10 * storeTimeout)
	}
	d.pruned = d.pruned.Add(-10 * storeTimeout)
	d.begin("last")
	d.end("last")
	if len(d.changed) != 1 {
		t.Errorf("%d old changes are remembered", len(d.changed)-1)
	}
}
