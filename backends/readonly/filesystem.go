package readonly

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/agentfs/agentfs/backends"
)

// FileSystem returns f without its changes. Nodes are those of f.
func FileSystem(f backends.FileSystem) backends.FileSystem {
	return &fileSystem{backends.ForwardFiles{FileSystem: f}}
}

type fileSystem struct {
	backends.ForwardFiles // what reads
}

// changes reports whether opening with flags is or allows a change.
func changes(flags int) bool { return flags&(os.O_WRONLY|os.O_RDWR|os.O_TRUNC) != 0 }

func (r *fileSystem) Open(ctx context.Context, n backends.Node, flags int) (backends.File, error) {
	if changes(flags) {
		return nil, refuse("open", "")
	}
	f, err := r.FileSystem.Open(ctx, n, flags)
	if err != nil {
		return nil, err
	}
	return &file{backends.ForwardFile{File: f}}, nil
}

// Create opens what exists, if that is for reading: open(2) with O_CREAT is
// no change then.
func (r *fileSystem) Create(ctx context.Context, parent backends.Node, name string, flags int, _ backends.CreateAttr) (backends.Node, backends.Attr, backends.File, error) {
	n, a, err := r.Lookup(ctx, parent, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = refuse("create", name)
	case err == nil && flags&os.O_EXCL != 0:
		err = &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}
	}
	if err != nil {
		return nil, backends.Attr{}, nil, err
	}
	f, err := r.Open(ctx, n, flags)
	if err != nil {
		return nil, backends.Attr{}, nil, err
	}
	return n, a, f, nil
}

func (r *fileSystem) SetAttr(context.Context, backends.Node, backends.AttrChange) (backends.Attr, error) {
	return backends.Attr{}, refuse("setattr", "")
}

func (r *fileSystem) Mkdir(_ context.Context, _ backends.Node, name string, _ backends.CreateAttr) (backends.Node, backends.Attr, error) {
	return nil, backends.Attr{}, refuse("mkdir", name)
}

func (r *fileSystem) Unlink(_ context.Context, _ backends.Node, name string) error {
	return refuse("unlink", name)
}

func (r *fileSystem) Rmdir(_ context.Context, _ backends.Node, name string) error {
	return refuse("rmdir", name)
}

func (r *fileSystem) Rename(_ context.Context, _ backends.Node, oldName string, _ backends.Node, _ string, _ backends.RenameFlags) error {
	return refuse("rename", oldName)
}

func (r *fileSystem) Symlink(_ context.Context, _ backends.Node, name, _ string, _ backends.CreateAttr) (backends.Node, backends.Attr, error) {
	return nil, backends.Attr{}, refuse("symlink", name)
}

func (r *fileSystem) Link(_ context.Context, _, _ backends.Node, newName string) (backends.Attr, error) {
	return backends.Attr{}, refuse("link", newName)
}

func (r *fileSystem) Mknod(_ context.Context, _ backends.Node, name string, _ backends.CreateAttr) (backends.Node, backends.Attr, error) {
	return nil, backends.Attr{}, refuse("mknod", name)
}

func (r *fileSystem) SetXattr(_ context.Context, _ backends.Node, name string, _ []byte, _ backends.XattrFlags) error {
	return refuse("setxattr", name)
}

func (r *fileSystem) RemoveXattr(_ context.Context, _ backends.Node, name string) error {
	return refuse("removexattr", name)
}

// CopyRange refuses what would be written here; files of others are not its
// business.
func (r *fileSystem) CopyRange(_ context.Context, _ backends.File, _ int64, dst backends.File, _, _ int64) (int64, error) {
	if _, ours := dst.(*file); ours {
		return 0, refuse("copy_file_range", "")
	}
	return 0, errors.ErrUnsupported
}

// file is a file that was opened for reading.
type file struct {
	backends.ForwardFile
}

func (f *file) WriteAt(context.Context, []byte, int64) (int, error) { return 0, refuse("write", "") }

func (f *file) Allocate(context.Context, int64, int64, uint32) error { return refuse("fallocate", "") }
