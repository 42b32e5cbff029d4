package router

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/agentfs/agentfs/backends"
)

var (
	_ backends.Symlinker = (*files)(nil)
	_ backends.Linker    = (*files)(nil)
	_ backends.Mknoder   = (*files)(nil)
)

// place returns where a new name goes: the route and the directory in it,
// which is made if only points are there so far.
func (f *files) place(ctx context.Context, op string, parent backends.Node, name string) (*route, backends.Node, error) {
	if c := child(parent, name); c != nil && c.owner == f.rt {
		return nil, nil, &fs.PathError{Op: op, Path: c.path, Err: fs.ErrExist}
	}
	if len(name) > backends.MaxNameLen {
		return nil, nil, &fs.PathError{Op: op, Path: name, Err: backends.ErrNameTooLong}
	}
	return f.real(ctx, op, parent)
}

// made wraps what a route made.
func (r *route) made(n backends.Node, a backends.Attr, err error) (backends.Node, backends.Attr, error) {
	if err != nil {
		return nil, backends.Attr{}, err
	}
	return node{n, r}, r.attr(a), nil
}

// Create implements [backends.FileSystem].
func (f *files) Create(ctx context.Context, parent backends.Node, name string, flags int, a backends.CreateAttr) (backends.Node, backends.Attr, backends.File, error) {
	r, dir, err := f.place(ctx, "create", parent, name)
	if err != nil {
		if flags&os.O_EXCL == 0 && errors.Is(err, fs.ErrExist) && child(parent, name) != nil {
			err = &fs.PathError{Op: "create", Path: name, Err: backends.ErrIsDir}
		}
		return nil, backends.Attr{}, nil, err
	}
	n, attr, file, err := r.files.Create(ctx, dir, name, flags, a)
	if err != nil {
		return nil, backends.Attr{}, nil, err
	}
	return node{n, r}, r.attr(attr), file, nil
}

// Mkdir implements [backends.FileSystem].
func (f *files) Mkdir(ctx context.Context, parent backends.Node, name string, a backends.CreateAttr) (backends.Node, backends.Attr, error) {
	r, dir, err := f.place(ctx, "mkdir", parent, name)
	if err != nil {
		return nil, backends.Attr{}, err
	}
	return r.made(r.files.Mkdir(ctx, dir, name, a))
}

// Symlink implements [backends.Symlinker].
func (f *files) Symlink(ctx context.Context, parent backends.Node, name, target string, a backends.CreateAttr) (backends.Node, backends.Attr, error) {
	r, dir, err := f.place(ctx, "symlink", parent, name)
	if err != nil {
		return nil, backends.Attr{}, err
	}
	return r.made(backends.SymlinkAt(ctx, r.files, dir, name, target, a))
}

// Readlink implements [backends.Symlinker].
func (f *files) Readlink(ctx context.Context, n backends.Node) (string, error) {
	if p, ok := n.(*point); ok && p.owner == f.rt {
		return "", &fs.PathError{Op: "readlink", Path: p.path, Err: fs.ErrInvalid}
	}
	r, in, err := f.at(ctx, "readlink", n)
	if err != nil {
		return "", err
	}
	return backends.ReadlinkAt(ctx, r.files, in)
}

// Mknod implements [backends.Mknoder].
func (f *files) Mknod(ctx context.Context, parent backends.Node, name string, a backends.CreateAttr) (backends.Node, backends.Attr, error) {
	r, dir, err := f.place(ctx, "mknod", parent, name)
	if err != nil {
		return nil, backends.Attr{}, err
	}
	return r.made(backends.MknodAt(ctx, r.files, dir, name, a))
}

// Link implements [backends.Linker]; between routes it is
// [errors.ErrUnsupported].
func (f *files) Link(ctx context.Context, n, newParent backends.Node, newName string) (backends.Attr, error) {
	if p, ok := n.(*point); ok && p.owner == f.rt {
		return backends.Attr{}, &fs.PathError{Op: "link", Path: p.path, Err: backends.ErrNotPermitted}
	}
	r, in, err := f.at(ctx, "link", n)
	if err != nil {
		return backends.Attr{}, err
	}
	if f.routeOf(newParent) != r {
		return backends.Attr{}, &fs.PathError{Op: "link", Path: newName, Err: errors.ErrUnsupported}
	}
	_, dir, err := f.place(ctx, "link", newParent, newName)
	if err != nil {
		return backends.Attr{}, err
	}
	a, err := backends.LinkAt(ctx, r.files, in, dir, newName)
	return r.attr(a), err
}

// routeOf returns the route that n lies in, nil for a foreign node.
func (f *files) routeOf(n backends.Node) *route {
	switch n := n.(type) {
	case node:
		if n.r.owner == f.rt {
			return n.r
		}
	case *point:
		if n.owner == f.rt {
			return n.r
		}
	}
	return nil
}

// busy returns the error for a change of the name of a point.
func (f *files) busy(op string, parent backends.Node, name string) error {
	if c := child(parent, name); c != nil && c.owner == f.rt {
		return &fs.PathError{Op: op, Path: c.path, Err: backends.ErrBusy}
	}
	return nil
}

// Unlink implements [backends.FileSystem].
func (f *files) Unlink(ctx context.Context, parent backends.Node, name string) error {
	if err := f.busy("unlink", parent, name); err != nil {
		return err
	}
	r, dir, err := f.at(ctx, "unlink", parent)
	if err != nil {
		return absent("unlink", name, err)
	}
	return r.files.Unlink(ctx, dir, name)
}

// Rmdir implements [backends.FileSystem].
func (f *files) Rmdir(ctx context.Context, parent backends.Node, name string) error {
	if err := f.busy("rmdir", parent, name); err != nil {
		return err
	}
	r, dir, err := f.at(ctx, "rmdir", parent)
	if err != nil {
		return absent("rmdir", name, err)
	}
	return r.files.Rmdir(ctx, dir, name)
}

// Rename implements [backends.FileSystem]; between routes it is
// [errors.ErrUnsupported].
func (f *files) Rename(ctx context.Context, oldParent backends.Node, oldName string, newParent backends.Node, newName string, flags backends.RenameFlags) error {
	if err := f.busy("rename", oldParent, oldName); err != nil {
		return err
	}
	if err := f.busy("rename", newParent, newName); err != nil {
		return err
	}
	r, from, err := f.at(ctx, "rename", oldParent)
	if err != nil {
		return absent("rename", oldName, err)
	}
	if f.routeOf(newParent) != r {
		return &fs.PathError{Op: "rename", Path: oldName, Err: errors.ErrUnsupported}
	}
	_, to, err := f.place(ctx, "rename", newParent, newName)
	if err != nil {
		return err
	}
	return r.files.Rename(ctx, from, oldName, to, newName, flags)
}
