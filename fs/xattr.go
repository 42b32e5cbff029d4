package fs

import (
	"context"
	"errors"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"

	"github.com/agentfs/agentfs/backends"
)

var (
	_ gofs.NodeGetxattrer    = (*inode)(nil)
	_ gofs.NodeSetxattrer    = (*inode)(nil)
	_ gofs.NodeListxattrer   = (*inode)(nil)
	_ gofs.NodeRemovexattrer = (*inode)(nil)
)

// noSuchXattr reports whether an attribute of this name can't exist on the
// mount, because storing it would promise what nobody keeps: capabilities on
// a nosuid mount, and labels and lists of permissions that the kernel doesn't
// enforce. The answer is EOPNOTSUPP, also to who asks for the value: ls -l then
// asks for it once per file system and not once per file.
func noSuchXattr(name string) bool {
	switch name {
	case "security.capability", "security.selinux", "system.posix_acl_access", "system.posix_acl_default":
		return true
	}
	return false
}

// Getxattr implements [gofs.NodeGetxattrer]. A dest that is too small is
// ERANGE with the size; go-fuse makes that the answer to a request that only
// asks for the size.
func (n *inode) Getxattr(ctx context.Context, name string, dest []byte) (uint32, syscall.Errno) {
	if noSuchXattr(name) {
		return 0, syscall.EOPNOTSUPP
	}
	c := n.m.op(ctx, opRead)
	defer c.end()
	value, err := backends.GetXattrAt(c, n.m.fsys, n.node, name)
	if err != nil {
		return 0, n.m.errno("getxattr", n, err)
	}
	if len(value) > len(dest) {
		return uint32(len(value)), syscall.ERANGE
	}
	return uint32(copy(dest, value)), 0
}

// Setxattr implements [gofs.NodeSetxattrer].
func (n *inode) Setxattr(ctx context.Context, name string, data []byte, flags uint32) syscall.Errno {
	if noSuchXattr(name) {
		return syscall.EOPNOTSUPP
	}
	c := n.m.op(ctx, opChange)
	defer c.end()
	// go-fuse reuses data for the next request.
	value := append([]byte(nil), data...)
	return n.m.errno("setxattr", n, backends.SetXattrAt(c, n.m.fsys, n.node, name, value, backends.XattrFlags(flags)))
}

// Listxattr implements [gofs.NodeListxattrer]. Where there can be none, the
// list is empty: ls and cp ask everywhere.
func (n *inode) Listxattr(ctx context.Context, dest []byte) (uint32, syscall.Errno) {
	c := n.m.op(ctx, opRead)
	defer c.end()
	names, err := backends.ListXattrAt(c, n.m.fsys, n.node)
	if errors.Is(err, errors.ErrUnsupported) {
		return 0, 0
	}
	if err != nil {
		return 0, n.m.errno("listxattr", n, err)
	}
	size := 0
	for _, name := range names {
		size += len(name) + 1
	}
	if size > len(dest) {
		return uint32(size), syscall.ERANGE
	}
	at := 0
	for _, name := range names {
		at += copy(dest[at:], name)
		dest[at] = 0
		at++
	}
	return uint32(size), 0
}

// Removexattr implements [gofs.NodeRemovexattrer].
func (n *inode) Removexattr(ctx context.Context, name string) syscall.Errno {
	if noSuchXattr(name) {
		return syscall.EOPNOTSUPP
	}
	c := n.m.op(ctx, opChange)
	defer c.end()
	return n.m.errno("removexattr", n, backends.RemoveXattrAt(c, n.m.fsys, n.node, name))
}
