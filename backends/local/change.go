package local

import (
	"context"
	"errors"
	"hash/maphash"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
)

var nameSeed = maphash.MakeSeed()

// lockName locks what a conditional change of name needs.
func (s *Store) lockName(name string) (unlock func()) {
	s.renames.RLock()
	m := &s.names[maphash.String(nameSeed, name)%uint64(len(s.names))]
	m.Lock()
	return func() {
		m.Unlock()
		s.renames.RUnlock()
	}
}

// met returns nil if cond holds for base in dir, whose present state it
// returns too, if any. The caller holds the name's lock.
func met(dir int, base string, cond backends.If) (*unix.Stat_t, error) {
	st, err := lstatAt(dir, base)
	switch {
	case err == unix.ENOENT && cond.Match != "":
		return nil, backends.ErrChanged
	case err == unix.ENOENT:
		return nil, nil
	case err != nil:
		return nil, err
	case cond.Absent:
		return nil, fs.ErrExist
	case cond.Match != "" && cond.Match != versionOf(&st):
		return nil, backends.ErrChanged
	}
	return &st, nil
}

// openDir opens the directory dir with O_PATH; with make, it makes what is
// missing on the way.
func (s *Store) openDir(dir string, make bool) (int, error) {
	// Somebody may remove a directory right after it was made.
	for try := 0; ; try++ {
		fd, err := openBeneath(s.rootFD(), dir, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != unix.ENOENT || !make || try == 10 || dir == "." {
			return fd, err
		}
		parent, base := split(dir)
		pfd, err := s.openDir(parent, true)
		if err != nil {
			return -1, err
		}
		err = unix.Mkdirat(pfd, base, dirMode)
		_ = unix.Close(pfd)
		if err != nil && err != unix.EEXIST && err != unix.ENOENT {
			return -1, err
		}
	}
}

// Modes of what is made without attributes.
const (
	dirMode  = 0o755
	fileMode = 0o644
)

// Mkdir makes a directory and missing parents.
func (s *Store) Mkdir(ctx context.Context, name string, attr backends.AttrChange) error {
	if err := errors.Join(checkNewName("mkdir", name), ctx.Err()); err != nil {
		return err
	}
	if name == "." {
		return &fs.PathError{Op: "mkdir", Path: name, Err: fs.ErrExist}
	}
	dir, base := split(name)
	err := s.inDir(dir, true, func(fd int) error {
		if err := unix.Mkdirat(fd, base, dirMode); err != nil {
			return err
		}
		attr.Set &^= backends.SetSize
		if attr.Set == 0 {
			return nil
		}
		made, err := openAt(fd, base, pathFlags|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(made) }()
		return setAttr(made, attr)
	})
	return Wrap("mkdir", name, err)
}

// inDir calls f with a descriptor of dir.
func (s *Store) inDir(dir string, make bool, f func(fd int) error) error {
	fd, err := s.openDir(dir, make)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return f(fd)
}

// Remove removes a file, a link or an empty directory.
func (s *Store) Remove(ctx context.Context, name string, cond backends.If) error {
	if err := errors.Join(checkName("remove", name), ctx.Err()); err != nil {
		return err
	}
	if name == "." {
		return &fs.PathError{Op: "remove", Path: name, Err: backends.ErrBusy}
	}
	dir, base := split(name)
	defer s.lockName(name)()
	return Wrap("remove", name, s.inDir(dir, false, func(fd int) error {
		st, err := met(fd, base, backends.If{Match: cond.Match})
		switch {
		case err != nil:
			return err
		case st == nil:
			return unix.ENOENT
		case isDir(st):
			return removeDir(fd, base)
		}
		return unix.Unlinkat(fd, base, 0)
	}))
}

// Rename moves a file, link or directory, making missing parents of the
// target.
func (s *Store) Rename(ctx context.Context, from string, src backends.If, to string, cond backends.If) error {
	if err := errors.Join(checkName("rename", from), checkNewName("rename", to), ctx.Err()); err != nil {
		return err
	}
	if from == "." || to == "." {
		return &fs.PathError{Op: "rename", Path: from, Err: backends.ErrBusy}
	}
	s.renames.Lock()
	defer s.renames.Unlock()
	fromDir, fromBase := split(from)
	toDir, toBase := split(to)
	err := s.inDir(fromDir, false, func(fromFD int) error {
		st, err := met(fromFD, fromBase, backends.If{Match: src.Match})
		if err != nil {
			return err
		}
		if st == nil {
			return unix.ENOENT
		}
		if from == to && cond == (backends.If{}) {
			return nil
		}
		return s.inDir(toDir, cond.Match == "", func(toFD int) error {
			if _, err := met(toFD, toBase, cond); err != nil {
				return err
			}
			return renameAt(fromFD, fromBase, toFD, toBase, cond.Absent)
		})
	})
	return Wrap("rename", from, err)
}

// renameAt renames; with absent, onto nothing.
func renameAt(fromDir int, from string, toDir int, to string, absent bool) error {
	if !absent {
		return unix.Renameat(fromDir, from, toDir, to)
	}
	err := unix.Renameat2(fromDir, from, toDir, to, unix.RENAME_NOREPLACE)
	if err != unix.EINVAL && err != unix.ENOSYS {
		return err
	}
	// A file system without the flag: a link fails where something is.
	if err := unix.Linkat(fromDir, from, toDir, to, 0); err != nil {
		return err
	}
	return unix.Unlinkat(fromDir, from, 0)
}

// SetAttr changes the attributes of name; of a link the link's own.
func (s *Store) SetAttr(ctx context.Context, name string, c backends.AttrChange) error {
	if err := errors.Join(checkName("setattr", name), ctx.Err()); err != nil {
		return err
	}
	defer s.lockName(name)()
	fd, err := openBeneath(s.rootFD(), name, unix.O_PATH, 0)
	if err != nil {
		return Wrap("setattr", name, err)
	}
	defer func() { _ = unix.Close(fd) }()
	return Wrap("setattr", name, setAttr(fd, c))
}

// Symlink makes a symbolic link with any target; it is never followed here.
func (s *Store) Symlink(ctx context.Context, target, name string) error {
	if err := errors.Join(checkNewName("symlink", name), ctx.Err()); err != nil {
		return err
	}
	if name == "." {
		return &fs.PathError{Op: "symlink", Path: name, Err: fs.ErrExist}
	}
	dir, base := split(name)
	return Wrap("symlink", name, s.inDir(dir, true, func(fd int) error { return unix.Symlinkat(target, fd, base) }))
}

// Readlink returns a symbolic link's target.
func (s *Store) Readlink(ctx context.Context, name string) (target string, err error) {
	if err := errors.Join(checkName("readlink", name), ctx.Err()); err != nil {
		return "", err
	}
	dir, base := split(name)
	err = s.inDir(dir, false, func(fd int) error {
		target, err = readlinkAt(fd, base)
		return err
	})
	return target, Wrap("readlink", name, err)
}

// readlinkAt returns the target of the link base in dir, or with an empty base
// of the link that dir itself is.
func readlinkAt(dir int, base string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, base, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// Usage returns the capacity of the file system that holds the directory.
func (s *Store) Usage(context.Context) (backends.Usage, error) {
	u, err := usageOf(s.rootFD())
	return u, Wrap("statfs", ".", err)
}
