package cache_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/cache"
)

// Who overwrites, cuts or punches what waits to be sent gets room for what is saved
// of it from contents that can be fetched again, as any other writer does.
func TestRoomForWhatIsOverwritten(t *testing.T) {
	const size = 40 << 10
	for what, change := range map[string]func(*cache.FS, backends.Node, backends.File) error{
		"overwritten": func(_ *cache.FS, _ backends.Node, h backends.File) error {
			_, err := h.WriteAt(t.Context(), []byte(strings.Repeat("b", size)), 0)
			return err
		},
		"cut": func(f *cache.FS, n backends.Node, _ backends.File) error {
			_, err := f.SetAttr(t.Context(), n, backends.AttrChange{Set: backends.SetSize, Size: 1})
			return err
		},
		"punched": func(_ *cache.FS, _ backends.Node, h backends.File) error {
			return h.(backends.Allocator).Allocate(t.Context(), 0, size, 3)
		},
	} {
		p := newProbe(newMemory(t))
		put(t, p.Store, "clean", text(250<<10))
		f := newCache(t, p, cache.Config{Budget: cache.NewBudget(300 << 10), Durability: "writeback", Grace: time.Minute, TTL: time.Hour})
		n, _ := lookup(t, f, "clean")
		h := openFile(t, f, n, os.O_RDONLY)
		readAll(t, h, 250<<10)
		if err := closeFile(t, h); err != nil {
			t.Fatal(err)
		}
		h = newFile(t, f, f.Root(), "f")
		writeAt(t, h, strings.Repeat("a", size), 0)
		if err := h.Flush(t.Context()); err != nil { // what is sent
			t.Fatal(err)
		}
		n, _ = lookup(t, f, "f")
		if err := change(f, n, h); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if err := closeFile(t, h); err != nil {
			t.Error(err)
		}
	}
}
