// Package prefix wraps a store or a file system so that one of its directories
// becomes the root, and nothing outside it can be named.
package prefix

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"

	"github.com/agentfs/agentfs/backends"
)

// Store returns the part of s below the directory dir, a name of s. If s has
// only keys, the directory need not exist; one with a file depth of its own is
// asked for it, so there it must.
func Store(s backends.Store, dir string) (backends.Store, error) {
	if err := backends.CheckName("prefix", dir); err != nil {
		return nil, fmt.Errorf("%w: write it as a/b, without a slash at either end", err)
	}
	p := &store{s: s, dir: dir}
	if f := backends.FilesOf(s); f != nil {
		files, err := FileSystem(context.Background(), f, dir)
		if err != nil {
			return nil, err
		}
		p.files = files
	}
	return p, nil
}

type store struct {
	s     backends.Store
	dir   string
	files backends.FileSystem // nil if s has none
}

var (
	_ backends.Walker          = (*store)(nil)
	_ backends.PageWalker      = (*store)(nil)
	_ backends.Copier          = (*store)(nil)
	_ backends.Renamer         = (*store)(nil)
	_ backends.ManyRemover     = (*store)(nil)
	_ backends.AttrSetter      = (*store)(nil)
	_ backends.StoreSymlinker  = (*store)(nil)
	_ backends.Uploader        = (*store)(nil)
	_ backends.UsageReporter   = (*store)(nil)
	_ backends.FeatureReporter = (*store)(nil)
	_ backends.Identifier      = (*store)(nil)
	_ backends.Closer          = (*store)(nil)
	_ backends.Filer           = (*store)(nil)
	_ backends.NameChecker     = (*store)(nil)
	_ backends.FileStatter     = (*store)(nil)
	_ backends.Leaner          = (*store)(nil)
)

// outer returns the wrapped store's name for name. It is checked first: what
// isn't valid could lead out of the directory.
func (p *store) outer(op, name string) (string, error) {
	if err := backends.CheckName(op, name); err != nil {
		return "", err
	}
	switch {
	case p.dir == ".":
		return name, nil
	case name == ".":
		return p.dir, nil
	}
	return p.dir + "/" + name, nil
}

// inner returns this store's name for a name of the wrapped store.
func (p *store) inner(outer string) string {
	switch {
	case p.dir == ".":
		return outer
	case outer == p.dir:
		return "."
	}
	return strings.TrimPrefix(outer, p.dir+"/")
}

func (p *store) entry(e backends.Entry) backends.Entry {
	if e.Name != "" {
		e.Name = p.inner(e.Name)
	}
	return e
}

// fail returns err with this store's names in place of the wrapped store's.
func (p *store) fail(err error) error {
	if pe, ok := err.(*fs.PathError); ok {
		return &fs.PathError{Op: pe.Op, Path: p.inner(pe.Path), Err: pe.Err}
	}
	return err
}

// isRoot is err for an operation that the root doesn't take, nil for other
// names.
func isRoot(op, name string, err error) error {
	if name != "." {
		return nil
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

func (p *store) Stat(ctx context.Context, name string) (backends.Entry, error) {
	outer, err := p.outer("stat", name)
	if err != nil {
		return backends.Entry{}, err
	}
	e, err := p.s.Stat(ctx, outer)
	if name == "." {
		// The root exists, whether anything was put in it yet or not.
		if errors.Is(err, fs.ErrNotExist) {
			return backends.Entry{Name: ".", Mode: fs.ModeDir}, nil
		}
		if err == nil && !e.IsDir() {
			return backends.Entry{}, &fs.PathError{Op: "stat", Path: name, Err: backends.ErrNotDir}
		}
	}
	return p.entry(e), p.fail(err)
}

func (p *store) List(ctx context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	return func(yield func(backends.Entry, error) bool) {
		outer, err := p.outer("list", dir)
		if err != nil {
			yield(backends.Entry{}, err)
			return
		}
		p.forward(p.s.List(ctx, outer, after), dir, yield)
	}
}

func (p *store) Walk(ctx context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	return func(yield func(backends.Entry, error) bool) {
		outer, after, err := p.outerWalk(dir, after)
		if err != nil {
			yield(backends.Entry{}, err)
			return
		}
		p.forward(backends.Walk(ctx, p.s, outer, after), dir, yield)
	}
}

func (p *store) WalkPage(ctx context.Context, dir, after string) (backends.Page, error) {
	outer, after, err := p.outerWalk(dir, after)
	if err != nil {
		return backends.Page{}, err
	}
	page, err := backends.WalkPage(ctx, p.s, outer, after)
	if dir == "." && errors.Is(err, fs.ErrNotExist) {
		return backends.Page{}, nil // nothing was put in the root yet
	}
	for i := range page.Entries {
		page.Entries[i] = p.entry(page.Entries[i])
	}
	return page, p.fail(err)
}

func (p *store) StatWalk(ctx context.Context, name string) (backends.Entry, backends.Page, error) {
	if name == "." {
		e, err := p.Stat(ctx, name)
		if err != nil {
			return e, backends.Page{}, err
		}
		page, err := p.WalkPage(ctx, name, "")
		return e, page, err
	}
	outer, err := p.outer("stat", name)
	if err != nil {
		return backends.Entry{}, backends.Page{}, err
	}
	e, page, err := backends.StatWalk(ctx, p.s, outer)
	for i := range page.Entries {
		page.Entries[i] = p.entry(page.Entries[i])
	}
	return p.entry(e), page, p.fail(err)
}

// outerWalk returns the arguments of a walk for the wrapped store.
func (p *store) outerWalk(dir, after string) (outerDir, outerAfter string, err error) {
	outerDir, err = p.outer("walk", dir)
	if after != "" && p.dir != "." {
		after = p.dir + "/" + after
	}
	return outerDir, after, err
}

// forward yields what a listing of dir has, renamed.
func (p *store) forward(seq iter.Seq2[backends.Entry, error], dir string, yield func(backends.Entry, error) bool) {
	for e, err := range seq {
		if dir == "." && errors.Is(err, fs.ErrNotExist) {
			return // nothing was put in the root yet
		}
		if !yield(p.entry(e), p.fail(err)) {
			return
		}
	}
}

func (p *store) Open(ctx context.Context, name string, r backends.Range, cond backends.If) (io.ReadCloser, backends.Entry, error) {
	outer, err := p.outer("open", name)
	if err == nil {
		err = isRoot("open", name, backends.ErrIsDir)
	}
	if err != nil {
		return nil, backends.Entry{}, err
	}
	rc, e, err := p.s.Open(ctx, outer, r, cond)
	return rc, p.entry(e), p.fail(err)
}

func (p *store) Put(ctx context.Context, name string, body *io.SectionReader, opts backends.PutOptions) (backends.Entry, error) {
	outer, err := p.outer("put", name)
	if err == nil {
		err = isRoot("put", name, backends.ErrIsDir)
	}
	if err != nil {
		return backends.Entry{}, err
	}
	e, err := p.s.Put(ctx, outer, body, opts)
	return p.entry(e), p.fail(err)
}

func (p *store) Mkdir(ctx context.Context, name string, attr backends.AttrChange) error {
	outer, err := p.outer("mkdir", name)
	if err == nil {
		err = isRoot("mkdir", name, fs.ErrExist)
	}
	if err != nil {
		return err
	}
	return p.fail(p.s.Mkdir(ctx, outer, attr))
}

func (p *store) Remove(ctx context.Context, name string, cond backends.If) error {
	outer, err := p.outer("remove", name)
	if err == nil {
		err = isRoot("remove", name, backends.ErrBusy)
	}
	if err != nil {
		return err
	}
	return p.fail(p.s.Remove(ctx, outer, cond))
}
