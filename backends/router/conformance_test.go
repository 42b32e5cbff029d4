package router_test

import (
	"context"
	"io"
	"iter"
	"path"
	"strings"
	"testing"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/backendtest"
	"github.com/agentfs/agentfs/backends/router"
)

// Where in which tables a router has to be as good as its stores.
var places = []struct {
	name   string
	routes []string
	dir    string // the suite sees this directory only
}{
	{"alone", nil, "."},
	{"nested", []string{"/way", "/way/there"}, "way/there"},
	{"where only a route is", []string{"-/way/there"}, "way"},
}

func TestFileSystemConformance(t *testing.T) {
	for _, c := range places {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var except []backendtest.Exception
			if c.name == "nested" {
				except = append(except, backendtest.Exception{
					Test: "Node/ID", Reason: "the route's number is above the 48 bits of the inner id",
				})
			}
			backendtest.FileSystem(t, func(t *testing.T) backends.FileSystem {
				rt, _ := newRouter(t, c.routes...)
				return within(t, rt.FileSystem(), c.dir)
			}, except...)
		})
	}
}

// below is a file system that begins at another root.
type below struct {
	backends.FileSystem
	backends.Symlinker
	backends.Linker
	backends.Mknoder
	backends.Xattrer
	backends.DirSyncer
	backends.RangeCopier
	root backends.Node
}

func (b below) Root() backends.Node { return b.root }

func within(t *testing.T, f backends.FileSystem, dir string) backends.FileSystem {
	if dir == "." {
		return f
	}
	return below{
		f, f.(backends.Symlinker), f.(backends.Linker), f.(backends.Mknoder), f.(backends.Xattrer), f.(backends.DirSyncer), f.(backends.RangeCopier),
		walkTo(t, f, strings.Split(dir, "/")...),
	}
}

func TestStoreConformance(t *testing.T) {
	for _, c := range places {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			backendtest.Store(t, func(t *testing.T) backends.Store {
				rt, _ := newRouter(t, c.routes...)
				if c.dir == "." {
					return rt
				}
				return belowStore{rt, c.dir}
			})
		})
	}
}

// belowStore is what a router holds below a directory.
type belowStore struct {
	rt  *router.Router
	dir string
}

func (b belowStore) in(name string) string {
	if backends.CheckName("", name) != nil {
		return name // as bad as it was
	}
	return path.Join(b.dir, name)
}

func (b belowStore) out(e backends.Entry, err error) (backends.Entry, error) {
	if err == nil {
		rel, ok := strings.CutPrefix(e.Name, b.dir+"/")
		if !ok && e.Name == b.dir {
			rel = "."
		} else if !ok {
			panic("an entry from elsewhere: " + e.Name)
		}
		e.Name = rel
	}
	return e, err
}

func (b belowStore) all(es iter.Seq2[backends.Entry, error]) iter.Seq2[backends.Entry, error] {
	return func(yield func(backends.Entry, error) bool) {
		for e, err := range es {
			if !yield(b.out(e, err)) {
				return
			}
		}
	}
}

func (b belowStore) Stat(ctx context.Context, name string) (backends.Entry, error) {
	return b.out(b.rt.Stat(ctx, b.in(name)))
}

func (b belowStore) List(ctx context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	return b.all(b.rt.List(ctx, b.in(dir), after))
}

func (b belowStore) Walk(ctx context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	if after != "" {
		after = b.dir + "/" + after
	}
	return b.all(b.rt.Walk(ctx, b.in(dir), after))
}

func (b belowStore) Open(ctx context.Context, name string, r backends.Range, cond backends.If) (io.ReadCloser, backends.Entry, error) {
	rc, e, err := b.rt.Open(ctx, b.in(name), r, cond)
	e, err = b.out(e, err)
	return rc, e, err
}

func (b belowStore) Put(ctx context.Context, name string, body *io.SectionReader, o backends.PutOptions) (backends.Entry, error) {
	return b.out(b.rt.Put(ctx, b.in(name), body, o))
}

func (b belowStore) Mkdir(ctx context.Context, name string, a backends.AttrChange) error {
	return b.rt.Mkdir(ctx, b.in(name), a)
}

func (b belowStore) Remove(ctx context.Context, name string, cond backends.If) error {
	return b.rt.Remove(ctx, b.in(name), cond)
}

func (b belowStore) Rename(ctx context.Context, from string, src backends.If, to string, cond backends.If) error {
	return b.rt.Rename(ctx, b.in(from), src, b.in(to), cond)
}

func (b belowStore) Copy(ctx context.Context, from string, src backends.If, to string, o backends.PutOptions) (backends.Entry, error) {
	return b.out(b.rt.Copy(ctx, b.in(from), src, b.in(to), o))
}

func (b belowStore) RemoveMany(ctx context.Context, rs []backends.Removal) []error {
	in := make([]backends.Removal, len(rs))
	for i, r := range rs {
		r.Name = b.in(r.Name)
		in[i] = r
	}
	return b.rt.RemoveMany(ctx, in)
}

func (b belowStore) SetAttr(ctx context.Context, name string, c backends.AttrChange) error {
	return b.rt.SetAttr(ctx, b.in(name), c)
}

func (b belowStore) Symlink(ctx context.Context, target, name string) error {
	return b.rt.Symlink(ctx, target, b.in(name))
}

func (b belowStore) Readlink(ctx context.Context, name string) (string, error) {
	return b.rt.Readlink(ctx, b.in(name))
}
