package cache

import (
	"context"
	"errors"
	"io/fs"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/tree"
)

// versionXattr is the extended attribute that shows a file's version in the
// store. It is there while nothing waits to be uploaded.
const versionXattr = "user.agentfs.version"

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
		x.mu.Unlock()
		a.Valid = c.left(t)
	default:
		a.Valid = c.cfg.TTL
	}
	if p, name, ok := c.tree.Where(n); ok && p != n {
		d := dirOf(p)
		d.mu.Lock()
		a.Valid = max(a.Valid, c.left(d.listedFor(name)))
		d.mu.Unlock()
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

// SetAttr implements [backends.FileSystem]. Mode, owner and times are kept
// while the mount lives; a size is a change of content and uploaded with the
// next close, or at once where nobody has the file open for writing.
func (c *FS) SetAttr(ctx context.Context, n backends.Node, ch backends.AttrChange) (backends.Attr, error) {
	t, err := c.tree.Own(n)
	if err != nil {
		return backends.Attr{}, err
	}
	if ch.Has(backends.SetSize) {
		f, ok := t.Data.(*file)
		switch {
		case t.IsDir():
			return backends.Attr{}, backends.ErrIsDir
		case !ok:
			return backends.Attr{}, fs.ErrInvalid
		}
		if err := f.truncate(ctx, ch.Size); err != nil {
			return backends.Attr{}, err
		}
		f.mu.Lock()
		closes := f.writing > 0
		f.mu.Unlock()
		if !closes {
			// truncate(2) is followed by no close of its own, and somebody who
			// only reads uploads nothing at his.
			err := c.upload(ctx, f)
			if errors.Is(err, backends.ErrChanged) {
				name, _ := c.tree.Path(f.node)
				err = &unseenError{name}
			}
			if err != nil {
				return backends.Attr{}, err
			}
			c.rest(f) // the upload has brought it here
		}
		ch.Set &^= backends.SetSize
	}
	c.tree.SetAttr(t, ch)
	return c.attr(t), nil
}

// Symlink implements [backends.Symlinker], where the store has symbolic links.
func (c *FS) Symlink(ctx context.Context, parent backends.Node, name, target string, a backends.CreateAttr) (backends.Node, backends.Attr, error) {
	p, err := c.ownDir(parent)
	if err != nil {
		return nil, backends.Attr{}, err
	}
	n := c.tree.NewSymlink(a, target, nil)
	err = c.make(ctx, p, name, n, func(path string) error {
		return backends.Symlink(ctx, c.store, target, path)
	})
	if err != nil {
		return nil, backends.Attr{}, err
	}
	return n, c.attr(n), nil
}

// Readlink implements [backends.Symlinker].
func (c *FS) Readlink(_ context.Context, n backends.Node) (string, error) {
	t, err := c.tree.Own(n)
	if err != nil {
		return "", err
	}
	return c.tree.Readlink(t)
}

// GetXattr implements [backends.Xattrer]: the one attribute there is says
// which version of the store a file is.
func (c *FS) GetXattr(_ context.Context, n backends.Node, name string) ([]byte, error) {
	t, err := c.tree.Own(n)
	if err != nil {
		return nil, err
	}
	if v := c.version(t); name == versionXattr && v != "" {
		return []byte(v), nil
	}
	return nil, backends.ErrNoXattr
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

// ListXattr implements [backends.Xattrer].
func (c *FS) ListXattr(_ context.Context, n backends.Node) ([]string, error) {
	t, err := c.tree.Own(n)
	if err != nil {
		return nil, err
	}
	if c.version(t) != "" {
		return []string{versionXattr}, nil
	}
	return nil, nil
}

// SetXattr implements [backends.Xattrer]: an object has no place for
// attributes that a listing would show, so there are none to set.
func (c *FS) SetXattr(context.Context, backends.Node, string, []byte, backends.XattrFlags) error {
	return errors.ErrUnsupported
}

// RemoveXattr implements [backends.Xattrer].
func (c *FS) RemoveXattr(_ context.Context, n backends.Node, name string) error {
	if _, err := c.tree.Own(n); err != nil {
		return err
	}
	if name == versionXattr {
		return backends.ErrNotPermitted
	}
	return backends.ErrNoXattr
}

// putAttr returns the attributes that go with an upload: those that a store
// may be able to keep.
func (c *FS) putAttr(n *tree.Node) backends.AttrChange {
	a := c.tree.Attr(n)
	ch := backends.AttrChange{Set: backends.SetMtime, Mtime: a.Mtime}
	if a.Mode.Perm() != c.cfg.FileMode.Perm() {
		ch.Set |= backends.SetMode
		ch.Mode = a.Mode &^ fs.ModeType
	}
	if a.UID != c.cfg.UID || a.GID != c.cfg.GID {
		ch.Set |= backends.SetUID | backends.SetGID
		ch.UID, ch.GID = a.UID, a.GID
	}
	return ch
}
