package cache

import (
	"context"
	"errors"
	"io/fs"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/tree"
)

// setAttr changes mode, owner and times. sized says that it goes with a change
// of size, whose time of change is nobody's choice.
func (c *FS) setAttr(t *tree.Node, ch backends.AttrChange, sized bool) error {
	c.ns.Lock()
	defer c.ns.Unlock()
	before := c.tree.Attr(t)
	c.tree.SetAttr(t, ch)
	own := attrsOf(t)
	mode, mtime, atime := own.mode, own.mtime.Load(), own.atime.Load()
	fresh := false // what the store will say of the time is as good
	if f, ok := t.Data.(*file); ok {
		f.mu.Lock()
		fresh = f.changedLocked()
		own.mode = own.mode || f.base != nil && c.tree.Attr(t).Mode != before.Mode
		f.mu.Unlock()
	} else {
		own.mode = own.mode || c.tree.Attr(t).Mode != before.Mode
	}
	chosen := func(m backends.AttrMask) bool {
		return !sized && !(fresh && ch.Now&m != 0)
	}
	if ch.Has(backends.SetMtime) {
		own.mtime.Store(chosen(backends.SetMtime))
	}
	if ch.Has(backends.SetAtime) {
		own.atime.Store(chosen(backends.SetAtime))
	}
	// tar and cp -a give each file the owner that it has: nothing that anybody keeps.
	if !own.unnoted && sameButCtime(before, c.tree.Attr(t)) && own.mode == mode && own.mtime.Load() == mtime && own.atime.Load() == atime {
		return nil
	}
	err := c.attrsChanged(t)
	own.unnoted = err != nil // who tries again changes nothing
	return err
}

// sameButCtime reports whether mode, owner and times are the same; the time of the
// last change of attributes nobody sets, and no store keeps.
func sameButCtime(a, b backends.Attr) bool {
	return a.Mode == b.Mode && a.UID == b.UID && a.GID == b.GID && a.Mtime.Equal(b.Mtime) && a.Atime.Equal(b.Atime)
}

// attrsChanged records a change of t's attributes that has been made in the
// tree. c.ns is held.
func (c *FS) attrsChanged(t *tree.Node) error {
	p, name, ok := c.attrPlace(t)
	if !ok {
		return nil // it has no name any more
	}
	c.noteAttrs(t, p, name)
	var b batch
	if recorded(t) || attrsOf(t).in != nil {
		c.record(&b, t, nil, "")
	}
	return c.commit(&b)
}

// recordAttrs puts what is to be remembered of n's attributes into r. c.ns is
// held.
func (c *FS) recordAttrs(r *nodeRecord, n *tree.Node) {
	own := attrsOf(n)
	r.Attrs, r.MtimeSet, r.AtimeSet, r.ModeSet = own.in != nil, own.mtime.Load(), own.atime.Load(), own.mode
	for name, v := range c.xattrs(n) {
		if r.Xattrs == nil {
			r.Xattrs = map[text][]byte{}
		}
		r.Xattrs[text(name)] = v
	}
	if n.Type() == fs.ModeSymlink {
		target, _ := c.tree.Readlink(n)
		r.Target = text(target)
	}
}

// replayAttrs is the reverse.
func replayAttrs(c *FS, n *tree.Node, r *nodeRecord) {
	own := attrsOf(n)
	own.mtime.Store(r.MtimeSet)
	own.atime.Store(r.AtimeSet)
	own.mode = r.ModeSet
	for name, v := range r.Xattrs {
		_, _ = c.tree.SetXattr(n, string(name), v, 0)
	}
}

// root gives the root what the journal has of it. c.ns is held.
func (r *replaying) root() {
	n := r.c.tree.Root()
	rec := r.nodes[n.ID()]
	if rec == nil {
		return
	}
	r.c.tree.SetAttr(n, backends.AttrChange{
		Set: backends.SetMode | backends.SetUID | backends.SetGID, Mode: rec.Mode &^ fs.ModeType, UID: rec.UID, GID: rec.GID,
	})
	replayAttrs(r.c, n, rec)
	n.SetModified(timeOf(rec.Mtime), timeOf(rec.Ctime))
	n.SetAccessed(timeOf(rec.Atime))
	dirOf(n).recorded = true
	if rec.Attrs {
		r.c.markAttrs(n, n, ".")
	}
}

// Symlink implements [backends.Symlinker]: an object whose body is the target,
// and an entry that says that it is a link.
func (c *FS) Symlink(ctx context.Context, parent backends.Node, name, target string, a backends.CreateAttr) (backends.Node, backends.Attr, error) {
	fail := func(err error) (backends.Node, backends.Attr, error) { return nil, backends.Attr{}, err }
	p, err := c.ownDir(parent)
	if err != nil {
		return fail(err)
	}
	switch {
	case c.cfg.NoAttributes:
		return fail(errors.ErrUnsupported)
	case target == "":
		return fail(fs.ErrNotExist)
	case len(target) >= maxTarget:
		return fail(backends.ErrNameTooLong)
	}
	if err := c.absent(ctx, p, name); err != nil {
		return fail(err)
	}
	f := &file{fs: c, change: 1}
	n := c.tree.NewSymlink(a, target, f)
	f.node = n
	f.mu.Lock()
	content := f.content()
	f.mu.Unlock()
	content.use()
	defer content.done()
	if _, _, err := content.writeAt(ctx, []byte(target), 0); err != nil {
		content.free()
		return fail(err)
	}
	c.ns.Lock()
	c.await(f)
	j := f.job
	if err = c.make(p, name, n); err != nil {
		c.q.drop(j)
		content.free()
	}
	c.ns.Unlock()
	if err != nil {
		return fail(err)
	}
	c.rest(f) // nobody opens it
	c.q.touch(j)
	if c.close {
		if err := c.followed(ctx, j); err != nil {
			return fail(err)
		}
		if err := c.syncAttrs(ctx, n); ctx.Err() != nil {
			return fail(err)
		}
	}
	return n, c.attr(n), nil
}

// maxTarget is PATH_MAX, which counts the zero byte.
const maxTarget = 4096

// maxXattrs is the most that the extended attributes of one file may take: what
// a record's entry holds, in base64, beside the rest.
const maxXattrs = 2 << 20

// GetXattr implements [backends.Xattrer]. One attribute is not set by anybody:
// it says which version of the store a file is.
func (c *FS) GetXattr(_ context.Context, n backends.Node, name string) ([]byte, error) {
	t, err := c.tree.Own(n)
	if err != nil {
		return nil, err
	}
	if name == backends.VersionXattr {
		return backends.VersionXattrOf(c.version(t))
	}
	return c.tree.GetXattr(t, name)
}

// ListXattr implements [backends.Xattrer].
func (c *FS) ListXattr(_ context.Context, n backends.Node) ([]string, error) {
	t, err := c.tree.Own(n)
	if err != nil {
		return nil, err
	}
	return c.tree.ListXattr(t), nil
}

// SetXattr implements [backends.Xattrer].
func (c *FS) SetXattr(_ context.Context, n backends.Node, name string, value []byte, flags backends.XattrFlags) error {
	t, err := c.tree.Own(n)
	if err == nil && c.cfg.NoAttributes {
		err = errors.ErrUnsupported
	}
	if err == nil {
		err = backends.CheckXattr(name)
	}
	if err != nil {
		return err
	}
	c.ns.Lock()
	defer c.ns.Unlock()
	old, had := c.tree.GetXattr(t, name)
	if c.tree.XattrBytes(t)-int64(len(old))+int64(len(name)+len(value)) > maxXattrs {
		return backends.ErrNoSpace
	}
	if _, err := c.tree.SetXattr(t, name, value, flags); err != nil {
		return err
	}
	if err := c.attrsChanged(t); err != nil {
		_, _ = c.tree.RemoveXattr(t, name)
		if had == nil {
			_, _ = c.tree.SetXattr(t, name, old, 0)
		}
		return err
	}
	return nil
}

// RemoveXattr implements [backends.Xattrer].
func (c *FS) RemoveXattr(_ context.Context, n backends.Node, name string) error {
	t, err := c.tree.Own(n)
	if err == nil {
		err = backends.CheckXattr(name)
	}
	if err != nil {
		return err
	}
	c.ns.Lock()
	defer c.ns.Unlock()
	old, err := c.tree.GetXattr(t, name)
	if err != nil {
		return err
	}
	if _, err := c.tree.RemoveXattr(t, name); err != nil {
		return err
	}
	if err := c.attrsChanged(t); err != nil {
		_, _ = c.tree.SetXattr(t, name, old, 0)
		return err
	}
	return nil
}
