package faulty

import (
	"context"
	"errors"
	"io"
	"iter"

	"github.com/agentfs/agentfs/backends"
)

// Faulty is a store with faults. Capabilities that the wrapped store lacks
// answer [errors.ErrUnsupported] and are not counted, so that the fall-back
// goes through the wrapper too.
type Faulty struct {
	Injector
	s     backends.Store
	files *Files // nil if s has none
}

var (
	_ backends.Store           = (*Faulty)(nil)
	_ backends.Walker          = (*Faulty)(nil)
	_ backends.PageWalker      = (*Faulty)(nil)
	_ backends.Copier          = (*Faulty)(nil)
	_ backends.Renamer         = (*Faulty)(nil)
	_ backends.ManyRemover     = (*Faulty)(nil)
	_ backends.AttrSetter      = (*Faulty)(nil)
	_ backends.StoreSymlinker  = (*Faulty)(nil)
	_ backends.Uploader        = (*Faulty)(nil)
	_ backends.UsageReporter   = (*Faulty)(nil)
	_ backends.FeatureReporter = (*Faulty)(nil)
	_ backends.Identifier      = (*Faulty)(nil)
	_ backends.Closer          = (*Faulty)(nil)
	_ backends.Filer           = (*Faulty)(nil)
	_ backends.NameChecker     = (*Faulty)(nil)
	_ backends.FileStatter     = (*Faulty)(nil)
	_ backends.LoadReporter    = (*Faulty)(nil)
)

// Store returns s with faults. The file depth, if s has one, is wrapped with
// the same rules at first, and has counters of its own.
func Store(s backends.Store, rules ...Rule) *Faulty {
	w := &Faulty{s: s}
	w.SetRules(rules...)
	if f := backends.FilesOf(s); f != nil {
		w.files = FileSystem(f, rules...)
	}
	return w
}

func (w *Faulty) Stat(ctx context.Context, name string) (backends.Entry, error) {
	f, err := w.begin(ctx, "Stat", name)
	if err != nil {
		return backends.Entry{}, err
	}
	e, err := w.s.Stat(ctx, name)
	return e, f.end(err)
}

func (w *Faulty) List(ctx context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	return func(yield func(backends.Entry, error) bool) {
		f, err := w.begin(ctx, "List", dir)
		if err != nil {
			yield(backends.Entry{}, err)
			return
		}
		f.forward(w.s.List(ctx, dir, after), yield)
	}
}

// forward yields what a listing has until it is cut off.
func (f fate) forward(seq iter.Seq2[backends.Entry, error], yield func(backends.Entry, error) bool) {
	var n int64
	for e, err := range seq {
		if f.cut >= 0 && n >= f.cut && err == nil {
			yield(backends.Entry{}, f.wrap(io.ErrUnexpectedEOF))
			return
		}
		n++
		if !yield(e, err) {
			return
		}
	}
	if f.lost != nil {
		yield(backends.Entry{}, f.wrap(f.lost))
	}
}

func (w *Faulty) Open(ctx context.Context, name string, r backends.Range, cond backends.If) (io.ReadCloser, backends.Entry, error) {
	f, err := w.begin(ctx, "Open", name)
	if err != nil {
		return nil, backends.Entry{}, err
	}
	rc, e, err := w.s.Open(ctx, name, r, cond)
	if err != nil {
		return nil, e, err
	}
	if err := f.end(nil); err != nil {
		return nil, backends.Entry{}, errors.Join(err, rc.Close())
	}
	if f.cut >= 0 {
		rc = &cutReader{rc, f.cut}
	}
	return rc, e, nil
}

func (w *Faulty) Put(ctx context.Context, name string, body *io.SectionReader, opts backends.PutOptions) (backends.Entry, error) {
	f, err := w.begin(ctx, "Put", name)
	if err != nil {
		return backends.Entry{}, err
	}
	e, err := w.s.Put(ctx, name, f.body(body), opts)
	if err = f.end(err); err != nil {
		return backends.Entry{}, err
	}
	return e, nil
}

func (w *Faulty) Mkdir(ctx context.Context, name string, attr backends.AttrChange) error {
	f, err := w.begin(ctx, "Mkdir", name)
	if err != nil {
		return err
	}
	return f.end(w.s.Mkdir(ctx, name, attr))
}

func (w *Faulty) Remove(ctx context.Context, name string, cond backends.If) error {
	f, err := w.begin(ctx, "Remove", name)
	if err != nil {
		return err
	}
	return f.end(w.s.Remove(ctx, name, cond))
}

// Identity is that of the wrapped store.
func (w *Faulty) Identity() string { return backends.IdentityOf(w.s, "") }

// Close closes the wrapped store.
func (w *Faulty) Close() error { return backends.CloseStore(w.s) }

// FileSystem returns the wrapped store's file depth with faults, or nil. It is
// a *[Files].
func (w *Faulty) FileSystem() backends.FileSystem {
	if w.files == nil {
		return nil
	}
	return w.files
}
