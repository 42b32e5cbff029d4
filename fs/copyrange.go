package fs

import (
	"context"
	"math"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"

	"github.com/agentfs/agentfs/backends"
)

var _ gofs.NodeCopyFileRanger = (*inode)(nil)

// maxCopyRange is how much one request copies: the answer has 32 bits, and the
// caller of copy_file_range(2) asks for the rest.
const maxCopyRange = math.MaxInt32 &^ 4095

// CopyFileRange implements [gofs.NodeCopyFileRanger] for files that one file
// system can copy between. For all others the kernel, which has handed us what
// it held of the source, copies by itself: it does so after EOPNOTSUPP and
// after EXDEV. Files that are passed through are no special case here: who gave
// out a file's descriptor knows that the kernel writes to it.
func (n *inode) CopyFileRange(ctx context.Context, fhIn gofs.FileHandle, offIn uint64, out *gofs.Inode, fhOut gofs.FileHandle, offOut, length, flags uint64) (uint32, syscall.Errno) {
	src, ok1 := fhIn.(*fileHandle)
	dst, ok2 := fhOut.(*fileHandle)
	if !ok1 || !ok2 {
		return 0, syscall.EOPNOTSUPP
	}
	if flags != 0 || offIn > math.MaxInt64 || offOut > math.MaxInt64 {
		return 0, syscall.EINVAL
	}
	c := n.m.op(ctx, opSync)
	defer c.end()
	if to := dst.n; to.setID.Load() && c.caller.UID != 0 {
		if err := to.dropSetID(c); err != nil {
			return 0, n.m.errno("copy_file_range", to, err)
		}
	}
	copied, err := backends.CopyRangeAt(c, n.m.fsys, src.f, int64(offIn), dst.f, int64(offOut), int64(min(length, maxCopyRange)))
	if err != nil {
		return 0, n.m.errno("copy_file_range", dst.n, err)
	}
	return uint32(copied), 0
}
