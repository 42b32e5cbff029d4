package memory

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
)

// tmpfs is a tmpfs that is mounted nowhere: only this descriptor leads to it,
// and it is gone when the process is.
type tmpfs struct {
	root int
}

// newTmpfs makes a detached tmpfs of size bytes (fsopen(2), fsmount(2)); it
// needs CAP_SYS_ADMIN.
func newTmpfs(size int64) (*tmpfs, error) {
	fd, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("fsopen tmpfs: %w", err)
	}
	defer unix.Close(fd)
	set := map[string]string{"size": strconv.FormatInt(size, 10), "nr_inodes": "0", "mode": "0700"}
	for k, v := range set {
		if err := unix.FsconfigSetString(fd, k, v); err != nil {
			return nil, fmt.Errorf("fsconfig %s: %w", k, err)
		}
	}
	if err := unix.FsconfigCreate(fd); err != nil {
		return nil, fmt.Errorf("create tmpfs: %w", err)
	}
	root, err := unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return nil, fmt.Errorf("fsmount tmpfs: %w", err)
	}
	return &tmpfs{root: root}, nil
}

func (t *tmpfs) close() error { return unix.Close(t.root) }

// free returns the bytes still to be had.
func (t *tmpfs) free() (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(t.root, &st); err != nil {
		return 0, err
	}
	return st.Bavail * uint64(st.Bsize), nil
}

// hostBody is a content in a file of a tmpfs, named by the node's id. The
// file is made at the first need and its descriptor held while a handle is
// open.
type hostBody struct {
	tmpfs  *tmpfs
	id     uint64
	exists bool
	fd     int // valid while opened
	opened bool
	length int64
	blks   int64
	seen   int64 // the host file's mtime when we last looked or wrote, ns
}

var _ body = (*hostBody)(nil)

func (b *hostBody) name() string { return strconv.FormatUint(b.id, 36) }

// open makes the descriptor valid.
func (b *hostBody) open() error {
	if b.opened {
		return nil
	}
	flags := unix.O_RDWR | unix.O_CLOEXEC | unix.O_NOATIME
	if !b.exists {
		flags |= unix.O_CREAT | unix.O_EXCL
	}
	fd, err := unix.Openat(b.tmpfs.root, b.name(), flags, 0o600)
	if err != nil {
		return hostError(err)
	}
	b.fd, b.opened, b.exists = fd, true, true
	b.look()
	return nil
}

// shut gives the descriptor back.
func (b *hostBody) shut() {
	if b.opened {
		b.look()
		unix.Close(b.fd)
		b.opened = false
	}
}

// look reads size and times of the open host file, which the kernel may have
// changed without us, and reports whether its content was changed since the
// last look.
func (b *hostBody) look() (mtime int64, changed bool) {
	if !b.opened {
		return b.seen, false
	}
	var st unix.Stat_t
	if err := unix.Fstat(b.fd, &st); err != nil {
		return b.seen, false
	}
	mtime = st.Mtim.Nano()
	changed = mtime != b.seen || st.Size != b.length
	b.seen, b.length, b.blks = mtime, st.Size, st.Blocks
	return mtime, changed
}

// with runs f with a valid descriptor.
func (b *hostBody) with(f func(fd int) error) error {
	held := b.opened
	if err := b.open(); err != nil {
		return err
	}
	err := f(b.fd)
	b.look()
	if !held {
		b.shut()
	}
	return hostError(err)
}

func (b *hostBody) size() int64   { return b.length }
func (b *hostBody) blocks() int64 { return b.blks }

func (b *hostBody) readAt(p []byte, off int64) (int, error) {
	if !b.opened {
		return 0, backends.ErrChanged // read without a handle: never from our own code
	}
	n := 0
	for n < len(p) {
		m, err := unix.Pread(b.fd, p[n:], off+int64(n))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return n, hostError(err)
		}
		if m == 0 {
			break
		}
		n += m
	}
	return n, nil
}

func (b *hostBody) writeAt(p []byte, off int64) (int, error) {
	n := 0
	err := b.with(func(fd int) error {
		for n < len(p) {
			m, err := unix.Pwrite(fd, p[n:], off+int64(n))
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil {
				return err
			}
			n += m
		}
		return nil
	})
	return n, err
}

func (b *hostBody) truncate(size int64) error {
	if !b.exists && size == 0 {
		return nil
	}
	return b.with(func(fd int) error { return unix.Ftruncate(fd, size) })
}

func (b *hostBody) allocate(off, length int64, mode uint32) error {
	return b.with(func(fd int) error {
		if mode&unix.FALLOC_FL_ZERO_RANGE != 0 {
			// tmpfs knows no ZERO_RANGE; a hole, then space, is the same.
			err := unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, length)
			if err != nil {
				return err
			}
			mode &^= unix.FALLOC_FL_ZERO_RANGE
		}
		return unix.Fallocate(fd, mode, off, length)
	})
}

func (b *hostBody) seek(off int64, hole bool) (int64, error) {
	whence := unix.SEEK_DATA
	if hole {
		whence = unix.SEEK_HOLE
	}
	if !b.opened {
		return 0, backends.ErrChanged
	}
	// The descriptor's own offset is used by nobody.
	n, err := unix.Seek(b.fd, off, whence)
	return n, hostError(err)
}

func (b *hostBody) free() {
	b.shut()
	if b.exists {
		_ = unix.Unlinkat(b.tmpfs.root, b.name(), 0)
		b.exists = false
	}
}

// hostError gives the kernel's refusals the contract's names.
func hostError(err error) error {
	switch {
	case errors.Is(err, unix.ENOSPC):
		return backends.ErrNoSpace
	case errors.Is(err, unix.EFBIG):
		return backends.ErrTooLarge
	case errors.Is(err, unix.ENXIO):
		return backends.ErrNoData
	case errors.Is(err, unix.EOPNOTSUPP):
		return errors.ErrUnsupported
	}
	return err
}
