package names

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/memory"
	"github.com/agentfs/agentfs/backends/memory/memorytest"
)

// slow is a file system in which somebody does something after a change of
// names has taken effect and before its caller hears of it.
type slow struct {
	backends.FileSystem
	mu        sync.Mutex
	meanwhile func()
}

func (s *slow) pause(err error) {
	s.mu.Lock()
	do := s.meanwhile
	if err == nil {
		s.meanwhile = nil
	}
	s.mu.Unlock()
	if do != nil && err == nil {
		do()
	}
}

func (s *slow) Rename(ctx context.Context, oldParent backends.Node, oldName string, newParent backends.Node, newName string, flags backends.RenameFlags) error {
	err := s.FileSystem.Rename(ctx, oldParent, oldName, newParent, newName, flags)
	s.pause(err)
	return err
}

func (s *slow) Unlink(ctx context.Context, parent backends.Node, name string) error {
	err := s.FileSystem.Unlink(ctx, parent, name)
	s.pause(err)
	return err
}

// slowly calls do in a bubble, with meanwhile, which says what begins, and goes
// as far as it can, when the next change has taken effect and not returned, and
// what is checked then.
func slowly(t *testing.T, do func(t *testing.T, f backends.FileSystem, tr *Tracker, meanwhile func(what func(), check func()))) {
	synctest.Test(t, func(t *testing.T) {
		raw := &slow{FileSystem: memorytest.New(t, memory.Config{NoTmpfs: true}).FileSystem()}
		f, tr := FileSystem(raw)
		do(t, f, tr, func(what, check func()) {
			raw.meanwhile = func() {
				go what()
				synctest.Wait()
				check()
			}
		})
	})
}

func mkdir(t *testing.T, f backends.FileSystem, parent backends.Node, name string) backends.Node {
	t.Helper()
	n, _, err := f.Mkdir(t.Context(), parent, name, backends.CreateAttr{Mode: fs.ModeDir | 0o755})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// renameAt renames, in any goroutine.
func renameAt(t *testing.T, f backends.FileSystem, from backends.Node, oldName string, to backends.Node, newName string) {
	t.Helper()
	if err := f.Rename(t.Context(), from, oldName, to, newName, 0); err != nil {
		t.Error(err)
	}
}

// A rename that undoes another one, which has taken effect and not returned.
func TestRenameBackIsOvertaken(t *testing.T) {
	slowly(t, func(t *testing.T, f backends.FileSystem, tr *Tracker, meanwhile func(what, check func())) {
		root := f.Root()
		n := mkdir(t, f, root, "a")
		meanwhile(func() { renameAt(t, f, root, "b", root, "a") }, func() {})
		renameAt(t, f, root, "a", root, "b")
		synctest.Wait()
		wantPaths(t, tr, "back again", n, "a")
		renameAt(t, f, root, "a", root, "c")
		wantPaths(t, tr, "moved once more", n, "c")
	})
}

// Another file is made under a name whose removal has not returned.
func TestRemovalIsOvertaken(t *testing.T) {
	slowly(t, func(t *testing.T, f backends.FileSystem, tr *Tracker, meanwhile func(what, check func())) {
		mknod := func() backends.Node {
			n, _, err := backends.MknodAt(t.Context(), f, f.Root(), "a", backends.CreateAttr{Mode: 0o644})
			if err != nil {
				t.Error(err)
			}
			return n
		}
		x := mknod()
		var y backends.Node
		meanwhile(func() { y = mknod() }, func() {})
		if err := f.Unlink(t.Context(), f.Root(), "a"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		wantPaths(t, tr, "the old file", x)
		wantPaths(t, tr, "the new file", y, "a")
	})
}

// A lookup or a change of a name that is being removed ends with its context, not
// with the removal.
func TestWhoWaitsGivesUp(t *testing.T) {
	for what, do := range map[string]func(ctx context.Context, f backends.FileSystem) error{
		"lookup": func(ctx context.Context, f backends.FileSystem) error {
			_, _, err := f.Lookup(ctx, f.Root(), "a")
			return err
		},
		"mkdir": func(ctx context.Context, f backends.FileSystem) error {
			_, _, err := f.Mkdir(ctx, f.Root(), "a", backends.CreateAttr{Mode: fs.ModeDir | 0o755})
			return err
		},
		"unlink": func(ctx context.Context, f backends.FileSystem) error { return f.Unlink(ctx, f.Root(), "a") },
		"rename": func(ctx context.Context, f backends.FileSystem) error {
			return f.Rename(ctx, f.Root(), "a", f.Root(), "b", 0)
		},
	} {
		slowly(t, func(t *testing.T, f backends.FileSystem, _ *Tracker, meanwhile func(what, check func())) {
			if _, _, err := backends.MknodAt(t.Context(), f, f.Root(), "a", backends.CreateAttr{Mode: 0o644}); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			var err error
			ended := false
			meanwhile(func() {
				err = do(ctx, f)
				ended = true
			}, func() {
				cancel()
				synctest.Wait()
				if !ended || !errors.Is(err, context.Canceled) {
					t.Errorf("%s has ended: %v, with %v", what, ended, err)
				}
			})
			if err := f.Unlink(t.Context(), f.Root(), "a"); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		})
	}
}

// Lookups that see a rename which the tracker has yet to hear of.
func TestRenameIsOvertakenByLookup(t *testing.T) {
	for _, name := range []string{"a", "b"} {
		slowly(t, func(t *testing.T, f backends.FileSystem, tr *Tracker, meanwhile func(what, check func())) {
			root := f.Root()
			n := mkdir(t, f, root, "a")
			meanwhile(func() {
				switch found, _, err := f.Lookup(t.Context(), root, name); {
				case name == "a" && !errors.Is(err, fs.ErrNotExist):
					t.Errorf("Lookup of the old name: %v, %v", found, err)
				case name == "b" && (err != nil || found != n):
					t.Errorf("Lookup of the new name: %v, %v", found, err)
				}
			}, func() {})
			renameAt(t, f, root, "a", root, "b")
			synctest.Wait()
			wantPaths(t, tr, "after a lookup of "+name, n, "b")
		})
	}
}

// A directory is put below one that has just left it.
func TestNoCircle(t *testing.T) {
	slowly(t, func(t *testing.T, f backends.FileSystem, tr *Tracker, meanwhile func(what, check func())) {
		root := f.Root()
		x := mkdir(t, f, root, "x")
		y := mkdir(t, f, x, "y")
		meanwhile(func() { renameAt(t, f, root, "x", y, "x") }, func() {
			if p, ok := tr.Path(y); !ok {
				t.Errorf("a directory has no path any more: %q", p)
			}
		})
		renameAt(t, f, x, "y", root, "y")
		synctest.Wait()
		wantPaths(t, tr, "x", x, "y/x")
		wantPaths(t, tr, "y", y, "y")
	})
}

// Whatever happens at once, in the end the tracker says what a walk finds.
func TestConcurrent(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	f, tr := open(t)
	ctx := t.Context()
	dirs := []backends.Node{f.Root()}
	for i := range 4 {
		dirs = append(dirs, mkdir(t, f, dirs[i/2], fmt.Sprintf("d%d", i)))
	}
	var wg sync.WaitGroup
	for w := range 6 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(w)))
			name := func() string { return fmt.Sprintf("%c%d", "df"[r.IntN(2)], r.IntN(4)) }
			for range 500 {
				dir := dirs[r.IntN(len(dirs))]
				switch r.IntN(6) {
				case 0:
					_, _, _ = f.Lookup(ctx, dir, name())
				case 1:
					_, _, _ = backends.MknodAt(ctx, f, dir, fmt.Sprint("f", r.IntN(4)), backends.CreateAttr{Mode: 0o644})
				case 2:
					_ = f.Unlink(ctx, dir, name())
				default:
					flags := backends.RenameFlags(0)
					if r.IntN(2) == 0 {
						flags = backends.RenameExchange
					}
					_ = f.Rename(ctx, dir, name(), dirs[r.IntN(len(dirs))], name(), flags)
				}
				if p, ok := tr.Path(dir); !ok {
					t.Errorf("a directory has no path any more: %q", p)
					return
				}
			}
		})
	}
	wg.Wait()
	var walk func(dir backends.Node, path string)
	walk = func(dir backends.Node, path string) {
		wantPaths(t, tr, path, dir, path)
		entries, err := f.ReadDir(ctx, dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			// Known before it is looked up.
			n, ok := tr.Child(dir, e.Name)
			if !ok {
				t.Fatalf("%s in %s is not known", e.Name, path)
			}
			if at := Join(path, e.Name); e.Mode.IsDir() {
				walk(n, at)
			} else {
				wantPaths(t, tr, at, n, at)
			}
			if now, _, err := f.Lookup(ctx, dir, e.Name); err != nil || now != n {
				t.Errorf("%s in %s is %v, %v, and not what the tracker says", e.Name, path, now, err)
			}
		}
	}
	walk(f.Root(), ".")
}
