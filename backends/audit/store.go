package audit

import (
	"context"
	"errors"
	"io"
	"iter"
	"os"
	"sync/atomic"

	"github.com/agentfs/agentfs/backends"
)

// Store returns s, telling what is done to it. The file depth that s may have
// tells, too.
func Store(s backends.Store, c Config) backends.Store {
	w := &store{s: s, c: c}
	if f := backends.FilesOf(s); f != nil {
		w.files = FileSystem(f, c)
	}
	return w
}

type store struct {
	s     backends.Store
	c     Config
	files backends.FileSystem // nil if s has none
}

var (
	_ backends.Walker          = (*store)(nil)
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
	_ backends.Leaner          = (*store)(nil)
)

// before returns the version of name that a change is about to replace: the
// one that it names itself, else the one that is there.
func (w *store) before(ctx context.Context, name string, cond backends.If) backends.Version {
	switch {
	case w.c.Log == nil || cond.Absent || w.c.skips(name):
		return ""
	case cond.Match != "":
		return cond.Match
	}
	e, err := w.s.Stat(ctx, name)
	if err != nil {
		return ""
	}
	return e.Version
}

// call makes an operation that returns only an error.
func (w *store) call(ctx context.Context, k Kind, name string, fill func(*Op), do func(*Op) error) error {
	op := w.c.begin(ctx, k, name, "")
	if fill != nil {
		fill(op)
	}
	return w.c.run(op, func() error { return do(op) })
}

func (w *store) Stat(ctx context.Context, name string) (backends.Entry, error) {
	return w.s.Stat(ctx, name)
}

func (w *store) List(ctx context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	return w.s.List(ctx, dir, after)
}

func (w *store) Walk(ctx context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	return backends.Walk(ctx, w.s, dir, after)
}

func (w *store) Open(ctx context.Context, name string, r backends.Range, cond backends.If) (io.ReadCloser, backends.Entry, error) {
	if w.c.Log == nil || w.c.skips(name) {
		return w.s.Open(ctx, name, r, cond)
	}
	op := w.c.begin(ctx, Open, name, "")
	op.Flags = os.O_RDONLY
	if op.Err = w.c.Log.Reserve(2); op.Err != nil {
		w.c.fail(op)
		return nil, backends.Entry{}, op.Err
	}
	body, e, err := w.s.Open(ctx, name, r, cond)
	op.Err, op.Before = err, e.Version
	w.c.Log.Record(op)
	w.c.fail(op)
	if err != nil {
		w.c.Log.Release(1)
		return nil, backends.Entry{}, err
	}
	return &reader{ReadCloser: body, w: w, begun: *op}, e, nil
}

// reader is an open file of the object depth.
type reader struct {
	io.ReadCloser
	w      *store
	begun  Op
	read   atomic.Int64
	err    error
	closed bool
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.read.Add(int64(n))
	if err != nil && !errors.Is(err, io.EOF) && r.err == nil {
		r.err = err
	}
	return n, err
}

func (r *reader) Close() error {
	err := r.ReadCloser.Close()
	if r.closed {
		return err
	}
	r.closed = true
	op := r.w.c.begin(context.Background(), Close, r.begun.Path, "")
	op.Caller, op.Process, op.Exe = r.begun.Caller, r.begun.Process, r.begun.Exe
	op.Flags, op.Before, op.After = r.begun.Flags, r.begun.Before, r.begun.Before
	op.Read, op.Err = r.read.Load(), r.err
	if op.Err == nil {
		op.Err = err
	}
	r.w.c.Log.Record(op)
	return err
}

func (w *store) Put(ctx context.Context, name string, body *io.SectionReader, opts backends.PutOptions) (e backends.Entry, err error) {
	before := w.before(ctx, name, opts.If)
	err = w.call(ctx, Put, name, func(op *Op) { op.Before = before }, func(op *Op) (err error) {
		if e, err = w.s.Put(ctx, name, body, opts); err == nil {
			op.After, op.Written = e.Version, body.Size()
		}
		return err
	})
	return e, err
}

func (w *store) Mkdir(ctx context.Context, name string, attr backends.AttrChange) error {
	return w.call(ctx, Mkdir, name, nil, func(*Op) error { return w.s.Mkdir(ctx, name, attr) })
}

func (w *store) Remove(ctx context.Context, name string, cond backends.If) error {
	before := w.before(ctx, name, cond)
	return w.call(ctx, Remove, name, func(op *Op) { op.Before = before }, func(*Op) error { return w.s.Remove(ctx, name, cond) })
}

func (w *store) Copy(ctx context.Context, from string, src backends.If, to string, opts backends.PutOptions) (e backends.Entry, err error) {
	before := w.before(ctx, to, opts.If)
	err = w.call(ctx, Copy, from, func(op *Op) { op.To, op.Before = to, before }, func(op *Op) (err error) {
		if e, err = backends.Copy(ctx, w.s, from, src, to, opts); err == nil {
			op.After, op.Written = e.Version, e.Size
		}
		return err
	})
	return e, err
}

// Rename is made by whoever asks, by Copy and Remove, where the wrapped store
// can't.
func (w *store) Rename(ctx context.Context, from string, src backends.If, to string, cond backends.If) error {
	r, ok := w.s.(backends.Renamer)
	if !ok {
		return errors.ErrUnsupported
	}
	before := w.before(ctx, to, cond)
	return w.call(ctx, Rename, from, func(op *Op) { op.To, op.Before = to, before }, func(*Op) error {
		return r.Rename(ctx, from, src, to, cond)
	})
}

// RemoveMany is one operation for each removal; those for which there is no
// room are not made.
func (w *store) RemoveMany(ctx context.Context, rs []backends.Removal) []error {
	if w.c.Log == nil {
		return backends.RemoveMany(ctx, w.s, rs)
	}
	errs := make([]error, len(rs))
	var made []backends.Removal
	var ops []*Op
	var index []int // of each that is made among rs
	for i, r := range rs {
		op := w.c.begin(ctx, Remove, r.Name, "")
		if !w.c.skips(r.Name) {
			if op.Err = w.c.Log.Reserve(1); op.Err != nil {
				errs[i] = op.Err
				w.c.fail(op)
				continue
			}
		}
		op.Before = r.If.Match
		made, ops, index = append(made, r), append(ops, op), append(index, i)
	}
	if len(made) == 0 {
		return errs
	}
	for j, err := range backends.RemoveMany(ctx, w.s, made) {
		errs[index[j]] = err
		if op := ops[j]; !w.c.skips(op.Path) {
			op.Err = err
			w.c.Log.Record(op)
			w.c.fail(op)
		}
	}
	return errs
}

func (w *store) SetAttr(ctx context.Context, name string, c backends.AttrChange) error {
	return w.call(ctx, SetAttr, name, func(op *Op) { op.Set = c.Set }, func(*Op) error { return backends.SetAttr(ctx, w.s, name, c) })
}

func (w *store) Symlink(ctx context.Context, target, name string) error {
	return w.call(ctx, Symlink, name, nil, func(*Op) error { return backends.Symlink(ctx, w.s, target, name) })
}

func (w *store) Readlink(ctx context.Context, name string) (string, error) {
	return backends.Readlink(ctx, w.s, name)
}

func (w *store) Usage(ctx context.Context) (backends.Usage, error) {
	return backends.UsageOf(ctx, w.s)
}

func (w *store) Features(ctx context.Context) ([]backends.Feature, error) {
	return backends.FeaturesOf(ctx, w.s)
}

func (w *store) Identity() string { return backends.IdentityOf(w.s, "") }

func (w *store) CheckName(name string) error { return backends.ValidName(w.s, name) }

func (w *store) Lean() backends.Store {
	return &store{s: backends.LeanStore(w.s), c: w.c, files: w.files}
}

func (w *store) Close() error { return backends.CloseStore(w.s) }

func (w *store) FileSystem() backends.FileSystem { return w.files }
