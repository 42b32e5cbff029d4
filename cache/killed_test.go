package cache_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/cache"
)

// killedWith returns what the next process has of the file after this one has
// done do with it and was killed, while the store was down.
func killedWith(t *testing.T, p *probe, identity string, do func(*cache.FS)) *cache.FS {
	t.Helper()
	dir := t.TempDir()
	f, err := cache.New(t.Context(), p, cache.Config{Dir: dir, Identity: identity})
	if err != nil {
		t.Fatal(err)
	}
	do(f)
	after := t.TempDir() // a kill leaves the room as it is
	if err := os.CopyFS(after, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_ = f.Close(ctx) // not all is stored
	return newCache(t, p, cache.Config{Dir: after, Identity: identity})
}

// A file that was closed, cut to nothing and written again is in the journal
// under the name of its new local file.
func TestTruncateUnderSealThenKill(t *testing.T) {
	p := newProbe(newMemory(t))
	p.setRefuse(func(op, _ string) error {
		if op == "put" {
			return errDown
		}
		return nil
	})
	next := killedWith(t, p, "test:truncated", func(f *cache.FS) {
		n, _, h, err := f.Create(t.Context(), f.Root(), "f", os.O_RDWR, backends.CreateAttr{Mode: 0o644})
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{"what was there before", "now"} {
			if _, err := f.SetAttr(t.Context(), n, backends.AttrChange{Set: backends.SetSize}); err != nil {
				t.Fatal(err)
			}
			if _, err := h.WriteAt(t.Context(), []byte(text), 0); err != nil {
				t.Fatal(err)
			}
			if err := h.Flush(t.Context()); err != nil { // seals it
				t.Fatal(err)
			}
		}
	})
	n, _ := lookup(t, next, "f")
	h := openFile(t, next, n, os.O_RDONLY)
	if got := readAll(t, h, 100); got != "now" {
		t.Errorf("after the kill it reads %q", got)
	}
	if err := closeFile(t, h); err != nil {
		t.Error(err)
	}
	p.setRefuse(nil)
	if err := next.SyncDir(t.Context(), next.Root()); err != nil {
		t.Error(err)
	}
}
