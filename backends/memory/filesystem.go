package memory

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/tree"
)

// valid is how long the kernel may keep what it has heard: nobody changes a
// memory route but the kernel itself, and where the object depth does, the
// kernel is told.
const valid = time.Hour

// fileSystem is the file depth of a Store.
type fileSystem Store

var (
	_ backends.FileSystem     = (*fileSystem)(nil)
	_ backends.Symlinker      = (*fileSystem)(nil)
	_ backends.Linker         = (*fileSystem)(nil)
	_ backends.Mknoder        = (*fileSystem)(nil)
	_ backends.Xattrer        = (*fileSystem)(nil)
	_ backends.ChangeNotifier = (*fileSystem)(nil)
)

func (m *fileSystem) store() *Store { return (*Store)(m) }

func (m *fileSystem) attr(n *tree.Node) backends.Attr {
	var a backends.Attr
	if f, ok := n.Data.(*file); ok {
		a = f.fill(n, m.tree)
	} else {
		a = m.tree.Attr(n)
	}
	a.Valid = valid
	return a
}

// found is what Lookup and all that create answer.
func (m *fileSystem) found(n *tree.Node) (backends.Node, backends.Attr, error) {
	if f, ok := n.Data.(*file); ok {
		f.know()
	}
	return n, m.attr(n), nil
}

// Root implements [backends.FileSystem].
func (m *fileSystem) Root() backends.Node { return m.tree.Root() }

// OnChange implements [backends.ChangeNotifier].
func (m *fileSystem) OnChange(f func(backends.Node, string)) {
	m.notifyMu.Lock()
	m.notify = f
	m.notifyMu.Unlock()
}

// Lookup implements [backends.FileSystem].
func (m *fileSystem) Lookup(_ context.Context, parent backends.Node, name string) (backends.Node, backends.Attr, error) {
	dir, err := m.tree.Own(parent)
	if err != nil {
		return nil, backends.Attr{}, err
	}
	n, err := m.tree.Lookup(dir, name)
	if err != nil {
		return nil, backends.Attr{}, err
	}
	return m.found(n)
}

// Attr implements [backends.FileSystem].
func (m *fileSystem) Attr(_ context.Context, n backends.Node) (backends.Attr, error) {
	t, err := m.tree.Own(n)
	if err != nil {
		return backends.Attr{}, err
	}
	return m.attr(t), nil
}

// SetAttr implements [backends.FileSystem].
func (m *fileSystem) SetAttr(_ context.Context, n backends.Node, c backends.AttrChange) (backends.Attr, error) {
	t, err := m.tree.Own(n)
	if err != nil {
		return backends.Attr{}, err
	}
	f, regular := t.Data.(*file)
	if c.Has(backends.SetSize) {
		switch {
		case t.IsDir():
			return backends.Attr{}, backends.ErrIsDir
		case !regular:
			return backends.Attr{}, fs.ErrInvalid
		}
	}
	if regular {
		f.mu.Lock()
		if c.Has(backends.SetSize) {
			if err := f.truncate(t, c.Size); err != nil {
				f.mu.Unlock()
				return backends.Attr{}, err
			}
			c.Set &^= backends.SetSize
		} else {
			// What the kernel did so far is older than the times set now.
			f.sync(t)
		}
		m.tree.SetAttr(t, c)
		f.mu.Unlock()
		return m.attr(t), nil
	}
	m.tree.SetAttr(t, c)
	return m.attr(t), nil
}

// ReadDir implements [backends.FileSystem].
func (m *fileSystem) ReadDir(_ context.Context, dir backends.Node) ([]backends.DirEntry, error) {
	t, err := m.tree.Own(dir)
	if err != nil {
		return nil, err
	}
	return m.tree.ReadDir(t)
}

// Open implements [backends.FileSystem].
func (m *fileSystem) Open(_ context.Context, n backends.Node, flags int) (backends.File, error) {
	t, err := m.tree.Own(n)
	if err != nil {
		return nil, err
	}
	return m.open(t, flags)
}

func (m *fileSystem) open(n *tree.Node, flags int) (backends.File, error) {
	f, ok := n.Data.(*file)
	switch {
	case n.IsDir():
		return nil, backends.ErrIsDir
	case !ok:
		return nil, fs.ErrInvalid
	}
	keep, err := f.open(n, flags)
	if err != nil {
		return nil, err
	}
	return &handle{f: f, n: n, keep: keep}, nil
}

// Create implements [backends.FileSystem].
func (m *fileSystem) Create(_ context.Context, parent backends.Node, name string, flags int, a backends.CreateAttr) (backends.Node, backends.Attr, backends.File, error) {
	fail := func(err error) (backends.Node, backends.Attr, backends.File, error) {
		return nil, backends.Attr{}, nil, err
	}
	dir, err := m.tree.Own(parent)
	if err != nil {
		return fail(err)
	}
	a.Mode &^= fs.ModeType
	for {
		n, err := m.store().newNode(a)
		if err != nil {
			return fail(err)
		}
		err = m.tree.Insert(dir, name, n)
		if errors.Is(err, fs.ErrExist) && flags&os.O_EXCL == 0 {
			n, err = m.tree.Lookup(dir, name)
			if errors.Is(err, fs.ErrNotExist) {
				continue // gone again in between
			}
		}
		if err != nil {
			return fail(err)
		}
		h, err := m.open(n, flags)
		if err != nil {
			return fail(err)
		}
		_, attr, _ := m.found(n)
		return n, attr, h, nil
	}
}

// Mkdir implements [backends.FileSystem].
func (m *fileSystem) Mkdir(ctx context.Context, parent backends.Node, name string, a backends.CreateAttr) (backends.Node, backends.Attr, error) {
	a.Mode = a.Mode&^fs.ModeType | fs.ModeDir
	return m.Mknod(ctx, parent, name, a)
}

// Mknod implements [backends.Mknoder].
func (m *fileSystem) Mknod(_ context.Context, parent backends.Node, name string, a backends.CreateAttr) (backends.Node, backends.Attr, error) {
	n, err := m.store().newNode(a)
	if err != nil {
		return nil, backends.Attr{}, err
	}
	return m.insert(parent, name, n)
}

func (m *fileSystem) insert(parent backends.Node, name string, n *tree.Node) (backends.Node, backends.Attr, error) {
	dir, err := m.tree.Own(parent)
	if err == nil {
		err = m.tree.Insert(dir, name, n)
	}
	if err != nil {
		return nil, backends.Attr{}, err
	}
	return m.found(n)
}

// Symlink implements [backends.Symlinker].
func (m *fileSystem) Symlink(_ context.Context, parent backends.Node, name, target string, a backends.CreateAttr) (backends.Node, backends.Attr, error) {
	n, err := m.store().newSymlink(a, target)
	if err != nil {
		return nil, backends.Attr{}, err
	}
	node, attr, err := m.insert(parent, name, n)
	if err != nil {
		m.extra.Add(-int64(len(target)))
	}
	return node, attr, err
}

// Readlink implements [backends.Symlinker].
func (m *fileSystem) Readlink(_ context.Context, n backends.Node) (string, error) {
	t, err := m.tree.Own(n)
	if err != nil {
		return "", err
	}
	return m.tree.Readlink(t)
}

// Link implements [backends.Linker].
func (m *fileSystem) Link(_ context.Context, n, newParent backends.Node, newName string) (backends.Attr, error) {
	t, err := m.tree.Own(n)
	if err != nil {
		return backends.Attr{}, err
	}
	dir, err := m.tree.Own(newParent)
	if err != nil {
		return backends.Attr{}, err
	}
	if err := m.tree.Link(t, dir, newName); err != nil {
		return backends.Attr{}, err
	}
	return m.attr(t), nil
}

// Unlink implements [backends.FileSystem].
func (m *fileSystem) Unlink(_ context.Context, parent backends.Node, name string) error {
	dir, err := m.tree.Own(parent)
	if err != nil {
		return err
	}
	n, gone, err := m.tree.Unlink(dir, name, nil)
	if gone {
		m.store().unnamed(n)
	}
	return err
}

// Rmdir implements [backends.FileSystem].
func (m *fileSystem) Rmdir(_ context.Context, parent backends.Node, name string) error {
	dir, err := m.tree.Own(parent)
	if err != nil {
		return err
	}
	n, err := m.tree.Rmdir(dir, name)
	if err == nil {
		m.store().unnamed(n)
	}
	return err
}

// Rename implements [backends.FileSystem].
func (m *fileSystem) Rename(_ context.Context, oldParent backends.Node, oldName string, newParent backends.Node, newName string, flags backends.RenameFlags) error {
	from, err := m.tree.Own(oldParent)
	if err != nil {
		return err
	}
	to, err := m.tree.Own(newParent)
	if err != nil {
		return err
	}
	mv, err := m.tree.Rename(from, oldName, to, newName, flags, nil)
	if mv.Gone {
		m.store().unnamed(mv.Target)
	}
	return err
}

// StatFS implements [backends.FileSystem].
func (m *fileSystem) StatFS(ctx context.Context, _ backends.Node) (backends.Usage, error) {
	return m.store().Usage(ctx)
}

// Forget implements [backends.FileSystem].
func (m *fileSystem) Forget(n backends.Node) {
	if t, ok := n.(*tree.Node); ok {
		if f, ok := t.Data.(*file); ok {
			f.forget()
		}
	}
}

// GetXattr implements [backends.Xattrer].
func (m *fileSystem) GetXattr(_ context.Context, n backends.Node, name string) ([]byte, error) {
	t, err := m.tree.Own(n)
	if err != nil {
		return nil, err
	}
	if name == backends.VersionXattr {
		if f, ok := t.Data.(*file); ok {
			return backends.VersionXattrOf(f.version(t))
		}
		return backends.VersionXattrOf("")
	}
	return m.tree.GetXattr(t, name)
}

// SetXattr implements [backends.Xattrer].
func (m *fileSystem) SetXattr(_ context.Context, n backends.Node, name string, value []byte, flags backends.XattrFlags) error {
	t, err := m.tree.Own(n)
	if err == nil {
		err = backends.CheckXattr(name)
	}
	if err != nil {
		return err
	}
	// Asked for in full before it is set, and settled after.
	ask := int64(len(name) + len(value))
	if m.tree.Attr(t).Nlink == 0 {
		// Nobody would count it back when the file goes.
		_, err = m.tree.SetXattr(t, name, value, flags)
		return err
	}
	if err := m.store().grow(ask); err != nil {
		return err
	}
	grown, err := m.tree.SetXattr(t, name, value, flags)
	m.extra.Add(grown - ask)
	return err
}

// ListXattr implements [backends.Xattrer].
func (m *fileSystem) ListXattr(_ context.Context, n backends.Node) ([]string, error) {
	t, err := m.tree.Own(n)
	if err != nil {
		return nil, err
	}
	return m.tree.ListXattr(t), nil
}

// RemoveXattr implements [backends.Xattrer].
func (m *fileSystem) RemoveXattr(_ context.Context, n backends.Node, name string) error {
	t, err := m.tree.Own(n)
	if err == nil {
		err = backends.CheckXattr(name)
	}
	if err != nil {
		return err
	}
	freed, err := m.tree.RemoveXattr(t, name)
	if m.tree.Attr(t).Nlink > 0 {
		m.extra.Add(-freed)
	}
	return err
}

// Close implements [backends.FileSystem].
func (m *fileSystem) Close(context.Context) error { return nil }
