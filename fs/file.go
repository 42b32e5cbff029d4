package fs

import (
	"context"
	"errors"
	"os"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
)

// fileHandle is an open regular file.
type fileHandle struct {
	n *inode
	f backends.File
}

var (
	_ gofs.NodeOpener    = (*inode)(nil)
	_ gofs.FileReader    = (*fileHandle)(nil)
	_ gofs.FileWriter    = (*fileHandle)(nil)
	_ gofs.FileFlusher   = (*fileHandle)(nil)
	_ gofs.FileReleaser  = (*fileHandle)(nil)
	_ gofs.FileAllocater = (*fileHandle)(nil)
	_ gofs.FileLseeker   = (*fileHandle)(nil)
)

// openFlags returns those of the kernel's open flags that a file system sees.
func openFlags(flags uint32) int {
	f := int(flags) & (syscall.O_ACCMODE | os.O_TRUNC | os.O_APPEND)
	if f&syscall.O_ACCMODE == syscall.O_ACCMODE {
		// Linux's access mode 3: both permissions, for ioctl(2) only.
		f = f&^syscall.O_ACCMODE | os.O_RDWR
	}
	return f
}

func writes(flags uint32) bool { return flags&syscall.O_ACCMODE != syscall.O_RDONLY }

// Open implements [gofs.NodeOpener].
func (n *inode) Open(ctx context.Context, flags uint32) (gofs.FileHandle, uint32, syscall.Errno) {
	kind := opRead
	if flags&syscall.O_TRUNC != 0 {
		kind = opChange
	}
	c := n.m.op(ctx, kind)
	defer c.end()
	f, err := n.m.fsys.Open(c, n.node, openFlags(flags))
	if err != nil {
		return nil, 0, n.m.errno("open", n, err)
	}
	h, fuseFlags := n.opened(f, flags)
	if !writes(flags) {
		// There is nothing that a close could report: no FLUSH is needed.
		fuseFlags |= fuse.FOPEN_NOFLUSH
	}
	return h, fuseFlags, 0
}

// opened returns the handle of f and the flags of the reply to the kernel.
func (n *inode) opened(f backends.File, flags uint32) (*fileHandle, uint32) {
	fuseFlags := n.openIO(f, writes(flags))
	h := &fileHandle{n: n, f: f}
	n.m.files.add(h)
	return h, fuseFlags
}

// Read implements [gofs.FileReader].
func (h *fileHandle) Read(ctx context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	c := h.n.m.op(ctx, opRead)
	defer c.end()
	got, err := h.f.ReadAt(c, dest, off)
	if err != nil {
		return nil, h.n.m.errno("read", h.n, err)
	}
	return fuse.ReadResultData(dest[:got]), 0
}

// Write implements [gofs.FileWriter].
func (h *fileHandle) Write(ctx context.Context, data []byte, off int64) (uint32, syscall.Errno) {
	c := h.n.m.op(ctx, opChange)
	defer c.end()
	// Pages of a mapping are written by the kernel itself, with no caller.
	if h.n.setID.Load() && c.caller.UID != 0 && c.caller.PID != 0 {
		if err := h.n.dropSetID(c); err != nil {
			return 0, h.n.m.errno("write", h.n, err)
		}
	}
	n, err := h.f.WriteAt(c, data, off)
	// As write(2): what found room is told, and the next write hears why the
	// rest did not. Nobody but this one would hear it for a mapping's pages.
	if err != nil && (n == 0 || c.caller.PID == 0 || !errors.Is(err, backends.ErrNoSpace)) {
		return 0, h.n.m.errno("write", h.n, err)
	}
	return uint32(n), 0
}

// Flush implements [gofs.FileFlusher]: one for each close(2).
func (h *fileHandle) Flush(ctx context.Context) syscall.Errno {
	c := h.n.m.op(ctx, opSync)
	defer c.end()
	return h.n.m.errno("close", h.n, h.f.Flush(c))
}

// Release implements [gofs.FileReleaser]. It comes after the last close(2) and
// munmap(2) have returned, so nobody hears of an error.
func (h *fileHandle) Release(ctx context.Context) syscall.Errno {
	if h.n.m.files.remove(h) {
		h.close(ctx)
	}
	return 0
}

func (h *fileHandle) close(ctx context.Context) {
	c := h.n.m.op(ctx, opSync)
	defer c.end()
	// Before Close: what openIO decided on the file's word must not outlast
	// the time in which the file stands to it.
	h.n.closeIO()
	if err := h.f.Close(c); err != nil {
		h.n.m.problems.report("release", h.n.node.ID(), err)
	}
}

// Allocate implements [gofs.FileAllocater].
func (h *fileHandle) Allocate(ctx context.Context, off, size uint64, mode uint32) syscall.Errno {
	a, ok := h.f.(backends.Allocator)
	if !ok {
		return syscall.EOPNOTSUPP
	}
	c := h.n.m.op(ctx, opChange)
	defer c.end()
	return h.n.m.errno("fallocate", h.n, a.Allocate(c, int64(off), int64(size), mode))
}

// Lseek implements [gofs.FileLseeker] for SEEK_DATA and SEEK_HOLE; the kernel
// does the others. A file that knows no holes is data up to its end, where a
// hole follows. See lseek(2).
func (h *fileHandle) Lseek(ctx context.Context, off uint64, whence uint32) (uint64, syscall.Errno) {
	c := h.n.m.op(ctx, opRead)
	defer c.end()
	to, err := h.seek(c, int64(off), whence)
	if err != nil {
		return 0, h.n.m.errno("lseek", h.n, err)
	}
	return uint64(to), 0
}

func (h *fileHandle) seek(c *opContext, off int64, whence uint32) (int64, error) {
	if whence != unix.SEEK_DATA && whence != unix.SEEK_HOLE {
		return 0, syscall.EINVAL
	}
	if s, ok := h.f.(backends.Seeker); ok {
		seek := s.SeekHole
		if whence == unix.SEEK_DATA {
			seek = s.SeekData
		}
		// A wrapper has the methods whatever is in it.
		if to, err := seek(c, off); !errors.Is(err, errors.ErrUnsupported) {
			return to, err
		}
	}
	a, err := h.n.m.fsys.Attr(c, h.n.node)
	switch {
	case err != nil:
		return 0, err
	case off >= a.Size:
		return 0, backends.ErrNoData
	case whence == unix.SEEK_DATA:
		return off, nil
	}
	return a.Size, nil
}
