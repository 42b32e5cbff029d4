package local

import (
	"context"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
)

// Extended attributes are the host's own, by way of /proc because the system
// calls for descriptors take none opened with O_PATH. What the host refuses
// (user attributes on a link, security attributes without privilege) is
// refused with its error.

// GetXattr returns an extended attribute.
func (f *FileSystem) GetXattr(_ context.Context, n backends.Node, name string) (value []byte, err error) {
	err = f.withNode("getxattr", n, func(_ *node, fd int) error {
		if name == backends.VersionXattr {
			value, err = versionXattr(fd)
			return err
		}
		value, err = sized(func(buf []byte) (int, error) { return unix.Getxattr(procPath(fd), name, buf) })
		return err
	})
	return value, err
}

// versionXattr returns [backends.VersionXattr] of what fd is.
func versionXattr(fd int) ([]byte, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if !isRegular(&st) {
		return backends.VersionXattrOf("")
	}
	return backends.VersionXattrOf(versionOf(&st))
}

// SetXattr sets an extended attribute.
func (f *FileSystem) SetXattr(_ context.Context, n backends.Node, name string, value []byte, flags backends.XattrFlags) error {
	return f.withNode("setxattr", n, func(_ *node, fd int) error {
		if err := backends.CheckXattr(name); err != nil {
			return err
		}
		return unix.Setxattr(procPath(fd), name, value, int(flags))
	})
}

// ListXattr returns the names of the extended attributes.
func (f *FileSystem) ListXattr(_ context.Context, n backends.Node) (names []string, err error) {
	err = f.withNode("listxattr", n, func(_ *node, fd int) error {
		list, err := sized(func(buf []byte) (int, error) { return unix.Listxattr(procPath(fd), buf) })
		if err != nil || len(list) == 0 {
			return err
		}
		names = strings.Split(strings.TrimSuffix(string(list), "\x00"), "\x00")
		return nil
	})
	return names, err
}

// RemoveXattr removes an extended attribute.
func (f *FileSystem) RemoveXattr(_ context.Context, n backends.Node, name string) error {
	return f.withNode("removexattr", n, func(_ *node, fd int) error {
		if err := backends.CheckXattr(name); err != nil {
			return err
		}
		return unix.Removexattr(procPath(fd), name)
	})
}

// sized calls get with a buffer that is large enough.
func sized(get func(buf []byte) (int, error)) ([]byte, error) {
	for {
		size, err := get(nil)
		if err != nil || size == 0 {
			return nil, err
		}
		buf := make([]byte, size)
		n, err := get(buf)
		if err == unix.ERANGE {
			continue // grown meanwhile
		}
		if err != nil {
			return nil, err
		}
		return buf[:n], nil
	}
}
