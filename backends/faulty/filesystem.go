package faulty

import (
	"context"
	"errors"

	"github.com/agentfs/agentfs/backends"
)

// Files is a file system with faults. Nodes are those of the wrapped one.
type Files struct {
	Injector
	fs backends.FileSystem
}

var (
	_ backends.FileSystem     = (*Files)(nil)
	_ backends.Symlinker      = (*Files)(nil)
	_ backends.Linker         = (*Files)(nil)
	_ backends.Mknoder        = (*Files)(nil)
	_ backends.Xattrer        = (*Files)(nil)
	_ backends.DirSyncer      = (*Files)(nil)
	_ backends.DirOpener      = (*Files)(nil)
	_ backends.ChangeNotifier = (*Files)(nil)
	_ backends.RangeCopier    = (*Files)(nil)
)

// FileSystem returns f with faults. Calls of open files ("ReadAt", "WriteAt",
// "Flush", "Sync", "Close", "Allocate", "CopyRange") have the name under which the file was
// created, or none if it was opened by its node.
func FileSystem(f backends.FileSystem, rules ...Rule) *Files {
	w := &Files{fs: f}
	w.SetRules(rules...)
	return w
}

// Root is never at fault.
func (w *Files) Root() backends.Node { return w.fs.Root() }

// Forget is never at fault.
func (w *Files) Forget(n backends.Node) { w.fs.Forget(n) }

// call makes a call that returns only an error.
func (w *Files) call(ctx context.Context, op, name string, do func() error) error {
	f, err := w.begin(ctx, op, name)
	if err != nil {
		return err
	}
	return f.end(do())
}

// node makes a call that returns a node with its attributes.
func (w *Files) node(ctx context.Context, op, name string, do func() (backends.Node, backends.Attr, error)) (n backends.Node, a backends.Attr, err error) {
	err = w.call(ctx, op, name, func() (err error) {
		n, a, err = do()
		return err
	})
	if err != nil {
		return nil, backends.Attr{}, err
	}
	return n, a, nil
}

func (w *Files) Lookup(ctx context.Context, parent backends.Node, name string) (backends.Node, backends.Attr, error) {
	return w.node(ctx, "Lookup", name, func() (backends.Node, backends.Attr, error) {
		return w.fs.Lookup(ctx, parent, name)
	})
}

func (w *Files) Attr(ctx context.Context, n backends.Node) (a backends.Attr, err error) {
	err = w.call(ctx, "Attr", "", func() (err error) {
		a, err = w.fs.Attr(ctx, n)
		return err
	})
	return a, err
}

func (w *Files) SetAttr(ctx context.Context, n backends.Node, c backends.AttrChange) (a backends.Attr, err error) {
	err = w.call(ctx, "SetAttr", "", func() (err error) {
		a, err = w.fs.SetAttr(ctx, n, c)
		return err
	})
	return a, err
}

func (w *Files) ReadDir(ctx context.Context, dir backends.Node) (list []backends.DirEntry, err error) {
	err = w.call(ctx, "ReadDir", "", func() (err error) {
		list, err = w.fs.ReadDir(ctx, dir)
		return err
	})
	return list, err
}

func (w *Files) Open(ctx context.Context, n backends.Node, flags int) (backends.File, error) {
	f, err := w.begin(ctx, "Open", "")
	if err != nil {
		return nil, err
	}
	opened, err := w.fs.Open(ctx, n, flags)
	if err != nil {
		return nil, err
	}
	if err := f.end(nil); err != nil {
		return nil, errors.Join(err, opened.Close(ctx))
	}
	return &file{w: w, File: opened}, nil
}

func (w *Files) Create(ctx context.Context, parent backends.Node, name string, flags int, a backends.CreateAttr) (backends.Node, backends.Attr, backends.File, error) {
	f, err := w.begin(ctx, "Create", name)
	if err != nil {
		return nil, backends.Attr{}, nil, err
	}
	n, attr, opened, err := w.fs.Create(ctx, parent, name, flags, a)
	if err != nil {
		return nil, backends.Attr{}, nil, err
	}
	if err := f.end(nil); err != nil {
		return nil, backends.Attr{}, nil, errors.Join(err, opened.Close(ctx))
	}
	return n, attr, &file{w: w, File: opened, name: name}, nil
}

func (w *Files) Mkdir(ctx context.Context, parent backends.Node, name string, a backends.CreateAttr) (backends.Node, backends.Attr, error) {
	return w.node(ctx, "Mkdir", name, func() (backends.Node, backends.Attr, error) {
		return w.fs.Mkdir(ctx, parent, name, a)
	})
}

func (w *Files) Unlink(ctx context.Context, parent backends.Node, name string) error {
	return w.call(ctx, "Unlink", name, func() error { return w.fs.Unlink(ctx, parent, name) })
}

func (w *Files) Rmdir(ctx context.Context, parent backends.Node, name string) error {
	return w.call(ctx, "Rmdir", name, func() error { return w.fs.Rmdir(ctx, parent, name) })
}

func (w *Files) Rename(ctx context.Context, oldParent backends.Node, oldName string, newParent backends.Node, newName string, flags backends.RenameFlags) error {
	return w.call(ctx, "Rename", oldName, func() error {
		return w.fs.Rename(ctx, oldParent, oldName, newParent, newName, flags)
	})
}

func (w *Files) StatFS(ctx context.Context, n backends.Node) (u backends.Usage, err error) {
	err = w.call(ctx, "StatFS", "", func() (err error) {
		u, err = w.fs.StatFS(ctx, n)
		return err
	})
	return u, err
}

// Close closes the wrapped file system.
func (w *Files) Close(ctx context.Context) error {
	return w.call(ctx, "Close", "", func() error { return w.fs.Close(ctx) })
}

func (w *Files) Symlink(ctx context.Context, parent backends.Node, name, target string, a backends.CreateAttr) (backends.Node, backends.Attr, error) {
	return w.node(ctx, "Symlink", name, func() (backends.Node, backends.Attr, error) {
		return backends.SymlinkAt(ctx, w.fs, parent, name, target, a)
	})
}

func (w *Files) Readlink(ctx context.Context, n backends.Node) (target string, err error) {
	err = w.call(ctx, "Readlink", "", func() (err error) {
		target, err = backends.ReadlinkAt(ctx, w.fs, n)
		return err
	})
	return target, err
}

func (w *Files) Link(ctx context.Context, n, newParent backends.Node, newName string) (a backends.Attr, err error) {
	err = w.call(ctx, "Link", newName, func() (err error) {
		a, err = backends.LinkAt(ctx, w.fs, n, newParent, newName)
		return err
	})
	return a, err
}

func (w *Files) Mknod(ctx context.Context, parent backends.Node, name string, a backends.CreateAttr) (backends.Node, backends.Attr, error) {
	return w.node(ctx, "Mknod", name, func() (backends.Node, backends.Attr, error) {
		return backends.MknodAt(ctx, w.fs, parent, name, a)
	})
}

func (w *Files) GetXattr(ctx context.Context, n backends.Node, name string) (value []byte, err error) {
	err = w.call(ctx, "GetXattr", name, func() (err error) {
		value, err = backends.GetXattrAt(ctx, w.fs, n, name)
		return err
	})
	return value, err
}

func (w *Files) SetXattr(ctx context.Context, n backends.Node, name string, value []byte, flags backends.XattrFlags) error {
	return w.call(ctx, "SetXattr", name, func() error {
		return backends.SetXattrAt(ctx, w.fs, n, name, value, flags)
	})
}

func (w *Files) ListXattr(ctx context.Context, n backends.Node) (names []string, err error) {
	err = w.call(ctx, "ListXattr", "", func() (err error) {
		names, err = backends.ListXattrAt(ctx, w.fs, n)
		return err
	})
	return names, err
}

func (w *Files) RemoveXattr(ctx context.Context, n backends.Node, name string) error {
	return w.call(ctx, "RemoveXattr", name, func() error {
		return backends.RemoveXattrAt(ctx, w.fs, n, name)
	})
}

func (w *Files) SyncDir(ctx context.Context, dir backends.Node) error {
	return w.call(ctx, "SyncDir", "", func() error { return backends.SyncDirAt(ctx, w.fs, dir) })
}

func (w *Files) OpenDir(ctx context.Context, dir backends.Node) error {
	return w.call(ctx, "OpenDir", "", func() error { return backends.OpenDirAt(ctx, w.fs, dir) })
}

// CopyRange has the name of the file that is written.
func (w *Files) CopyRange(ctx context.Context, src backends.File, srcOff int64, dst backends.File, dstOff, n int64) (copied int64, err error) {
	from, ok1 := src.(*file)
	to, ok2 := dst.(*file)
	c, ok3 := w.fs.(backends.RangeCopier)
	if !ok1 || !ok2 || !ok3 || from.w != w || to.w != w {
		return 0, errors.ErrUnsupported
	}
	err = w.call(ctx, "CopyRange", to.name, func() (err error) {
		copied, err = c.CopyRange(ctx, from.File, srcOff, to.File, dstOff, n)
		return err
	})
	return copied, err
}

// OnHold is handed on.
func (w *Files) OnHold(h backends.NodeHolder) {
	if r, ok := w.fs.(backends.NodeReclaimer); ok {
		r.OnHold(h)
	}
}

// OnChange is handed on.
func (w *Files) OnChange(changed func(parent backends.Node, name string)) {
	if c, ok := w.fs.(backends.ChangeNotifier); ok {
		c.OnChange(changed)
	}
}
