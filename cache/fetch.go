package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/agentfs/agentfs/backends"
)

// fetching is a range on its way. Others that need it wait for it.
type fetching struct {
	off, end int64
	src      *stored
	at       int64
	done     chan struct{}
	err      error
}

// fill makes the remote bytes of [off, end), or at least the first of them,
// local. c.mu is held, and let go while the network is waited for.
func (c *content) fill(ctx context.Context, off, end int64) error {
	if c.freed {
		return backends.ErrChanged
	}
	for _, f := range c.inflight {
		if f.off <= off && off < f.end {
			return c.await(ctx, f)
		}
	}
	f := c.start(off, end)
	return c.await(ctx, f)
}

// await waits for f. c.mu is held on entry and exit.
func (c *content) await(ctx context.Context, f *fetching) error {
	c.mu.Unlock()
	defer c.mu.Lock()
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// start begins to fetch what a reader at [off, end) should get: for small files
// all, for a sequential reader a window that doubles, else what was asked,
// aligned. c.mu is held.
func (c *content) start(off, end int64) *fetching {
	want := off
	switch {
	case c.length <= wholeMax:
		off, end = 0, c.length
	case off == 0, off == c.next, off == c.edge:
		// The kernel reads ahead with several requests at once, so that the
		// next one may come before the last is answered.
		c.window = min(max(2*c.window, 2*blockSize), maxWindow)
		end = max(end, off+c.window)
	default:
		c.window = 0
	}
	end = min((end+blockSize-1)/blockSize*blockSize, c.length)
	off = off / blockSize * blockSize
	// One request: from the first byte of one object to the last in one piece,
	// and not what another request is bringing already.
	parts := c.ext.remotes(off, end)
	i := slices.IndexFunc(parts, func(p extent) bool { return p.off <= want && want < p.end })
	from := parts[i]
	end = from.end
	for j := i + 1; j < len(parts) && parts[j].off-end <= blockSize && from.near(parts[j]); j++ {
		end = parts[j].end
	}
	for i--; i >= 0 && from.off-parts[i].end <= blockSize && from.near(parts[i]); i-- {
		from = parts[i]
	}
	off = from.off
	if off+maxWindow <= want {
		off = want
	}
	end = min(end, off+maxWindow)
	for _, g := range c.inflight {
		switch {
		case g.off <= off && off < g.end:
			off = min(g.end, end)
		case off < g.off && g.off < end:
			end = g.off
		}
	}
	if want < off || want >= end {
		// Another piece was nearer; what was asked for is on its way in none.
		from, _ = c.ext.at(want, min(want+blockSize, c.length))
		off, end = from.off, from.end
		for _, g := range c.inflight {
			if off < g.off && g.off < end {
				end = g.off
			}
		}
	}
	c.edge = end
	f := &fetching{off: off, end: end, src: from.src, at: from.at + off - from.off, done: make(chan struct{})}
	c.inflight = append(c.inflight, f)
	c.enter()
	go c.run(f)
	return f
}

// near reports whether n lies in the same object, as far from e as here.
func (e extent) near(n extent) bool { return e.src == n.src && n.at-e.at == n.off-e.off }

// run fetches one range. It belongs to no caller: whoever asked first may be
// gone, others wait for it too.
func (c *content) run(f *fetching) {
	p := make([]byte, f.end-f.off)
	err := c.fs.readStored(context.Background(), f.src, p, f.at)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, backends.ErrChanged) {
		c.fs.replacing(f.src) // perhaps by what we know in a moment
	}
	c.mu.Lock()
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, backends.ErrChanged) {
		if e, ok := c.ext.at(f.off, f.end); ok && e.src != f.src {
			err = nil // it has moved to another object meanwhile: the reader looks again
		} else {
			err = fmt.Errorf("%s: the version that was open is gone from the store: %w", f.src.key, backends.ErrChanged)
		}
	} else if err == nil {
		err = c.take(p, f)
	}
	f.err = err
	c.inflight = slices.DeleteFunc(c.inflight, func(g *fetching) bool { return g == f })
	c.leave()
	c.mu.Unlock()
	close(f.done)
}

// take puts fetched bytes where still nothing newer is. c.mu is held.
func (c *content) take(p []byte, f *fetching) error {
	wanted := func() (parts []extent) {
		for _, e := range c.ext.remotes(f.off, f.end) {
			if e.src == f.src && e.at-f.at == e.off-f.off {
				parts = append(parts, e)
			}
		}
		return parts
	}
	var sum int64
	for _, e := range wanted() {
		sum += e.end - e.off
	}
	if !c.charge(sum) && (!c.recycle(f.src) || !c.charge(int64(len(p)))) {
		return errFull
	}
	// charge let the lock go: look again.
	defer c.recount()
	if c.freed {
		return backends.ErrChanged
	}
	file, err := c.local()
	if err != nil {
		return err
	}
	c.shortened()
	for _, e := range wanted() {
		if _, err := file.WriteAt(p[e.off-f.off:e.end-f.off], e.off); err != nil {
			return diskError(err)
		}
		c.ext = c.ext.local(e.off, e.end)
		c.twin = c.twin.set(e)
	}
	c.sumSlot()
	c.fs.stats.fetchBytes.Add(int64(len(p)))
	return nil
}

// readStored reads len(p) bytes of one object of the store.
func (c *FS) readStored(ctx context.Context, s *stored, p []byte, off int64) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	r, _, err := c.store.Open(ctx, s.key, backends.Range{Off: off, Len: int64(len(p))}, backends.If{Match: s.version})
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.ReadFull(r, p)
	if errors.Is(err, io.EOF) {
		// Not the end of the file: the object is shorter than the store said.
		err = fmt.Errorf("%s: the store sent less than it announced: %w", s.key, io.ErrUnexpectedEOF)
	}
	return err
}
