package memory

import (
	"context"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/tree"
)

// body is where the bytes of a file are. Its methods are called with file.mu
// held: for writing, or for reading where a method changes nothing.
type body interface {
	// open and shut are called around the time in which handles are open.
	open() error
	shut()
	// look finds out what the kernel may have changed behind our back: the
	// content's modification time in ns, and whether it is news.
	look() (mtime int64, changed bool)
	size() int64
	blocks() int64 // of 512 bytes
	readAt(p []byte, off int64) (int, error)
	writeAt(p []byte, off int64) (int, error)
	truncate(size int64) error
	allocate(off, length int64, mode uint32) error
	seek(off int64, hole bool) (int64, error)
	free()
}

// passthroughMin is the size from which reading through the kernel alone
// (passthrough) is worth the registration of the backing file. Below it the
// page cache, kept over opens, is faster.
const passthroughMin = 128 << 10

// file is the content of a regular file and what its handles share.
type file struct {
	mu sync.RWMutex

	body body // guarded by mu

	handles int  // open handles
	direct  bool // the handles are passthrough handles; decided by the first
	stale   bool // the kernel's pages may not be the content any more
	known   bool // the kernel may know the node
	noName  bool // the last name is gone
	freed   bool // the body is gone

	// op is the operation whose Put made the content, as long as changes is
	// opAt.
	op   string
	opAt uint64

	changes atomic.Uint64 // counts changes of the content that pass through us
}

// sync brings n's attributes up to date with what the kernel did to the host
// file. f.mu is held for writing.
func (f *file) sync(n *tree.Node) {
	if !f.direct {
		return
	}
	if mtime, changed := f.body.look(); changed {
		f.changes.Add(1)
		n.Touch(time.Unix(0, mtime))
	}
}

// touch records a change made by us. f.mu is held for writing.
func (f *file) touch(n *tree.Node) {
	f.changes.Add(1)
	n.Touch(time.Now())
	f.body.look()
}

// open adds a handle of the mount.
func (f *file) open(n *tree.Node, flags int) (keep bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.hold(flags); err != nil {
		return false, err
	}
	if f.direct {
		f.stale = f.stale || writing(flags)
	} else {
		keep = !f.stale
		f.stale = false
	}
	if flags&os.O_TRUNC != 0 {
		if err := f.truncate(n, 0); err != nil {
			f.closed(n)
			return false, err
		}
	}
	return keep, nil
}

func writing(flags int) bool { return flags&(os.O_WRONLY|os.O_RDWR) != 0 }

// hold counts a handle; closed takes it away. f.mu is held for writing.
func (f *file) hold(flags int) error {
	if f.freed {
		return backends.ErrChanged
	}
	if err := f.body.open(); err != nil {
		return err
	}
	if f.handles == 0 {
		_, host := f.body.(*hostBody)
		f.direct = host && (writing(flags) || f.body.size() >= passthroughMin)
	}
	f.handles++
	return nil
}

// closed takes a handle away. f.mu is held for writing.
func (f *file) closed(n *tree.Node) {
	f.sync(n)
	f.handles--
	if f.handles == 0 {
		f.body.shut()
		f.direct = false
		f.drop()
	}
}

// drop frees the body if nobody can reach it any more. f.mu is held for
// writing.
func (f *file) drop() {
	if f.noName && !f.known && f.handles == 0 && !f.freed {
		f.body.free()
		f.freed = true
	}
}

// unlinked is called when the last name is gone.
func (f *file) unlinked() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.noName = true
	f.drop()
}

// know says that the kernel knows the node.
func (f *file) know() {
	f.mu.Lock()
	f.known = true
	f.mu.Unlock()
}

// forget says that the kernel knows it no longer.
func (f *file) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known = false
	f.drop()
}

// truncate changes the size. f.mu is held for writing.
func (f *file) truncate(n *tree.Node, size int64) error {
	switch {
	case f.freed:
		return backends.ErrChanged
	case size < 0:
		return fs.ErrInvalid
	}
	f.sync(n)
	if err := f.body.truncate(size); err != nil {
		return err
	}
	f.touch(n)
	return nil
}

// fill adds size and blocks to a.
func (f *file) fill(n *tree.Node, t *tree.Tree) backends.Attr {
	f.mu.Lock()
	f.sync(n)
	size, blocks := f.body.size(), f.body.blocks()
	f.mu.Unlock()
	a := t.Attr(n)
	a.Size, a.Blocks = size, blocks
	return a
}

// handle is an open file.
type handle struct {
	f    *file
	n    *tree.Node
	keep bool
}

var (
	_ backends.File       = (*handle)(nil)
	_ backends.Allocator  = (*handle)(nil)
	_ backends.Seeker     = (*handle)(nil)
	_ backends.Descriptor = (*handle)(nil)
	_ backends.PageCacher = (*handle)(nil)
)

// ReadAt implements [backends.File].
func (h *handle) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	h.f.mu.RLock()
	defer h.f.mu.RUnlock()
	return h.f.body.readAt(p, off)
}

// WriteAt implements [backends.File].
func (h *handle) WriteAt(_ context.Context, p []byte, off int64) (int, error) {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	n, err := h.f.body.writeAt(p, off)
	if n > 0 {
		h.f.touch(h.n)
	}
	return n, err
}

// Flush implements [backends.File]; memory has nothing to wait for.
func (h *handle) Flush(context.Context) error { return nil }

// Sync implements [backends.File]; memory is as durable as it gets.
func (h *handle) Sync(context.Context) error { return nil }

// Close implements [backends.File].
func (h *handle) Close(context.Context) error {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	h.f.closed(h.n)
	return nil
}

// Allocate implements [backends.Allocator].
func (h *handle) Allocate(_ context.Context, off, length int64, mode uint32) error {
	if off < 0 || length <= 0 {
		return fs.ErrInvalid
	}
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	h.f.sync(h.n)
	err := h.f.body.allocate(off, length, mode)
	if err == nil {
		h.f.touch(h.n)
	}
	return err
}

// SeekData implements [backends.Seeker].
func (h *handle) SeekData(_ context.Context, off int64) (int64, error) {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	return h.f.body.seek(off, false)
}

// SeekHole implements [backends.Seeker].
func (h *handle) SeekHole(_ context.Context, off int64) (int64, error) {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	return h.f.body.seek(off, true)
}

// Descriptor implements [backends.Descriptor].
func (h *handle) Descriptor() (int, bool) {
	h.f.mu.RLock()
	defer h.f.mu.RUnlock()
	if b, ok := h.f.body.(*hostBody); ok && h.f.direct {
		return b.fd, true
	}
	return -1, false
}

// KeepPages implements [backends.PageCacher].
func (h *handle) KeepPages() bool { return h.keep }
