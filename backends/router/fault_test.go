package router_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/router"
)

var errDown = errors.New("endpoint down")

// downStore is a store that can't be reached; asked counts who tried.
type downStore struct {
	asked atomic.Int32
	err   error // errDown if nil
}

func (s *downStore) fail() error {
	s.asked.Add(1)
	if s.err != nil {
		return s.err
	}
	return errDown
}

func (s *downStore) Stat(context.Context, string) (backends.Entry, error) {
	return backends.Entry{}, s.fail()
}

func (s *downStore) List(context.Context, string, string) iter.Seq2[backends.Entry, error] {
	return func(yield func(backends.Entry, error) bool) { yield(backends.Entry{}, s.fail()) }
}

func (s *downStore) Open(context.Context, string, backends.Range, backends.If) (io.ReadCloser, backends.Entry, error) {
	return nil, backends.Entry{}, s.fail()
}

func (s *downStore) Put(context.Context, string, *io.SectionReader, backends.PutOptions) (backends.Entry, error) {
	return backends.Entry{}, s.fail()
}

func (s *downStore) Mkdir(context.Context, string, backends.AttrChange) error {
	return s.fail()
}

func (s *downStore) Remove(context.Context, string, backends.If) error { return s.fail() }

// switched is a file system that can be turned off: calls then fail, or hang
// until their context ends.
type switched struct {
	backends.FileSystem
	down, hang atomic.Bool
	changed    func(backends.Node, string)
	synced     atomic.Int32
}

func (s *switched) check(ctx context.Context) error {
	if s.hang.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	if s.down.Load() {
		return errDown
	}
	return nil
}

func (s *switched) Lookup(ctx context.Context, p backends.Node, name string) (backends.Node, backends.Attr, error) {
	if err := s.check(ctx); err != nil {
		return nil, backends.Attr{}, err
	}
	return s.FileSystem.Lookup(ctx, p, name)
}

func (s *switched) Attr(ctx context.Context, n backends.Node) (backends.Attr, error) {
	if err := s.check(ctx); err != nil {
		return backends.Attr{}, err
	}
	return s.FileSystem.Attr(ctx, n)
}

func (s *switched) ReadDir(ctx context.Context, n backends.Node) ([]backends.DirEntry, error) {
	if err := s.check(ctx); err != nil {
		return nil, err
	}
	return s.FileSystem.ReadDir(ctx, n)
}

func (s *switched) SyncDir(ctx context.Context, _ backends.Node) error {
	s.synced.Add(1)
	return s.check(ctx)
}

func (s *switched) OnChange(f func(backends.Node, string)) { s.changed = f }

// newSwitched makes a router over switched file systems by path.
func newSwitched(t *testing.T, paths ...string) (backends.FileSystem, map[string]*switched) {
	t.Helper()
	sw := map[string]*switched{}
	var routes []router.Route
	for _, p := range append(paths, "/") {
		mem := newMemory(t)
		sw[p] = &switched{FileSystem: mem.FileSystem()}
		routes = append(routes, router.Route{Path: p, Store: mem, Files: sw[p]})
	}
	rt, err := router.New(routes)
	if err != nil {
		t.Fatal(err)
	}
	return rt.FileSystem(), sw
}

func TestStoreDown(t *testing.T) {
	down := &downStore{}
	mem := newMemory(t)
	rt, err := router.New([]router.Route{{Path: "/", Store: mem}, {Path: "/dead", Store: down}, {Path: "/dead/alive", Store: newMemory(t)}})
	if err != nil {
		t.Fatal(err)
	}
	if rt.FileSystem() != nil {
		t.Error("a file depth although a route has none")
	}
	put(t, rt, "f", "")
	want(t, "list", names(t, rt.List(ctx, ".", "")), "dead/ f")
	want(t, "requests for it", down.asked.Load(), 0)
	e, err := rt.Stat(ctx, "dead")
	if err != nil || !e.IsDir() {
		t.Errorf("stat of the route: %+v %v", e, err)
	}
	_, err = rt.Stat(ctx, "dead/f")
	wantErr(t, "stat in the route", err, errDown)
	put(t, rt, "dead/alive/f", "")
	want(t, "list in the route", names(t, rt.List(ctx, "dead", "")), "error")

	var got []string
	for e, err := range rt.Walk(ctx, ".", "") {
		if err != nil {
			wantErr(t, "walk", err, errDown)
			e.Name = "error"
		}
		got = append(got, e.Name)
	}
	want(t, "walk that goes on", len(got), 5) // dead, error, dead/alive, dead/alive/f, f
}

// What is missing is no empty directory, unless the router itself says that
// there is one.
func TestStoreMissing(t *testing.T) {
	gone := &downStore{err: fs.ErrNotExist} // no such bucket
	rt, err := router.New([]router.Route{{Path: "/", Store: newMemory(t)}, {Path: "/gone", Store: gone}, {Path: "/gone/way/there", Store: newMemory(t)}})
	if err != nil {
		t.Fatal(err)
	}
	want(t, "list", names(t, rt.List(ctx, "gone", "")), "error")
	want(t, "walk", names(t, rt.Walk(ctx, "gone", "")), "error")
	want(t, "list of the way", names(t, rt.List(ctx, "gone/way", "")), "gone/way/there/")
	want(t, "walk of the way", names(t, rt.Walk(ctx, "gone/way", "")), "gone/way/there/")
}

// lateFiles is a file system in which somebody else is always faster to make
// a directory.
type lateFiles struct{ backends.FileSystem }

func (f lateFiles) Mkdir(ctx context.Context, p backends.Node, name string, a backends.CreateAttr) (backends.Node, backends.Attr, error) {
	if _, _, err := f.FileSystem.Mkdir(ctx, p, name, a); err != nil {
		return nil, backends.Attr{}, err
	}
	return f.FileSystem.Mkdir(ctx, p, name, a)
}

func TestPointIsMadeByTwoAtOnce(t *testing.T) {
	mem := newMemory(t)
	rt, err := router.New([]router.Route{{Path: "/", Store: mem, Files: lateFiles{mem.FileSystem()}}, {Path: "/a/b/c", Store: newMemory(t)}})
	if err != nil {
		t.Fatal(err)
	}
	f := rt.FileSystem()
	mustCreate(t, f, walkTo(t, f, "a", "b"), "f")
	want(t, "store", names(t, mem.List(ctx, "a/b", "")), "a/b/f")
}

func TestRouteDown(t *testing.T) {
	f, sw := newSwitched(t, "/dead", "/dead/alive", "/way/there")
	root := f.Root()
	dead, before, err := f.Lookup(ctx, root, "dead")
	if err != nil {
		t.Fatal(err)
	}
	sw["/dead"].down.Store(true)
	n, a, err := f.Lookup(ctx, root, "dead")
	if err != nil || n != dead || a.Mode != before.Mode || a.ID != before.ID || a.UID != before.UID {
		t.Errorf("lookup of the dead route: %+v %v, before: %+v", a, err, before)
	}
	if a.Valid > 5*time.Second {
		t.Errorf("attributes that stand in are valid for %v", a.Valid)
	}
	if _, err := f.Attr(ctx, dead); err != nil {
		t.Errorf("attributes of the dead route: %v", err)
	}
	want(t, "list of the parent", list(t, f, root), "dead/ way/")
	if _, err := f.ReadDir(ctx, dead); !errors.Is(err, errDown) {
		t.Errorf("list of the dead route: %v", err)
	}
	mustCreate(t, f, walkTo(t, f, "dead", "alive"), "f")

}

// A store that hangs delays nothing beyond it for long: the points are on the
// way to other routes.
func TestRouteHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, sw := newSwitched(t, "/dead", "/way/there")
		root := f.Root()
		sw["/"].hang.Store(true)
		sw["/dead"].hang.Store(true)
		start := time.Now()
		mustCreate(t, f, walkTo(t, f, "way", "there"), "f")
		walkTo(t, f, "dead")
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("on the way past hanging routes: %v", d)
		}
		short, stop := context.WithTimeout(ctx, 50*time.Millisecond)
		defer stop()
		_, _, err := f.Lookup(short, root, "way")
		wantErr(t, "a caller whose own time is up", err, context.DeadlineExceeded)
	})
}
