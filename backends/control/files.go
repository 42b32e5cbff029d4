package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"syscall"
	"time"

	"github.com/agentfs/agentfs/backends"
)

var (
	_ backends.FileSystem = files{}
	_ backends.Symlinker  = files{}
	_ backends.Linker     = files{}
	_ backends.Mknoder    = files{}
	_ backends.Xattrer    = files{}
	_ backends.PageCacher = (*handle)(nil)
)

// files is the file depth. A change of an existing inode or a new name is
// ErrReadOnly (EROFS), as on a read-only mount.
type files struct{ s *Store }

// own returns n as a node of this file system.
func (f files) own(op string, n backends.Node) (*node, error) {
	if n, ok := n.(*node); ok && n.s == f.s {
		return n, nil
	}
	return nil, fmt.Errorf("%s: node of another file system: %w", op, errors.ErrUnsupported)
}

// refuse is the answer to every change of n, or of name in it.
func (f files) refuse(op string, n backends.Node, name string) error {
	c, err := f.own(op, n)
	if err != nil {
		return err
	}
	return readOnly(op, path.Join(c.name, name))
}

// Root implements [backends.FileSystem].
func (f files) Root() backends.Node { return f.s.root }

// Lookup implements [backends.FileSystem].
func (f files) Lookup(ctx context.Context, parent backends.Node, name string) (backends.Node, backends.Attr, error) {
	p, err := f.own("lookup", parent)
	if err != nil {
		return nil, backends.Attr{}, err
	}
	c := p.children[name]
	switch {
	case p.file != nil:
		err = backends.ErrNotDir
	case len(name) > backends.MaxNameLen:
		err = backends.ErrNameTooLong
	case c == nil:
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, backends.Attr{}, &fs.PathError{Op: "lookup", Path: name, Err: err}
	}
	return c, c.attr(ctx), nil
}

// Attr implements [backends.FileSystem].
func (f files) Attr(ctx context.Context, n backends.Node) (backends.Attr, error) {
	c, err := f.own("getattr", n)
	if err != nil {
		return backends.Attr{}, err
	}
	return c.attr(ctx), nil
}

// attr returns n's attributes of now. A file's are valid for no time; its
// size is that of a content computed for the purpose, 0 if it can't be.
func (n *node) attr(ctx context.Context) backends.Attr {
	a := backends.Attr{
		ID: n.id, Mode: n.mode(), UID: n.s.cfg.UID, GID: n.s.cfg.GID,
		Nlink: 1, Atime: n.s.born, Mtime: n.s.born, Ctime: n.s.born,
	}
	if n.file == nil {
		a.Valid = time.Hour
		a.Nlink = 2
		for _, c := range n.order {
			if c.file == nil {
				a.Nlink++
			}
		}
		return a
	}
	e := n.entry(ctx)
	a.Size, a.Version = e.Size, e.Version
	a.Blocks = (e.Size + 511) / 512
	a.Mtime, a.Ctime = e.ModTime, e.ModTime
	return a
}

// SetAttr implements [backends.FileSystem].
func (f files) SetAttr(_ context.Context, n backends.Node, _ backends.AttrChange) (backends.Attr, error) {
	return backends.Attr{}, f.refuse("setattr", n, "")
}

// ReadDir implements [backends.FileSystem].
func (f files) ReadDir(_ context.Context, dir backends.Node) ([]backends.DirEntry, error) {
	d, err := f.own("readdir", dir)
	if err != nil {
		return nil, err
	}
	if d.file != nil {
		return nil, &fs.PathError{Op: "readdir", Path: d.name, Err: backends.ErrNotDir}
	}
	es := make([]backends.DirEntry, len(d.order))
	for i, c := range d.order {
		es[i] = backends.DirEntry{Name: path.Base(c.name), ID: c.id, Mode: c.mode().Type()}
	}
	return es, nil
}

// Open implements [backends.FileSystem]. The file has the content of now.
func (f files) Open(ctx context.Context, n backends.Node, flags int) (backends.File, error) {
	c, err := f.own("open", n)
	if err != nil {
		return nil, err
	}
	if c.file == nil {
		return nil, &fs.PathError{Op: "open", Path: c.name, Err: backends.ErrIsDir}
	}
	if flags&syscall.O_ACCMODE != os.O_RDONLY || flags&os.O_TRUNC != 0 {
		return nil, readOnly("open", c.name)
	}
	b, err := c.content(ctx)
	if err != nil {
		return nil, err
	}
	return &handle{name: c.name, content: b}, nil
}

// Create implements [backends.FileSystem]: an existing file can be opened.
func (f files) Create(ctx context.Context, parent backends.Node, name string, flags int, _ backends.CreateAttr) (backends.Node, backends.Attr, backends.File, error) {
	n, a, err := f.Lookup(ctx, parent, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = f.refuse("create", parent, name)
	case err == nil && flags&os.O_EXCL != 0:
		err = &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}
	}
	if err != nil {
		return nil, backends.Attr{}, nil, err
	}
	h, err := f.Open(ctx, n, flags)
	if err != nil {
		return nil, backends.Attr{}, nil, err
	}
	return n, a, h, nil
}

// Mkdir implements [backends.FileSystem].
func (f files) Mkdir(_ context.Context, parent backends.Node, name string, _ backends.CreateAttr) (backends.Node, backends.Attr, error) {
	return nil, backends.Attr{}, f.refuse("mkdir", parent, name)
}

// Unlink implements [backends.FileSystem].
func (f files) Unlink(_ context.Context, parent backends.Node, name string) error {
	return f.refuse("unlink", parent, name)
}

// Rmdir implements [backends.FileSystem].
func (f files) Rmdir(_ context.Context, parent backends.Node, name string) error {
	return f.refuse("rmdir", parent, name)
}

// Rename implements [backends.FileSystem].
func (f files) Rename(_ context.Context, oldParent backends.Node, oldName string, newParent backends.Node, _ string, _ backends.RenameFlags) error {
	if _, err := f.own("rename", newParent); err != nil {
		return err
	}
	return f.refuse("rename", oldParent, oldName)
}

// Symlink implements [backends.Symlinker].
func (f files) Symlink(_ context.Context, parent backends.Node, name, _ string, _ backends.CreateAttr) (backends.Node, backends.Attr, error) {
	return nil, backends.Attr{}, f.refuse("symlink", parent, name)
}

// Readlink implements [backends.Symlinker]; there are no links.
func (f files) Readlink(_ context.Context, n backends.Node) (string, error) {
	c, err := f.own("readlink", n)
	if err != nil {
		return "", err
	}
	return "", &fs.PathError{Op: "readlink", Path: c.name, Err: fs.ErrInvalid}
}

// Link implements [backends.Linker].
func (f files) Link(_ context.Context, n, newParent backends.Node, newName string) (backends.Attr, error) {
	if _, err := f.own("link", n); err != nil {
		return backends.Attr{}, err
	}
	return backends.Attr{}, f.refuse("link", newParent, newName)
}

// Mknod implements [backends.Mknoder].
func (f files) Mknod(_ context.Context, parent backends.Node, name string, _ backends.CreateAttr) (backends.Node, backends.Attr, error) {
	return nil, backends.Attr{}, f.refuse("mknod", parent, name)
}

// GetXattr implements [backends.Xattrer]; there are none.
func (f files) GetXattr(_ context.Context, n backends.Node, name string) ([]byte, error) {
	if _, err := f.own("getxattr", n); err != nil {
		return nil, err
	}
	return nil, &fs.PathError{Op: "getxattr", Path: name, Err: backends.ErrNoXattr}
}

// SetXattr implements [backends.Xattrer].
func (f files) SetXattr(_ context.Context, n backends.Node, _ string, _ []byte, _ backends.XattrFlags) error {
	return f.refuse("setxattr", n, "")
}

// ListXattr implements [backends.Xattrer]; there are none.
func (f files) ListXattr(_ context.Context, n backends.Node) ([]string, error) {
	_, err := f.own("listxattr", n)
	return nil, err
}

// RemoveXattr implements [backends.Xattrer].
func (f files) RemoveXattr(_ context.Context, n backends.Node, _ string) error {
	return f.refuse("removexattr", n, "")
}

// StatFS implements [backends.FileSystem]; nothing is stored.
func (f files) StatFS(_ context.Context, n backends.Node) (backends.Usage, error) {
	_, err := f.own("statfs", n)
	return backends.Usage{}, err
}

// Forget implements [backends.FileSystem].
func (files) Forget(backends.Node) {}

// Close implements [backends.FileSystem].
func (files) Close(context.Context) error { return nil }

// handle is an open file: the content of the moment when it was opened.
type handle struct {
	name    string
	content []byte
}

// ReadAt implements [backends.File].
func (h *handle) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, &fs.PathError{Op: "read", Path: h.name, Err: fs.ErrInvalid}
	}
	return copy(p, h.content[min(off, int64(len(h.content))):]), nil
}

// WriteAt implements [backends.File].
func (h *handle) WriteAt(context.Context, []byte, int64) (int, error) {
	return 0, readOnly("write", h.name)
}

// Flush implements [backends.File].
func (h *handle) Flush(context.Context) error { return nil }

// Sync implements [backends.File].
func (h *handle) Sync(context.Context) error { return nil }

// Close implements [backends.File].
func (h *handle) Close(context.Context) error { return nil }

// KeepPages implements [backends.PageCacher]: pages of an earlier open are of
// another content.
func (h *handle) KeepPages() bool { return false }

// DirectIO reports that every read has to come here, past the kernel's pages
// and whatever size it knows (FOPEN_DIRECT_IO): the content of this handle may
// be longer or shorter than what stat(2) said.
func (h *handle) DirectIO() bool { return true }
