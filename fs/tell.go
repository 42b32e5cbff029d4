package fs

import (
	"context"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// Who lists a directory is told of each name's file, too (READDIRPLUS), so that a
// stat(2) that follows costs no request. With a very large directory that is an
// inode for each name, in the kernel and here, and perhaps a question to the store,
// of which ls -f, find -type and a shell's * have no use. There files are told as
// long as somebody looks some of the names up that he was not told of.

const (
	// tellAll is how many entries a directory has at most of which all are told.
	tellAll = 10_000
	// tellNone is how many entries are not told before it is seen whether somebody
	// looks them up, and tellSome how many are told then.
	tellNone, tellSome = 256, 16_384
)

var _ gofs.FileLookuper = (*dirHandle)(nil)

// telling is how far it is known whether files are told. Guarded by
// dirHandle.mu.
type telling struct {
	on    bool
	until int    // index of the entry from which on it is asked anew
	asked uint64 // inode.asked when it was off last
}

// tellingFrom is what is known where a reader begins.
func tellingFrom(i int, asked uint64) telling { return telling{until: i + tellNone, asked: asked} }

// tells reports whether the file of the i-th of n entries is told, of a directory
// in which so many names were looked up.
func (t *telling) tells(i, n int, asked uint64) bool {
	if n <= tellAll {
		return true
	}
	if i < t.until {
		return t.on
	}
	if t.on = !t.on && asked-t.asked >= tellNone/4; t.on {
		t.until = i + tellSome
	} else {
		t.until, t.asked = i+tellNone, asked
	}
	return t.on
}

// Lookup implements [gofs.FileLookuper], for READDIRPLUS. What it returns no node
// for is listed by its name alone.
func (h *dirHandle) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	h.mu.Lock()
	told := h.telling.tells(h.next-dots-1, len(h.entries), h.n.asked.Load())
	h.mu.Unlock()
	if !told {
		return nil, syscall.ENOENT
	}
	return h.n.lookup(ctx, name, out)
}
