// Package carry makes changes of a store without a cache take along what the
// records beside the files say of them ([attrs]): modes, owners, symbolic
// links, extended attributes. It shows neither the records nor what they say.
package carry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"strings"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/cache/attrs"
)

// Store returns s so that
//
//   - a file that is replaced keeps its mode, owner and extended attributes;
//   - a copy has all that is recorded of the original, and so has what is renamed;
//   - a directory in which there is nothing but records can be removed.
//
// To replace, copy or rename a file costs one more listing, which is short, and
// reading what it has. If the content is stored and the record can't be, that is
// an error. The calls of several machines at once lose no record.
func Store(s backends.Store) backends.Store { return &store{s, backends.LeanStore(s)} }

type store struct {
	backends.Store
	lean backends.Store // which shows records
}

var (
	_ backends.Walker         = (*store)(nil)
	_ backends.Copier         = (*store)(nil)
	_ backends.Renamer        = (*store)(nil)
	_ backends.ManyRemover    = (*store)(nil)
	_ backends.StoreSymlinker = (*store)(nil)
	_ backends.NameChecker    = (*store)(nil)
	_ backends.Identifier     = (*store)(nil)
	_ backends.Leaner         = (*store)(nil)
	_ backends.Closer         = (*store)(nil)
)

// reserved returns an error for the name of a record, which a store needs not
// reserve by itself.
func reserved(op, name string) error {
	if attrs.IsRecord(path.Base(name)) {
		return &fs.PathError{Op: op, Path: name, Err: backends.ErrReserved}
	}
	return nil
}

// Stat implements [backends.Store].
func (c *store) Stat(ctx context.Context, name string) (backends.Entry, error) {
	if err := reserved("stat", name); err != nil {
		return backends.Entry{}, err
	}
	return c.Store.Stat(ctx, name)
}

// List implements [backends.Store].
func (c *store) List(ctx context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	return func(yield func(backends.Entry, error) bool) {
		for e, err := range c.Store.List(ctx, dir, after) {
			if err == nil && attrs.IsRecord(e.Base()) {
				continue
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// Walk implements [backends.Walker]. A directory with nothing but records is in
// it, as in a listing.
func (c *store) Walk(ctx context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	return func(yield func(backends.Entry, error) bool) {
		last := ""
		for e, err := range backends.Walk(ctx, c.lean, dir, after) {
			if err == nil && attrs.IsRecord(e.Base()) {
				in := backends.Entry{Name: path.Dir(e.Name), Mode: fs.ModeDir}
				key := backends.WalkKey(in)
				if in.Name == dir || strings.HasPrefix(last, key) || key <= after {
					continue
				}
				e = in
			}
			if !yield(e, err) {
				return
			}
			last = backends.WalkKey(e)
		}
	}
}

// Open implements [backends.Store].
func (c *store) Open(ctx context.Context, name string, r backends.Range, cond backends.If) (io.ReadCloser, backends.Entry, error) {
	if err := reserved("open", name); err != nil {
		return nil, backends.Entry{}, err
	}
	return c.Store.Open(ctx, name, r, cond)
}

// Mkdir implements [backends.Store].
func (c *store) Mkdir(ctx context.Context, name string, attr backends.AttrChange) error {
	if err := reserved("mkdir", name); err != nil {
		return err
	}
	return c.Store.Mkdir(ctx, name, attr)
}

// Symlink implements [backends.StoreSymlinker].
func (c *store) Symlink(ctx context.Context, target, name string) error {
	return backends.Symlink(ctx, c.Store, target, name)
}

// Readlink implements [backends.StoreSymlinker].
func (c *store) Readlink(ctx context.Context, name string) (string, error) {
	return backends.Readlink(ctx, c.Store, name)
}

// CheckName implements [backends.NameChecker].
func (c *store) CheckName(name string) error {
	return errors.Join(reserved("create", name), backends.ValidName(c.Store, name))
}

// Identity implements [backends.Identifier].
func (c *store) Identity() string { return backends.IdentityOf(c.Store, "") }

// Lean implements [backends.Leaner].
func (c *store) Lean() backends.Store { return c.lean }

// Close implements [backends.Closer].
func (c *store) Close() error { return backends.CloseStore(c.Store) }

// known is what is recorded of a file.
type known struct {
	attr  attrs.Attr
	found bool
}

// recorded returns what is recorded of the file name, of the version that cond
// asks for, or of the one that is there.
func (c *store) recorded(ctx context.Context, name string, cond backends.If) (k known, err error) {
	if backends.CheckName("", name) != nil || name == "." {
		return k, nil // whoever is asked next says what is wrong
	}
	dir, err := attrs.Read(ctx, c.lean, path.Dir(name))
	if err != nil || dir.Len() == 0 {
		return k, err
	}
	v := cond.Match
	if v == "" {
		e, err := backends.StatFile(ctx, c.Store, name)
		if err != nil || e.IsDir() {
			return k, nil // the same
		}
		v = e.Version
	}
	k.attr, k.found = dir.Lookup(path.Base(name), v)
	return k, nil
}

// save records a of the file name, which has version v now.
func (c *store) save(ctx context.Context, name string, a attrs.Attr, v backends.Version) error {
	a.Version = v
	dir, err := attrs.Read(ctx, c.lean, path.Dir(name))
	if err == nil {
		_, err = attrs.Save(ctx, c.lean, path.Dir(name), dir, map[string]attrs.Attr{path.Base(name): a}, nil, 0)
	}
	if err != nil {
		return &fs.PathError{Op: "put", Path: name, Err: fmt.Errorf("the content is stored, but not its mode and what else was recorded of it: %w", err)}
	}
	return nil
}

// Put implements [backends.Store].
func (c *store) Put(ctx context.Context, name string, body *io.SectionReader, opts backends.PutOptions) (backends.Entry, error) {
	if err := reserved("put", name); err != nil {
		return backends.Entry{}, err
	}
	if opts.If.Absent {
		return c.Store.Put(ctx, name, body, opts)
	}
	k, err := c.recorded(ctx, name, opts.If)
	if err != nil {
		return backends.Entry{}, err
	}
	e, err := c.Store.Put(ctx, name, body, opts)
	if err == nil && k.found {
		// The times are those of another content, and what was a link is none now.
		k.attr.Mtime, k.attr.Atime = nil, nil
		k.attr.Symlink, k.attr.Target = false, ""
		err = c.save(ctx, name, k.attr, e.Version)
	}
	return e, err
}

// Copy implements [backends.Copier].
func (c *store) Copy(ctx context.Context, from string, src backends.If, to string, opts backends.PutOptions) (backends.Entry, error) {
	if err := errors.Join(reserved("copy", from), reserved("copy", to)); err != nil {
		return backends.Entry{}, err
	}
	k, err := c.recorded(ctx, from, src)
	if err != nil {
		return backends.Entry{}, err
	}
	e, err := backends.Copy(ctx, c.Store, from, src, to, opts)
	if err == nil && k.found {
		err = c.save(ctx, to, k.attr, e.Version)
	}
	return e, err
}

// Rename implements [backends.Renamer]. What lies in a directory takes its
// records along by itself.
func (c *store) Rename(ctx context.Context, from string, src backends.If, to string, cond backends.If) error {
	r, ok := c.Store.(backends.Renamer)
	if !ok {
		return &fs.PathError{Op: "rename", Path: from, Err: errors.ErrUnsupported}
	}
	if err := errors.Join(reserved("rename", from), reserved("rename", to)); err != nil {
		return err
	}
	k, err := c.recorded(ctx, from, src)
	if err == nil {
		err = r.Rename(ctx, from, src, to, cond)
	}
	if err != nil || !k.found {
		return err
	}
	e, err := backends.StatFile(ctx, c.Store, to)
	if err != nil {
		return err
	}
	return c.save(ctx, to, k.attr, e.Version)
}

// Remove implements [backends.Store].
func (c *store) Remove(ctx context.Context, name string, cond backends.If) error {
	if err := reserved("remove", name); err != nil {
		return err
	}
	err := c.Store.Remove(ctx, name, cond)
	if !errors.Is(err, backends.ErrNotEmpty) {
		return err
	}
	for range c.List(ctx, name, "") {
		return err // there is something, or nobody knows
	}
	records, rerr := attrs.Records(ctx, c.lean, name)
	if rerr != nil || len(records) == 0 {
		return errors.Join(err, rerr)
	}
	// A marker, so that the directories above stay when the records are gone.
	if err := c.lean.Mkdir(ctx, name, backends.AttrChange{}); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	removals := make([]backends.Removal, len(records))
	for i, e := range records {
		removals[i] = backends.Removal{Name: e.Name, If: backends.If{Match: e.Version}}
	}
	for _, err := range backends.RemoveMany(ctx, c.lean, removals) {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return c.Store.Remove(ctx, name, cond)
}

// RemoveMany implements [backends.ManyRemover].
func (c *store) RemoveMany(ctx context.Context, rs []backends.Removal) []error {
	errs := backends.RemoveMany(ctx, c.Store, rs)
	for i, err := range errs {
		if errors.Is(err, backends.ErrNotEmpty) {
			errs[i] = c.Remove(ctx, rs[i].Name, backends.If{})
		}
	}
	return errs
}
