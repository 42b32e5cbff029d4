package tree_test

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/tree"
)

// sample returns a tree with /d/e (empty), /d/f, /g (a file) and /full/x.
func sample(t *testing.T) (*tree.Tree, map[string]*tree.Node) {
	t.Helper()
	tr := tree.New(backends.CreateAttr{Mode: 0o755}, nil)
	nodes := map[string]*tree.Node{".": tr.Root()}
	add := func(parent, name, path string, mode fs.FileMode) {
		n := tr.NewNode(backends.CreateAttr{Mode: mode | 0o755}, nil)
		if err := tr.Insert(nodes[parent], name, n); err != nil {
			t.Fatal(err)
		}
		nodes[path] = n
	}
	add(".", "d", "d", fs.ModeDir)
	add("d", "e", "d/e", fs.ModeDir)
	add("d", "f", "d/f", 0)
	add(".", "g", "g", 0)
	add(".", "full", "full", fs.ModeDir)
	add("full", "x", "full/x", 0)
	return tr, nodes
}

// TestRename has the rules of rename(2) with the errno that Linux gives, by
// way of the contract's names.
func TestRename(t *testing.T) {
	for _, c := range []struct {
		what               string
		from, name, to, as string
		flags              backends.RenameFlags
		want               error
	}{
		{"file to a free name", ".", "g", "d", "new", 0, nil},
		{"file onto file", ".", "g", "d", "f", 0, nil},
		{"file onto itself", ".", "g", ".", "g", 0, nil},
		{"file onto directory", ".", "g", "d", "e", 0, backends.ErrIsDir},
		{"directory onto file", ".", "full", ".", "g", 0, backends.ErrNotDir},
		{"directory onto empty directory", ".", "full", "d", "e", 0, nil},
		{"directory onto full directory", "d", "e", ".", "full", 0, backends.ErrNotEmpty},
		{"directory into itself", ".", "d", "d", "x", 0, fs.ErrInvalid},
		{"directory into its child", ".", "d", "d/e", "x", 0, fs.ErrInvalid},
		{"file onto its ancestor", "full", "x", ".", "full", 0, backends.ErrNotEmpty},
		{"missing source", ".", "nothing", "d", "x", 0, fs.ErrNotExist},
		{"no replace, free", ".", "g", ".", "h", backends.RenameNoReplace, nil},
		{"no replace, taken", ".", "g", "d", "f", backends.RenameNoReplace, fs.ErrExist},
		{"no replace, itself", ".", "g", ".", "g", backends.RenameNoReplace, fs.ErrExist},
		{"exchange file and directory", ".", "g", ".", "full", backends.RenameExchange, nil},
		{"exchange with nothing", ".", "g", ".", "h", backends.RenameExchange, fs.ErrNotExist},
		{"exchange with an ancestor", "d", "e", ".", "d", backends.RenameExchange, fs.ErrInvalid},
		{"two flags", ".", "g", ".", "h", 3, fs.ErrInvalid},
		{"into a file", "d", "f", "g", "x", 0, backends.ErrNotDir},
		{"dot as a name", "d", "f", ".", "..", 0, fs.ErrInvalid},
	} {
		t.Run(c.what, func(t *testing.T) {
			tr, nodes := sample(t)
			n, _ := tr.Lookup(nodes[c.from], c.name)
			target, _ := tr.Lookup(nodes[c.to], c.as)
			_, checked := tr.CheckRename(nodes[c.from], c.name, nodes[c.to], c.as, c.flags)
			if !errors.Is(checked, c.want) {
				t.Errorf("CheckRename: %v, want %v", checked, c.want)
			}
			_, err := tr.Rename(nodes[c.from], c.name, nodes[c.to], c.as, c.flags, nil)
			if !errors.Is(err, c.want) {
				t.Fatalf("Rename: %v, want %v", err, c.want)
			}
			if err != nil {
				if now, _ := tr.Lookup(nodes[c.from], c.name); now != n {
					t.Error("a refused rename took the source away")
				}
				return
			}
			if now, err := tr.Lookup(nodes[c.to], c.as); err != nil || now != n {
				t.Errorf("the new name leads to %v, %v", now, err)
			}
			if c.flags == backends.RenameExchange {
				if now, _ := tr.Lookup(nodes[c.from], c.name); now != target {
					t.Error("the old name doesn't lead to what had the new one")
				}
			}
			checkLinks(t, tr)
		})
	}
}

// checkLinks compares the link counts of directories with their children.
func checkLinks(t *testing.T, tr *tree.Tree) {
	t.Helper()
	var visit func(n *tree.Node)
	visit = func(n *tree.Node) {
		want := uint32(2)
		tr.Children(n, func(name string, c *tree.Node) {
			if p, at, ok := tr.Where(c); !ok || p != n || at != name {
				t.Errorf("%s doesn't know where it is", name)
			}
			if c.IsDir() {
				want++
				visit(c)
			} else if got := tr.Attr(c).Nlink; got != 1 {
				t.Errorf("%s has %d links", name, got)
			}
		})
		if got := tr.Attr(n).Nlink; got != want {
			t.Errorf("a directory has %d links, want %d", got, want)
		}
	}
	visit(tr.Root())
}

// A rename that its caller refuses under the lock changes nothing.
func TestRenameRefused(t *testing.T) {
	tr, nodes := sample(t)
	_, err := tr.Rename(nodes["."], "g", nodes["d"], "f", 0, func(m tree.Move) error {
		if m.Node != nodes["g"] || m.Target != nodes["d/f"] {
			t.Errorf("asked about %v", m)
		}
		return backends.ErrChanged
	})
	if !errors.Is(err, backends.ErrChanged) {
		t.Fatal(err)
	}
	if n, _ := tr.Lookup(nodes["."], "g"); n != nodes["g"] {
		t.Error("it moved all the same")
	}
}

// Adopt and Drop follow what somebody else did: times of the parent stay, and
// a dropped directory can't be reached any more, nor what is in it.
func TestAdoptDrop(t *testing.T) {
	tr, nodes := sample(t)
	before := tr.Attr(nodes["d"])
	n := tr.NewNode(backends.CreateAttr{}, "mine")
	if old := tr.Adopt(nodes["d"], "f", n); old != nodes["d/f"] {
		t.Errorf("Adopt replaced %v", old)
	}
	if old := tr.Drop(nodes["d"], "e"); old != nodes["d/e"] {
		t.Errorf("Drop removed %v", old)
	}
	if after := tr.Attr(nodes["d"]); !after.Mtime.Equal(before.Mtime) {
		t.Error("the parent's mtime changed")
	}
	if _, ok := tr.Path(nodes["d/f"]); ok {
		t.Error("what was replaced still has a path")
	}
	if p, ok := tr.Path(n); !ok || p != "d/f" {
		t.Errorf("the new one is at %q", p)
	}
	tr.Drop(nodes["."], "full")
	if _, ok := tr.Path(nodes["full/x"]); ok {
		t.Error("a file below a dropped directory still has a path")
	}
	if err := tr.Insert(nodes["full"], "late", tr.NewNode(backends.CreateAttr{}, nil)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("creating in a removed directory: %v, want ErrNotExist", err)
	}
	checkLinks(t, tr)
}

// Replace is a compare-and-swap of names.
func TestReplace(t *testing.T) {
	tr, nodes := sample(t)
	n := tr.NewNode(backends.CreateAttr{}, nil)
	if done, _, err := tr.Replace(nodes["."], "g", nodes["d/f"], n); done || err != nil {
		t.Errorf("replaced although another node has the name: %v, %v", done, err)
	}
	if done, _, err := tr.Replace(nodes["."], "g", nil, n); done || err != nil {
		t.Errorf("made although the name is taken: %v, %v", done, err)
	}
	if done, gone, err := tr.Replace(nodes["."], "g", nodes["g"], n); !done || !gone || err != nil {
		t.Errorf("not replaced: %v, %v, %v", done, gone, err)
	}
	if got, _ := tr.Lookup(nodes["."], "g"); got != n {
		t.Error("the name leads elsewhere")
	}
	checkLinks(t, tr)
}

// A node of one tree is none of another.
func TestOwn(t *testing.T) {
	a, _ := sample(t)
	b, _ := sample(t)
	if _, err := a.Own(b.Root()); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a foreign node: %v", err)
	}
	if n, err := a.Own(a.Root()); err != nil || n != a.Root() {
		t.Errorf("its own: %v, %v", n, err)
	}
}

// New entries of a set-gid directory inherit its group, directories the bit.
func TestSetgid(t *testing.T) {
	tr := tree.New(backends.CreateAttr{Mode: fs.ModeSetgid | 0o775, GID: 7}, nil)
	d := tr.NewNode(backends.CreateAttr{Mode: fs.ModeDir | 0o755, GID: 1}, nil)
	f := tr.NewNode(backends.CreateAttr{Mode: 0o644, GID: 1}, nil)
	for name, n := range map[string]*tree.Node{"d": d, "f": f} {
		if err := tr.Insert(tr.Root(), name, n); err != nil {
			t.Fatal(err)
		}
	}
	if a := tr.Attr(d); a.GID != 7 || a.Mode&fs.ModeSetgid == 0 {
		t.Errorf("directory: group %d, mode %v", a.GID, a.Mode)
	}
	if a := tr.Attr(f); a.GID != 7 || a.Mode&fs.ModeSetgid != 0 {
		t.Errorf("file: group %d, mode %v", a.GID, a.Mode)
	}
}

// TestAt: it says of each node and path what Path does.
func TestAt(t *testing.T) {
	tr, nodes := sample(t)
	check := func() {
		t.Helper()
		for was, n := range nodes {
			at, placed := tr.Path(n)
			for _, p := range []string{at, was, "", ".", "/", "f", "/f", "f/", "d/", "/d/f", "xd/f", "d//f", "x/d/f", "dd/f", "d/ff", "d"} {
				if is, ok := tr.At(n, p); ok != placed || is != (placed && p == at) {
					t.Errorf("%q, which is at %q, %t: At(%q) is %t, %t", was, at, placed, p, is, ok)
				}
			}
		}
	}
	check()
	if _, err := tr.Rename(tr.Root(), "d", nodes["full"], "dd", 0, nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := tr.Unlink(tr.Root(), "g", nodes["g"]); err != nil {
		t.Fatal(err)
	}
	check()
	tr.Drop(tr.Root(), "full")
	check()
}
