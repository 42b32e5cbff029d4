package audit

import (
	"context"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/names"
)

// FileSystem returns f, telling what is done to it. Nodes are those of f.
//
// With a Log the kernel gets no host files to read and write by itself
// ([backends.Descriptor]): what passes there, nobody could tell.
func FileSystem(f backends.FileSystem, c Config) backends.FileSystem {
	if c.Paths == nil {
		f, c.Paths = names.FileSystem(f)
	}
	return &fileSystem{ForwardFiles: backends.ForwardFiles{FileSystem: f}, c: c, paths: c.Paths}
}

type fileSystem struct {
	backends.ForwardFiles
	c     Config
	paths *names.Tracker
}

// path returns the path of n.
func (w *fileSystem) path(n backends.Node) string {
	p, _ := w.paths.Path(n)
	return p
}

// child returns the path of name in parent.
func (w *fileSystem) child(parent backends.Node, name string) string {
	if p, ok := w.paths.Path(parent); ok {
		return names.Join(p, name)
	}
	return ""
}

// version returns the version of n's content.
func (w *fileSystem) version(ctx context.Context, n backends.Node) backends.Version {
	if w.c.Log == nil || n == nil {
		return ""
	}
	a, err := w.FileSystem.Attr(ctx, n)
	if err != nil {
		return ""
	}
	return a.Version
}

// versionAt returns the version of what is called name in parent.
func (w *fileSystem) versionAt(ctx context.Context, parent backends.Node, name string) backends.Version {
	n, ok := w.paths.Child(parent, name)
	if !ok {
		return ""
	}
	return w.version(ctx, n)
}

// name makes an operation on a name. Without a Log nothing is looked up before
// it is known to have failed.
func (w *fileSystem) name(ctx context.Context, k Kind, parent backends.Node, name string, do func(*Op) error) error {
	if w.c.Log == nil {
		return w.failing(ctx, k, func() string { return w.child(parent, name) }, func() error { return do(&Op{}) })
	}
	op := w.c.begin(ctx, k, w.child(parent, name), "")
	op.Before = w.versionAt(ctx, parent, name)
	return w.c.run(op, func() error { return do(op) })
}

// node makes an operation on a node.
func (w *fileSystem) node(ctx context.Context, k Kind, n backends.Node, fill func(*Op), do func() error) error {
	if w.c.Log == nil {
		return w.failing(ctx, k, func() string { return w.path(n) }, do)
	}
	op := w.c.begin(ctx, k, w.path(n), "")
	op.Before = w.version(ctx, n)
	fill(op)
	return w.c.run(op, func() error {
		err := do()
		op.After = w.version(ctx, n)
		return err
	})
}

// failing makes an operation that is told only if it fails.
func (w *fileSystem) failing(ctx context.Context, k Kind, path func() string, do func() error) error {
	err := do()
	if err != nil && w.c.Failed != nil {
		op := w.c.begin(ctx, k, path(), "")
		op.Err = err
		w.c.fail(op)
	}
	return err
}

func (w *fileSystem) Lookup(ctx context.Context, parent backends.Node, name string) (n backends.Node, a backends.Attr, err error) {
	err = w.failing(ctx, Lookup, func() string { return w.child(parent, name) }, func() (err error) {
		n, a, err = w.FileSystem.Lookup(ctx, parent, name)
		return err
	})
	return n, a, err
}

func (w *fileSystem) Attr(ctx context.Context, n backends.Node) (a backends.Attr, err error) {
	err = w.failing(ctx, GetAttr, func() string { return w.path(n) }, func() (err error) {
		a, err = w.FileSystem.Attr(ctx, n)
		return err
	})
	return a, err
}

func (w *fileSystem) ReadDir(ctx context.Context, dir backends.Node) (es []backends.DirEntry, err error) {
	err = w.failing(ctx, ReadDir, func() string { return w.path(dir) }, func() (err error) {
		es, err = w.FileSystem.ReadDir(ctx, dir)
		return err
	})
	return es, err
}

func (w *fileSystem) Readlink(ctx context.Context, n backends.Node) (target string, err error) {
	err = w.failing(ctx, Readlink, func() string { return w.path(n) }, func() (err error) {
		target, err = w.ForwardFiles.Readlink(ctx, n)
		return err
	})
	return target, err
}

func (w *fileSystem) SyncDir(ctx context.Context, dir backends.Node) error {
	return w.failing(ctx, Sync, func() string { return w.path(dir) }, func() error {
		return w.ForwardFiles.SyncDir(ctx, dir)
	})
}

func (w *fileSystem) OpenDir(ctx context.Context, dir backends.Node) error {
	return w.node(ctx, OpenDir, dir, func(*Op) {}, func() error { return w.ForwardFiles.OpenDir(ctx, dir) })
}

func (w *fileSystem) SetAttr(ctx context.Context, n backends.Node, ch backends.AttrChange) (a backends.Attr, err error) {
	err = w.node(ctx, SetAttr, n, func(op *Op) { op.Set = ch.Set }, func() (err error) {
		a, err = w.FileSystem.SetAttr(ctx, n, ch)
		return err
	})
	return a, err
}

func (w *fileSystem) SetXattr(ctx context.Context, n backends.Node, name string, value []byte, flags backends.XattrFlags) error {
	return w.node(ctx, SetXattr, n, func(op *Op) { op.Xattr = name }, func() error {
		return w.ForwardFiles.SetXattr(ctx, n, name, value, flags)
	})
}

func (w *fileSystem) RemoveXattr(ctx context.Context, n backends.Node, name string) error {
	return w.node(ctx, RemoveXattr, n, func(op *Op) { op.Xattr = name }, func() error {
		return w.ForwardFiles.RemoveXattr(ctx, n, name)
	})
}

// made makes an operation that makes a node under a name.
func (w *fileSystem) made(ctx context.Context, k Kind, parent backends.Node, name string, do func() (backends.Node, backends.Attr, error)) (n backends.Node, a backends.Attr, err error) {
	err = w.name(ctx, k, parent, name, func(op *Op) (err error) {
		n, a, err = do()
		op.After = a.Version
		return err
	})
	if err == nil && w.c.Made != nil {
		w.c.made(w.child(parent, name))
	}
	return n, a, err
}

func (w *fileSystem) Mkdir(ctx context.Context, parent backends.Node, name string, at backends.CreateAttr) (backends.Node, backends.Attr, error) {
	return w.made(ctx, Mkdir, parent, name, func() (backends.Node, backends.Attr, error) {
		return w.FileSystem.Mkdir(ctx, parent, name, at)
	})
}

func (w *fileSystem) Mknod(ctx context.Context, parent backends.Node, name string, at backends.CreateAttr) (backends.Node, backends.Attr, error) {
	return w.made(ctx, Mknod, parent, name, func() (backends.Node, backends.Attr, error) {
		return w.ForwardFiles.Mknod(ctx, parent, name, at)
	})
}

func (w *fileSystem) Symlink(ctx context.Context, parent backends.Node, name, target string, at backends.CreateAttr) (backends.Node, backends.Attr, error) {
	return w.made(ctx, Symlink, parent, name, func() (backends.Node, backends.Attr, error) {
		return w.ForwardFiles.Symlink(ctx, parent, name, target, at)
	})
}

func (w *fileSystem) Unlink(ctx context.Context, parent backends.Node, name string) error {
	return w.name(ctx, Unlink, parent, name, func(*Op) error { return w.FileSystem.Unlink(ctx, parent, name) })
}

func (w *fileSystem) Rmdir(ctx context.Context, parent backends.Node, name string) error {
	return w.name(ctx, Rmdir, parent, name, func(*Op) error { return w.FileSystem.Rmdir(ctx, parent, name) })
}

func (w *fileSystem) Link(ctx context.Context, n, newParent backends.Node, newName string) (a backends.Attr, err error) {
	op := w.c.begin(ctx, Link, w.path(n), w.child(newParent, newName))
	err = w.c.run(op, func() (err error) {
		a, err = w.ForwardFiles.Link(ctx, n, newParent, newName)
		op.After = a.Version
		return err
	})
	if err == nil {
		w.c.made(op.To)
	}
	return a, err
}

func (w *fileSystem) Rename(ctx context.Context, oldParent backends.Node, oldName string, newParent backends.Node, newName string, flags backends.RenameFlags) error {
	op := w.c.begin(ctx, Rename, w.child(oldParent, oldName), w.child(newParent, newName))
	op.Before = w.versionAt(ctx, newParent, newName)
	err := w.c.run(op, func() error {
		err := w.FileSystem.Rename(ctx, oldParent, oldName, newParent, newName, flags)
		op.After = w.versionAt(ctx, newParent, newName)
		return err
	})
	if err == nil {
		w.c.made(op.To)
	}
	return err
}
