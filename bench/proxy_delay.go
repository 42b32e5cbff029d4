package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"sync"
	"time"
)

// delays say how slow a store is: when the first byte of an answer comes, and
// how fast bytes follow.
type delays struct {
	get, put, list time.Duration // medians of a lognormal distribution
	sigma          float64
	bytesPerSecond float64 // of one body, in either direction; 0 is as fast as it goes
	total          *pacer  // of all bodies together; nil is as fast as it goes
}

// likeS3 are of the order of S3's published figures.
var likeS3 = delays{
	get: 25 * time.Millisecond, put: 40 * time.Millisecond, list: 35 * time.Millisecond,
	sigma: 0.5, bytesPerSecond: 90e6,
}

// pacer is what all bodies together may take.
type pacer struct {
	perSecond float64

	mu   sync.Mutex
	next time.Time // when the next byte may pass
}

// pacerBurst is how much time that nobody used may be made up for.
const pacerBurst = 5 * time.Millisecond

// take returns when n more bytes may have passed. A nil pacer lets all pass.
func (p *pacer) take(n int) time.Time {
	if p == nil {
		return time.Time{}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if earliest := time.Now().Add(-pacerBurst); p.next.Before(earliest) {
		p.next = earliest
	}
	p.next = p.next.Add(time.Duration(float64(n) / p.perSecond * float64(time.Second)))
	return p.next
}

// String says it in a report.
func (d delays) String() string {
	if d == (delays{}) {
		return "as fast as it goes"
	}
	all := ""
	if d.total != nil {
		all = fmt.Sprintf(", %.0f MB/s in all", d.total.perSecond/1e6)
	}
	return fmt.Sprintf("first byte after %v (GET, HEAD), %v (PUT, POST, DELETE), %v (LIST), lognormal, sigma %.1f; %.0f MB/s per body in either direction%s",
		d.get, d.put, d.list, d.sigma, d.bytesPerSecond/1e6, all)
}

// draw draws the time to the first byte.
func (d delays) draw(random *rand.Rand, method, op string) time.Duration {
	median := d.put
	switch {
	case op == "List":
		median = d.list
	case !changesStore(method):
		median = d.get
	}
	return time.Duration(float64(median) * math.Exp(d.sigma*random.NormFloat64()))
}

func sleepUntil(ctx context.Context, t time.Time) error {
	wait := time.Until(t)
	if wait <= 0 {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(wait):
		return nil
	}
}

// stream is a body that comes no faster than perSecond bytes a second and
// whose bytes are counted.
type stream struct {
	io.ReadCloser
	ctx       context.Context
	began     time.Time
	perSecond float64 // 0: as fast as it goes
	total     *pacer
	n         int64
	moved     func(n int)

	mu  sync.Mutex // the transport reads a request's body on a goroutine of its own
	end time.Time  // zero: it has not ended
}

func newStream(ctx context.Context, body io.ReadCloser, d delays, moved func(int)) *stream {
	return &stream{ReadCloser: body, ctx: ctx, began: time.Now(), perSecond: d.bytesPerSecond, total: d.total, moved: moved}
}

func (s *stream) Read(buf []byte) (int, error) {
	n, err := s.ReadCloser.Read(buf)
	s.moved(n)
	s.n += int64(n)
	if late := sleepUntil(s.ctx, s.total.take(n)); late != nil {
		return n, late
	}
	if s.perSecond > 0 {
		due := s.began.Add(time.Duration(float64(s.n) / s.perSecond * float64(time.Second)))
		if late := sleepUntil(s.ctx, due); late != nil {
			return n, late
		}
	}
	if errors.Is(err, io.EOF) {
		s.mu.Lock()
		s.end = time.Now()
		s.mu.Unlock()
	}
	return n, err
}

// ended returns when the last byte was there; now, if it wasn't yet.
func (s *stream) ended() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.end.IsZero() {
		return time.Now()
	}
	return s.end
}
