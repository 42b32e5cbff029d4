// Package readonly wraps a store or a file system so that it takes no changes:
// each is refused with [backends.ErrReadOnly] before it reaches what is
// wrapped. Reading passes through, capabilities included.
package readonly

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"

	"github.com/agentfs/agentfs/backends"
)

// Store returns s without its changes.
func Store(s backends.Store) backends.Store {
	r := &store{s: s}
	if f := backends.FilesOf(s); f != nil {
		r.files = FileSystem(f)
	}
	return r
}

type store struct {
	s     backends.Store
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
	_ backends.LoadReporter    = (*store)(nil)
)

func refuse(op, name string) error {
	return &fs.PathError{Op: op, Path: name, Err: backends.ErrReadOnly}
}

func (r *store) Stat(ctx context.Context, name string) (backends.Entry, error) {
	return r.s.Stat(ctx, name)
}

func (r *store) StatFile(ctx context.Context, name string) (backends.Entry, error) {
	return backends.StatFile(ctx, r.s, name)
}

func (r *store) List(ctx context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	return r.s.List(ctx, dir, after)
}

func (r *store) Open(ctx context.Context, name string, section backends.Range, cond backends.If) (io.ReadCloser, backends.Entry, error) {
	return r.s.Open(ctx, name, section, cond)
}

func (r *store) Walk(ctx context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	return backends.Walk(ctx, r.s, dir, after)
}

func (r *store) WalkPage(ctx context.Context, dir, after string) (backends.Page, error) {
	return backends.WalkPage(ctx, r.s, dir, after)
}

func (r *store) StatWalk(ctx context.Context, name string) (backends.Entry, backends.Page, error) {
	return backends.StatWalk(ctx, r.s, name)
}

func (r *store) Readlink(ctx context.Context, name string) (string, error) {
	return backends.Readlink(ctx, r.s, name)
}

func (r *store) Usage(ctx context.Context) (backends.Usage, error) {
	return backends.UsageOf(ctx, r.s)
}

// Features is not asked of the wrapped store, which may write scratch files
// to find out.
func (r *store) Features(context.Context) ([]backends.Feature, error) {
	return nil, errors.ErrUnsupported
}

func (r *store) Identity() string { return backends.IdentityOf(r.s, "") }

func (r *store) CheckName(name string) error { return refuse("create", name) }

func (r *store) Lean() backends.Store {
	return &store{s: backends.LeanStore(r.s), files: r.files}
}

func (r *store) Close() error { return backends.CloseStore(r.s) }

func (r *store) FileSystem() backends.FileSystem { return r.files }

func (r *store) Put(_ context.Context, name string, _ *io.SectionReader, _ backends.PutOptions) (backends.Entry, error) {
	return backends.Entry{}, refuse("put", name)
}

func (r *store) Mkdir(_ context.Context, name string, _ backends.AttrChange) error {
	return refuse("mkdir", name)
}

func (r *store) Remove(_ context.Context, name string, _ backends.If) error {
	return refuse("remove", name)
}

func (r *store) Copy(_ context.Context, _ string, _ backends.If, to string, _ backends.PutOptions) (backends.Entry, error) {
	return backends.Entry{}, refuse("copy", to)
}

func (r *store) Rename(_ context.Context, from string, _ backends.If, _ string, _ backends.If) error {
	return refuse("rename", from)
}

func (r *store) RemoveMany(_ context.Context, rs []backends.Removal) []error {
	errs := make([]error, len(rs))
	for i, removal := range rs {
		errs[i] = refuse("remove", removal.Name)
	}
	return errs
}

func (r *store) SetAttr(_ context.Context, name string, _ backends.AttrChange) error {
	return refuse("setattr", name)
}

func (r *store) Symlink(_ context.Context, _, name string) error {
	return refuse("symlink", name)
}

// Load is that of the wrapped store.
func (r *store) Load() backends.Load { return backends.LoadOf(r.s) }
