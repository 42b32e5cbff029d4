package tree

import (
	"io/fs"
	"sync/atomic"
	"time"

	"github.com/agentfs/agentfs/backends"
)

// Node is one inode. Its identity is its address.
type Node struct {
	// Data belongs to the tree's owner. It is set when the node is made and
	// not changed afterwards.
	Data any

	tree *Tree // that it was made by
	id   uint64
	kind fs.FileMode // type bits; never change

	// Times in nanoseconds since 1970; zero time.Time is 0. Atomic so that a
	// write can touch them without the tree's lock.
	atime, mtime, ctime atomic.Int64

	// Guarded by Tree.mu.
	perm     fs.FileMode // permission, setuid, setgid and sticky bits
	uid, gid uint32
	nlink    uint32
	rdev     uint32
	parent   *Node // the directory of the last name it was given; nil when it has none
	name     string
	dir      *directory // directories only
	extra    *extra     // nil until something needs it
}

// directory is what only directories have.
type directory struct {
	children map[string]*Node
	// listing is the sorted listing, nil when a change has made it stale.
	listing []backends.DirEntry
	most    int // of children since the map was made
	// stamp is another one after each change of the names, and each Restamp.
	stamp uint64
}

// extra is what few nodes have.
type extra struct {
	target string // of a symbolic link
	xattrs map[string][]byte
}

// ID implements [backends.Node].
func (n *Node) ID() uint64 { return n.id }

// Type returns the type bits; they never change.
func (n *Node) Type() fs.FileMode { return n.kind }

// IsDir reports whether n is a directory.
func (n *Node) IsDir() bool { return n.kind.IsDir() }

// Modified returns when n's content last changed.
func (n *Node) Modified() time.Time { return fromNano(n.mtime.Load()) }

// Touch records a change of content at time t: mtime and ctime.
func (n *Node) Touch(t time.Time) {
	n.mtime.Store(t.UnixNano())
	n.ctime.Store(t.UnixNano())
}

// SetModified sets the times of content and inode apart, for an owner whose
// contents are changed by somebody else who keeps the times.
func (n *Node) SetModified(mtime, ctime time.Time) {
	n.mtime.Store(toNano(mtime))
	n.ctime.Store(toNano(ctime))
}

// SetAccessed sets the time of the last access.
func (n *Node) SetAccessed(t time.Time) { n.atime.Store(toNano(t)) }

func toNano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func fromNano(ns int64) time.Time { return time.Unix(0, ns) }
