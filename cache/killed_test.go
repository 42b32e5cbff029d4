package cache_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/cache"
)

// killedWith returns what the next process has of the file after this one has
// done do with it and was killed, while the store was down.
func killedWith(t *testing.T, p *probe, identity string, do func(*cache.FS)) *cache.FS {
	t.Helper()
	return killedOver(t, p, p, identity, do)
}

// killedOver is killedWith where the next process has another view of the store.
func killedOver(t *testing.T, p *probe, then backends.Store, identity string, do func(*cache.FS)) *cache.FS {
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
	return newCache(t, then, cache.Config{Dir: after, Identity: identity, TTL: time.Hour})
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

// A file that grows out of its slot, while a seal of it waits or not, is after a
// kill what its last write made of it.
func TestOutgrowThenKill(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		for _, closed := range []bool{false, true} {
			t.Run(fmt.Sprintf("sealed=%t,closed=%t", sealed, closed), func(t *testing.T) {
				p := newProbe(newMemory(t))
				p.setRefuse(refusing("put"))
				want := strings.Repeat("small", 1000) + strings.Repeat("grown", 30_000)
				next := killedWith(t, p, "test:outgrown", func(f *cache.FS) {
					h := newFile(t, f, f.Root(), "f")
					writeAt(t, h, want[:5000], 0)
					if sealed {
						if err := h.Flush(t.Context()); err != nil {
							t.Fatal(err)
						}
					}
					writeAt(t, h, want[5000:], 5000)
					if closed {
						if err := h.Flush(t.Context()); err != nil {
							t.Fatal(err)
						}
					}
				})
				n, _ := lookup(t, next, "f")
				h := openFile(t, next, n, os.O_RDONLY)
				if got := readAll(t, h, len(want)+1); got != want {
					t.Errorf("after the kill it has %d bytes that differ from the %d written", len(got), len(want))
				}
				if err := closeFile(t, h); err != nil {
					t.Error(err)
				}
				p.setRefuse(nil)
				if err := next.SyncDir(t.Context(), next.Root()); err != nil {
					t.Error(err)
				}
				if got := get(t, p.Store, "f"); got != want {
					t.Errorf("the store has %d bytes", len(got))
				}
			})
		}
	}
}
