package router

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/agentfs/agentfs/backends"
)

var (
	_ backends.Filer      = (*Router)(nil)
	_ backends.FileSystem = (*files)(nil)
)

// files is the file depth of a router. Its nodes are of two kinds: a point is
// itself a node, and everything else is an inner node beside its route. All
// of it is immutable, so nothing here takes a lock.
type files struct {
	rt *Router
}

// node is a node of a route's file system. Two are equal if route and inner
// node are.
type node struct {
	n backends.Node
	r *route
}

// ID implements [backends.Node].
func (n node) ID() uint64 { return n.r.id(n.n.ID()) }

// ID implements [backends.Node].
func (p *point) ID() uint64 {
	if p.mount {
		return p.r.id(p.r.files.Root().ID())
	}
	return p.id
}

// id puts r's number above the id of an inner node.
func (r *route) id(inner uint64) uint64 { return r.base | inner&idMask }

// attr puts r's number above the id in the attributes of an inner node.
func (r *route) attr(a backends.Attr) backends.Attr {
	a.ID = r.id(a.ID)
	return a
}

// FileSystem implements [backends.Filer]. It is nil if a route has neither
// [Route.Files] nor a store with a file depth.
func (rt *Router) FileSystem() backends.FileSystem {
	rt.filesOnce.Do(func() {
		for _, r := range rt.routes {
			if r.files == nil {
				return
			}
		}
		rt.files = &files{rt}
	})
	if rt.files == nil {
		return nil
	}
	return rt.files
}

// foreign is the error for a node of another file system.
func foreign(op string) error {
	return fmt.Errorf("%s: node of another file system: %w", op, errors.ErrUnsupported)
}

// at returns the route and the inner node of n. For a point without a
// directory of its own the error matches [fs.ErrNotExist] or
// [backends.ErrNotDir].
func (f *files) at(ctx context.Context, op string, n backends.Node) (*route, backends.Node, error) {
	switch n := n.(type) {
	case node:
		if n.r.owner == f.rt {
			return n.r, n.n, nil
		}
	case *point:
		if n.owner == f.rt {
			dir, _, err := n.find(ctx)
			return n.r, dir, err
		}
	}
	return nil, nil, foreign(op)
}

// real is at for a change: a point that its store has no directory for gets
// one.
func (f *files) real(ctx context.Context, op string, n backends.Node) (*route, backends.Node, error) {
	if p, ok := n.(*point); ok && p.owner == f.rt {
		dir, err := p.materialize(ctx)
		return p.r, dir, err
	}
	return f.at(ctx, op, n)
}

// child returns the point called name in parent, or nil.
func child(parent backends.Node, name string) *point {
	if p, ok := parent.(*point); ok {
		return p.children[name]
	}
	return nil
}

// Root implements [backends.FileSystem].
func (f *files) Root() backends.Node { return f.rt.root }

// Lookup implements [backends.FileSystem].
func (f *files) Lookup(ctx context.Context, parent backends.Node, name string) (backends.Node, backends.Attr, error) {
	if c := child(parent, name); c != nil && c.owner == f.rt {
		a, err := c.attr(ctx)
		if err != nil {
			return nil, backends.Attr{}, err
		}
		return c, a, nil
	}
	r, dir, err := f.at(ctx, "lookup", parent)
	if err != nil {
		return nil, backends.Attr{}, absent("lookup", name, err)
	}
	n, a, err := r.files.Lookup(ctx, dir, name)
	if err != nil {
		return nil, backends.Attr{}, err
	}
	return node{n, r}, r.attr(a), nil
}

// absent is the error of at about name in a point without a directory of its
// own: nothing but points is in it.
func absent(op, name string, err error) error {
	if !missing(err) {
		return err
	}
	if len(name) > backends.MaxNameLen {
		return &fs.PathError{Op: op, Path: name, Err: backends.ErrNameTooLong}
	}
	return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
}

// Attr implements [backends.FileSystem].
func (f *files) Attr(ctx context.Context, n backends.Node) (backends.Attr, error) {
	if p, ok := n.(*point); ok && p.owner == f.rt {
		return p.attr(ctx)
	}
	r, in, err := f.at(ctx, "getattr", n)
	if err != nil {
		return backends.Attr{}, err
	}
	a, err := r.files.Attr(ctx, in)
	return r.attr(a), err
}

// SetAttr implements [backends.FileSystem].
func (f *files) SetAttr(ctx context.Context, n backends.Node, c backends.AttrChange) (backends.Attr, error) {
	r, in, err := f.real(ctx, "setattr", n)
	if err != nil {
		return backends.Attr{}, err
	}
	a, err := r.files.SetAttr(ctx, in, c)
	if err != nil {
		return backends.Attr{}, err
	}
	if p, ok := n.(*point); ok {
		return p.dress(a), nil
	}
	return r.attr(a), nil
}

// ReadDir implements [backends.FileSystem].
func (f *files) ReadDir(ctx context.Context, dir backends.Node) ([]backends.DirEntry, error) {
	r, in, err := f.at(ctx, "readdir", dir)
	p, isPoint := dir.(*point)
	if err != nil && !(isPoint && !p.mount && missing(err)) {
		return nil, err
	}
	var es []backends.DirEntry
	if err == nil {
		if es, err = r.files.ReadDir(ctx, in); err != nil {
			return nil, err
		}
	}
	if isPoint && len(p.order) > 0 {
		return p.merge(es), nil
	}
	if r.base == 0 {
		return es, nil
	}
	out := make([]backends.DirEntry, len(es))
	for i, e := range es {
		e.ID = r.id(e.ID)
		out[i] = e
	}
	return out, nil
}

// Open implements [backends.FileSystem]. The file is the route's own.
func (f *files) Open(ctx context.Context, n backends.Node, flags int) (backends.File, error) {
	if p, ok := n.(*point); ok && p.owner == f.rt {
		return nil, &fs.PathError{Op: "open", Path: p.path, Err: backends.ErrIsDir}
	}
	r, in, err := f.at(ctx, "open", n)
	if err != nil {
		return nil, err
	}
	return r.files.Open(ctx, in, flags)
}

// StatFS implements [backends.FileSystem] with the capacity of n's route.
func (f *files) StatFS(ctx context.Context, n backends.Node) (backends.Usage, error) {
	switch n := n.(type) {
	case node:
		if n.r.owner == f.rt {
			return n.r.files.StatFS(ctx, n.n)
		}
	case *point:
		if n.owner == f.rt {
			return n.r.files.StatFS(ctx, n.r.files.Root())
		}
	}
	return backends.Usage{}, foreign("statfs")
}

// Forget implements [backends.FileSystem]. Points are never forgotten.
func (f *files) Forget(n backends.Node) {
	if n, ok := n.(node); ok && n.r.owner == f.rt {
		n.r.files.Forget(n.n)
	}
}

// Close implements [backends.FileSystem]: it closes those of all routes, side
// by side.
func (f *files) Close(ctx context.Context) error {
	return each(f.rt.routes, func(r *route) error { return r.files.Close(ctx) })
}

// each calls do for all routes side by side and returns the errors, each with
// its route's path.
func each(rs []*route, do func(*route) error) error {
	errs := make([]error, len(rs))
	var wg sync.WaitGroup
	for i, r := range rs {
		wg.Go(func() { errs[i] = r.wrap(do(r)) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
