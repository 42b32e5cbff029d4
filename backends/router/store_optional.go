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
	_ backends.Copier          = (*Router)(nil)
	_ backends.Renamer         = (*Router)(nil)
	_ backends.ManyRemover     = (*Router)(nil)
	_ backends.AttrSetter      = (*Router)(nil)
	_ backends.StoreSymlinker  = (*Router)(nil)
	_ backends.UsageReporter   = (*Router)(nil)
	_ backends.FeatureReporter = (*Router)(nil)
	_ backends.Closer          = (*Router)(nil)
)

// Copy implements [backends.Copier]; between routes the bytes move through
// this machine.
func (rt *Router) Copy(ctx context.Context, from string, src backends.If, to string, opts backends.PutOptions) (backends.Entry, error) {
	a, arest, err := rt.inner("copy", from, backends.ErrIsDir)
	if err != nil {
		return backends.Entry{}, err
	}
	b, brest, err := rt.inner("copy", to, backends.ErrIsDir)
	if err != nil {
		return backends.Entry{}, err
	}
	if a != b {
		return backends.CopyBetween(ctx, rt, from, src, rt, to, opts)
	}
	e, err := backends.Copy(ctx, a.store, arest, src, brest, opts)
	if err != nil {
		return backends.Entry{}, a.err("copy", arest, err)
	}
	return a.entry(e), nil
}

// Rename implements [backends.Renamer]; between routes it is
// [errors.ErrUnsupported].
func (rt *Router) Rename(ctx context.Context, from string, src backends.If, to string, cond backends.If) error {
	a, arest, err := rt.inner("rename", from, backends.ErrBusy)
	if err != nil {
		return err
	}
	b, brest, err := rt.inner("rename", to, backends.ErrBusy)
	if err != nil {
		return err
	}
	if a != b {
		return &fs.PathError{Op: "rename", Path: from, Err: errors.ErrUnsupported}
	}
	return a.err("rename", arest, backends.Rename(ctx, a.store, arest, src, brest, cond))
}

// RemoveMany implements [backends.ManyRemover]: one call for each route that
// has any of rs, side by side.
func (rt *Router) RemoveMany(ctx context.Context, rs []backends.Removal) []error {
	type group struct {
		rs []backends.Removal
		at []int // their places in the answer
	}
	errs := make([]error, len(rs))
	groups := map[*route]*group{}
	for i, rm := range rs {
		r, rest, err := rt.inner("remove", rm.Name, backends.ErrBusy)
		if err != nil {
			errs[i] = err
			continue
		}
		g := groups[r]
		if g == nil {
			g = &group{}
			groups[r] = g
		}
		rm.Name = rest
		g.rs = append(g.rs, rm)
		g.at = append(g.at, i)
	}
	var wg sync.WaitGroup
	for r, g := range groups {
		wg.Go(func() {
			for j, err := range backends.RemoveMany(ctx, r.store, g.rs) {
				errs[g.at[j]] = r.err("remove", g.rs[j].Name, err)
			}
		})
	}
	wg.Wait()
	return errs
}

// SetAttr implements [backends.AttrSetter]. A point that its store has no
// directory for gets one.
func (rt *Router) SetAttr(ctx context.Context, name string, c backends.AttrChange) error {
	if err := backends.CheckName("setattr", name); err != nil {
		return err
	}
	r, rest, p := rt.locate(name)
	if p != nil && !p.mount {
		switch e, err := r.store.Stat(ctx, rest); {
		case errors.Is(err, fs.ErrNotExist):
			err = r.store.Mkdir(ctx, rest, backends.AttrChange{})
			if err != nil && !errors.Is(err, fs.ErrExist) {
				return r.err("setattr", rest, err)
			}
		case err == nil && !e.IsDir(): // shadowed, so not to be changed
			return &fs.PathError{Op: "setattr", Path: name, Err: backends.ErrNotDir}
		}
	}
	return r.err("setattr", rest, backends.SetAttr(ctx, r.store, rest, c))
}

// Symlink implements [backends.StoreSymlinker].
func (rt *Router) Symlink(ctx context.Context, target, name string) error {
	r, rest, err := rt.inner("symlink", name, fs.ErrExist)
	if err != nil {
		return err
	}
	return r.err("symlink", rest, backends.Symlink(ctx, r.store, target, rest))
}

// Readlink implements [backends.StoreSymlinker].
func (rt *Router) Readlink(ctx context.Context, name string) (string, error) {
	r, rest, err := rt.inner("readlink", name, fs.ErrInvalid)
	if err != nil {
		return "", err
	}
	target, err := backends.Readlink(ctx, r.store, rest)
	return target, r.err("readlink", rest, err)
}

// Usage implements [backends.UsageReporter]: that of the route at "/".
func (rt *Router) Usage(ctx context.Context) (backends.Usage, error) {
	return backends.UsageOf(ctx, rt.root.r.store)
}

// Features implements [backends.FeatureReporter] for all routes; each name
// begins with the route's path, if there are several. A route that fails is
// in the error, beside the features of the others.
func (rt *Router) Features(ctx context.Context) ([]backends.Feature, error) {
	var all []backends.Feature
	var errs []error
	for _, r := range rt.routes {
		fe, err := backends.FeaturesOf(ctx, r.store)
		if err != nil {
			errs = append(errs, r.wrap(err))
		}
		for _, f := range fe {
			if len(rt.routes) > 1 {
				f.Name = display(r.path) + ": " + f.Name
			}
			all = append(all, f)
		}
	}
	return all, errors.Join(errs...)
}

// Close implements [backends.Closer]: it closes the stores of all routes. The
// file systems that routes were given beside their stores are closed by the
// file depth's Close, which has to come first.
func (rt *Router) Close() error {
	var errs []error
	for _, r := range rt.routes {
		errs = append(errs, r.wrap(backends.CloseStore(r.store)))
	}
	return errors.Join(errs...)
}

// wrap returns an error about r as a whole, nil for nil.
func (r *route) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("route %s: %w", display(r.path), err)
}
