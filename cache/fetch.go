package cache

import (
	"context"
	"fmt"
	"slices"

	"github.com/agentfs/agentfs/backends"
)

// fetching is a range on its way. Others that need it wait for it.
type fetching struct {
	off, end int64
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
	// One request: from the first remote byte to the last in one piece, and
	// not what another request is bringing already.
	parts := c.ext.remotes(off, end)
	off, end = parts[0].off, parts[0].end
	for _, p := range parts[1:] {
		if p.off-end > blockSize {
			break
		}
		end = p.end
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
		e, _ := c.ext.at(want, min(want+blockSize, c.length))
		off, end = e.off, e.end
		for _, g := range c.inflight {
			if off < g.off && g.off < end {
				end = g.off
			}
		}
	}
	c.edge = end
	f := &fetching{off: off, end: end, done: make(chan struct{})}
	c.inflight = append(c.inflight, f)
	c.users++
	go c.run(f)
	return f
}

// run fetches one range. It belongs to no caller: whoever asked first may be
// gone, others wait for it too.
func (c *content) run(f *fetching) {
	c.mu.Lock()
	fetch := c.fetch
	c.mu.Unlock()
	p := make([]byte, f.end-f.off)
	err := fetch(context.Background(), p, f.off)

	c.mu.Lock()
	if err == nil {
		err = c.take(p, f.off)
	}
	f.err = err
	c.inflight = slices.DeleteFunc(c.inflight, func(g *fetching) bool { return g == f })
	c.mu.Unlock()
	close(f.done)
	c.done()
}

// take puts fetched bytes where still nothing newer is. c.mu is held.
func (c *content) take(p []byte, off int64) error {
	parts := c.ext.remotes(off, off+int64(len(p)))
	var sum int64
	for _, e := range parts {
		sum += e.end - e.off
	}
	if !c.charge(sum) && (!c.recycle() || !c.charge(int64(len(p)))) {
		return fmt.Errorf("cache budget is used up by what waits to be uploaded and what is open: %w", backends.ErrNoSpace)
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
	for _, e := range c.ext.remotes(off, off+int64(len(p))) {
		if _, err := file.WriteAt(p[e.off-off:e.end-off], e.off); err != nil {
			return diskError(err)
		}
		c.ext = c.ext.set(e.off, e.end, false)
	}
	return nil
}
