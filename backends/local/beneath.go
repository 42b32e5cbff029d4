package local

import (
	"strings"

	"golang.org/x/sys/unix"
)

const pathFlags = unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC

// openBeneath opens the file name below the directory root, without following
// a symbolic link anywhere on the way or at the end, and without leaving root.
// name is a valid name of the contract. The caller closes the descriptor.
func openBeneath(root int, name string, flags int, mode uint32) (int, error) {
	fd := -1
	err := spare(func() (err error) {
		fd, err = unix.Openat2(root, name, &unix.OpenHow{
			Flags:   uint64(flags | unix.O_NOFOLLOW | unix.O_CLOEXEC),
			Mode:    uint64(mode),
			Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
		})
		return err
	})
	switch err {
	case unix.ENOSYS, unix.EPERM, unix.EAGAIN:
		// An old kernel, a sandbox that filters the call, or a rename on the
		// way that the kernel couldn't rule out: element after element.
		return openBySteps(root, name, flags, mode)
	}
	return fd, err
}

// openBySteps does what openBeneath does where openat2(2) is not to be had:
// each element is opened relative to the one before, and O_NOFOLLOW counts for
// the element that it opens.
func openBySteps(root int, name string, flags int, mode uint32) (int, error) {
	dir := root
	closeDir := func() {
		if dir != root {
			_ = unix.Close(dir)
		}
	}
	for {
		element, rest, more := strings.Cut(name, "/")
		if !more {
			fd, err := openAt(dir, element, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
			closeDir()
			return fd, err
		}
		fd, err := openAt(dir, element, pathFlags|unix.O_DIRECTORY, 0)
		closeDir()
		if err != nil {
			return -1, err
		}
		dir, name = fd, rest
	}
}

func openAt(dir int, name string, flags int, mode uint32) (fd int, err error) {
	err = spare(func() error {
		fd, err = unix.Openat(dir, name, flags, mode)
		return err
	})
	return fd, err
}

// lstatAt returns what is under name in dir, a link itself if it is one.
func lstatAt(dir int, name string) (st unix.Stat_t, err error) {
	err = retry(func() error { return unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	return st, err
}
