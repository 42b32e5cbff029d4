package cache_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/cache"
)

// What a mount knows by what it has done itself stays known when the store has
// followed: within the ttl nobody is asked again.

// overAsking returns a cache over a store whose questions are counted and can be
// refused. The root is listed, and has a and b in it, each with files and a
// directory.
func overAsking(t *testing.T, cfg cache.Config) (asking, *cache.FS) {
	t.Helper()
	if cfg.Durability == "" {
		cfg.Durability = "writeback"
	}
	s := asking{newProbe(newMemory(t))}
	f := newCache(t, s, cfg)
	names(t, t.Context(), f, ".")
	for _, dir := range []string{"a", "b"} {
		mkdir(t, f, dir, 0o755)
		mkdir(t, f, dir+"/sub", 0o755)
		for i := range 4 {
			createIn(t, f, dir, fmt.Sprint("f", i), "x")
			createIn(t, f, dir+"/sub", fmt.Sprint("g", i), "x")
		}
	}
	stored(t, f)
	return s, f
}

// stored waits until the store has followed. A barrier is content with less: what
// was renamed and back is stored before anybody has looked.
func stored(t *testing.T, f *cache.FS) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		if err := f.SyncDir(t.Context(), f.Root()); err != nil {
			t.Fatal(err)
		}
		st := f.State()
		if st.PendingCount == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the store does not follow: %+v", st.Pending)
		}
	}
}

// down makes the store refuse everything until the test ends.
func (p *probe) down(t *testing.T) {
	p.setRefuse(func(string, string) error { return errDown })
	t.Cleanup(func() { p.setRefuse(nil) })
	p.reset()
}

// all returns the names below path, as find prints them.
func all(t *testing.T, f *cache.FS, path string) (found []string) {
	t.Helper()
	for _, name := range names(t, t.Context(), f, path) {
		child := strings.TrimPrefix(path+"/"+name, "./")
		found = append(found, child)
		if _, a := lookup(t, f, child); a.Mode.IsDir() {
			found = append(found, all(t, f, child)...)
		}
	}
	slices.Sort(found)
	return found
}

// moved renames path to to, both from the root.
func moved(t *testing.T, f *cache.FS, path, to string) {
	t.Helper()
	from, oldName := parentOf(t, f, path)
	p, newName := parentOf(t, f, to)
	rename(t, f, from, oldName, p, newName)
}

// parentOf returns the directory that path is in, and its name there.
func parentOf(t *testing.T, f *cache.FS, path string) (backends.Node, string) {
	t.Helper()
	i := strings.LastIndex(path, "/")
	if i < 0 {
		return f.Root(), path
	}
	p, _ := lookup(t, f, path[:i])
	return p, path[i+1:]
}

// unlinked removes path.
func unlinked(t *testing.T, f *cache.FS, path string) {
	t.Helper()
	p, name := parentOf(t, f, path)
	if err := f.Unlink(t.Context(), p, name); err != nil {
		t.Fatal(err)
	}
}

// removedTree removes path and all that is in it.
func removedTree(t *testing.T, f *cache.FS, path string) {
	t.Helper()
	for _, name := range names(t, t.Context(), f, path) {
		child := path + "/" + name
		if _, a := lookup(t, f, child); a.Mode.IsDir() {
			removedTree(t, f, child)
			continue
		}
		unlinked(t, f, child)
	}
	p, name := parentOf(t, f, path)
	if err := f.Rmdir(t.Context(), p, name); err != nil {
		t.Fatal(err)
	}
}

// What this machine has made, renamed and removed it knows when the store has
// followed, the names that are gone included: while the store can't be reached,
// everything is listed and found, and can be renamed again.
func TestOwnChangesStayKnown(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(t *testing.T, f *cache.FS)
		gone   []string
		again  string // renamed once more while the store is down
	}{
		{"directory made", func(t *testing.T, f *cache.FS) { mkdir(t, f, "new", 0o755) }, nil, "new"},
		{"directory renamed", func(t *testing.T, f *cache.FS) { moved(t, f, "a", "c") }, []string{"a"}, "c"},
		{"directory renamed twice", func(t *testing.T, f *cache.FS) {
			moved(t, f, "a", "c")
			moved(t, f, "c", "b/d")
		}, []string{"a", "c"}, "b/d"},
		{"directory renamed and back", func(t *testing.T, f *cache.FS) {
			moved(t, f, "a", "c")
			moved(t, f, "c", "a")
		}, []string{"c"}, "a"},
		{"directory renamed, stored, and back", func(t *testing.T, f *cache.FS) {
			moved(t, f, "a", "c")
			stored(t, f)
			moved(t, f, "c", "a")
		}, []string{"c"}, "a"},
		{"directory renamed over an empty one", func(t *testing.T, f *cache.FS) {
			mkdir(t, f, "c", 0o755)
			stored(t, f)
			moved(t, f, "a", "c")
		}, []string{"a"}, "c"},
		{"directory within renamed", func(t *testing.T, f *cache.FS) { moved(t, f, "a/sub", "b/other") }, []string{"a/sub"}, "b/other"},
		{"files renamed", func(t *testing.T, f *cache.FS) {
			moved(t, f, "a/f0", "b/n0")
			moved(t, f, "a/sub/g1", "b/f1")
		}, []string{"a/f0", "a/sub/g1"}, "b"},
		{"half of it removed", func(t *testing.T, f *cache.FS) {
			removedTree(t, f, "a/sub")
			unlinked(t, f, "a/f0")
			unlinked(t, f, "a/f1")
		}, []string{"a/sub", "a/f0", "a/f1"}, "a"},
		{"all of it removed", func(t *testing.T, f *cache.FS) { removedTree(t, f, "a") }, []string{"a"}, "b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, f := overAsking(t, cache.Config{TTL: time.Hour})
			c.change(t, f)
			want := all(t, f, ".")
			stored(t, f)
			s.down(t)
			if got := all(t, f, "."); !slices.Equal(got, want) {
				t.Errorf("it has %q\nwant %q", got, want)
			}
			for _, path := range c.gone {
				p, name := parentOf(t, f, path)
				if _, _, err := f.Lookup(t.Context(), p, name); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s, which is gone: %v", path, err)
				}
			}
			if got := s.reset(); got != "map[]" {
				t.Errorf("what is known was asked for: %s", got)
			}
			moved(t, f, c.again, "again")
		})
	}
}

// A directory that an earlier mount has renamed, or made, is not in its new place
// when the next mount lists it. That is an answer, too: what is in it is here, and
// known when the store has followed.
func TestListedBeforeTheStoreFollows(t *testing.T) {
	for _, how := range []string{"renamed", "made"} {
		t.Run(how, func(t *testing.T) {
			dir := t.TempDir()
			s, f := overAsking(t, cache.Config{TTL: time.Hour, Dir: dir, Identity: "test:earlier"})
			s.setRefuse(refusing("put"))
			defer s.setRefuse(nil)
			if how == "renamed" {
				moved(t, f, "a", "c")
			} else {
				mkdir(t, f, "c", 0o755)
				mkdir(t, f, "c/sub", 0o755)
				createIn(t, f, "c", "f", "x")
				createIn(t, f, "c/sub", "g", "x")
			}
			want := all(t, f, ".")
			after := t.TempDir()
			if err := os.CopyFS(after, os.DirFS(dir)); err != nil { // a kill leaves the room as it is
				t.Fatal(err)
			}
			s.down(t)
			second := asking{newProbe(s.Store)}
			second.setRefuse(refusing("put"))
			f = newCache(t, second, cache.Config{TTL: time.Hour, Dir: after, Identity: "test:earlier", Durability: "writeback"})
			if got := all(t, f, "."); !slices.Equal(got, want) {
				t.Errorf("it has %q\nwant %q", got, want)
			}
			second.setRefuse(nil)
			stored(t, f)
			second.down(t)
			if got := all(t, f, "."); !slices.Equal(got, want) {
				t.Errorf("it has %q\nwant %q", got, want)
			}
			if how == "renamed" {
				if _, _, err := f.Lookup(t.Context(), f.Root(), "a"); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("the old name: %v", err)
				}
			}
			if got := second.reset(); got != "map[]" {
				t.Errorf("what is known was asked for: %s", got)
			}
			moved(t, f, "c", "again")
		})
	}
}

// What somebody else puts where a directory was renamed to, or where it was, is seen
// when the ttl since then is over.
func TestPutIntoARenamedDirectory(t *testing.T) {
	const ttl = 200 * time.Millisecond
	s, f := overAsking(t, cache.Config{TTL: ttl})
	moved(t, f, "a", "c")
	put(t, s.Store, "c/theirs", "theirs")
	stored(t, f)
	put(t, s.Store, "a/theirs", "theirs")
	time.Sleep(ttl)
	for path, want := range map[string]int{"c": 6, "c/sub": 4, "a": 1} {
		if got := names(t, t.Context(), f, path); len(got) != want {
			t.Errorf("%s has %q", path, got)
		}
	}
}

// With a ttl of 0 nothing is known for longer, whoever has changed it.
func TestNothingStaysKnownWithoutATtl(t *testing.T) {
	s, f := overAsking(t, cache.Config{TTL: 0})
	moved(t, f, "a", "c")
	unlinked(t, f, "b/f0")
	stored(t, f)
	for _, name := range []string{"a/theirs", "b/f0", "c/theirs"} {
		put(t, s.Store, name, "theirs")
		lookup(t, f, name)
	}
	if got := names(t, t.Context(), f, "c"); len(got) != 6 {
		t.Errorf("c has %q", got)
	}
}
