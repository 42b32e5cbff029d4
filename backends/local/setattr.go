package local

import (
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/unixmode"
)

// procPath names the inode that fd refers to, also if fd was opened with
// O_PATH, and whether it has a name or not. As the last element of a path it
// leads to that very inode: it is not looked up again, and if it is a
// symbolic link, that is not followed.
func procPath(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

// setAttr changes the attributes of fd, which may have been opened with
// O_PATH. What can fail for a reason of its own comes before what can't be
// taken back.
func setAttr(fd int, c backends.AttrChange) error { return setAttrWith(fd, c, truncate) }

// truncate gives the file that path names another length.
func truncate(path string, size int64) error {
	return retry(func() error { return unix.Truncate(path, size) })
}

// setAttrWith is setAttr with another way to truncate.
func setAttrWith(fd int, c backends.AttrChange, truncate func(path string, size int64) error) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if c.Has(backends.SetSize) {
		switch {
		case isDir(&st):
			return unix.EISDIR
		case !isRegular(&st), c.Size < 0:
			return fs.ErrInvalid
		}
	}
	path := procPath(fd)
	undo := func() {}
	if c.Set&(backends.SetUID|backends.SetGID) != 0 {
		uid, gid := -1, -1
		if c.Has(backends.SetUID) {
			uid = int(c.UID)
		}
		if c.Has(backends.SetGID) {
			gid = int(c.GID)
		}
		if err := unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH); err != nil {
			return err
		}
		undo = func() { _ = unix.Fchownat(fd, "", int(st.Uid), int(st.Gid), unix.AT_EMPTY_PATH) }
	}
	if c.Has(backends.SetMode) {
		if err := unix.Chmod(path, unixmode.Perm(c.Mode)); err != nil {
			undo()
			return err
		}
		owner := undo
		undo = func() {
			owner()
			_ = unix.Chmod(path, st.Mode&0o7777)
		}
	}
	if c.Has(backends.SetSize) {
		if err := truncate(path, c.Size); err != nil {
			undo()
			return err
		}
	}
	if c.Set&(backends.SetAtime|backends.SetMtime) == 0 {
		return nil
	}
	omit := unix.Timespec{Nsec: unix.UTIME_OMIT}
	times := []unix.Timespec{omit, omit}
	if c.Has(backends.SetAtime) {
		times[0].Sec, times[0].Nsec = c.Atime.Unix(), int64(c.Atime.Nanosecond())
	}
	if c.Has(backends.SetMtime) {
		times[1].Sec, times[1].Nsec = c.Mtime.Unix(), int64(c.Mtime.Nanosecond())
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, times, 0)
}

// usageOf returns the capacity of the file system that holds fd.
func usageOf(fd int) (backends.Usage, error) {
	var st unix.Statfs_t
	if err := retry(func() error { return unix.Fstatfs(fd, &st) }); err != nil {
		return backends.Usage{}, err
	}
	block := uint64(st.Frsize)
	if block == 0 {
		block = uint64(st.Bsize)
	}
	return backends.Usage{
		TotalBytes: st.Blocks * block,
		FreeBytes:  st.Bavail * block,
		TotalFiles: st.Files,
		FreeFiles:  st.Ffree,
	}, nil
}
