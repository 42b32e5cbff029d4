package cache_test

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/cache"
)

// A conflict is shown, also after a directory above was renamed and by the next
// mount, until somebody removes or renames this machine's content.
func TestConflictIsShownUntilResolved(t *testing.T) {
	s := newMemory(t)
	dir := t.TempDir()
	mount := func(do func(f *cache.FS)) {
		t.Helper()
		f, err := cache.New(t.Context(), plain{s}, cache.Config{Dir: dir, Identity: "test:shown", TTL: time.Hour, Durability: "close"})
		if err != nil {
			t.Fatal(err)
		}
		do(f)
		if err := f.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	put(t, s, "d/one", "base")
	put(t, s, "d/two", "base")
	mount(func(f *cache.FS) {
		for _, name := range []string{"d/one", "d/two"} {
			n, _ := lookup(t, f, name)
			h := openFile(t, f, n, os.O_RDWR)
			if _, err := h.WriteAt(t.Context(), []byte("ours"), 0); err != nil {
				t.Fatal(err)
			}
			put(t, s, name, "theirs")
			if err := closeFile(t, h); !errors.Is(err, backends.ErrChanged) {
				t.Errorf("close over a change from outside: %v, want ErrChanged", err)
			}
		}
		if err := f.Rename(t.Context(), f.Root(), "d", f.Root(), "e", 0); err != nil {
			t.Fatal(err)
		}
	})
	mount(func(f *cache.FS) {
		all := f.State().Conflicts
		if len(all) != 2 || all[0].Name != "e/one" || all[1].Name != "e/two" {
			t.Fatalf("the conflicts are %v", all)
		}
		d, _ := lookup(t, f, "e")
		if err := f.Unlink(t.Context(), d, all[0].Ours[len("e/"):]); err != nil {
			t.Fatal(err)
		}
		if err := f.Rename(t.Context(), d, all[1].Ours[len("e/"):], d, "two", 0); err != nil {
			t.Fatal(err)
		}
		if all := f.State().Conflicts; len(all) != 0 {
			t.Errorf("what was resolved is shown: %v", all)
		}
	})
	mount(func(f *cache.FS) {
		if all := f.State().Conflicts; len(all) != 0 {
			t.Errorf("the next mount shows what was resolved: %v", all)
		}
	})
	if got := get(t, s, "e/two"); got != "ours" {
		t.Errorf("what was put over theirs is %q", got)
	}
}
