package prefix

import (
	"context"
	"errors"
	"io/fs"

	"github.com/agentfs/agentfs/backends"
)

func (p *store) StatFile(ctx context.Context, name string) (backends.Entry, error) {
	if name == "." {
		return p.Stat(ctx, name)
	}
	outer, err := p.outer("stat", name)
	if err != nil {
		return backends.Entry{}, err
	}
	e, err := backends.StatFile(ctx, p.s, outer)
	return p.entry(e), p.fail(err)
}

func (p *store) Copy(ctx context.Context, from string, src backends.If, to string, opts backends.PutOptions) (backends.Entry, error) {
	outerFrom, outerTo, err := p.two("copy", from, to)
	if err == nil {
		err = errors.Join(isRoot("copy", from, backends.ErrIsDir), isRoot("copy", to, backends.ErrIsDir))
	}
	if err != nil {
		return backends.Entry{}, err
	}
	e, err := backends.Copy(ctx, p.s, outerFrom, src, outerTo, opts)
	return p.entry(e), p.fail(err)
}

func (p *store) Rename(ctx context.Context, from string, src backends.If, to string, cond backends.If) error {
	outerFrom, outerTo, err := p.two("rename", from, to)
	if err == nil {
		err = errors.Join(isRoot("rename", from, backends.ErrBusy), isRoot("rename", to, backends.ErrBusy))
	}
	if err != nil {
		return err
	}
	return p.fail(backends.Rename(ctx, p.s, outerFrom, src, outerTo, cond))
}

func (p *store) two(op, from, to string) (outerFrom, outerTo string, err error) {
	outerFrom, err = p.outer(op, from)
	if err != nil {
		return "", "", err
	}
	outerTo, err = p.outer(op, to)
	return outerFrom, outerTo, err
}

func (p *store) RemoveMany(ctx context.Context, rs []backends.Removal) []error {
	errs := make([]error, len(rs))
	outer := make([]backends.Removal, 0, len(rs))
	index := make([]int, 0, len(rs)) // of each outer removal among rs
	for i, r := range rs {
		name, err := p.outer("remove", r.Name)
		if err == nil {
			err = isRoot("remove", r.Name, backends.ErrBusy)
		}
		if err != nil {
			errs[i] = err
			continue
		}
		r.Name = name
		outer = append(outer, r)
		index = append(index, i)
	}
	for i, err := range backends.RemoveMany(ctx, p.s, outer) {
		errs[index[i]] = p.fail(err)
	}
	return errs
}

func (p *store) SetAttr(ctx context.Context, name string, c backends.AttrChange) error {
	outer, err := p.outer("setattr", name)
	if err != nil {
		return err
	}
	return p.fail(backends.SetAttr(ctx, p.s, outer, c))
}

func (p *store) Symlink(ctx context.Context, target, name string) error {
	outer, err := p.outer("symlink", name)
	if err == nil {
		err = isRoot("symlink", name, fs.ErrExist)
	}
	if err != nil {
		return err
	}
	return p.fail(backends.Symlink(ctx, p.s, target, outer))
}

func (p *store) Readlink(ctx context.Context, name string) (string, error) {
	outer, err := p.outer("readlink", name)
	if err == nil {
		err = isRoot("readlink", name, fs.ErrInvalid)
	}
	if err != nil {
		return "", err
	}
	target, err := backends.Readlink(ctx, p.s, outer)
	return target, p.fail(err)
}

func (p *store) Usage(ctx context.Context) (backends.Usage, error) {
	return backends.UsageOf(ctx, p.s)
}

func (p *store) Features(ctx context.Context) ([]backends.Feature, error) {
	return backends.FeaturesOf(ctx, p.s)
}

// Identity is that of the wrapped store with the directory added, so that two
// parts of one store are told apart.
func (p *store) Identity() string {
	id := backends.IdentityOf(p.s, "")
	if id == "" || p.dir == "." {
		return id
	}
	return id + "/" + p.dir
}

func (p *store) Close() error { return backends.CloseStore(p.s) }

func (p *store) FileSystem() backends.FileSystem { return p.files }

func (p *store) CheckName(name string) error {
	outer, err := p.outer("create", name)
	if err != nil {
		return err
	}
	return p.fail(backends.ValidName(p.s, outer))
}

func (p *store) Lean() backends.Store {
	return &store{s: backends.LeanStore(p.s), dir: p.dir, files: p.files}
}

// Load is that of the wrapped store.
func (p *store) Load() backends.Load { return backends.LoadOf(p.s) }
