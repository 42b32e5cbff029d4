package fs

import (
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/unixmode"
)

const (
	// longValid is the validity from which on a file system is taken to be
	// one that nobody else changes, so that the kernel may also remember
	// which names are absent and what a directory lists.
	longValid = time.Minute
	// blockSize is st_blksize, by which stdio and coreutils choose their
	// buffers: each write of theirs is a request.
	blockSize = 64 << 10
)

func stableAttr(a *backends.Attr) gofs.StableAttr {
	return gofs.StableAttr{Ino: a.ID, Mode: unixmode.Type(a.Mode)}
}

func fillAttr(a *backends.Attr, out *fuse.Attr) {
	out.Ino = a.ID
	out.Size = uint64(a.Size)
	out.Blocks = uint64(a.Blocks)
	out.Blksize = blockSize
	out.Mode = unixmode.To(a.Mode)
	out.Nlink = a.Nlink
	out.Uid = a.UID
	out.Gid = a.GID
	out.Rdev = a.Rdev
	out.Atime, out.Atimensec = fillTime(a.Atime)
	out.Mtime, out.Mtimensec = fillTime(a.Mtime)
	out.Ctime, out.Ctimensec = fillTime(a.Ctime)
}

func fillTime(t time.Time) (uint64, uint32) {
	if t.IsZero() {
		return 0, 0
	}
	return uint64(t.Unix()), uint32(t.Nanosecond())
}

func (n *inode) fillEntry(a *backends.Attr, out *fuse.EntryOut) {
	fillAttr(a, &out.Attr)
	out.SetEntryTimeout(a.Valid)
	out.SetAttrTimeout(a.Valid)
	n.learn(a)
}

func (n *inode) fillAttrOut(a *backends.Attr, out *fuse.AttrOut) {
	fillAttr(a, &out.Attr)
	out.SetTimeout(a.Valid)
	n.learn(a)
}

// attrChange returns what a SETATTR request asks for. The kernel has turned
// UTIME_OMIT into a missing bit and UTIME_NOW into a bit of its own.
func attrChange(in *fuse.SetAttrIn) backends.AttrChange {
	var c backends.AttrChange
	if mode, ok := in.GetMode(); ok {
		c.Set |= backends.SetMode
		c.Mode = unixmode.From(mode)
	}
	if uid, ok := in.GetUID(); ok {
		c.Set |= backends.SetUID
		c.UID = uid
	}
	if gid, ok := in.GetGID(); ok {
		c.Set |= backends.SetGID
		c.GID = gid
	}
	if size, ok := in.GetSize(); ok {
		c.Set |= backends.SetSize
		c.Size = int64(size)
	}
	if t, ok := in.GetATime(); ok {
		c.Set |= backends.SetAtime
		c.Atime = t
		if in.Valid&fuse.FATTR_ATIME_NOW != 0 {
			c.Now |= backends.SetAtime
		}
	}
	if t, ok := in.GetMTime(); ok {
		c.Set |= backends.SetMtime
		c.Mtime = t
		if in.Valid&fuse.FATTR_MTIME_NOW != 0 {
			c.Now |= backends.SetMtime
		}
	}
	return c
}
