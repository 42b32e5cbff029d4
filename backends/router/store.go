package router

import (
	"context"
	"errors"
	"io"
	"io/fs"

	"github.com/agentfs/agentfs/backends"
)

var _ backends.Store = (*Router)(nil)

// err returns an error of r's store about the name rest with the full name in
// it. An error about another valid name of the store keeps that one.
func (r *route) err(op, rest string, err error) error {
	if err == nil {
		return nil
	}
	if pe, ok := err.(*fs.PathError); ok {
		op, err = pe.Op, pe.Err
		if backends.CheckName("", pe.Path) == nil {
			rest = pe.Path
		}
	}
	return &fs.PathError{Op: op, Path: r.full(rest), Err: err}
}

// entry returns an entry of r's store under its full name.
func (r *route) entry(e backends.Entry) backends.Entry {
	e.Name = r.full(e.Name)
	return e
}

// missing reports whether err says that a directory isn't there, or something
// else is in its place.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, backends.ErrNotDir)
}

// Stat implements [backends.Store]. A point has an entry whatever its store
// answers.
func (rt *Router) Stat(ctx context.Context, name string) (backends.Entry, error) {
	if err := backends.CheckName("stat", name); err != nil {
		return backends.Entry{}, err
	}
	r, rest, p := rt.locate(name)
	e, err := r.store.Stat(ctx, rest)
	if p != nil && (err != nil && ctx.Err() == nil || err == nil && !e.IsDir()) {
		return p.entry(), nil
	}
	if err != nil {
		return backends.Entry{}, r.err("stat", rest, err)
	}
	return r.entry(e), nil
}

// Open implements [backends.Store].
func (rt *Router) Open(ctx context.Context, name string, s backends.Range, cond backends.If) (io.ReadCloser, backends.Entry, error) {
	r, rest, err := rt.inner("open", name, backends.ErrIsDir)
	if err != nil {
		return nil, backends.Entry{}, err
	}
	rc, e, err := r.store.Open(ctx, rest, s, cond)
	if err != nil {
		return nil, backends.Entry{}, r.err("open", rest, err)
	}
	return rc, r.entry(e), nil
}

// Put implements [backends.Store].
func (rt *Router) Put(ctx context.Context, name string, body *io.SectionReader, opts backends.PutOptions) (backends.Entry, error) {
	r, rest, err := rt.inner("put", name, backends.ErrIsDir)
	if err != nil {
		return backends.Entry{}, err
	}
	e, err := r.store.Put(ctx, rest, body, opts)
	if err != nil {
		return backends.Entry{}, r.err("put", rest, err)
	}
	return r.entry(e), nil
}

// Mkdir implements [backends.Store].
func (rt *Router) Mkdir(ctx context.Context, name string, attr backends.AttrChange) error {
	r, rest, err := rt.inner("mkdir", name, fs.ErrExist)
	if err != nil {
		return err
	}
	return r.err("mkdir", rest, r.store.Mkdir(ctx, rest, attr))
}

// Remove implements [backends.Store].
func (rt *Router) Remove(ctx context.Context, name string, cond backends.If) error {
	r, rest, err := rt.inner("remove", name, backends.ErrBusy)
	if err != nil {
		return err
	}
	return r.err("remove", rest, r.store.Remove(ctx, rest, cond))
}

// inner returns the route of a name that is no point; a point is the error
// atPoint.
func (rt *Router) inner(op, name string, atPoint error) (*route, string, error) {
	if err := backends.CheckName(op, name); err != nil {
		return nil, "", err
	}
	r, rest, p := rt.locate(name)
	if p != nil {
		return nil, "", &fs.PathError{Op: op, Path: name, Err: atPoint}
	}
	return r, rest, nil
}
