// Package unixmode translates between the file modes of Linux's inode(7), which
// the kernel, host file systems and users speak, and those of io/fs, which the
// contract speaks.
package unixmode

import (
	"io/fs"

	"golang.org/x/sys/unix"
)

// types pairs the type bits of both sides.
var types = [...]struct {
	unix uint32
	mode fs.FileMode
}{
	{unix.S_IFREG, 0},
	{unix.S_IFDIR, fs.ModeDir},
	{unix.S_IFLNK, fs.ModeSymlink},
	{unix.S_IFIFO, fs.ModeNamedPipe},
	{unix.S_IFSOCK, fs.ModeSocket},
	{unix.S_IFBLK, fs.ModeDevice},
	{unix.S_IFCHR, fs.ModeDevice | fs.ModeCharDevice},
}

// bits pairs the bits above the permissions.
var bits = [...]struct {
	unix uint32
	mode fs.FileMode
}{
	{unix.S_ISUID, fs.ModeSetuid},
	{unix.S_ISGID, fs.ModeSetgid},
	{unix.S_ISVTX, fs.ModeSticky},
}

// From returns the mode st_mode. Type bits that Linux doesn't know are
// [fs.ModeIrregular].
func From(m uint32) fs.FileMode {
	mode := fs.FileMode(m & 0o777)
	for _, b := range bits {
		if m&b.unix != 0 {
			mode |= b.mode
		}
	}
	if m&unix.S_IFMT == 0 {
		return mode // permissions alone
	}
	for _, t := range types {
		if m&unix.S_IFMT == t.unix {
			return mode | t.mode
		}
	}
	return mode | fs.ModeIrregular
}

// Perm returns the permission bits of m and the three above them.
func Perm(m fs.FileMode) uint32 {
	p := uint32(m.Perm())
	for _, b := range bits {
		if m&b.mode != 0 {
			p |= b.unix
		}
	}
	return p
}

// Type returns the type bits of m; those of a regular file for a type that
// Linux doesn't know.
func Type(m fs.FileMode) uint32 {
	for _, t := range types {
		if m.Type() == t.mode {
			return t.unix
		}
	}
	return unix.S_IFREG
}

// To returns m as st_mode.
func To(m fs.FileMode) uint32 { return Type(m) | Perm(m) }
