package cache

import (
	"context"
	"errors"
	"io"
	"slices"
)

// seal is a content as it was at one moment: what close or fsync saw, and what
// an upload sends. Writers go on: what they overwrite is saved in a file at the
// side first. Guarded by content.mu but for what never changes.
type seal struct {
	c      *content
	change uint64 // of the file
	gen    uint64 // of the content
	ext    extents
	length int64
	layer  *layer // that the local extents are in; nil if there are none
	side   *layer // what was overwritten since
	saved  extents
	twin   extents // that of the content
	same   extents // what was not overwritten since
	paid   int64   // bytes in side counted in the room
	used   bool    // layer is kept open
}

func cloneExtents(x extents) extents { return slices.Clone(x) }

// seal returns the content as it is now. It is given back with release.
func (c *content) seal(change uint64) *seal {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.checked()
	s := &seal{c: c, change: change, gen: c.gen, ext: cloneExtents(c.ext), length: c.length, layer: c.layer, twin: cloneExtents(c.twin)}
	s.same = extents(nil).local(0, c.length)
	if s.layer != nil {
		s.layer.refs++
	}
	c.seals = append(c.seals, s)
	return s
}

// use keeps the seal's file open until release: of the seals that wait there may
// be a hundred thousand, of those that are being sent few.
func (s *seal) use() {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.layer != nil && !s.used {
		s.used = true
		s.layer.users++
	}
}

// release gives the seal back. A nil seal is fine.
func (s *seal) release() {
	if s == nil {
		return
	}
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.Index(c.seals, s)
	if i < 0 {
		return
	}
	c.seals = slices.Delete(c.seals, i, i+1)
	if s.layer != nil {
		if s.used {
			s.layer.users--
			s.layer.rest()
			c.fs.descriptors.left(c)
		}
		s.layer.drop()
	}
	if s.side != nil {
		s.side.drop()
		c.fs.room.release(s.paid)
	}
}

// sources returns the objects that bytes of s are in.
func (s *seal) sources() []*stored {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.ext.sources()
}

// save keeps what seals need of [off, end), which is about to be overwritten.
// c.mu is held.
func (c *content) save(off, end int64) error {
	c.overwritten(off, end)
	return c.unsaved(off, end, (*seal).keep)
}

// unsaved calls f with each piece of [off, end) that a seal needs and has only where
// it is about to be overwritten. c.mu is held.
func (c *content) unsaved(off, end int64, f func(s *seal, off, end int64) error) error {
	for _, s := range c.seals {
		if s.layer == nil || s.layer != c.layer {
			continue
		}
		for i := s.ext.find(off); i < len(s.ext) && s.ext[i].off < end; i++ {
			if s.ext[i].remote() {
				continue
			}
			at, to := max(off, s.ext[i].off), min(end, s.ext[i].end)
			for at < to {
				e, have := s.saved.at(at, to)
				if !have {
					if err := f(s, e.off, e.end); err != nil {
						return err
					}
				}
				at = e.end
			}
		}
	}
	return nil
}

// makeWay is save for who can wait for room: if there is none, others are evicted, or
// uploads make some. Then again is true, nothing is saved yet, and as c.mu was let go
// the caller looks anew.
func (c *content) makeWay(ctx context.Context, off, end int64) (again bool, err error) {
	if err = c.save(off, end); !errors.Is(err, errFull) {
		return false, err
	}
	need := int64(0)
	_ = c.unsaved(off, end, func(_ *seal, off, end int64) error {
		need += end - off
		return nil
	})
	c.enter()
	c.mu.Unlock()
	again = c.fs.makeRoom(ctx, need)
	c.mu.Lock()
	c.leave()
	if again {
		err = nil
	}
	return again, err
}

// overwritten says that no object has [off, end) any more, as far as is known.
// c.mu is held.
func (c *content) overwritten(off, end int64) {
	c.twin = c.twin.cut(off, end)
	c.stream.overwritten(off, end)
	for _, s := range c.seals {
		s.same = s.same.cut(off, end)
	}
}

// keep copies [off, end) to the side. c.mu is held.
func (s *seal) keep(off, end int64) error {
	if !s.c.fs.room.budget.take(s.c.fs.room, end-off) {
		return errFull
	}
	s.paid += end - off
	if s.side == nil {
		s.side = s.c.fs.newLayer(s.c.id, 0, s.length)
	}
	defer s.side.rest()
	defer s.layer.rest()
	if err := s.layer.copyRange(s.side, off, end); err != nil {
		return err
	}
	s.saved = s.saved.local(off, end)
	return nil
}

// reader returns the sealed bytes. ctx bounds what is fetched for them.
func (s *seal) reader(ctx context.Context) *io.SectionReader {
	return io.NewSectionReader(sealed{ctx, s}, 0, s.length)
}

// section returns [off, end) of the sealed bytes.
func (s *seal) section(ctx context.Context, off, end int64) *io.SectionReader {
	return io.NewSectionReader(sealed{ctx, s}, off, end-off)
}

// sealed is a seal as an io.ReaderAt.
type sealed struct {
	ctx context.Context
	s   *seal
}

// ReadAt implements io.ReaderAt.
func (r sealed) ReadAt(p []byte, off int64) (int, error) {
	want := len(p)
	p = p[:max(0, min(int64(want), r.s.length-off))]
	for n := 0; n < len(p); {
		m, err := r.s.readSome(r.ctx, p[n:], off+int64(n))
		n += m
		if err != nil {
			return n, err
		}
	}
	if len(p) < want {
		return len(p), io.EOF
	}
	return len(p), nil
}

// readSome reads the first piece of p that lies in one place.
func (s *seal) readSome(ctx context.Context, p []byte, off int64) (int, error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := s.ext.at(off, off+int64(len(p)))
	switch {
	case !ok:
		p = p[:e.end-e.off]
		clear(p)
		return len(p), nil
	case e.remote():
		p = p[:e.end-e.off]
		c.mu.Unlock()
		err := c.fs.readStored(ctx, e.src, p, e.at)
		c.mu.Lock()
		if err != nil {
			return 0, &sourceError{err}
		}
		return len(p), nil
	}
	from := s.layer
	if v, saved := s.saved.at(off, e.end); saved {
		from, e = s.side, v
	} else {
		e.end = v.end
	}
	p = p[:e.end-e.off]
	f, err := from.open()
	if err != nil {
		return 0, err
	}
	if from == c.layer && from.users > 0 {
		c.fs.descriptors.used(c)
	}
	defer from.rest()
	if _, err := f.ReadAt(p, off); err != nil {
		return 0, damaged(from, err)
	}
	return len(p), nil
}

// sourceError is the error of an upload that failed because bytes that it
// needs could not be read from the store, not because the store refused it.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }
