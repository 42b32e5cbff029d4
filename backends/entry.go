package backends

import (
	"io/fs"
	"path"
	"time"
)

// Version names one content of one file. It is opaque: two versions of the
// same name are equal exactly if the contents are the same as far as the
// store can tell (S3: the ETag). The empty Version means that none is known;
// directories have none.
type Version string

// Entry describes one file, directory or symbolic link of a [Store].
type Entry struct {
	// Name is the path relative to the store's root; "." is the root.
	Name string
	// Mode has the type bits and, if the store keeps them, the permission
	// bits. A store without permissions leaves them 0 and whoever mounts it
	// supplies the defaults.
	Mode fs.FileMode
	// Size is the content's length in bytes; 0 for directories.
	Size int64
	// ModTime is when the content last changed, as far as the store knows.
	ModTime time.Time
	// Version names the content.
	Version Version
	// Operation is [PutOptions].Operation of the change that made the content,
	// where the store has kept it. Only Stat has to tell.
	Operation string
}

// IsDir reports whether e is a directory.
func (e Entry) IsDir() bool { return e.Mode.IsDir() }

// Base returns the last element of e's name.
func (e Entry) Base() string { return path.Base(e.Name) }

// Key returns the key by which a listing sorts e among its siblings: the base
// name, and for a directory the base name followed by a slash. That is the
// order in which object stores list, so that a store needs no sorting of its
// own and a listing can be resumed from its last key.
func (e Entry) Key() string {
	if e.IsDir() {
		return e.Base() + "/"
	}
	return e.Base()
}

// If is the precondition of a call. It must hold at the moment the call takes
// effect, not merely before. The zero If always holds.
type If struct {
	// Match, if not empty, asks that the name holds this version now.
	// Otherwise the call fails with [ErrChanged]; where there is no such name
	// any more, with ErrChanged or [fs.ErrNotExist].
	Match Version
	// Absent asks that there is nothing under the name. Otherwise the call
	// fails with [fs.ErrExist].
	Absent bool
}

// Range is a section of a content, in bytes. The zero Range is all of it.
type Range struct {
	// Off is where the section begins; at or beyond the end of the content
	// the section is empty, which is not an error.
	Off int64
	// Len is its length; 0 means to the end. A section that would reach
	// beyond the end stops there.
	Len int64
}

// PutOptions modify a Put.
type PutOptions struct {
	// If is the precondition.
	If If
	// Attr has attributes to keep with the new content, as far as the store
	// can. A store ignores what it can't keep.
	Attr AttrChange
	// Operation, if not empty, is a name for this change that no other change
	// has, the same at every attempt: at most 64 letters, digits and dashes. A
	// store that can keep it with the content recognizes by it its own earlier
	// attempt whose answer was lost, also one made by an earlier process.
	Operation string
	// Earlier are the operations of earlier changes of this name whose outcome
	// the caller doesn't know. A precondition that fails because one of them
	// took effect is not met by somebody else's change: the store goes on as
	// if the caller had named the version that it left.
	Earlier []string
}

// AttrMask says which fields of an [AttrChange] are set.
type AttrMask uint8

// The fields of an AttrChange.
const (
	SetMode AttrMask = 1 << iota
	SetUID
	SetGID
	SetSize
	SetAtime
	SetMtime
)

// AttrChange is a set of attributes to change. Only fields named in Set count.
type AttrChange struct {
	Set   AttrMask
	Mode  fs.FileMode // permission, setuid, setgid and sticky bits; no type
	UID   uint32
	GID   uint32
	Size  int64 // bytes; growing adds zeros
	Atime time.Time
	Mtime time.Time
	// Now has those of the times that are the moment of the call and nobody's
	// choice (UTIME_NOW).
	Now AttrMask
}

// Has reports whether all fields in m are set.
func (c AttrChange) Has(m AttrMask) bool { return c.Set&m == m }
