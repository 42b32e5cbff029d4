package cache

import (
	"context"
	"errors"
	"io/fs"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/tree"
)

// attr returns n's attributes.
func (c *FS) attr(n *tree.Node) backends.Attr {
	a := c.tree.Attr(n)
	switch x := n.Data.(type) {
	case *file:
		x.mu.Lock()
		a.Size = x.sizeLocked()
		switch {
		case x.gone:
			a.Valid = 0
		case x.localLocked():
			// Nobody else changes what is only here.
			a.Valid = c.cfg.TTL
		default:
			a.Valid = c.left(x.seen)
			a.Version = x.base.version
		}
		a.Blocks = (a.Size + 511) / 512
		if x.c != nil {
			a.Blocks = x.c.blocks()
		}
		x.mu.Unlock()
	case *dir:
		x.mu.Lock()
		t := x.seen
		if x.listed.After(t) {
			t = x.listed
		}
		mine := x.local || x.mine
		x.mu.Unlock()
		a.Valid = c.trusted(t)
		if mine {
			a.Valid = c.cfg.TTL
		}
	default:
		a.Valid = c.cfg.TTL
	}
	if p, name, ok := c.tree.Where(n); ok && p != n {
		d := dirOf(p)
		d.mu.Lock()
		listed := d.listedFor(name)
		d.mu.Unlock()
		left := c.left(listed)
		if n.IsDir() {
			left = c.trusted(listed)
		}
		a.Valid = max(a.Valid, left)
	}
	return a
}

// Attr implements [backends.FileSystem]. It asks nobody: a node is bound to
// one version, and a change elsewhere is a matter of the name.
func (c *FS) Attr(_ context.Context, n backends.Node) (backends.Attr, error) {
	t, err := c.tree.Own(n)
	if err != nil {
		return backends.Attr{}, err
	}
	return c.attr(t), nil
}

// SetAttr implements [backends.FileSystem]. A size is a change of content and
// sent with the next close, or as if there were one where nobody has the file
// open for writing.
func (c *FS) SetAttr(ctx context.Context, n backends.Node, ch backends.AttrChange) (backends.Attr, error) {
	t, err := c.tree.Own(n)
	if err != nil {
		return backends.Attr{}, err
	}
	sized := ch.Has(backends.SetSize)
	if sized {
		if err := c.resize(ctx, t, ch.Size); err != nil {
			return backends.Attr{}, err
		}
		ch.Set &^= backends.SetSize
	}
	if ch.Set != 0 {
		if err := c.setAttr(t, ch, sized); err != nil {
			return backends.Attr{}, err
		}
	}
	return c.attr(t), nil
}

// resize is truncate(2).
func (c *FS) resize(ctx context.Context, t *tree.Node, size int64) error {
	f, ok := t.Data.(*file)
	switch {
	case t.IsDir():
		return backends.ErrIsDir
	case !ok || t.Type() != 0:
		return fs.ErrInvalid
	}
	if err := f.truncate(size); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.writing > 0 || !f.pending {
		return nil
	}
	// truncate(2) is followed by no close of its own, and somebody who only
	// reads closes nothing that would be sent.
	f.sealLocked()
	j := f.job
	f.mu.Unlock()
	defer f.mu.Lock()
	c.q.touch(j)
	err := error(nil)
	if c.close {
		if err = c.syncFile(ctx, f); err == nil {
			err = f.othersHear()
		}
		if errors.Is(err, backends.ErrChanged) {
			name, _ := c.tree.Path(t)
			err = &unseenError{name}
		}
	}
	if err == nil {
		c.rest(f) // it has brought something here
	}
	return err
}

// unseenError is the error of a call that derives from a content which somebody
// else has replaced meanwhile. It matches ErrChanged, and ErrBusy first of
// all: a kernel that hears ESTALE looks the name up again and repeats the call
// by itself, and then what nobody here has seen is gone.
type unseenError struct{ path string }

func (e *unseenError) Error() string { return e.path + ": changed elsewhere meanwhile; look again" }

// Is makes e match both.
func (e *unseenError) Is(target error) bool {
	return target == backends.ErrBusy || target == backends.ErrChanged
}

// recorded reports whether the journal has a record of t. FS.ns is held.
func recorded(t *tree.Node) bool {
	switch x := t.Data.(type) {
	case *file:
		return x.recorded
	case *dir:
		return x.recorded
	}
	return false
}

// Readlink implements [backends.Symlinker].
func (c *FS) Readlink(_ context.Context, n backends.Node) (string, error) {
	t, err := c.tree.Own(n)
	if err != nil {
		return "", err
	}
	return c.tree.Readlink(t)
}

func (c *FS) version(n *tree.Node) backends.Version {
	f, ok := n.Data.(*file)
	if !ok {
		return ""
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.localLocked() || f.gone {
		return ""
	}
	return f.base.version
}

// putAttr returns the attributes that go with an upload: those that a store
// may be able to keep.
func (c *FS) putAttr(n *tree.Node) backends.AttrChange {
	a := c.tree.Attr(n)
	ch := backends.AttrChange{Set: backends.SetMtime, Mtime: a.Mtime}
	if a.Mode.IsRegular() && a.Mode.Perm() != c.cfg.FileMode.Perm() {
		ch.Set |= backends.SetMode
		ch.Mode = a.Mode &^ fs.ModeType
	}
	if a.UID != c.cfg.UID || a.GID != c.cfg.GID {
		ch.Set |= backends.SetUID | backends.SetGID
		ch.UID, ch.GID = a.UID, a.GID
	}
	return ch
}
