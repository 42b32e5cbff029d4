package faulty

import (
	"context"
	"errors"
	"io"
	"iter"

	"github.com/agentfs/agentfs/backends"
)

func (w *Faulty) Walk(ctx context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	return func(yield func(backends.Entry, error) bool) {
		walker, ok := w.s.(backends.Walker)
		if !ok {
			yield(backends.Entry{}, errors.ErrUnsupported)
			return
		}
		f, err := w.begin(ctx, "Walk", dir)
		if err != nil {
			yield(backends.Entry{}, err)
			return
		}
		f.forward(walker.Walk(ctx, dir, after), yield)
	}
}

// StatFile counts as a Stat.
func (w *Faulty) StatFile(ctx context.Context, name string) (backends.Entry, error) {
	s, ok := w.s.(backends.FileStatter)
	if !ok {
		return backends.Entry{}, errors.ErrUnsupported
	}
	f, err := w.begin(ctx, "Stat", name)
	if err != nil {
		return backends.Entry{}, err
	}
	e, err := s.StatFile(ctx, name)
	return e, f.end(err)
}

// WalkPage counts as a Walk.
func (w *Faulty) WalkPage(ctx context.Context, dir, after string) (backends.Page, error) {
	walker, ok := w.s.(backends.PageWalker)
	if !ok {
		return backends.Page{}, errors.ErrUnsupported
	}
	f, err := w.begin(ctx, "Walk", dir)
	if err != nil {
		return backends.Page{}, err
	}
	page, err := walker.WalkPage(ctx, dir, after)
	if err == nil && f.cut >= 0 && int64(len(page.Entries)) > f.cut {
		err = f.wrap(io.ErrUnexpectedEOF)
	}
	if err = f.end(err); err != nil {
		return backends.Page{}, err
	}
	return page, nil
}

// StatWalk counts as a Walk.
func (w *Faulty) StatWalk(ctx context.Context, name string) (backends.Entry, backends.Page, error) {
	walker, ok := w.s.(backends.StatWalker)
	if !ok {
		return backends.Entry{}, backends.Page{}, errors.ErrUnsupported
	}
	f, err := w.begin(ctx, "Walk", name)
	if err != nil {
		return backends.Entry{}, backends.Page{}, err
	}
	e, page, err := walker.StatWalk(ctx, name)
	if err == nil && f.cut >= 0 && int64(len(page.Entries)) > f.cut {
		err = f.wrap(io.ErrUnexpectedEOF)
	}
	if err = f.end(err); err != nil {
		return backends.Entry{}, backends.Page{}, err
	}
	return e, page, nil
}

func (w *Faulty) Copy(ctx context.Context, from string, src backends.If, to string, opts backends.PutOptions) (backends.Entry, error) {
	c, ok := w.s.(backends.Copier)
	if !ok {
		return backends.Entry{}, errors.ErrUnsupported
	}
	f, err := w.begin(ctx, "Copy", from)
	if err != nil {
		return backends.Entry{}, err
	}
	e, err := c.Copy(ctx, from, src, to, opts)
	if err = f.end(err); err != nil {
		return backends.Entry{}, err
	}
	return e, nil
}

func (w *Faulty) Rename(ctx context.Context, from string, src backends.If, to string, cond backends.If) error {
	r, ok := w.s.(backends.Renamer)
	if !ok {
		return errors.ErrUnsupported
	}
	f, err := w.begin(ctx, "Rename", from)
	if err != nil {
		return err
	}
	return f.end(r.Rename(ctx, from, src, to, cond))
}

// RemoveMany counts and judges every removal as a call of its own; those that
// are to fail are left out of the request.
func (w *Faulty) RemoveMany(ctx context.Context, rs []backends.Removal) []error {
	m, ok := w.s.(backends.ManyRemover)
	errs := make([]error, len(rs))
	if !ok {
		for i := range errs {
			errs[i] = errors.ErrUnsupported
		}
		return errs
	}
	var sent []backends.Removal
	var fates []fate
	var index []int // of each that is sent among rs
	for i, r := range rs {
		f, err := w.begin(ctx, "RemoveMany", r.Name)
		if err != nil {
			errs[i] = err
			continue
		}
		sent, fates, index = append(sent, r), append(fates, f), append(index, i)
	}
	if len(sent) == 0 {
		return errs
	}
	for i, err := range m.RemoveMany(ctx, sent) {
		errs[index[i]] = fates[i].end(err)
	}
	return errs
}

func (w *Faulty) SetAttr(ctx context.Context, name string, c backends.AttrChange) error {
	a, ok := w.s.(backends.AttrSetter)
	if !ok {
		return errors.ErrUnsupported
	}
	f, err := w.begin(ctx, "SetAttr", name)
	if err != nil {
		return err
	}
	return f.end(a.SetAttr(ctx, name, c))
}

func (w *Faulty) Symlink(ctx context.Context, target, name string) error {
	l, ok := w.s.(backends.StoreSymlinker)
	if !ok {
		return errors.ErrUnsupported
	}
	f, err := w.begin(ctx, "Symlink", name)
	if err != nil {
		return err
	}
	return f.end(l.Symlink(ctx, target, name))
}

func (w *Faulty) Readlink(ctx context.Context, name string) (string, error) {
	l, ok := w.s.(backends.StoreSymlinker)
	if !ok {
		return "", errors.ErrUnsupported
	}
	f, err := w.begin(ctx, "Readlink", name)
	if err != nil {
		return "", err
	}
	target, err := l.Readlink(ctx, name)
	return target, f.end(err)
}

func (w *Faulty) Usage(ctx context.Context) (backends.Usage, error) {
	u, ok := w.s.(backends.UsageReporter)
	if !ok {
		return backends.Usage{}, errors.ErrUnsupported
	}
	f, err := w.begin(ctx, "Usage", "")
	if err != nil {
		return backends.Usage{}, err
	}
	use, err := u.Usage(ctx)
	return use, f.end(err)
}

func (w *Faulty) Features(ctx context.Context) ([]backends.Feature, error) {
	r, ok := w.s.(backends.FeatureReporter)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	f, err := w.begin(ctx, "Features", "")
	if err != nil {
		return nil, err
	}
	features, err := r.Features(ctx)
	return features, f.end(err)
}

// CheckName implements [backends.NameChecker]; it asks nobody, so nothing is
// injected.
func (w *Faulty) CheckName(name string) error { return backends.ValidName(w.s, name) }

// Load is that of the wrapped store.
func (w *Faulty) Load() backends.Load { return backends.LoadOf(w.s) }
