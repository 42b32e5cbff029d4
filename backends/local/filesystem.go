package local

import (
	"context"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/unixmode"
)

// FileSystem is a host directory at the file depth. Every operation is the
// host's own system call, relative to a descriptor of the parent.
type FileSystem struct {
	root    *node
	nodes   nodeTable
	closing sync.Once
}

var (
	_ backends.FileSystem  = (*FileSystem)(nil)
	_ backends.Symlinker   = (*FileSystem)(nil)
	_ backends.Linker      = (*FileSystem)(nil)
	_ backends.Mknoder     = (*FileSystem)(nil)
	_ backends.Xattrer     = (*FileSystem)(nil)
	_ backends.DirSyncer   = (*FileSystem)(nil)
	_ backends.RangeCopier = (*FileSystem)(nil)
)

// validity is how long the kernel may believe what the host said: others
// change the directory too.
const validity = time.Second

func newFileSystem(s *Store) (*FileSystem, error) {
	fd, err := openAt(s.rootFD(), ".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	f := &FileSystem{}
	f.nodes = newNodeTable(st.Dev)
	f.root = f.nodes.intern(f, fd, &st)
	return f, nil
}

// Root returns the directory.
func (f *FileSystem) Root() backends.Node { return f.root }

// checkSegment refuses what is no name of a child.
func checkSegment(name string) error {
	switch {
	case name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00"):
		return fs.ErrInvalid
	case len(name) > backends.MaxNameLen:
		return backends.ErrNameTooLong
	}
	return nil
}

// checkNew is checkSegment for a name that is to be made.
func checkNew(name string) error {
	if reserved(name) {
		return backends.ErrReserved
	}
	return checkSegment(name)
}

// Lookup returns the child of parent called name.
func (f *FileSystem) Lookup(_ context.Context, parent backends.Node, name string) (backends.Node, backends.Attr, error) {
	n, a, err := f.lookup(parent, name)
	if err != nil {
		return nil, backends.Attr{}, Wrap("lookup", name, err)
	}
	return n, a, nil
}

func (f *FileSystem) lookup(parent backends.Node, name string) (*node, backends.Attr, error) {
	if err := checkSegment(name); err != nil {
		return nil, backends.Attr{}, err
	}
	if reserved(name) {
		return nil, backends.Attr{}, fs.ErrNotExist
	}
	p, err := f.asNode(parent)
	if err != nil {
		return nil, backends.Attr{}, err
	}
	dir, done, err := p.use()
	if err != nil {
		return nil, backends.Attr{}, err
	}
	defer done()
	return f.child(dir, name)
}

// child returns the node and attributes of name in dir.
func (f *FileSystem) child(dir int, name string) (*node, backends.Attr, error) {
	st, err := lstatAt(dir, name)
	if err != nil {
		return nil, backends.Attr{}, err
	}
	if n := f.nodes.known(inodeKey{st.Dev, st.Ino}); n != nil {
		return n, n.attrOf(&st), nil
	}
	fd, err := openAt(dir, name, pathFlags, 0)
	if err != nil {
		return nil, backends.Attr{}, err
	}
	// What is there now may be another file than a moment ago.
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return nil, backends.Attr{}, err
	}
	n := f.nodes.intern(f, fd, &st)
	return n, n.attrOf(&st), nil
}

func (n *node) attrOf(st *unix.Stat_t) backends.Attr {
	return backends.Attr{
		ID:      n.id,
		Mode:    unixmode.From(st.Mode),
		UID:     st.Uid,
		GID:     st.Gid,
		Nlink:   uint32(st.Nlink),
		Rdev:    uint32(st.Rdev),
		Size:    st.Size,
		Blocks:  st.Blocks,
		Atime:   timeOf(st.Atim),
		Mtime:   timeOf(st.Mtim),
		Ctime:   timeOf(st.Ctim),
		Version: versionOf(st),
		Valid:   validity,
	}
}

// withNode calls do with n's descriptor, and wraps its error.
func (f *FileSystem) withNode(op string, n backends.Node, do func(own *node, fd int) error) error {
	own, err := f.asNode(n)
	if err != nil {
		return Wrap(op, "", err)
	}
	fd, done, err := own.use()
	if err != nil {
		return Wrap(op, "", err)
	}
	defer done()
	return Wrap(op, "", do(own, fd))
}

// Attr returns n's attributes.
func (f *FileSystem) Attr(_ context.Context, n backends.Node) (a backends.Attr, err error) {
	err = f.withNode("getattr", n, func(own *node, fd int) error {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return err
		}
		a = own.attrOf(&st)
		return nil
	})
	return a, err
}

// SetAttr changes n's attributes.
func (f *FileSystem) SetAttr(ctx context.Context, n backends.Node, c backends.AttrChange) (backends.Attr, error) {
	err := f.withNode("setattr", n, func(own *node, fd int) error { return setAttrWith(fd, c, own.truncate) })
	if err != nil {
		return backends.Attr{}, err
	}
	return f.Attr(ctx, n)
}

// ReadDir returns the children of dir in the host's order.
func (f *FileSystem) ReadDir(_ context.Context, dir backends.Node) (list []backends.DirEntry, err error) {
	err = f.withNode("readdir", dir, func(own *node, fd int) error {
		children, temps, err := readDir(fd)
		if err != nil {
			return err
		}
		removeStale(fd, temps)
		list = make([]backends.DirEntry, len(children))
		for i, d := range children {
			id := f.nodes.idOf(inodeKey{own.key.dev, d.ino})
			list[i] = backends.DirEntry{Name: d.name, ID: id, Mode: d.mode}
		}
		return nil
	})
	return list, err
}

// StatFS returns the capacity of the host's file system that holds n.
func (f *FileSystem) StatFS(_ context.Context, n backends.Node) (u backends.Usage, err error) {
	err = f.withNode("statfs", n, func(_ *node, fd int) error {
		u, err = usageOf(fd)
		return err
	})
	return u, err
}

// SyncDir is the host's fsync(2) of the directory: the names in it are
// durable. What lies deeper is the host's own page cache, as on any disk.
func (f *FileSystem) SyncDir(_ context.Context, dir backends.Node) error {
	return f.withNode("fsync", dir, func(_ *node, fd int) error { return syncDir(fd) })
}

// Forget lets go of an unlinked inode.
func (f *FileSystem) Forget(n backends.Node) {
	if own, err := f.asNode(n); err == nil && own != f.root {
		f.nodes.forget(own)
	}
}

// release closes the root's descriptor; those of other nodes go when the
// nodes are collected.
func (f *FileSystem) release() {
	f.root.mu.Lock()
	defer f.root.mu.Unlock()
	f.nodes.drop(f.root)
}

// Close syncs the file system that holds the directory. Its descriptors are
// released by [Store.Close].
func (f *FileSystem) Close(context.Context) error {
	var err error
	f.closing.Do(func() {
		err = f.withNode("syncfs", f.root, func(_ *node, fd int) error {
			d, err := openAt(fd, ".", os.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer func() { _ = unix.Close(d) }()
			return unix.Syncfs(d)
		})
	})
	return err
}
