package fs

import (
	"cmp"
	"context"
	"hash/maphash"
	"math"
	"slices"
	"sync"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/unixmode"
)

// dirHandle is an open directory. It lists a snapshot, taken at the first read
// and anew after rewinddir(3), so that everything that is neither created nor
// removed meanwhile is listed exactly once (readdir(3), "rm -rf").
//
// An offset is an entry's place in the snapshot, and the order that of the
// file system. Where the kernel keeps listings (FOPEN_CACHE_DIR) that is not
// enough: it may go on, at an offset of one listing, in another that somebody
// else's reading brought, or ask a handle to begin in the middle. There an
// offset belongs to the name. Where a listing is known for a while
// ([backends.Lister]) the order stays that of the names, by which a walk is
// recognized: a name keeps the offset that it was given first (see offsets.go).
// Elsewhere, where names are known for long, it is derived from the name alone and
// the order is that of the offsets, as in a hashed directory of ext4.
type dirHandle struct {
	n      *inode
	hashed bool // offsets belong to names
	listed bool // and are those of n.offsets

	mu      sync.Mutex
	loaded  bool
	entries []backends.DirEntry
	order   []place // if hashed
	next    int     // index of the next entry, "." and ".." counted
	telling telling
	out     fuse.DirEntry
}

// place is where an entry stands in a hashed listing.
type place struct {
	off uint64 // to go on after the entry
	i   int    // index in entries
}

var (
	_ gofs.NodeOpendirHandler = (*inode)(nil)
	_ gofs.NodeFsyncer        = (*inode)(nil)
	_ gofs.FileReaddirenter   = (*dirHandle)(nil)
	_ gofs.FileSeekdirer      = (*dirHandle)(nil)
	_ gofs.FileFsyncdirer     = (*dirHandle)(nil)
	_ gofs.FileReleasedirer   = (*dirHandle)(nil)
)

// dots is how many entries come before those of the snapshot: "." and "..".
const dots = 2

// OpendirHandle implements [gofs.NodeOpendirHandler].
func (n *inode) OpendirHandle(ctx context.Context, _ uint32) (gofs.FileHandle, uint32, syscall.Errno) {
	n.watched()
	c := n.m.op(ctx, opRead)
	defer c.end()
	if err := backends.OpenDirAt(c, n.m.fsys, n.node); err != nil {
		return nil, 0, n.m.errno("opendir", n, err)
	}
	// Without KEEP_CACHE the kernel drops the listing that it has, and keeps the
	// one that this handle reads.
	flags := uint32(fuse.FOPEN_CACHE_DIR | fuse.FOPEN_KEEP_CACHE)
	stamp, valid := backends.ListingOf(n.m.fsys, n.node)
	switch {
	case stamp != 0:
		if valid <= 0 || !n.kept(stamp) {
			flags |= dropListing
		}
		n.readers.Add(1)
		return &dirHandle{n: n, hashed: true, listed: true}, flags, 0
	case n.stable.Load():
		had, free := n.unlist()
		if !free {
			break // the kernel reads with other offsets
		}
		if had {
			flags |= dropListing
		}
		return &dirHandle{n: n, hashed: true}, flags, 0
	}
	return &dirHandle{n: n}, 0, 0
}

// load takes the snapshot if there is none. The caller holds h.mu.
func (h *dirHandle) load(ctx context.Context) syscall.Errno {
	if h.loaded {
		return 0
	}
	c := h.n.m.op(ctx, opList)
	defer c.end()
	read := func() ([]backends.DirEntry, error) { return h.n.m.fsys.ReadDir(c, h.n.node) }
	var entries []backends.DirEntry
	var err error
	if h.listed {
		entries, h.order, err = h.n.list(read)
	} else {
		entries, err = read()
	}
	if err != nil {
		return h.n.m.errno("readdir", h.n, err)
	}
	h.entries, h.loaded = entries, true
	h.telling = tellingFrom(0, h.n.asked.Load())
	if h.hashed && !h.listed {
		h.order = hashedOrder(h.n.m.nameSeed, entries)
	}
	return 0
}

// hashedOrder gives each entry an offset of 62 bits that depends on its name,
// and sorts by it. Of two names with the same hash, one in 10^7 directories of
// a million names, the second gets the next number.
func hashedOrder(seed maphash.Seed, entries []backends.DirEntry) []place {
	order := make([]place, len(entries))
	for i := range entries {
		order[i] = place{maphash.String(seed, entries[i].Name)>>2 + dots + 1, i}
	}
	slices.SortFunc(order, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.off, b.off), cmp.Compare(entries[a.i].Name, entries[b.i].Name))
	})
	for i := 1; i < len(order); i++ {
		if order[i].off <= order[i-1].off {
			order[i].off = order[i-1].off + 1
		}
	}
	return order
}

// Readdirent implements [gofs.FileReaddirenter]. The entry is valid until the
// next call; go-fuse copies it.
func (h *dirHandle) Readdirent(ctx context.Context) (*fuse.DirEntry, syscall.Errno) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if errno := h.load(ctx); errno != 0 {
		return nil, errno
	}
	self := h.n.StableAttr().Ino
	switch i := h.next - dots; {
	case h.next == 0:
		h.out = fuse.DirEntry{Name: ".", Mode: syscall.S_IFDIR, Ino: self, Off: 1}
	case h.next == 1:
		h.out = fuse.DirEntry{Name: "..", Mode: syscall.S_IFDIR, Ino: h.parentIno(self), Off: dots}
	case i >= len(h.entries):
		return nil, 0
	case h.hashed:
		h.set(&h.entries[h.order[i].i], h.order[i].off)
	default:
		h.set(&h.entries[i], uint64(h.next+1))
	}
	h.next++
	return &h.out, 0
}

func (h *dirHandle) set(e *backends.DirEntry, off uint64) {
	h.out = fuse.DirEntry{Name: e.Name, Mode: unixmode.Type(e.Mode), Ino: e.ID, Off: off}
}

// parentIno returns the number that ".." shows.
func (h *dirHandle) parentIno(self uint64) uint64 {
	if _, p := h.n.Parent(); p != nil {
		return p.StableAttr().Ino
	}
	return self
}

// Seekdir implements [gofs.FileSeekdirer]: off is an offset that Readdirent
// gave, or 0 for rewinddir(3), which shows the directory as it is now.
func (h *dirHandle) Seekdir(ctx context.Context, off uint64) syscall.Errno {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case off == 0:
		h.loaded, h.entries, h.order, h.next = false, nil, nil, 0
	case off <= dots || !h.hashed:
		// Beyond the end there is nothing, however far.
		h.next = int(min(off, math.MaxInt32))
	default:
		if errno := h.load(ctx); errno != 0 {
			return errno
		}
		i, found := slices.BinarySearchFunc(h.order, off, func(p place, off uint64) int { return cmp.Compare(p.off, off) })
		if found {
			i++
		}
		h.next = dots + i
		h.telling = tellingFrom(i, h.n.asked.Load())
	}
	return 0
}

// Releasedir implements [gofs.FileReleasedirer].
func (h *dirHandle) Releasedir(context.Context, uint32) {
	if h.listed {
		h.n.readers.Add(-1)
	}
}

// Fsyncdir implements [gofs.FileFsyncdirer].
func (h *dirHandle) Fsyncdir(ctx context.Context, _ uint32) syscall.Errno {
	return h.n.Fsync(ctx, nil, 0)
}

// Fsync implements [gofs.NodeFsyncer].
func (n *inode) Fsync(ctx context.Context, f gofs.FileHandle, _ uint32) syscall.Errno {
	c := n.m.op(ctx, opBarrier)
	defer c.end()
	if h, ok := f.(*fileHandle); ok {
		return n.m.errno("fsync", n, h.f.Sync(c))
	}
	return n.m.errno("fsyncdir", n, backends.SyncDirAt(c, n.m.fsys, n.node))
}
