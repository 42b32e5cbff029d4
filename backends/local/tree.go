package local

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/unixmode"
)

// inParent calls do with the descriptor of the directory in which name is to
// be changed, and wraps its error.
func (f *FileSystem) inParent(op string, parent backends.Node, name string, do func(dir int) error) error {
	if err := checkNew(name); err != nil {
		return Wrap(op, name, err)
	}
	own, err := f.asNode(parent)
	if err != nil {
		return Wrap(op, name, err)
	}
	dir, done, err := own.use()
	if err != nil {
		return Wrap(op, name, err)
	}
	defer done()
	return Wrap(op, name, do(dir))
}

// Create makes a regular file and opens it.
func (f *FileSystem) Create(_ context.Context, parent backends.Node, name string, flags int, a backends.CreateAttr) (n backends.Node, attr backends.Attr, file backends.File, err error) {
	err = f.inParent("create", parent, name, func(dir int) error {
		var own *node
		for range 100 {
			own, attr, file, err = f.createNew(dir, name, flags, a)
			if err != unix.EEXIST || flags&os.O_EXCL != 0 {
				break
			}
			own, attr, file, err = f.openExisting(dir, name, flags)
			if err != unix.ENOENT {
				break
			}
			// Gone between the two: once more.
		}
		if err == nil {
			n = own
		}
		return err
	})
	return n, attr, file, err
}

// createNew makes the file, which must not exist.
func (f *FileSystem) createNew(dir int, name string, flags int, a backends.CreateAttr) (*node, backends.Attr, backends.File, error) {
	fd, err := openAt(dir, name, openFlags(flags)|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, unixmode.Perm(a.Mode))
	if err != nil {
		return nil, backends.Attr{}, nil, err
	}
	// The node's descriptor comes from the open one and not from the name,
	// which may be another file's by now.
	var st unix.Stat_t
	path := -1
	if err = adopt(fd, dir, a); err == nil {
		if err = unix.Fstat(fd, &st); err == nil {
			path, err = openAt(unix.AT_FDCWD, procPath(fd), unix.O_PATH|unix.O_CLOEXEC, 0)
		}
	}
	if err != nil {
		_ = unix.Unlinkat(dir, name, 0)
		_ = unix.Close(fd)
		return nil, backends.Attr{}, nil, err
	}
	n := f.nodes.intern(f, path, &st)
	return n, n.attrOf(&st), n.newFile(fd), nil
}

// openExisting opens the file that is there.
func (f *FileSystem) openExisting(dir int, name string, flags int) (*node, backends.Attr, backends.File, error) {
	n, _, err := f.child(dir, name)
	if err != nil {
		return nil, backends.Attr{}, nil, err
	}
	file, err := n.open(flags)
	if err != nil {
		return nil, backends.Attr{}, nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(file.fd, &st); err != nil {
		return nil, backends.Attr{}, nil, errors.Join(err, file.f.Close())
	}
	return n, n.attrOf(&st), file, nil
}

// adopt gives a new inode fd (which may be O_PATH) in directory dir the mode
// and, if this process may, the owner that it was made for. The group that a
// set-gid directory hands down is the host's doing and stays.
func adopt(fd, dir int, a backends.CreateAttr) error {
	var st, parent unix.Stat_t
	if err := errors.Join(unix.Fstat(fd, &st), unix.Fstat(dir, &parent)); err != nil {
		return err
	}
	gid := a.GID
	if parent.Mode&unix.S_ISGID != 0 {
		gid = st.Gid
	}
	c := backends.AttrChange{UID: a.UID, GID: gid}
	if asRoot() && (st.Uid != a.UID || st.Gid != gid) {
		c.Set |= backends.SetUID | backends.SetGID
	}
	want := unixmode.Perm(a.Mode)
	if isDir(&st) {
		want |= st.Mode & unix.S_ISGID // handed down by the parent
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK && (st.Mode&0o7777 != want || c.Set != 0) {
		c.Set |= backends.SetMode
		c.Mode = unixmode.From(want)
	}
	if c.Set == 0 {
		return nil
	}
	return setAttr(fd, c)
}

// newChild returns the node of an inode that was just made under name.
func (f *FileSystem) newChild(dir int, name string, a backends.CreateAttr) (*node, backends.Attr, error) {
	fd, err := openAt(dir, name, pathFlags, 0)
	if err != nil {
		return nil, backends.Attr{}, err
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	// Somebody on the host may have put something else under the name
	// meanwhile, to have it given away: only what looks newly made by this
	// process is adopted.
	fresh := unixmode.From(st.Mode).Type() == a.Mode.Type() && st.Uid == uint32(os.Geteuid()) && (isDir(&st) || st.Nlink == 1)
	if err == nil && fresh {
		if err = adopt(fd, dir, a); err == nil {
			err = unix.Fstat(fd, &st)
		}
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, backends.Attr{}, err
	}
	n := f.nodes.intern(f, fd, &st)
	return n, n.attrOf(&st), nil
}

// make calls mk, which makes name in parent, and returns the new node.
func (f *FileSystem) make(op string, parent backends.Node, name string, a backends.CreateAttr, mk func(dir int) error) (n backends.Node, attr backends.Attr, err error) {
	err = f.inParent(op, parent, name, func(dir int) error {
		if err := mk(dir); err != nil {
			return err
		}
		own, at, err := f.newChild(dir, name, a)
		if err != nil {
			return err
		}
		n, attr = own, at
		return nil
	})
	return n, attr, err
}

// Mkdir makes a directory.
func (f *FileSystem) Mkdir(_ context.Context, parent backends.Node, name string, a backends.CreateAttr) (backends.Node, backends.Attr, error) {
	a.Mode = a.Mode&^fs.ModeType | fs.ModeDir
	return f.make("mkdir", parent, name, a, func(dir int) error {
		return unix.Mkdirat(dir, name, unixmode.Perm(a.Mode))
	})
}

// Symlink makes a symbolic link.
func (f *FileSystem) Symlink(_ context.Context, parent backends.Node, name, target string, a backends.CreateAttr) (backends.Node, backends.Attr, error) {
	a.Mode = fs.ModeSymlink | 0o777
	return f.make("symlink", parent, name, a, func(dir int) error {
		return unix.Symlinkat(target, dir, name)
	})
}

// Mknod makes an inode of any type but a directory. Devices need CAP_MKNOD.
func (f *FileSystem) Mknod(_ context.Context, parent backends.Node, name string, a backends.CreateAttr) (backends.Node, backends.Attr, error) {
	return f.make("mknod", parent, name, a, func(dir int) error {
		return unix.Mknodat(dir, name, unixmode.Type(a.Mode)|unixmode.Perm(a.Mode), int(a.Rdev))
	})
}

// Readlink returns the target of link n.
func (f *FileSystem) Readlink(_ context.Context, n backends.Node) (target string, err error) {
	err = f.withNode("readlink", n, func(own *node, fd int) error {
		if own.kind != fs.ModeSymlink {
			return fs.ErrInvalid
		}
		target, err = readlinkAt(fd, "")
		return err
	})
	return target, err
}

// Link gives n a further name.
func (f *FileSystem) Link(_ context.Context, n, newParent backends.Node, newName string) (attr backends.Attr, err error) {
	err = f.withNode("link", n, func(own *node, fd int) error {
		if own.kind.IsDir() {
			return backends.ErrNotPermitted
		}
		return f.inParent("link", newParent, newName, func(dir int) error {
			// By way of /proc, because AT_EMPTY_PATH needs a capability.
			err := unix.Linkat(unix.AT_FDCWD, procPath(fd), dir, newName, unix.AT_SYMLINK_FOLLOW)
			if err != nil {
				return err
			}
			var st unix.Stat_t
			if err := unix.Fstat(fd, &st); err != nil {
				return err
			}
			attr = own.attrOf(&st)
			return nil
		})
	})
	return attr, err
}

// Unlink removes a name that is not a directory's.
func (f *FileSystem) Unlink(_ context.Context, parent backends.Node, name string) error {
	return f.inParent("unlink", parent, name, func(dir int) error { return unix.Unlinkat(dir, name, 0) })
}

// Rmdir removes an empty directory.
func (f *FileSystem) Rmdir(_ context.Context, parent backends.Node, name string) error {
	return f.inParent("rmdir", parent, name, func(dir int) error { return removeDir(dir, name) })
}

// Rename moves a name by renameat2(2).
func (f *FileSystem) Rename(_ context.Context, oldParent backends.Node, oldName string, newParent backends.Node, newName string, flags backends.RenameFlags) error {
	var how uint
	if flags&backends.RenameNoReplace != 0 {
		how |= unix.RENAME_NOREPLACE
	}
	if flags&backends.RenameExchange != 0 {
		how |= unix.RENAME_EXCHANGE
	}
	return f.inParent("rename", oldParent, oldName, func(from int) error {
		return f.inParent("rename", newParent, newName, func(to int) error {
			if how == 0 {
				return unix.Renameat(from, oldName, to, newName)
			}
			return unix.Renameat2(from, oldName, to, newName, how)
		})
	})
}
