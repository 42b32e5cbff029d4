package local

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
)

// CopyRange is the host's copy_file_range(2), which shares the bytes of both
// files where the host's file system can.
func (f *FileSystem) CopyRange(_ context.Context, src backends.File, srcOff int64, dst backends.File, dstOff, n int64) (int64, error) {
	from, ok1 := src.(*file)
	to, ok2 := dst.(*file)
	if !ok1 || !ok2 || from.n.fsys != f || to.n.fsys != f {
		return 0, errors.ErrUnsupported
	}
	copied := 0
	err := retry(func() (err error) {
		copied, err = unix.CopyFileRange(from.fd, &srcOff, to.fd, &dstOff, int(n), 0)
		return err
	})
	if err == unix.EXDEV { // another mount below the directory
		return 0, errors.ErrUnsupported
	}
	return int64(copied), Wrap("copy_file_range", "", err)
}
