package memory

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/tree"
)

// Put implements [backends.Store].
func (s *Store) Put(ctx context.Context, name string, content *io.SectionReader, opts backends.PutOptions) (backends.Entry, error) {
	fail := func(err error) (backends.Entry, error) {
		return backends.Entry{}, backends.WrapPath("put", name, err)
	}
	if err := backends.CheckName("put", name); err != nil {
		return backends.Entry{}, err
	}
	n, err := s.newNode(s.createAttr(ctx, 0o644))
	if err != nil {
		return fail(err)
	}
	f := n.Data.(*file)
	if err := f.fillFrom(ctx, n, content); err != nil {
		f.unlinked()
		return fail(err)
	}
	f.op, f.opAt = opts.Operation, f.changes.Load()
	placed, err := s.place(ctx, name, n, opts)
	if placed != n {
		f.unlinked()
	}
	if err != nil {
		return fail(err)
	}
	return s.entry(placed, name), nil
}

// fillFrom writes all of content into a new file.
func (f *file) fillFrom(ctx context.Context, n *tree.Node, content *io.SectionReader) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.body.open(); err != nil {
		return err
	}
	defer f.body.shut()
	buf := make([]byte, min(max(content.Size(), 1), 1<<20))
	for off := int64(0); off < content.Size(); {
		if err := ctx.Err(); err != nil {
			return err
		}
		m, err := content.ReadAt(buf[:min(int64(len(buf)), content.Size()-off)], off)
		if m == 0 && err != nil {
			return err
		}
		if _, err := f.body.writeAt(buf[:m], off); err != nil {
			return err
		}
		off += int64(m)
	}
	f.touch(n)
	return nil
}

// place puts the finished node n under name if the precondition holds, and
// returns the node that has the name then: n, or one that an earlier attempt
// of the same operation has put.
func (s *Store) place(ctx context.Context, name string, n *tree.Node, opts backends.PutOptions) (*tree.Node, error) {
	for {
		err := s.placeIf(ctx, name, n, opts)
		if err == nil {
			return n, nil
		}
		if !errors.Is(err, backends.ErrChanged) && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		now, version, op := s.written(name)
		switch {
		case op != "" && op == opts.Operation:
			return now, nil
		case op != "" && slices.Contains(opts.Earlier, op) && version != opts.If.Match:
			opts.If = backends.If{Match: version}
		default:
			return nil, err
		}
	}
}

// written returns the file that has the name, its version, and the operation
// that wrote that; "" if there is no such.
func (s *Store) written(name string) (*tree.Node, backends.Version, string) {
	n, err := s.find("put", name)
	if err != nil {
		return nil, "", ""
	}
	f, ok := n.Data.(*file)
	if !ok {
		return nil, "", ""
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sync(n)
	if f.op == "" || f.changes.Load() != f.opAt {
		return nil, "", ""
	}
	return n, f.versionLocked(n), f.op
}

// placeIf puts n under name if opts.If holds.
func (s *Store) placeIf(ctx context.Context, name string, n *tree.Node, opts backends.PutOptions) error {
	for {
		// Nothing may come into being for a put that can't happen.
		if old, err := s.find("put", name); err != nil && opts.If.Match != "" {
			return backends.ErrChanged
		} else if err == nil && opts.If.Absent {
			return fs.ErrExist
		} else if err == nil && old.IsDir() {
			return backends.ErrIsDir
		}
		dir, base, err := s.findDir(ctx, "put", name)
		if err != nil {
			return err
		}
		old, err := s.tree.Lookup(dir, base)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if old != nil && old.IsDir() {
			return backends.ErrIsDir
		}
		done, gone, err := s.swap(dir, base, old, n, opts)
		if err != nil {
			return err
		}
		if !done {
			continue // somebody else was at this name
		}
		if gone {
			s.unnamed(old)
		}
		s.changed(dir, base)
		return nil
	}
}

// swap replaces old by n if old still has the name and the precondition
// holds. While it looks, nobody writes into old.
func (s *Store) swap(dir *tree.Node, base string, old, n *tree.Node, opts backends.PutOptions) (done, gone bool, err error) {
	if old != nil {
		a := s.tree.Attr(old)
		keep := backends.AttrChange{
			Set:  backends.SetMode | backends.SetUID | backends.SetGID,
			Mode: a.Mode, UID: a.UID, GID: a.GID,
		}
		if old.Type().IsRegular() {
			s.tree.SetAttr(n, keep)
		}
	}
	c := opts.Attr
	c.Set &^= backends.SetSize
	s.tree.SetAttr(n, c)

	switch {
	case old == nil && opts.If.Match != "":
		return false, false, backends.ErrChanged
	case old != nil && opts.If.Absent:
		return false, false, fs.ErrExist
	}
	if old != nil && opts.If.Match != "" {
		unlock, err := holds(opts.If.Match, old)
		if err != nil {
			return false, false, err
		}
		defer unlock()
	}
	return s.tree.Replace(dir, base, old, n)
}
