package fs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
)

// ioMode says how the kernel does the data of a regular file: through its page
// cache and requests to us, or directly on a host file (FUSE passthrough). The
// kernel wants all handles of an inode that are open at one time to be alike,
// and to have the same host file, so the first open decides for those that
// follow. It considers a handle closed before RELEASE reaches us; so we may
// keep to a mode for longer than it demands, but never for less.
type ioMode struct {
	opens   int
	backing int32 // the kernel's id of the host file; 0 if not passed through
	// stalePages: the file was written past the page cache since the pages
	// that the kernel may hold were read.
	stalePages bool
}

const (
	// passthroughMin is the size from which on a file that is opened for
	// reading is passed through: setting it up costs more than a few requests,
	// and pages in the page cache serve the next reader too.
	passthroughMin = 128 << 10

	// A backing id travels from openIO to rawFS in the bits of the reply's
	// flags above those that FUSE uses.
	backingShift  = 8
	fopenMask     = 1<<backingShift - 1
	maxBackingIDs = 1 << (32 - backingShift)
)

// tryPassthrough finds out whether this kernel lets this process pass host
// files through: it needs CAP_SYS_ADMIN and Linux 6.9.
func (m *mount) tryPassthrough() bool {
	if m.srv.KernelSettings().Flags64()&fuse.CAP_PASSTHROUGH == 0 {
		return false
	}
	fd, err := unix.MemfdCreate("agentfs-passthrough-trial", unix.MFD_CLOEXEC)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	id, errno := m.srv.RegisterBackingFd(&fuse.BackingMap{Fd: int32(fd)})
	if errno != 0 {
		return false
	}
	return m.srv.UnregisterBackingFd(id) == 0
}

// openIO counts an open of f and returns the flags that tell the kernel how to
// do its data, with the backing id if there is one.
func (n *inode) openIO(f backends.File, write bool) uint32 {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.io.opens == 0 {
		n.io.backing = n.register(f, write)
	}
	n.io.opens++
	if n.io.backing != 0 {
		n.io.stalePages = n.io.stalePages || write
		return fuse.FOPEN_PASSTHROUGH | uint32(n.io.backing)<<backingShift
	}
	if d, ok := f.(backends.DirectIOer); ok && d.DirectIO() {
		return fuse.FOPEN_DIRECT_IO
	}
	if n.io.stalePages {
		// This open makes the kernel drop its pages.
		n.io.stalePages = false
		return 0
	}
	if p, ok := f.(backends.PageCacher); ok && p.KeepPages() {
		return fuse.FOPEN_KEEP_CACHE
	}
	return 0
}

// register gives f's host file to the kernel and returns its id, or 0 if f is
// not to be passed through. A file that the kernel doesn't take (it is itself
// on FUSE, say) is served like any other.
func (n *inode) register(f backends.File, write bool) int32 {
	if !n.m.passthrough || n.setID.Load() {
		return 0
	}
	d, ok := f.(backends.Descriptor)
	if !ok {
		return 0
	}
	fd, ok := d.Descriptor()
	if !ok {
		return 0
	}
	// The host file's own size: that of the last attributes may be from before
	// the kernel wrote to it.
	var st unix.Stat_t
	if !write && (unix.Fstat(fd, &st) != nil || st.Size < passthroughMin) {
		return 0
	}
	id, errno := n.m.srv.RegisterBackingFd(&fuse.BackingMap{Fd: int32(fd)})
	if errno != 0 {
		n.m.log.Debug("file not passed through", "node", n.node.ID(), "error", errno)
		return 0
	}
	if id <= 0 || id >= maxBackingIDs {
		n.m.srv.UnregisterBackingFd(id)
		return 0
	}
	return id
}

// closeIO undoes one openIO.
func (n *inode) closeIO() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.io.opens--
	if n.io.opens > 0 || n.io.backing == 0 {
		return
	}
	if errno := n.m.srv.UnregisterBackingFd(n.io.backing); errno != 0 {
		n.m.log.Debug("backing file not released", "node", n.node.ID(), "error", errno)
	}
	n.io.backing = 0
}

// dropListing travels from OpendirHandle to rawFS in the same way: the kernel is
// to drop the listing that it has.
const dropListing = 1 << backingShift

// rawFS is go-fuse's node file system, except that this package decides about
// passthrough and about which listings the kernel keeps. go-fuse sets
// FOPEN_KEEP_CACHE wherever there is FOPEN_CACHE_DIR. As for passthrough, go-fuse itself would give it up for the whole mount after one
// file that the kernel doesn't take, also for files that are open with it.
type rawFS struct {
	fuse.RawFileSystem
	flights *flights
}

// Open implements [fuse.RawFileSystem].
func (r rawFS) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	st := r.RawFileSystem.Open(cancel, in, out)
	unpackBacking(out)
	return st
}

// Create implements [fuse.RawFileSystem].
func (r rawFS) Create(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	defer r.flights.end(r.flights.begin())
	st := r.RawFileSystem.Create(cancel, in, name, out)
	unpackBacking(&out.OpenOut)
	return st
}

// OpenDir implements [fuse.RawFileSystem].
func (r rawFS) OpenDir(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	defer r.flights.end(r.flights.begin())
	st := r.RawFileSystem.OpenDir(cancel, in, out)
	if out.OpenFlags&dropListing != 0 {
		out.OpenFlags &^= dropListing | fuse.FOPEN_KEEP_CACHE
	}
	return st
}

func unpackBacking(out *fuse.OpenOut) {
	out.BackingID = int32(out.OpenFlags >> backingShift)
	out.OpenFlags &= fopenMask
}
