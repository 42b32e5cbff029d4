package fs

import (
	"context"
	"errors"
	iofs "io/fs"
	"os"
	"syscall"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/unixmode"
)

// The operations of directories on names. The kernel holds the directory's
// lock over each of them: exclusively over changes, shared over lookups.
var (
	_ gofs.NodeLookuper   = (*inode)(nil)
	_ gofs.NodeCreater    = (*inode)(nil)
	_ gofs.NodeMkdirer    = (*inode)(nil)
	_ gofs.NodeMknoder    = (*inode)(nil)
	_ gofs.NodeSymlinker  = (*inode)(nil)
	_ gofs.NodeReadlinker = (*inode)(nil)
	_ gofs.NodeLinker     = (*inode)(nil)
	_ gofs.NodeUnlinker   = (*inode)(nil)
	_ gofs.NodeRmdirer    = (*inode)(nil)
	_ gofs.NodeRenamer    = (*inode)(nil)
)

// Lookup implements [gofs.NodeLookuper].
func (n *inode) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	n.asked.Add(1)
	return n.lookup(ctx, name, out)
}

func (n *inode) lookup(ctx context.Context, name string, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	n.watched()
	c := n.m.op(ctx, opRead)
	defer c.end()
	node, a, err := n.m.fsys.Lookup(c, n.node, name)
	if err != nil {
		errno := n.m.errno("lookup", n, err)
		if errno == syscall.ENOENT && !n.stable.Load() {
			// A timeout that is set keeps go-fuse from setting the one for
			// absent names: somebody else may create it at any moment.
			out.SetEntryTimeout(time.Nanosecond)
		}
		return nil, errno
	}
	return n.child(ctx, name, node, &a, out), 0
}

func (c *opContext) createAttr(mode uint32) backends.CreateAttr {
	return backends.CreateAttr{Mode: unixmode.From(mode), UID: c.caller.UID, GID: c.caller.GID}
}

// Create implements [gofs.NodeCreater]. The kernel asks for it when it takes
// the name to be absent. If the file has come into being meanwhile, ESTALE
// makes the kernel look it up and open it: so that a node that it may know
// already enters by one door, Lookup.
func (n *inode) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*gofs.Inode, gofs.FileHandle, uint32, syscall.Errno) {
	c := n.m.op(ctx, opChange)
	defer c.end()
	node, a, f, err := n.m.fsys.Create(c, n.node, name, openFlags(flags)|os.O_CREATE|os.O_EXCL, c.createAttr(mode))
	if err != nil {
		if flags&syscall.O_EXCL == 0 && errors.Is(err, iofs.ErrExist) {
			return nil, nil, 0, syscall.ESTALE
		}
		return nil, nil, 0, n.m.errno("create", n, err)
	}
	ch := n.newChild(ctx, node, &a, out)
	h, fuseFlags := ch.Operations().(*inode).opened(f, flags)
	return ch, h, fuseFlags, 0
}

// Mkdir implements [gofs.NodeMkdirer].
func (n *inode) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	c := n.m.op(ctx, opChange)
	defer c.end()
	at := c.createAttr(mode)
	at.Mode |= iofs.ModeDir
	node, a, err := n.m.fsys.Mkdir(c, n.node, name, at)
	if err != nil {
		return nil, n.m.errno("mkdir", n, err)
	}
	return n.newChild(ctx, node, &a, out), 0
}

// Mknod implements [gofs.NodeMknoder].
func (n *inode) Mknod(ctx context.Context, name string, mode, dev uint32, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	c := n.m.op(ctx, opChange)
	defer c.end()
	at := c.createAttr(mode)
	at.Rdev = dev
	node, a, err := backends.MknodAt(c, n.m.fsys, n.node, name, at)
	if err != nil {
		return nil, n.m.errno("mknod", n, err)
	}
	return n.newChild(ctx, node, &a, out), 0
}

// Symlink implements [gofs.NodeSymlinker].
func (n *inode) Symlink(ctx context.Context, target, name string, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	c := n.m.op(ctx, opChange)
	defer c.end()
	at := c.createAttr(0o777)
	at.Mode |= iofs.ModeSymlink
	node, a, err := backends.SymlinkAt(c, n.m.fsys, n.node, name, target, at)
	if err != nil {
		return nil, n.m.errno("symlink", n, err)
	}
	return n.newChild(ctx, node, &a, out), 0
}

// Readlink implements [gofs.NodeReadlinker].
func (n *inode) Readlink(ctx context.Context) ([]byte, syscall.Errno) {
	c := n.m.op(ctx, opRead)
	defer c.end()
	target, err := backends.ReadlinkAt(c, n.m.fsys, n.node)
	if err != nil {
		return nil, n.m.errno("readlink", n, err)
	}
	return []byte(target), 0
}

// Link implements [gofs.NodeLinker].
func (n *inode) Link(ctx context.Context, target gofs.InodeEmbedder, name string, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	t, ok := target.(*inode)
	if !ok {
		return nil, syscall.EXDEV
	}
	c := n.m.op(ctx, opChange)
	defer c.end()
	a, err := backends.LinkAt(c, n.m.fsys, t.node, n.node, name)
	if err != nil {
		return nil, n.m.errno("link", n, err)
	}
	t.fillEntry(&a, out)
	return t.EmbeddedInode(), 0
}

// Unlink implements [gofs.NodeUnlinker].
func (n *inode) Unlink(ctx context.Context, name string) syscall.Errno {
	c := n.m.op(ctx, opChange)
	defer c.end()
	return n.m.errno("unlink", n, n.m.fsys.Unlink(c, n.node, name))
}

// Rmdir implements [gofs.NodeRmdirer].
func (n *inode) Rmdir(ctx context.Context, name string) syscall.Errno {
	c := n.m.op(ctx, opChange)
	defer c.end()
	return n.m.errno("rmdir", n, n.m.fsys.Rmdir(c, n.node, name))
}

// Rename implements [gofs.NodeRenamer].
func (n *inode) Rename(ctx context.Context, name string, newParent gofs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	to, ok := newParent.(*inode)
	if !ok {
		return syscall.EXDEV
	}
	var rf backends.RenameFlags
	switch flags {
	case 0:
	case unix.RENAME_NOREPLACE:
		rf = backends.RenameNoReplace
	case unix.RENAME_EXCHANGE:
		rf = backends.RenameExchange
	default:
		return syscall.EINVAL
	}
	c := n.m.op(ctx, opChange)
	defer c.end()
	err := n.m.fsys.Rename(c, n.node, name, to.node, newName, rf)
	errno := n.m.errno("rename", n, err)
	if errno == syscall.EXDEV && rf == backends.RenameExchange && to == n {
		// Not a question of where: it can't be done. See renameat2(2).
		return syscall.EINVAL
	}
	return errno
}
