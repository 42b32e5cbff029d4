package router_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/memory"
	"github.com/agentfs/agentfs/backends/memory/memorytest"
	"github.com/agentfs/agentfs/backends/router"
)

// list formats a directory: sorted names, with "/" after a directory's.
func list(t testing.TB, f backends.FileSystem, dir backends.Node) string {
	t.Helper()
	es, err := f.ReadDir(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range es {
		_, a, err := f.Lookup(ctx, dir, e.Name)
		if err != nil || a.ID != e.ID || a.Mode.Type() != e.Mode {
			t.Errorf("listed as %+v, looked up as %+v %v", e, a, err)
		}
		name := e.Name
		if e.Mode.IsDir() {
			name += "/"
		}
		out = append(out, name)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func walkTo(t testing.TB, f backends.FileSystem, segs ...string) backends.Node {
	t.Helper()
	n := f.Root()
	for _, s := range segs {
		var err error
		if n, _, err = f.Lookup(ctx, n, s); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

func mustCreate(t testing.TB, f backends.FileSystem, dir backends.Node, name string) backends.Node {
	t.Helper()
	n, _, file, err := f.Create(ctx, dir, name, os.O_RDWR, backends.CreateAttr{Mode: 0o644})
	if err != nil {
		t.Fatal(err)
	}
	if err := file.Close(ctx); err != nil {
		t.Fatal(err)
	}
	return n
}

func mustMkdir(t testing.TB, f backends.FileSystem, dir backends.Node, name string) backends.Node {
	t.Helper()
	n, _, err := f.Mkdir(ctx, dir, name, backends.CreateAttr{Mode: fs.ModeDir | 0o755})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestFilesShowRoutes(t *testing.T) {
	rt, ss := newRouter(t, "/b", "/m/n/o", "-/.agentfs", "-/h/idden")
	root := ss["/"]
	put(t, root, "a", "")
	put(t, root, "b", "a file where a route is")
	put(t, root, "m", "a file where a way leads")
	put(t, root, ".agentfs/x", "")
	f := rt.FileSystem()
	if rt.FileSystem() != f {
		t.Error("another file depth every time")
	}
	want(t, "root", list(t, f, f.Root()), "a b/ m/")
	want(t, "m", list(t, f, walkTo(t, f, "m")), "n/")
	want(t, "h", list(t, f, walkTo(t, f, "h")), "")
	want(t, "hidden", list(t, f, walkTo(t, f, ".agentfs")), "")
	want(t, "a hidden way", list(t, f, walkTo(t, f, "h", "idden")), "")
	if walkTo(t, f, "m", "n", "o") != walkTo(t, f, "m", "n", "o") || walkTo(t, f, "m") != walkTo(t, f, "m") || walkTo(t, f, "a") != walkTo(t, f, "a") {
		t.Error("a node is not equal to itself")
	}

	// The same inner ids do not meet.
	ids := map[uint64]string{}
	for _, p := range [][]string{{}, {"a"}, {"b"}, {"m"}, {"m", "n"}, {"m", "n", "o"}, {"h"}, {".agentfs"}} {
		n := walkTo(t, f, p...)
		a, err := f.Attr(ctx, n)
		if err != nil || a.ID != n.ID() || a.ID == 0 {
			t.Errorf("%v: %+v %v, id %d", p, a, err, n.ID())
		}
		if other, ok := ids[a.ID]; ok {
			t.Errorf("%v and %v have the same id", p, other)
		}
		ids[a.ID] = strings.Join(p, "/")
	}

	mustMkdir(t, f, walkTo(t, f, "h"), "sub")
	want(t, "a hidden way that the store has too", list(t, f, f.Root()), "a b/ h/ m/")
	for _, c := range []struct {
		dir   string
		nlink uint32
	}{{"h", 3}, {".", 5}} {
		n := f.Root()
		if c.dir != "." {
			n = walkTo(t, f, c.dir)
		}
		a, err := f.Attr(ctx, n)
		if err != nil || a.Nlink < c.nlink {
			t.Errorf("links of %s: %d %v, want no less than %d", c.dir, a.Nlink, err, c.nlink)
		}
	}

	_, a, err := f.Lookup(ctx, f.Root(), "m")
	if err != nil || a.Mode != fs.ModeDir|0o755 || a.UID != 1000 || a.Nlink != 3 {
		t.Errorf("attributes of a directory that only the routes have: %+v %v", a, err)
	}
	_, _, err = f.Lookup(ctx, walkTo(t, f, "m"), "x")
	wantErr(t, "nothing there", err, fs.ErrNotExist)
	_, _, err = f.Lookup(ctx, walkTo(t, f, "m"), strings.Repeat("x", 256))
	wantErr(t, "too long", err, backends.ErrNameTooLong)
	_, _, _, err = f.Create(ctx, walkTo(t, f, "m"), "x", os.O_RDWR, backends.CreateAttr{})
	wantErr(t, "create where the store has a file in the way", err, backends.ErrNotDir)
}

func TestFilesCreateInPoint(t *testing.T) {
	rt, ss := newRouter(t, "/m/n/o/route", "/z")
	f := rt.FileSystem()
	m, n, o := walkTo(t, f, "m"), walkTo(t, f, "m", "n"), walkTo(t, f, "m", "n", "o")
	before := o.ID()
	var wg sync.WaitGroup
	for _, name := range []string{"f1", "f2", "f3", "f4"} {
		wg.Go(func() { mustCreate(t, f, o, name) })
	}
	wg.Wait()
	want(t, "in it", list(t, f, o), "f1 f2 f3 f4 route/")
	want(t, "in the store", names(t, backends.Walk(ctx, ss["/"], ".", "")), "m/ m/n/ m/n/o/ m/n/o/f1 m/n/o/f2 m/n/o/f3 m/n/o/f4")
	if walkTo(t, f, "m", "n", "o") != o || o.ID() != before {
		t.Error("the directory is another one now")
	}
	want(t, "above", list(t, f, n), "o/")

	// All that makes a name, at a point that only the routes have, too.
	file := walkTo(t, f, "m", "n", "o", "f1")
	if _, err := backends.LinkAt(ctx, f, file, m, "link"); err != nil {
		t.Error(err)
	}
	if _, _, err := backends.SymlinkAt(ctx, f, m, "sym", "target", backends.CreateAttr{}); err != nil {
		t.Error(err)
	}
	if err := f.Rename(ctx, o, "f2", m, "moved", 0); err != nil {
		t.Error(err)
	}
	mustMkdir(t, f, m, "dir")
	want(t, "m", list(t, f, m), "dir/ link moved n/ sym")
	if a, err := f.SetAttr(ctx, m, backends.AttrChange{Set: backends.SetMode, Mode: 0o700}); err != nil || a.Mode.Perm() != 0o700 || a.ID != m.ID() {
		t.Errorf("chmod of a point: %+v %v", a, err)
	}

	// The store loses it: the way stays, and comes back with the next file.
	for _, s := range []string{"f1", "f3", "f4"} {
		if err := f.Unlink(ctx, o, s); err != nil {
			t.Error(err)
		}
	}
	if err := ss["/"].Remove(ctx, "m/n/o", backends.If{}); err != nil {
		t.Fatal(err)
	}
	want(t, "gone from the store", list(t, f, o), "route/")
	mustCreate(t, f, o, "again")
	want(t, "back", list(t, f, o), "again route/")
}

func TestFilesRenameIntoPoint(t *testing.T) {
	rt, ss := newRouter(t, "/way/route")
	f := rt.FileSystem()
	mustCreate(t, f, f.Root(), "f")
	if err := f.Rename(ctx, f.Root(), "f", walkTo(t, f, "way"), "f", 0); err != nil {
		t.Fatal(err)
	}
	want(t, "store", names(t, backends.Walk(ctx, ss["/"], ".", "")), "way/ way/f")
}

func TestFilesBusy(t *testing.T) {
	rt, _ := newRouter(t, "/a/b", "/c")
	f := rt.FileSystem()
	root, a := f.Root(), walkTo(t, f, "a")
	file := mustCreate(t, f, root, "f")
	mustMkdir(t, f, root, "d")
	for _, p := range []struct {
		dir  backends.Node
		name string
	}{{root, "a"}, {root, "c"}, {a, "b"}} {
		wantErr(t, "rmdir", f.Rmdir(ctx, p.dir, p.name), backends.ErrBusy)
		wantErr(t, "unlink", f.Unlink(ctx, p.dir, p.name), backends.ErrBusy)
		for _, flags := range []backends.RenameFlags{0, backends.RenameNoReplace, backends.RenameExchange} {
			wantErr(t, "rename", f.Rename(ctx, p.dir, p.name, root, "x", flags), backends.ErrBusy)
			wantErr(t, "rename of d over it", f.Rename(ctx, root, "d", p.dir, p.name, flags), backends.ErrBusy)
			wantErr(t, "rename of f over it", f.Rename(ctx, root, "f", p.dir, p.name, flags), backends.ErrBusy)
		}
		_, _, err := f.Mkdir(ctx, p.dir, p.name, backends.CreateAttr{})
		wantErr(t, "mkdir", err, fs.ErrExist)
		_, _, err = backends.SymlinkAt(ctx, f, p.dir, p.name, "x", backends.CreateAttr{})
		wantErr(t, "symlink", err, fs.ErrExist)
		_, _, err = backends.MknodAt(ctx, f, p.dir, p.name, backends.CreateAttr{})
		wantErr(t, "mknod", err, fs.ErrExist)
		_, err = backends.LinkAt(ctx, f, file, p.dir, p.name)
		if err == nil {
			t.Error("a link over a point")
		}
		_, _, _, err = f.Create(ctx, p.dir, p.name, os.O_RDWR|os.O_EXCL, backends.CreateAttr{})
		wantErr(t, "create exclusive", err, fs.ErrExist)
		_, _, _, err = f.Create(ctx, p.dir, p.name, os.O_RDWR, backends.CreateAttr{})
		wantErr(t, "create", err, backends.ErrIsDir)
		n, _, err := f.Lookup(ctx, p.dir, p.name)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.Open(ctx, n, os.O_RDONLY)
		wantErr(t, "open", err, backends.ErrIsDir)
		_, err = backends.LinkAt(ctx, f, n, root, "x")
		wantErr(t, "link to it", err, backends.ErrNotPermitted)
	}
	c := walkTo(t, f, "c")
	wantErr(t, "rename across", f.Rename(ctx, root, "f", c, "f", 0), errors.ErrUnsupported)
	_, err := backends.LinkAt(ctx, f, file, c, "f")
	wantErr(t, "link across", err, errors.ErrUnsupported)
	wantErr(t, "remove what isn't there", f.Unlink(ctx, a, "none"), fs.ErrNotExist)
	wantErr(t, "remove what isn't there", f.Rmdir(ctx, a, "none"), fs.ErrNotExist)
	wantErr(t, "rename what isn't there", f.Rename(ctx, a, "none", root, "x", 0), fs.ErrNotExist)

	other, _ := newRouter(t, "/c")
	g := other.FileSystem()
	_, err = g.Attr(ctx, file)
	wantErr(t, "attributes of a foreign node", err, errors.ErrUnsupported)
	_, _, err = g.Lookup(ctx, root, "c")
	wantErr(t, "lookup in a foreign point", err, errors.ErrUnsupported)
	wantErr(t, "rename to a foreign node", f.Rename(ctx, root, "f", g.Root(), "f", 0), errors.ErrUnsupported)
}

func TestFilesXattrsOfPoints(t *testing.T) {
	rt, _ := newRouter(t, "/way/route")
	f := rt.FileSystem()
	way := walkTo(t, f, "way")
	_, err := backends.GetXattrAt(ctx, f, way, "user.x")
	wantErr(t, "get", err, backends.ErrNoXattr)
	wantErr(t, "remove", backends.RemoveXattrAt(ctx, f, way, "user.x"), backends.ErrNoXattr)
	if l, err := backends.ListXattrAt(ctx, f, way); err != nil || len(l) != 0 {
		t.Errorf("list: %q %v", l, err)
	}
	if err := backends.SetXattrAt(ctx, f, way, "user.x", []byte("v"), 0); err != nil {
		t.Fatal(err)
	}
	if v, err := backends.GetXattrAt(ctx, f, way, "user.x"); err != nil || string(v) != "v" {
		t.Errorf("get: %q %v", v, err)
	}
}

func TestSyncDirReachesRoutesBelow(t *testing.T) {
	f, sw := newSwitched(t, "/a/b", "/a/b/c", "/d")
	if err := backends.SyncDirAt(ctx, f, walkTo(t, f, "a")); err != nil {
		t.Fatal(err)
	}
	for p, n := range map[string]int32{"/": 0, "/a/b": 1, "/a/b/c": 1, "/d": 0} {
		want(t, "sync of /a in "+p, sw[p].synced.Load(), n)
	}
	mustMkdir(t, f, f.Root(), "plain")
	if err := backends.SyncDirAt(ctx, f, walkTo(t, f, "plain")); err != nil {
		t.Fatal(err)
	}
	want(t, "sync of a plain directory", sw["/"].synced.Load(), 1)
	sw["/a/b"].down.Store(true)
	sw["/d"].down.Store(true)
	err := backends.SyncDirAt(ctx, f, f.Root())
	wantErr(t, "sync of everything", err, errDown)
	if s := err.Error(); !strings.Contains(s, "route /a/b: ") || !strings.Contains(s, "route /d: ") {
		t.Errorf("sync of everything: %v", err)
	}
	for p, n := range map[string]int32{"/": 2, "/a/b": 2, "/a/b/c": 2, "/d": 1} {
		want(t, "sync of everything in "+p, sw[p].synced.Load(), n)
	}
}

func TestChangesAreForwarded(t *testing.T) {
	f, sw := newSwitched(t, "/a/b", "/d")
	type change struct {
		n    backends.Node
		name string
	}
	var got []change
	f.(backends.ChangeNotifier).OnChange(func(n backends.Node, name string) { got = append(got, change{n, name}) })
	dir := mustMkdir(t, f, f.Root(), "dir")
	mustCreate(t, f, walkTo(t, f, "a"), "f")

	in := sw["/"].FileSystem
	inDir := walkTo(t, in, "dir")
	inA := walkTo(t, in, "a")
	sw["/"].changed(in.Root(), "x")
	sw["/"].changed(in.Root(), "d") // never seen: a route is there
	sw["/"].changed(inDir, "x")
	sw["/"].changed(inA, "x")
	sw["/"].changed(inA, "b")
	sw["/d"].changed(sw["/d"].Root(), "x")
	if !slices.Equal(got, []change{{f.Root(), "x"}, {dir, "x"}, {walkTo(t, f, "a"), "x"}, {walkTo(t, f, "d"), "x"}}) {
		t.Errorf("changes: %v", got)
	}
}

// refusing is a file system that lets nobody list a directory.
type refusing struct{ backends.FileSystem }

func (refusing) OpenDir(context.Context, backends.Node) error { return fs.ErrPermission }

func TestOpenDirAsksTheRoute(t *testing.T) {
	rt, err := router.New([]router.Route{
		{Path: "/", Store: memorytest.New(t, memory.Config{NoTmpfs: true})},
		{Path: "/way/shut", Store: memorytest.New(t, memory.Config{NoTmpfs: true}),
			Files: refusing{memorytest.New(t, memory.Config{NoTmpfs: true}).FileSystem()}},
	})
	if err != nil {
		t.Fatal(err)
	}
	f := rt.FileSystem()
	for _, open := range [][]string{nil, {"way"}} {
		if err := backends.OpenDirAt(ctx, f, walkTo(t, f, open...)); err != nil {
			t.Errorf("%v: %v", open, err)
		}
	}
	if err := backends.OpenDirAt(ctx, f, walkTo(t, f, "way", "shut")); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("a route that refuses: %v", err)
	}
}
