package cache_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/cache"
)

// glancing is a store whose pages are small.
type glancing struct {
	asking
	size int
}

func (g glancing) WalkPage(ctx context.Context, dir, after string) (backends.Page, error) {
	if err := g.call("page", dir); err != nil {
		return backends.Page{}, err
	}
	return backends.PageOf(backends.Walk(ctx, g.Store, dir, after), g.size)
}

func (g glancing) StatWalk(ctx context.Context, name string) (backends.Entry, backends.Page, error) {
	if err := g.call("look", name); err != nil {
		return backends.Entry{}, backends.Page{}, err
	}
	e, err := g.Store.Stat(ctx, name)
	if err != nil || !e.IsDir() {
		return e, backends.Page{}, err
	}
	p, err := backends.PageOf(backends.Walk(ctx, g.Store, name, ""), g.size)
	return e, p, err
}

// newGlancing returns a store with 30 directories of 5 files, and a cache over it.
func newGlancing(t *testing.T, size int, cfg cache.Config) (glancing, *cache.FS) {
	t.Helper()
	s := glancing{asking{newProbe(plain{newMemory(t)})}, size}
	for i := range 30 {
		for j := range 5 {
			put(t, s.Store, fmt.Sprintf("all/d%02d/f%d", i, j), "x")
		}
	}
	return s, newCache(t, s, cfg)
}

// A walk into a directory that nobody has asked about costs one listing, which has
// all that is below the name, and one for what the directory above begins with.
func TestFirstLookupBringsWhatIsBelow(t *testing.T) {
	s, f := newGlancing(t, 1000, cache.Config{TTL: time.Hour})
	n, _ := lookup(t, f, "all")
	if got := s.reset(); got != "map[list:1 look:1]" {
		t.Errorf("a lookup cost %s", got)
	}
	for i := range 30 {
		dir := fmt.Sprintf("all/d%02d", i)
		if got := names(t, t.Context(), f, dir); !slices.Equal(got, []string{"f0", "f1", "f2", "f3", "f4"}) {
			t.Fatalf("%s has %q", dir, got)
		}
		if _, a := lookup(t, f, dir+"/f3"); a.Size != 1 {
			t.Fatalf("%s/f3: %+v", dir, a)
		}
	}
	if _, _, err := f.Lookup(t.Context(), n, "none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a name that is not there: %v", err)
	}
	if got := s.reset(); got != "map[]" {
		t.Errorf("all that is below cost %s", got)
	}
	if _, _, err := f.Lookup(t.Context(), f.Root(), "none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a name that is not there: %v", err)
	}
	if got := s.reset(); got != "map[]" {
		t.Errorf("a second lookup in a directory of one name cost %s", got)
	}
}

// Of a small directory all is known with the first of its names; of a large one just what was
// asked for, and how it is. So it is of one that begins with many names before the records.
func TestFirstLookupInDirectories(t *testing.T) {
	for name, c := range map[string]struct {
		beside string // the format of the other names
		n      int
		cost   string // of the first lookup, and of the next ones
		next   string
	}{
		"small":            {"z%03d", 30, "map[list:1 look:1 open:1]", "map[]"},
		"large":            {"z%03d", 100, "map[list:1 look:1 open:1]", "map[page:1]"},
		"large, in front":  {"-%03d", 100, "map[list:2 look:1 open:1]", "map[page:1]"},
		"small, in front":  {"-%03d", 30, "map[list:1 look:1 open:1]", "map[]"},
		"none beside":      {"", 0, "map[list:1 look:1 open:1]", "map[]"},
		"as many as asked": {"z%03d", 48, "map[list:1 look:1 open:1]", "map[]"},
	} {
		t.Run(name, func(t *testing.T) {
			s := glancing{asking{newProbe(plain{newMemory(t)})}, 1000}
			for i := range c.n {
				put(t, s.Store, fmt.Sprintf(c.beside, i), "x")
			}
			there := newCache(t, plain{s.Store}, cache.Config{Identity: "test:there"})
			mkdir(t, there, "secret", 0o700)
			createIn(t, there, "secret", "f", "x")
			syncAll(t, there)
			f := newCache(t, s, cache.Config{TTL: time.Hour})
			s.reset()
			if _, a := lookup(t, f, "secret"); a.Mode.Perm() != 0o700 {
				t.Errorf("it has the mode %v", a.Mode)
			}
			if got := s.reset(); got != c.cost {
				t.Errorf("the first lookup cost %s, want %s", got, c.cost)
			}
			for _, name := range []string{".git", "nothing"} {
				if _, _, err := f.Lookup(t.Context(), f.Root(), name); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s, which is not there: %v", name, err)
				}
			}
			if c.n > 0 {
				lookup(t, f, fmt.Sprintf(c.beside, 7))
			}
			if got := s.reset(); got != c.next {
				t.Errorf("others cost %s, want %s", got, c.next)
			}
			if got := names(t, t.Context(), f, "."); len(got) != c.n+1 {
				t.Errorf("it has %q", got)
			}
			if got := s.reset(); got != "map[]" {
				t.Errorf("a listing cost %s", got)
			}
		})
	}
}

// What a listing of a name could not have whole is gone on with, by whoever lists
// that directory.
func TestFirstLookupIntoALargeDirectory(t *testing.T) {
	s, f := newGlancing(t, 42, cache.Config{TTL: time.Hour})
	if _, a := lookup(t, f, "all"); !a.Mode.IsDir() {
		t.Fatalf("%+v", a)
	}
	s.reset()
	lookup(t, f, "all/d03")
	if got := names(t, t.Context(), f, "all/d03"); len(got) != 5 {
		t.Errorf("d03 has %q", got)
	}
	if got := s.reset(); got != "map[]" {
		t.Errorf("what the page had cost %s", got)
	}
	if got := names(t, t.Context(), f, "all"); len(got) != 30 {
		t.Errorf("the directory has %q", got)
	}
	if got := s.reset(); got != "map[list:1]" {
		t.Errorf("the rest of the directory cost %s", got)
	}
	if got := names(t, t.Context(), f, "all/d20"); len(got) != 5 {
		t.Errorf("d20 has %q", got)
	}
}

// What this machine has made, changed or removed while a name was asked for stays.
func TestFirstLookupBesideChanges(t *testing.T) {
	s, f := newGlancing(t, 1000, cache.Config{TTL: time.Hour, Grace: -1})
	n, _ := lookup(t, f, "all")
	d, _, err := f.Lookup(t.Context(), n, "d07")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Unlink(t.Context(), d, "f1"); err != nil {
		t.Fatal(err)
	}
	createIn(t, f, "all/d07", "new", "ours")
	s.reset()
	if got := names(t, t.Context(), f, "all/d07"); !slices.Equal(got, []string{"f0", "f2", "f3", "f4", "new"}) {
		t.Errorf("it has %q", got)
	}
}

// Who may not list is answered by asking for the name itself, and not asked to list
// again.
func TestFirstLookupWithoutPermissionToList(t *testing.T) {
	s, f := newGlancing(t, 1000, cache.Config{TTL: time.Hour, NoAttributes: true})
	put(t, s.Store, "file", "content")
	s.setRefuse(func(op, _ string) error {
		if op == "stat" || op == "statfile" {
			return nil
		}
		return fs.ErrPermission
	})
	if _, a := lookup(t, f, "file"); a.Size != 7 {
		t.Errorf("%+v", a)
	}
	if got := s.reset(); got != "map[look:1 stat:1]" {
		t.Errorf("the first lookup cost %s", got)
	}
	if _, _, err := f.Lookup(t.Context(), f.Root(), "none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a name that is not there: %v", err)
	}
	if got := s.reset(); got != "map[stat:1]" {
		t.Errorf("the second lookup cost %s", got)
	}
}
