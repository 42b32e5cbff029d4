package fs

import (
	"context"
	iofs "io/fs"
	"sync"
	"sync/atomic"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/agentfs/agentfs/backends"
)

// inode is what the kernel knows of one node. go-fuse keeps one per inode
// number for as long as the kernel refers to it; nodes of a file system have
// distinct numbers, so it is also one per node.
type inode struct {
	gofs.Inode
	m    *mount
	node backends.Node

	// What the last attributes said.
	stable atomic.Bool // valid for longValid or more
	setID  atomic.Bool // a regular file with a set-id bit

	// inDirs is set while mount.dirs has this inode. See watched.
	inDirs atomic.Bool

	// readers is how many handles give out the offsets of listing.
	readers atomic.Int32
	// asked counts the kernel's lookups in it. See telling.
	asked atomic.Uint64

	// mu is taken last: no call of the file system is made under it, except
	// of the few methods of an open file that answer from memory.
	mu sync.Mutex
	io ioMode // of a regular file
	// listing is what the kernel was told of a directory that is known for a
	// while, nil before.
	listing *listing
}

var (
	_ gofs.NodeGetattrer   = (*inode)(nil)
	_ gofs.NodeSetattrer   = (*inode)(nil)
	_ gofs.NodeStatfser    = (*inode)(nil)
	_ gofs.NodeOnForgetter = (*inode)(nil)
)

// learn remembers what later decisions need of the attributes.
func (n *inode) learn(a *backends.Attr) {
	// Loads first: most attributes say what the last ones said, and a store
	// would take the cache line from the other cores.
	if v := a.Valid >= longValid; n.stable.Load() != v {
		n.stable.Store(v)
	}
	if !a.Mode.IsRegular() {
		return
	}
	if v := a.Mode&(iofs.ModeSetuid|iofs.ModeSetgid) != 0; n.setID.Load() != v {
		n.setID.Store(v)
	}
}

// child returns the inode of the child that the file system calls node, which
// it found under name in n, and fills out.
func (n *inode) child(ctx context.Context, name string, node backends.Node, a *backends.Attr, out *fuse.EntryOut) *gofs.Inode {
	if known := n.GetChild(name); known != nil {
		if c, ok := known.Operations().(*inode); ok && c.node == node && known.StableAttr() == stableAttr(a) {
			c.fillEntry(a, out)
			return known
		}
	}
	return n.newChild(ctx, node, a, out)
}

// newChild is child for a node that can't be known under this name. (If it is
// known under another, go-fuse finds it by its number.)
func (n *inode) newChild(ctx context.Context, node backends.Node, a *backends.Attr, out *fuse.EntryOut) *gofs.Inode {
	c := &inode{m: n.m, node: node}
	c.fillEntry(a, out)
	return n.NewInode(ctx, c, stableAttr(a))
}

// Getattr implements [gofs.NodeGetattrer]. That the kernel writes by itself
// (passthrough) needs no care: it drops size and times of the inode at every
// such write and asks anew.
func (n *inode) Getattr(ctx context.Context, _ gofs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	c := n.m.op(ctx, opRead)
	defer c.end()
	a, err := n.m.fsys.Attr(c, n.node)
	if err != nil {
		return n.m.errno("getattr", n, err)
	}
	n.fillAttrOut(&a, out)
	return 0
}

// Setattr implements [gofs.NodeSetattrer]. It comes without a handle also for
// fchmod and futimens, and for files that have no name any more.
func (n *inode) Setattr(ctx context.Context, _ gofs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	c := n.m.op(ctx, opChange)
	defer c.end()
	change := attrChange(in)
	owner := change.Set&(backends.SetUID|backends.SetGID) != 0
	if (owner || in.Valid&fuse.FATTR_KILL_SUIDGID != 0) && !change.Has(backends.SetMode) && n.setID.Load() {
		a, err := n.m.fsys.Attr(c, n.node)
		if err != nil {
			return n.m.errno("setattr", n, err)
		}
		change.Set |= backends.SetMode
		change.Mode = withoutSetID(a.Mode)
	}
	var a backends.Attr
	var err error
	if change.Set == 0 {
		a, err = n.m.fsys.Attr(c, n.node)
	} else {
		a, err = n.m.fsys.SetAttr(c, n.node, change)
	}
	if err != nil {
		return n.m.errno("setattr", n, err)
	}
	n.fillAttrOut(&a, out)
	return 0
}

// withoutSetID returns the mode's permission bits without those that a change
// of owner or content takes away: set-uid, and set-gid if the group may
// execute (else it once meant mandatory locking). See chown(2).
func withoutSetID(m iofs.FileMode) iofs.FileMode {
	drop := iofs.ModeSetuid
	if m&0o010 != 0 {
		drop |= iofs.ModeSetgid
	}
	return (m &^ drop) & (iofs.ModePerm | iofs.ModeSetgid | iofs.ModeSticky)
}

// dropSetID clears set-id bits before a write by the caller of c, who is not
// root.
func (n *inode) dropSetID(c *opContext) error {
	a, err := n.m.fsys.Attr(c, n.node)
	if err != nil {
		return err
	}
	a, err = n.m.fsys.SetAttr(c, n.node, backends.AttrChange{Set: backends.SetMode, Mode: withoutSetID(a.Mode)})
	if err != nil {
		return err
	}
	n.learn(&a)
	// Mandatory locking's bit stays and needs no second try.
	n.setID.Store(false)
	return nil
}

const (
	// What statfs(2) shows where there is no limit: 1 PiB, all of it free,
	// because programs refuse to write when they are told of none.
	unlimitedBytes = 1 << 50
	unlimitedFiles = 1 << 32

	statfsBlock = 4096
)

// Statfs implements [gofs.NodeStatfser].
func (n *inode) Statfs(ctx context.Context, out *fuse.StatfsOut) syscall.Errno {
	c := n.m.op(ctx, opRead)
	defer c.end()
	u, err := n.m.fsys.StatFS(c, n.node)
	if err != nil {
		return n.m.errno("statfs", n, err)
	}
	if u.TotalBytes == 0 {
		u.TotalBytes, u.FreeBytes = unlimitedBytes, unlimitedBytes
	}
	if u.TotalFiles == 0 {
		u.TotalFiles, u.FreeFiles = unlimitedFiles, unlimitedFiles
	}
	out.Bsize, out.Frsize = statfsBlock, statfsBlock
	out.Blocks = u.TotalBytes / statfsBlock
	out.Bfree = u.FreeBytes / statfsBlock
	out.Bavail = out.Bfree
	out.Files, out.Ffree = u.TotalFiles, u.FreeFiles
	out.NameLen = backends.MaxNameLen
	return 0
}

// OnForget implements [gofs.NodeOnForgetter]: the kernel has let go.
func (n *inode) OnForget() {
	if n.IsRoot() {
		return
	}
	n.unwatch()
	// A lookup that ran meanwhile may have taken it up again; then another
	// OnForget follows. (A file can't lose its last name in that moment: the
	// kernel doesn't unlink in a directory where it looks up.)
	if name, parent := n.Parent(); parent != nil && parent.GetChild(name) == n.EmbeddedInode() {
		n.watched() // perhaps it was looked into
		return
	}
	n.m.fsys.Forget(n.node)
}
