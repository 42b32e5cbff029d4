package names

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/backendtest"
	"github.com/agentfs/agentfs/backends/memory"
	"github.com/agentfs/agentfs/backends/memory/memorytest"
)

func open(t *testing.T) (backends.FileSystem, *Tracker) {
	t.Helper()
	return FileSystem(memorytest.New(t, memory.Config{NoTmpfs: true}).FileSystem())
}

func TestFileSystem(t *testing.T) {
	backendtest.FileSystem(t, func(t *testing.T) backends.FileSystem {
		f, _ := open(t)
		return f
	})
}

// wantPaths fails unless the tracker knows exactly these names of n.
func wantPaths(t *testing.T, tr *Tracker, what string, n backends.Node, want ...string) {
	t.Helper()
	got := tr.Paths(n)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("%s: the tracker says %q, want %q", what, got, want)
	}
}

func TestUnlinkedFileKeepsItsLastPath(t *testing.T) {
	f, tr := open(t)
	ctx := t.Context()
	dir, _, err := f.Mkdir(ctx, f.Root(), "d", backends.CreateAttr{Mode: fs.ModeDir | 0o755})
	if err != nil {
		t.Fatal(err)
	}
	n, _, h, err := f.Create(ctx, dir, "x", os.O_RDWR, backends.CreateAttr{Mode: 0o644})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close(ctx)
	if err := f.Unlink(ctx, dir, "x"); err != nil {
		t.Fatal(err)
	}
	wantPaths(t, tr, "after unlink", n)
	if p, ok := tr.Path(n); !ok || p != "d/x" {
		t.Errorf("Path = %q, %v, want the last one", p, ok)
	}
	f.Forget(n)
	if p, ok := tr.Path(n); ok {
		t.Errorf("Path of a forgotten node = %q", p)
	}
}

// A directory that the kernel forgot before what is in it still leads there.
func TestForgottenDirectoryLeadsToItsChildren(t *testing.T) {
	f, tr := open(t)
	ctx := t.Context()
	a, _, err := f.Mkdir(ctx, f.Root(), "a", backends.CreateAttr{Mode: fs.ModeDir | 0o755})
	if err != nil {
		t.Fatal(err)
	}
	b, _, err := f.Mkdir(ctx, a, "b", backends.CreateAttr{Mode: fs.ModeDir | 0o755})
	if err != nil {
		t.Fatal(err)
	}
	f.Forget(a)
	if _, _, err := f.Lookup(ctx, f.Root(), "a"); err != nil {
		t.Fatal(err)
	}
	f.Forget(a)
	if err := f.Rename(ctx, f.Root(), "a", f.Root(), "c", 0); err != nil {
		t.Fatal(err)
	}
	wantPaths(t, tr, "b", b, "c/b")
	f.Forget(b)
	f.Forget(a)
	if n := tr.len(); n != 1 {
		t.Errorf("%d nodes are known, want the root alone", n)
	}
}

// A random series of changes leaves the tracker with the names that a map of
// paths has.
func TestRandom(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	f, tr := open(t)
	ctx := t.Context()
	model := map[string]backends.Node{".": f.Root()}
	isDir := map[backends.Node]bool{f.Root(): true}
	pick := func() string {
		return slices.Sorted(maps.Keys(model))[r.IntN(len(model))]
	}
	pickDir := func() string {
		for {
			if p := pick(); isDir[model[p]] {
				return p
			}
		}
	}
	name := func() string { return fmt.Sprint(r.IntN(4)) }
	for i := range 4000 {
		dir, base := pickDir(), name()
		p := Join(dir, base)
		var err error
		var n backends.Node
		switch op := r.IntN(10); {
		case op < 2:
			if n, _, err = f.Mkdir(ctx, model[dir], base, backends.CreateAttr{Mode: fs.ModeDir | 0o755}); err == nil {
				model[p], isDir[n] = n, true
			}
		case op < 4:
			if n, _, err = backends.MknodAt(ctx, f, model[dir], base, backends.CreateAttr{Mode: 0o644}); err == nil {
				model[p] = n
			}
		case op < 5:
			from := pick()
			if _, err = backends.LinkAt(ctx, f, model[from], model[dir], base); err == nil {
				model[p] = model[from]
			}
		case op < 6:
			if err = f.Unlink(ctx, model[dir], base); err == nil {
				delete(model, p)
			} else if err = f.Rmdir(ctx, model[dir], base); err == nil {
				delete(model, p)
			}
		case op < 7:
			n, _, err = f.Lookup(ctx, model[dir], base)
			if (err == nil) != (model[p] != nil) || err == nil && n != model[p] {
				t.Fatalf("step %d: lookup of %s: %v, %v", i, p, n, err)
			}
		default:
			to := pickDir()
			q := Join(to, name())
			flags := backends.RenameFlags(0)
			if op == 9 {
				flags = backends.RenameExchange
			}
			if err = f.Rename(ctx, model[dir], base, model[to], path.Base(q), flags); err == nil {
				rename(model, p, q, flags)
			}
		}
	}
	byNode := map[backends.Node][]string{}
	for p, n := range model {
		byNode[n] = append(byNode[n], p)
	}
	for n, want := range byNode {
		wantPaths(t, tr, "at the end", n, want...)
	}
}

// rename does to the model what rename(2) does.
func rename(model map[string]backends.Node, p, q string, flags backends.RenameFlags) {
	if p == q || model[p] == model[q] {
		return
	}
	move := func(from, to string, out map[string]backends.Node) {
		for x, n := range model {
			if x == from || strings.HasPrefix(x, from+"/") {
				out[to+strings.TrimPrefix(x, from)] = n
			}
		}
	}
	moved := map[string]backends.Node{}
	move(p, q, moved)
	if flags == backends.RenameExchange {
		move(q, p, moved)
	}
	maps.DeleteFunc(model, func(x string, _ backends.Node) bool {
		return x == p || x == q || strings.HasPrefix(x, p+"/") || strings.HasPrefix(x, q+"/")
	})
	maps.Copy(model, moved)
}

// overtaken is a file system in which somebody does something after a lookup
// has found its answer and before the answer arrives.
type overtaken struct {
	backends.FileSystem
	meanwhile func()
}

func (o *overtaken) Lookup(ctx context.Context, parent backends.Node, name string) (backends.Node, backends.Attr, error) {
	n, a, err := o.FileSystem.Lookup(ctx, parent, name)
	if do := o.meanwhile; do != nil {
		o.meanwhile = nil
		do()
	}
	return n, a, err
}

// An answer that a change of names has overtaken is no news.
func TestLookupIsOvertaken(t *testing.T) {
	raw := &overtaken{FileSystem: memorytest.New(t, memory.Config{NoTmpfs: true}).FileSystem()}
	f, tr := FileSystem(raw)
	ctx := t.Context()
	mknod := func(name string) backends.Node {
		n, _, err := backends.MknodAt(ctx, f, f.Root(), name, backends.CreateAttr{Mode: 0o644})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	x := mknod("a")
	var y backends.Node
	raw.meanwhile = func() {
		if err := f.Rename(ctx, f.Root(), "a", f.Root(), "b", 0); err != nil {
			t.Error(err)
		}
		y = mknod("a")
	}
	if n, _, err := f.Lookup(ctx, f.Root(), "a"); err != nil || n != y {
		t.Errorf("Lookup = %v, %v, want the new file", n, err)
	}
	wantPaths(t, tr, "the old file", x, "b")
	wantPaths(t, tr, "the new file", y, "a")

	var z backends.Node
	raw.meanwhile = func() { z = mknod("c") }
	if n, _, err := f.Lookup(ctx, f.Root(), "c"); err != nil || n != z {
		t.Errorf("Lookup = %v, %v, want what came into being", n, err)
	}
	wantPaths(t, tr, "what came into being", z, "c")
}
