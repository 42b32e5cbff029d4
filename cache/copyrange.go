package cache

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/agentfs/agentfs/backends"
)

var _ backends.RangeCopier = (*FS)(nil)

const (
	// referMin is the least that is worth to be copied by the store: it takes a
	// place in a map, and a request to read it here.
	referMin = 64 << 10
	// copyChunk is how many bytes are copied here at a time.
	copyChunk = 1 << 20
)

// CopyRange implements [backends.RangeCopier]. What the store has is not
// copied here: the map of dst refers to it, and in the end the store copies.
func (c *FS) CopyRange(ctx context.Context, src backends.File, srcOff int64, dst backends.File, dstOff, n int64) (int64, error) {
	from, ok1 := src.(*handle)
	to, ok2 := dst.(*handle)
	if !ok1 || !ok2 || from.f.fs != c || to.f.fs != c {
		return 0, errors.ErrUnsupported
	}
	if srcOff < 0 || dstOff < 0 || n < 0 {
		return 0, fs.ErrInvalid
	}
	n = min(n, from.c.size()-srcOff)
	switch {
	case n <= 0:
		return 0, nil
	case dstOff > maxSize-n:
		return 0, backends.ErrTooLarge
	case from.c == to.c && srcOff < dstOff+n && dstOff < srcOff+n:
		return 0, fs.ErrInvalid
	}
	done := int64(0)
	for done < n {
		k, err := c.copyPiece(ctx, from, srcOff+done, to, dstOff+done, n-done)
		done += k
		if err != nil && done == 0 {
			return 0, err
		}
		if err != nil || k == 0 {
			break // what was copied is told, as write(2) does
		}
	}
	return done, nil
}

// copyPiece copies the first piece that lies in one place, and returns how
// long that is.
func (c *FS) copyPiece(ctx context.Context, from *handle, srcOff int64, to *handle, dstOff, n int64) (int64, error) {
	e, kind := from.lies(srcOff, n)
	size := e.end - e.off
	if size <= 0 {
		return 0, nil
	}
	switch {
	case kind == inHole && size >= referMin:
		_, err := to.c.grow(dstOff + size)
		if err == nil {
			err = to.c.punch(dstOff, dstOff+size)
		}
		if err == nil {
			err = to.written()
		}
		return size, err
	case kind == inStore && size >= referMin:
		done, err := c.refer(to, extent{off: dstOff, end: dstOff + size, src: e.src, at: e.at})
		if done || err != nil {
			return size, err
		}
	}
	p := make([]byte, min(size, copyChunk))
	k, err := from.c.readAt(ctx, &from.read, p, srcOff)
	if err != nil || k == 0 {
		return 0, err
	}
	k, err = to.WriteAt(ctx, p[:k], dstOff)
	return int64(k), err
}

// written records a change of content that has just been made through h.
func (h *handle) written() error {
	h.f.mu.Lock()
	h.setWriting(true)
	h.f.mu.Unlock()
	return h.f.touched()
}

// lying says where a piece of a content is.
type lying int

const (
	isHere lying = iota
	inHole
	inStore
)

// lies tells where the bytes from off on are, up to n of them that lie in one
// place. Of a small content that is here its bytes are.
func (h *handle) lies(off, n int64) (extent, lying) {
	f := h.f
	f.mu.Lock()
	defer f.mu.Unlock()
	c := h.c
	c.mu.Lock()
	defer c.mu.Unlock()
	end := min(off+n, c.length)
	if off >= end {
		return extent{}, isHere
	}
	x := c.ext
	switch {
	case c.length <= wholeMax && x.complete():
	case f.c == c && !f.changedLocked() && !c.dirty && f.base != nil && f.base.size == c.length:
		x = whole(f.base)
	default:
		x = x.over(c.twin)
	}
	e, ok := x.at(off, end)
	switch {
	case !ok:
		return e, inHole
	case e.remote():
		return e, inStore
	}
	return e, isHere
}

// refer makes a piece of a file refer to an object; done is false if that
// object may be about to go.
func (c *FS) refer(h *handle, e extent) (done bool, err error) {
	c.ns.Lock()
	defer c.ns.Unlock()
	if !c.settled(e.src) {
		return false, nil
	}
	f := h.f
	f.mu.Lock()
	own := f.base == e.src
	f.mu.Unlock()
	if done, err := h.c.refer(e, own); !done || err != nil {
		return false, err
	}
	f.node.Touch(time.Now())
	f.mu.Lock()
	h.setWriting(true)
	f.change++
	f.mu.Unlock()
	f.rehold() // before anybody can replace the object
	if err := c.dirtiedLocked(f); err != nil {
		return false, err
	}
	return true, h.c.clearLayer(e.off, e.end)
}

// refer puts e into the map, to be journaled anew. A piece of the file's own
// object is refused while there are seals: when one of them is sent, it takes
// the object's place, and what came after it would refer to nothing.
func (c *content) refer(e extent, own bool) (done bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.freed:
		return false, backends.ErrChanged
	case own && len(c.seals) > 0:
		return false, nil
	}
	c.landed(e.off, e.end)
	switch {
	case c.freed:
		return false, backends.ErrChanged
	case c.layer != nil && c.layer.frozen:
		return false, nil // who writes has time to move the bytes
	}
	c.checked()
	if err := c.save(e.off, e.end); errors.Is(err, errFull) {
		return false, nil // who writes can wait for room
	} else if err != nil {
		return false, err
	}
	c.differs()
	c.ext = cloneExtents(c.ext).set(e)
	c.length = max(c.length, e.end)
	c.kept, c.recorded = notJournaled, false
	c.recount()
	return true, nil
}

// clearLayer zeroes what of [off, end) is not local any more, once the journal
// says so: see the invariant of content.
func (c *content) clearLayer(off, end int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.layer == nil || c.freed {
		return nil
	}
	c.enter()
	defer c.leave()
	for off < end {
		e, ok := c.ext.at(off, end)
		if !ok || e.remote() {
			if err := c.zero(e.off, e.end); err != nil {
				return err
			}
		}
		off = e.end
	}
	return nil
}

// settled reports whether the store has s as far as is known, and nobody is
// replacing or removing it. Who comes to hold it before c.ns is let go keeps it
// there. c.ns is held.
func (c *FS) settled(s *stored) bool {
	if c.active[s.key] != nil {
		return false
	}
	g := c.ghosts[s.key]
	if g != nil && (g.maybe != nil || g.removing) {
		return false
	}
	n := c.nodeAt(s.key)
	if n == nil || n.IsDir() {
		return g != nil && g.st == s
	}
	f, ok := n.Data.(*file)
	if !ok {
		return false
	}
	for _, a := range f.ops {
		if string(a.Key) == s.key {
			return false // its outcome is not known
		}
	}
	if g != nil && g.st == s {
		return true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.base == s
}
