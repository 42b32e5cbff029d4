package s3

import (
	"context"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/agentfs/agentfs/backends"
)

// A GET that takes much longer than its siblings is asked for again, on a
// connection of its own, and the first answer counts: a slow server behind a
// load balancer, or a connection that lost a packet, is not met twice. See
// J. Dean and L. A. Barroso, "The Tail at Scale" (2013).
const (
	// hedgeFactor is how many times what 95 of 100 answers needed is too long.
	hedgeFactor = 3
	// hedgeMin and hedgeMax bound that. Before hedgeSamples answers have come
	// it is hedgeUnknown.
	hedgeMin     = 50 * time.Millisecond
	hedgeMax     = 10 * time.Second
	hedgeUnknown = time.Second
	hedgeSamples = 16
	// stallMin is how long a body stands still at least before the rest of it
	// is asked for again: a lost packet alone may take 200 ms.
	stallMin = 500 * time.Millisecond
	// The budget: one request in hedgeShare may be a second one, and
	// hedgeSpare more, so that a store that is slow as a whole is not asked for
	// twice as much.
	hedgeShare = 20
	hedgeSpare = 8
)

// hedger knows how long answers take, and keeps the budget.
type hedger struct {
	mu     sync.Mutex
	recent [128]time.Duration // to the first byte
	n      int                // how many there were
	delay  time.Duration      // what is too long; computed now and then
	gets   int64
	sent   int64 // second requests
	won    int64 // those of them that were first
}

// took records how long an answer took.
func (h *hedger) took(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.recent[h.n%len(h.recent)] = d
	h.n++
	if h.n < hedgeSamples || h.n%hedgeSamples != 0 {
		return
	}
	sorted := slices.Clone(h.recent[:min(h.n, len(h.recent))])
	slices.Sort(sorted)
	h.delay = min(max(hedgeFactor*sorted[len(sorted)*95/100], hedgeMin), hedgeMax)
}

// begin counts a GET and returns after what time it is asked for again.
func (h *hedger) begin() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.gets++
	if h.delay == 0 {
		return hedgeUnknown
	}
	return h.delay
}

// stall returns after what time without a byte the rest is asked for again.
func (h *hedger) stall() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return max(h.delay, stallMin)
}

// may reports whether the budget allows a second request, and counts it.
func (h *hedger) may() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sent >= h.gets/hedgeShare+hedgeSpare {
		return false
	}
	h.sent++
	return true
}

func (h *hedger) first() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.won++
}

func (h *hedger) state() (sent, won int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sent, h.won
}

// answered is what came of one GET.
type answered struct {
	body   io.ReadCloser
	obj    object
	err    error
	cancel context.CancelFunc
	second bool
}

func (a answered) drop() {
	if a.err == nil {
		a.body.Close()
	}
	a.cancel()
}

// ask sends one GET; second says that it is for one that takes too long. ch
// has room for the answer. The function that it returns ends it.
func (s *Store) ask(ctx context.Context, key string, r backends.Range, match backends.Version, second bool, ch chan<- answered) context.CancelFunc {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		var opts []func(*s3.Options)
		if second {
			opts = append(opts, func(o *s3.Options) { o.HTTPClient = s.fresh })
		}
		began := time.Now()
		body, obj, err := s.getOnce(ctx, key, r, match, opts...)
		if err == nil {
			s.hedges.took(time.Since(began))
		}
		ch <- answered{body, obj, err, cancel, second}
	}()
	return cancel
}

// get sends a GET for section r of a key, and a second one if that takes too
// long, and returns the body of the first answer, which may be cut short, and
// the object.
func (s *Store) get(ctx context.Context, key string, r backends.Range, match backends.Version) (io.ReadCloser, object, error) {
	ch := make(chan answered, 2)
	cancels := []context.CancelFunc{s.ask(ctx, key, r, match, false, ch), func() {}}
	late := time.NewTimer(s.hedges.begin())
	defer late.Stop()
	for under := 1; ; {
		select {
		case <-late.C:
			if s.hedges.may() {
				cancels[1] = s.ask(ctx, key, r, match, true, ch)
				under++
			}
		case a := <-ch:
			under--
			if a.err != nil && under > 0 && !missing(a.err) && !preconditionFailed(a.err) {
				a.cancel()
				continue // the other one may do better
			}
			if under > 0 {
				if a.second {
					cancels[0]()
				} else {
					cancels[1]()
				}
				go func() { (<-ch).drop() }()
			}
			if a.err != nil {
				a.cancel()
				return nil, object{}, a.err
			}
			if a.second {
				s.hedges.first()
			}
			end := a.obj.size
			if r.Len > 0 {
				end = min(end, r.Off+r.Len)
			}
			return &steady{s: s, ctx: ctx, key: key, version: a.obj.version, off: r.Off, end: end, now: a}, a.obj, nil
		}
	}
}

// steady is a body whose rest is asked for again when it stands still.
type steady struct {
	s        *Store
	ctx      context.Context
	key      string
	version  backends.Version
	off, end int64

	mu     sync.Mutex
	now    answered
	reads  int // counts Reads, so that a timer knows which one it is for
	next   *answered
	asked  bool // a second request is under way or has been in vain
	closed bool
	stop   context.CancelFunc // of the second request
}

// Read implements [io.Reader].
func (b *steady) Read(p []byte) (int, error) {
	for {
		b.mu.Lock()
		b.reads++
		now, read := b.now, b.reads
		b.mu.Unlock()
		late := time.AfterFunc(b.s.hedges.stall(), func() { b.again(read) })
		n, err := now.body.Read(p)
		late.Stop()
		b.mu.Lock()
		b.reads++
		b.off += int64(n)
		next := b.next
		b.next = nil
		switch {
		case n > 0 && b.stop != nil:
			b.stop() // it moves again
			b.stop = nil
		case n == 0 && err != nil && next != nil:
			b.now, b.stop = *next, nil
			next = nil
			b.mu.Unlock()
			b.s.hedges.first()
			now.drop()
			continue
		}
		b.mu.Unlock()
		if next != nil {
			next.drop()
		}
		return n, err
	}
}

// again asks for the rest, and ends the Read of this number with the answer.
func (b *steady) again(read int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.reads != read || b.closed || b.asked || b.version == "" || b.end <= b.off || !b.s.hedges.may() {
		return
	}
	b.asked = true
	ch := make(chan answered, 1)
	b.stop = b.s.ask(b.ctx, b.key, backends.Range{Off: b.off, Len: b.end - b.off}, b.version, true, ch)
	go func() {
		a := <-ch
		b.mu.Lock()
		defer b.mu.Unlock()
		b.asked = false
		if a.err != nil || b.reads != read || b.closed {
			a.drop()
			return
		}
		b.next = &a
		b.now.cancel() // its Read returns
	}()
}

// Close implements [io.Closer].
func (b *steady) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	if b.stop != nil {
		b.stop()
	}
	if b.next != nil {
		b.next.drop()
		b.next = nil
	}
	err := b.now.body.Close()
	b.now.cancel()
	return err
}
