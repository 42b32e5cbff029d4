package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"github.com/agentfs/agentfs/backends"
)

const (
	// fetchBlock is what is read of an answer at once. Every request under way
	// holds as much in memory.
	fetchBlock = 256 << 10
	// gatherTime is how long a request waits for others that the kernel has
	// made of the same read: it sends them one right after the other.
	gatherTime = time.Millisecond
	// pauseTime is how long a request whose reader has stopped is kept.
	pauseTime = time.Second
	// skipMax is how far a reader may be beyond what a request may read by
	// itself, and still wait for it rather than ask anew.
	skipMax = 1 << 20
)

// fetching is a range of one object on its way, from its beginning to its end.
// Whoever needs bytes of it waits for it. Guarded by content.mu.
type fetching struct {
	off, end int64 // of the content; off is fixed once it is sent, end may come nearer
	src      *stored
	at       int64 // where the object has off
	pos      int64 // what lies before it has been dealt with
	limit    int64 // as far as it is read; the rest of the answer waits in the network
	track    *track
	manner   manner
	sent     bool
	waiters  []*waiter
	have     []byte        // what has come and follows pos
	landing  int64         // how much from pos on is being written to the local file
	more     chan struct{} // has an element when limit or end have changed
	stop     context.CancelFunc
	done     chan struct{}
	err      error
}

// manner is how a fetching begins.
type manner int

const (
	atOnce    manner = iota
	gathering        // others may become part of it before it is sent
	placed           // it has a place for reading ahead
)

// waiter waits for [at, end) of a fetching. A reader has the bytes put into p;
// who has no p needs them in the local file.
type waiter struct {
	at, end int64
	p       []byte
	got     int64
	ready   chan struct{}
}

// allow lets f read up to limit. c.mu is held.
func (f *fetching) allow(limit int64) {
	if limit = min(limit, f.end); limit > f.limit {
		f.limit = limit
		f.nudge()
	}
}

// abandon ends f where it is, unless somebody waits for it. c.mu is held.
func (f *fetching) abandon() {
	if len(f.waiters) > 0 {
		return
	}
	f.end = f.pos + int64(len(f.have))
	f.stop()
	f.nudge()
}

func (f *fetching) nudge() {
	select {
	case f.more <- struct{}{}:
	default:
	}
}

// covering returns what is bringing the byte at off. c.mu is held.
func (c *content) covering(off int64) *fetching {
	for _, f := range c.inflight {
		if f.pos <= off && off < f.end {
			return f
		}
	}
	return nil
}

// fill brings the remote bytes of [off, end), or at least the first of them,
// into p, and returns how many; without p, into the local file. It may return
// 0 without an error: then the caller looks again. c.mu is held, and let go
// while the network is waited for.
func (c *content) fill(ctx context.Context, t *track, p []byte, off, end int64) (int64, error) {
	if c.freed {
		return 0, backends.ErrChanged
	}
	f := c.covering(off)
	if f != nil && off > f.limit+skipMax {
		f.end = max(f.limit, f.pos+int64(len(f.have))) // the reader skips much of it
		f.nudge()
		f = nil
	}
	if f == nil {
		f = c.gathered(off, end)
	}
	if f == nil {
		f = c.demand(t, off, end)
	}
	w := &waiter{at: off, end: min(end, f.end), p: p, ready: make(chan struct{})}
	if w.take(f); w.got > 0 {
		return w.got, nil
	}
	f.waiters = append(f.waiters, w)
	f.allow(w.end)
	c.mu.Unlock()
	var err error
	select {
	case <-w.ready:
	case <-f.done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	c.mu.Lock()
	f.waiters = slices.DeleteFunc(f.waiters, func(x *waiter) bool { return x == w })
	switch {
	case err != nil || w.got > 0:
	case c.freed:
		err = backends.ErrChanged
	default:
		err = f.err
	}
	return w.got, err
}

// piece returns what one request for the byte at want can bring of [lo, hi):
// from the first byte of one object to the last in one piece, and not what
// another request but except is bringing already. c.mu is held.
func (c *content) piece(want, lo, hi int64, except *fetching) extent {
	for _, g := range c.inflight {
		switch {
		case g == except:
		case g.end <= want:
			lo = max(lo, g.end)
		case g.off > want:
			hi = min(hi, g.off)
		default: // want was passed already, and is not there all the same
			lo, hi = want, min(hi, g.end)
		}
	}
	parts := c.ext.remotes(lo, hi)
	i := slices.IndexFunc(parts, func(p extent) bool { return p.off <= want && want < p.end })
	e := parts[i]
	for j := i + 1; j < len(parts) && parts[j].off-e.end <= blockSize && e.near(parts[j]); j++ {
		e.end = parts[j].end
	}
	for i--; i >= 0 && e.off-parts[i].end <= blockSize && e.near(parts[i]); i-- {
		parts[i].end = e.end
		e = parts[i]
	}
	return e
}

// near reports whether n lies in the same object, as far from e as here.
func (e extent) near(n extent) bool { return e.src == n.src && n.at-e.at == n.off-e.off }

// begin fetches e for t, at first up to limit. c.mu is held.
func (c *content) begin(e extent, limit int64, t *track, how manner) *fetching {
	ctx, stop := context.WithCancel(c.fs.reads)
	f := &fetching{off: e.off, end: e.end, src: e.src, at: e.at, pos: e.off, limit: min(limit, e.end), track: t, manner: how,
		more: make(chan struct{}, 1), done: make(chan struct{}), stop: stop}
	c.inflight = append(c.inflight, f)
	c.enter()
	c.fs.fetches.Go(func() { c.run(ctx, f) })
	return f
}

// run fetches f. It belongs to no caller: whoever asked first may be gone,
// others wait for it too.
func (c *content) run(ctx context.Context, f *fetching) {
	err := c.bring(ctx, f)
	gone := errors.Is(err, fs.ErrNotExist) || errors.Is(err, backends.ErrChanged)
	if gone {
		c.fs.replacing(f.src) // perhaps by what we know in a moment
	}
	c.mu.Lock()
	switch {
	case f.pos >= f.end:
		err = nil // nobody wants more
	case gone:
		if e, ok := c.ext.at(f.pos, f.end); ok && e.src != f.src {
			err = nil // it has moved to another object meanwhile: the reader looks again
		} else {
			err = fmt.Errorf("%s: the version that was open is gone from the store: %w", f.src.key, backends.ErrChanged)
		}
	case ctx.Err() != nil && c.fs.reads.Err() == nil:
		err = fmt.Errorf("%s: %w", f.src.key, context.DeadlineExceeded)
	}
	f.err = err
	c.inflight = slices.DeleteFunc(c.inflight, func(g *fetching) bool { return g == f })
	c.leave()
	c.mu.Unlock()
	f.stop()
	close(f.done)
}

// bring reads f from the store, block by block.
func (c *content) bring(ctx context.Context, f *fetching) error {
	if f.manner == gathering {
		select {
		case <-time.After(gatherTime):
		case <-ctx.Done():
		}
	}
	if f.manner != placed {
		if err := c.fs.places.wait(ctx); err != nil {
			return err
		}
	}
	defer c.fs.places.leave(f.manner == placed)
	c.mu.Lock()
	f.sent = true
	r := backends.Range{Off: f.at, Len: f.end - f.off}
	c.mu.Unlock()
	if r.Len <= 0 {
		return nil
	}
	patience := time.AfterFunc(storeTimeout, f.stop)
	defer patience.Stop()
	body, _, err := c.fs.store.Open(ctx, f.src.key, r, backends.If{Match: f.src.version})
	if err != nil {
		return err
	}
	defer body.Close()
	buf := c.fs.blocks.take()
	defer c.fs.blocks.give(buf)
	for {
		n := c.next(f)
		if n == 0 {
			return nil
		}
		for have := 0; int64(have) < n && err == nil; {
			patience.Reset(storeTimeout)
			var k int
			k, err = body.Read(buf[have:n])
			have += k
			c.arrived(f, buf[:have], k)
		}
		if lerr := c.landBlock(f); lerr != nil {
			return lerr
		}
		if err == io.EOF {
			err = c.ended(f)
		}
		if err != nil {
			return err
		}
	}
}

// ended says that there is no more of f, and returns an error if there should be.
func (c *content) ended(f *fetching) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.pos >= f.end {
		return nil
	}
	// Not the end of the file: the object is shorter than the store said.
	return fmt.Errorf("%s: the store sent less than it announced: %w", f.src.key, io.ErrUnexpectedEOF)
}

// next waits until f may read on and returns how much, 0 if nobody wants more.
func (c *content) next(f *fetching) int64 {
	for {
		c.mu.Lock()
		end := min(f.limit, f.end)
		switch {
		case c.freed || f.pos >= f.end || len(c.ext.remotes(f.pos, f.end)) == 0:
			f.end = f.pos
			c.mu.Unlock()
			return 0
		case f.pos < end:
			n := min(end-f.pos, fetchBlock)
			c.mu.Unlock()
			return n
		}
		c.mu.Unlock()
		select {
		case <-f.more:
		case <-time.After(pauseTime):
			c.mu.Lock()
			if f.pos >= f.limit && len(f.waiters) == 0 {
				f.end = f.pos
			}
			c.mu.Unlock()
		}
	}
}

// arrived says that p, the last n bytes of which are new, are what follows in f,
// and gives them to who waits for them.
func (c *content) arrived(f *fetching, p []byte, n int) {
	c.fs.stats.fetchBytes.Add(int64(n))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unread = c.unread.local(f.pos+int64(len(p)-n), f.pos+int64(len(p)))
	f.have = p
	for _, w := range f.waiters {
		w.take(f)
	}
}

// take copies what f has of w's bytes. c.mu is held.
func (w *waiter) take(f *fetching) {
	at, end := w.at+w.got, f.pos+int64(len(f.have))
	if w.p != nil && f.pos <= at && at < end {
		w.got += int64(copy(w.p[w.got:w.end-w.at], f.have[at-f.pos:]))
	}
	if w.p != nil && w.at+w.got == w.end {
		w.wake()
	}
}

func (w *waiter) wake() {
	select {
	case <-w.ready:
	default:
		close(w.ready)
	}
}

// landBlock keeps what has come of f.
func (c *content) landBlock(f *fetching) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	end := f.pos + int64(len(f.have))
	asked, must := false, false
	for _, w := range f.waiters {
		if w.at < end && f.pos < w.end {
			asked = true
			must = must || w.p == nil
		}
	}
	err := c.land(f, f.have, asked)
	switch full := errors.Is(err, backends.ErrNoSpace); {
	case full && !must && asked:
		// Who reads has the bytes; it is only that they can't be kept.
	case full && !must:
		f.have, f.end = nil, f.pos
		if f.track != nil {
			c.collapse(f.track)
		}
		return nil
	case err != nil:
		f.have = nil // its buffer is somebody else's in a moment
		return err
	}
	f.have, f.pos = nil, end
	for _, w := range f.waiters {
		if w.end <= f.pos {
			w.wake()
		}
	}
	return nil
}

// land puts fetched bytes where still nothing newer is. The lock is not held
// while they are written: who changes the content calls landed first. c.mu is
// held.
func (c *content) land(f *fetching, p []byte, asked bool) error {
	off, end := f.pos, f.pos+int64(len(p))
	wanted := func() (parts []extent, sum int64) {
		for _, e := range c.ext.remotes(off, end) {
			if e.src == f.src && e.at-e.off == f.at-f.off {
				parts = append(parts, e)
				sum += e.end - e.off
			}
		}
		return parts, sum
	}
	_, sum := wanted()
	if sum == 0 {
		return nil
	}
	if !c.charge(sum) && (!asked || !c.recycle(f.src) || !c.charge(sum)) {
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
	parts, _ := wanted()
	f.landing = end - off
	c.coming += sum
	held := c.layer.slot != nil // a slot is nobody's to write to without the lock
	l := c.layer
	if !held {
		l.fixed++
		c.mu.Unlock()
	}
	for _, e := range parts {
		if _, err = file.WriteAt(p[e.off-off:e.end-off], e.off); err != nil {
			break
		}
	}
	if !held {
		c.mu.Lock()
		l.fixed--
	}
	f.landing = 0
	c.coming -= sum
	c.down.Broadcast()
	switch {
	case c.freed:
		return backends.ErrChanged
	case err != nil:
		return diskError(err)
	}
	for _, was := range parts {
		// What is not local is as it was, perhaps in another object meanwhile.
		for _, e := range c.ext.remotes(was.off, was.end) {
			c.ext = c.ext.local(e.off, e.end)
			c.twin = c.twin.set(e)
		}
	}
	c.sumSlot()
	return nil
}

// landed waits until nothing that was fetched is being written to [off, end) of
// the local file. Whoever makes something else of that range calls it, with
// nothing in between that lets c.mu go. c.mu is held, and let go meanwhile.
func (c *content) landed(off, end int64) {
	for c.landing(off, end) {
		c.down.Wait()
	}
}

// landing reports whether landed would wait. c.mu is held.
func (c *content) landing(off, end int64) bool {
	return slices.ContainsFunc(c.inflight, func(f *fetching) bool {
		return f.landing > 0 && f.pos < end && off < f.pos+f.landing
	})
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
