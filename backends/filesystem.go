package backends

import (
	"context"
	"io/fs"
	"time"
)

// MaxNameLen is the length in bytes of the longest single name that a
// [FileSystem] takes: NAME_MAX of POSIX <limits.h> on Linux.
const MaxNameLen = 255

// Node is the identity of one file, directory or other inode of a
// [FileSystem]. It stays the same through rename and unlink. Nodes are
// comparable with ==, and one inode has one Node for as long as anybody knows
// it (see [FileSystem.Forget]).
type Node interface {
	// ID is the inode number within the file system: never 0, at most 48
	// bits, never given to another inode while this one is known.
	ID() uint64
}

// Attr has the attributes of a node, as stat(2) shows them.
type Attr struct {
	ID    uint64
	Mode  fs.FileMode // type, permissions, setuid, setgid, sticky
	UID   uint32
	GID   uint32
	Nlink uint32
	Rdev  uint32
	Size  int64 // bytes; of a symbolic link the length of its target
	// Blocks is the space taken, in units of 512 bytes.
	Blocks  int64
	Atime   time.Time
	Mtime   time.Time
	Ctime   time.Time
	Version Version
	// Valid is how long the kernel may answer from these attributes, and from
	// the name under which Lookup found them, without asking again.
	Valid time.Duration
}

// CreateAttr has the attributes of a new inode. The caller's umask has been
// applied.
type CreateAttr struct {
	Mode fs.FileMode // for Mknod with type bits
	UID  uint32
	GID  uint32
	Rdev uint32
}

// DirEntry is one child of a directory.
type DirEntry struct {
	Name string
	ID   uint64
	Mode fs.FileMode // type bits only
}

// Usage is the capacity of a file system or store. A total of 0 means that
// there is no known limit.
type Usage struct {
	TotalBytes, FreeBytes uint64
	TotalFiles, FreeFiles uint64
}

// RenameFlags are the flags of renameat2(2).
type RenameFlags uint32

// Flags of Rename. They exclude each other.
const (
	// RenameNoReplace makes an existing target [fs.ErrExist].
	RenameNoReplace RenameFlags = 1 << iota
	// RenameExchange swaps two existing names, or is
	// [errors.ErrUnsupported].
	RenameExchange
)

// FileSystem is the file depth: what a mount asks. Its semantics are POSIX's;
// where a method says nothing, the page of the system call of that name in
// POSIX.1-2024 or Linux counts. Permissions are the kernel's business
// (default_permissions), not the file system's.
//
// Nodes passed in are nodes of this file system; of any other it answers
// [errors.ErrUnsupported], which becomes EXDEV for rename and link.
//
// The optional methods are in [Symlinker], [Linker], [Mknoder], [Xattrer],
// [DirSyncer], [DirOpener] and [ChangeNotifier]; call them through the functions ending in
// At, which answer errors.ErrUnsupported where one is missing.
type FileSystem interface {
	// Root returns the root directory.
	Root() Node

	// Lookup returns the child of parent called name. A name longer than
	// [MaxNameLen] is [ErrNameTooLong].
	Lookup(ctx context.Context, parent Node, name string) (Node, Attr, error)

	// Attr returns n's attributes, also if n has no name any more but is
	// known or open.
	Attr(ctx context.Context, n Node) (Attr, error)

	// SetAttr changes what c.Set names, all or nothing, and returns the
	// attributes after it. A change of the size is truncate(2).
	SetAttr(ctx context.Context, n Node, c AttrChange) (Attr, error)

	// ReadDir returns the children of dir at one moment, without "." and
	// "..", in an order that does not change while the directory doesn't.
	// The caller doesn't modify the slice.
	ReadDir(ctx context.Context, dir Node) ([]DirEntry, error)

	// Open opens a regular file. flags are those of package os: an access
	// mode and O_TRUNC, O_APPEND; the offsets of appending writes are the
	// kernel's.
	Open(ctx context.Context, n Node, flags int) (File, error)

	// Create makes a regular file and opens it, one step: an existing name is
	// [fs.ErrExist] if flags has O_EXCL, and is opened otherwise.
	Create(ctx context.Context, parent Node, name string, flags int, a CreateAttr) (Node, Attr, File, error)

	// Mkdir makes a directory.
	Mkdir(ctx context.Context, parent Node, name string, a CreateAttr) (Node, Attr, error)

	// Unlink removes a name that is not a directory ([ErrIsDir]). The node
	// lives on while it is open or known.
	Unlink(ctx context.Context, parent Node, name string) error

	// Rmdir removes an empty directory.
	Rmdir(ctx context.Context, parent Node, name string) error

	// Rename moves a name, replacing what is at the target unless flags
	// forbid it. At no moment does the target name not exist if it existed.
	Rename(ctx context.Context, oldParent Node, oldName string, newParent Node, newName string, flags RenameFlags) error

	// StatFS returns the capacity of what holds n.
	StatFS(ctx context.Context, n Node) (Usage, error)

	// Forget says that the caller will not use n again unless a later call
	// returns it anew. What only n still needed (the content of an unlinked
	// file) can go. It is a hint: whoever holds resources for a node must
	// also cope with its never coming (a finalizer does).
	Forget(n Node)

	// Close ends the file system. It makes everything durable that can be
	// and returns an error naming what couldn't. No call may follow.
	Close(ctx context.Context) error
}

// File is an open regular file. Reads and writes of several goroutines may run
// at once and need no order among themselves.
type File interface {
	// ReadAt reads len(p) bytes from off; less only at the end of the file,
	// with no error. Unlike io.ReaderAt it never returns io.EOF.
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)

	// WriteAt writes all of p, or fails and returns how much of it, from its
	// beginning, is in the file. Writing beyond the end adds zeros.
	WriteAt(ctx context.Context, p []byte, off int64) (int, error)

	// Flush is called at every close(2) of a descriptor of this open file;
	// its error is close's. What durability it gives, the route decides. It
	// need not be called for a file that was opened for reading.
	Flush(ctx context.Context) error

	// Sync is fsync(2): when it returns nil, content and attributes are in
	// the store.
	Sync(ctx context.Context) error

	// Close is called once, after the last descriptor and mapping is gone.
	// Nobody hears its error but the log.
	Close(ctx context.Context) error
}

// Allocator is implemented by files that can do fallocate(2).
type Allocator interface {
	// Allocate reserves length bytes from off. mode has the FALLOC_FL bits of
	// <linux/falloc.h>; an unknown combination is [errors.ErrUnsupported].
	Allocate(ctx context.Context, off, length int64, mode uint32) error
}

// Seeker is implemented by files that know their holes.
type Seeker interface {
	// SeekData returns the first offset >= off that has data, SeekHole the
	// first in a hole (the end of the file is one), or [ErrNoData].
	SeekData(ctx context.Context, off int64) (int64, error)
	SeekHole(ctx context.Context, off int64) (int64, error)
}

// Descriptor is implemented by files whose bytes lie in a host file that the
// kernel may read and write directly (FUSE passthrough).
type Descriptor interface {
	// Descriptor returns the host file's descriptor, valid until Close, and
	// whether it may be used. For one node all handles that are open at the
	// same time answer alike, because the kernel mixes them on one inode; a
	// handle counts as open until its Close has returned.
	Descriptor() (fd int, ok bool)
}

// PageCacher is implemented by files that know whether the pages which the
// kernel holds of their node are still the content.
type PageCacher interface {
	// KeepPages reports whether the kernel's pages from earlier opens of the
	// same node are still right.
	KeepPages() bool
}

// DirectIOer is implemented by files whose content may be of another length
// than their node's attributes say: the kernel then takes what reads return
// instead of what it knows of the size.
type DirectIOer interface {
	DirectIO() bool
}
