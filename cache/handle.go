package cache

import (
	"context"
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
)

// handle is an open file.
type handle struct {
	f     *file
	c     *content
	read  reader
	write bool
	// created: this open made the file, which is a change to be uploaded.
	created bool
	// writing says that f.writing counts this handle; f.mu protects it.
	writing bool
	heard   heard
	lent    *layer // whose file the kernel reads by itself
}

var (
	_ backends.File       = (*handle)(nil)
	_ backends.Allocator  = (*handle)(nil)
	_ backends.Seeker     = (*handle)(nil)
	_ backends.PageCacher = (*handle)(nil)
)

// setWriting counts h in f.writing or not. f.mu is held.
func (h *handle) setWriting(on bool) {
	switch {
	case on && !h.writing:
		h.f.writing++
	case !on && h.writing:
		h.f.writing--
	}
	h.writing = on
}

// begin says that h is about to change the content, before it does: what an
// upload takes meanwhile is not to be half of it. undo says that it did not.
func (h *handle) begin() (before bool) {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	before = h.writing
	h.setWriting(true)
	return before
}

func (h *handle) undo(before bool) {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	h.setWriting(before)
}

// ReadAt implements [backends.File].
func (h *handle) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	n, err := h.c.readAt(ctx, &h.read, p, off)
	if errors.Is(err, backends.ErrChanged) && h.f.fs.replacedByUs(ctx, h.f) {
		return h.c.readAt(ctx, &h.read, p, off)
	}
	return n, err
}

// WriteAt implements [backends.File].
func (h *handle) WriteAt(ctx context.Context, p []byte, off int64) (int, error) {
	before := h.begin()
	n, changed, err := h.c.writeAt(ctx, p, off)
	if !changed {
		h.undo(before)
	} else {
		if terr := h.f.touched(); err == nil && terr != nil {
			n, err = 0, terr
		}
		h.f.fs.grown(h.f, h.c)
	}
	return n, err
}

// Flush implements [backends.File]: what was written is in the journal, and
// with durability=close in the store, when close(2) returns.
func (h *handle) Flush(ctx context.Context) error {
	if !h.write && !h.created {
		return nil
	}
	h.f.mu.Lock()
	h.setWriting(false)
	h.f.mu.Unlock()
	return h.closing(ctx, true)
}

// closing does what close(2) has to. hears says that somebody hears its error.
func (h *handle) closing(ctx context.Context, hears bool) error {
	f := h.f
	if err := f.fs.homeless(f); err != nil {
		return err
	}
	f.mu.Lock()
	var report error
	if hears {
		report = h.closeHears()
	}
	f.sealLocked()
	pending, j := f.pending, f.job
	f.mu.Unlock()
	if !pending {
		return report
	}
	if f.fs.close {
		err := f.fs.syncFile(ctx, f)
		if hears {
			err = h.waited(err, report)
		}
		return err
	}
	f.fs.q.touch(j)
	return report
}

// sealLocked makes the content as it is now what the next upload sends. f.mu
// is held.
func (f *file) sealLocked() {
	if f.c == nil || !f.changedLocked() || f.sealed != nil && f.sealed.change == f.change {
		return
	}
	f.sealed.release()
	f.sealed = f.c.seal(f.change)
}

// Sync implements [backends.File].
func (h *handle) Sync(ctx context.Context) error {
	f := h.f
	if err := f.fs.homeless(f); err != nil {
		return err
	}
	f.mu.Lock()
	report := h.syncHears()
	f.mu.Unlock()
	err := f.fs.syncFile(ctx, f)
	if err == nil {
		err = f.fs.syncAttrs(ctx, f.node)
	}
	return h.waited(err, report)
}

// Close implements [backends.File].
func (h *handle) Close(ctx context.Context) error {
	var err error
	if h.write || h.created {
		// Writes through a mapping may come after the last close(2).
		err = h.closing(ctx, false)
	}
	h.takeBack()
	h.c.done()
	f := h.f
	f.mu.Lock()
	h.setWriting(false)
	f.handles--
	if f.handles == 0 {
		h.c.mu.Lock()
		h.c.leaveReaders()
		h.c.mu.Unlock()
		if f.report != nil && f.report.told {
			f.report = nil
		}
	}
	f.dropLocked()
	last := f.handles == 0
	idle := last && !f.gone
	gone := last && f.gone
	f.mu.Unlock()
	if idle {
		f.fs.rest(f)
	}
	if gone {
		f.fs.letGo(f)
	}
	return err
}

// Allocate implements [backends.Allocator]. Space can't be reserved in a
// store: what is promised is the size.
func (h *handle) Allocate(_ context.Context, off, length int64, mode uint32) error {
	if off < 0 || length <= 0 {
		return fs.ErrInvalid
	}
	keep := mode&unix.FALLOC_FL_KEEP_SIZE != 0
	before, changed := h.begin(), false
	defer func() {
		if !changed {
			h.undo(before)
		}
	}()
	switch mode &^ unix.FALLOC_FL_KEEP_SIZE {
	case 0:
	case unix.FALLOC_FL_PUNCH_HOLE, unix.FALLOC_FL_ZERO_RANGE:
		if mode&unix.FALLOC_FL_PUNCH_HOLE != 0 && !keep {
			return errors.ErrUnsupported
		}
		if err := h.c.punch(off, off+min(length, maxSize)); err != nil {
			return err
		}
		changed = true
		if err := h.f.touched(); err != nil {
			return err
		}
	default:
		return errors.ErrUnsupported
	}
	if keep {
		return nil
	}
	if off > maxSize-length {
		return backends.ErrTooLarge
	}
	grown, err := h.c.grow(off + length)
	if grown && err == nil {
		changed = true
		err = h.f.touched()
	}
	return err
}

// SeekData implements [backends.Seeker].
func (h *handle) SeekData(_ context.Context, off int64) (int64, error) { return h.c.seek(off, false) }

// SeekHole implements [backends.Seeker].
func (h *handle) SeekHole(_ context.Context, off int64) (int64, error) { return h.c.seek(off, true) }

// KeepPages implements [backends.PageCacher]: a node's content changes only
// through the kernel, because a version from elsewhere gets a new node.
func (h *handle) KeepPages() bool { return true }
