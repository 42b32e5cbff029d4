package exec

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"
	"time"
)

// defaultParallel is how many requests a program gets at once if it doesn't
// say.
const defaultParallel = 16

// maxForgotten is how many requests that nobody waits for any more a program
// may leave unanswered.
const maxForgotten = 1000

// session is one run of a program, from its hello to its end.
type session struct {
	p        *process
	timeout  time.Duration
	features []string
	slots    chan struct{} // has a place for each request under way
	out      chan frame    // to the writer

	dead chan struct{} // closed once err is set

	mu    sync.Mutex
	err   error // why there will be no more answers
	last  uint64
	calls map[uint64]*call // without those that are forgotten
	gone  map[uint64]bool  // forgotten, their answers to come
	heard time.Time        // when a frame came last
	wrote time.Time        // when a frame was written last
}

type frame struct{ head, body []byte }

// call is one request, from its first frame to its last answer.
type call struct {
	s       *session
	id      uint64
	op      string
	answers chan reply // has room for one
	since   time.Time  // when it was last heard of; guarded by s.mu
}

// reply is one frame of an answer.
type reply struct {
	answer
	body []byte
}

// newSession says hello to a program that was just started.
func newSession(p *process, timeout time.Duration) (*session, error) {
	s := &session{
		p: p, timeout: timeout, slots: make(chan struct{}, 1), out: make(chan frame), dead: make(chan struct{}),
		calls: map[uint64]*call{}, gone: map[uint64]bool{}, wrote: time.Now(),
	}
	go s.write()
	go s.read()
	r, err := s.ask(context.Background(), request{Op: "hello", Protocols: []int{protocol}})
	if err == nil {
		err = r.greeting()
	}
	if err != nil {
		s.fail(err)
		<-p.ended
		return nil, err
	}
	s.features = r.Features
	n := r.Parallel
	if n == 0 {
		n = defaultParallel
	}
	s.slots = make(chan struct{}, min(n, 1024))
	return s, nil
}

func (s *session) has(feature string) bool { return slices.Contains(s.features, feature) }

// fail ends the session because of err, the first time it is called. What err
// wraps is hidden: it is not about the file that somebody has asked for.
func (s *session) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	s.err = errors.New(err.Error())
	close(s.dead)
	s.p.kill()
}

// failure returns why the session is dead, nil if it is not.
func (s *session) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// write sends frames until the session ends. It is alone in writing, so a
// caller that gives up leaves no half of a frame behind.
func (s *session) write() {
	for {
		select {
		case f := <-s.out:
			for _, part := range [][]byte{f.head, f.body} {
				if _, err := s.p.stdin.Write(part); err != nil {
					// Why it reads no more, its end says better.
					if s.p.endsWithin(time.Second) {
						err = errors.New(s.p.end())
					}
					s.fail(err)
					return
				}
			}
			s.mu.Lock()
			s.wrote = time.Now()
			s.mu.Unlock()
		case <-s.dead:
			return
		}
	}
}

// read takes answers until there are no more.
func (s *session) read() {
	defer s.p.stdout.Close()
	for {
		text, body, err := readFrame(s.p.stdout)
		if err == nil {
			err = s.take(text, body)
		}
		if err == nil {
			continue
		}
		var v violation
		switch {
		case errors.As(err, &v):
		case s.p.endsWithin(time.Second):
			err = errors.New(s.p.end())
		case errors.Is(err, io.EOF):
			err = errors.New("it has closed its standard output")
		}
		s.fail(err)
		s.p.stdin.Close()
		<-s.p.ended
		return
	}
}

// violation is what a program has written against the protocol.
type violation string

func violationf(format string, args ...any) error { return violation(fmt.Sprintf(format, args...)) }

func (v violation) Error() string { return "it wrote " + string(v) }

// take hands one answer to who waits for it.
func (s *session) take(text, body []byte) error {
	var a answer
	if err := json.Unmarshal(text, &a); err != nil {
		return violationf("%.200q, which is no message: %v", text, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = time.Now()
	final := !a.Wait && !(a.More && a.Entries == nil)
	c := s.calls[a.ID]
	switch {
	case c != nil:
	case s.gone[a.ID]:
		if final {
			delete(s.gone, a.ID)
		}
		return nil
	default:
		return violationf("an answer to the request %d, which is not open", a.ID)
	}
	c.since = s.heard
	if a.Wait {
		return nil
	}
	if final {
		delete(s.calls, a.ID)
	}
	select {
	case c.answers <- reply{a, body}:
		return nil
	default:
		return violationf("more than one answer to the request %d (%s)", c.id, c.op)
	}
}

// ask makes a request that is one frame and has one answer. An error of the
// program is the error.
func (s *session) ask(ctx context.Context, r request) (reply, error) {
	c, err := s.begin(ctx, r.Op)
	if err != nil {
		return reply{}, err
	}
	defer c.end()
	return c.exchange(ctx, r, nil)
}

// begin opens a request; end is to follow.
func (s *session) begin(ctx context.Context, op string) (*call, error) {
	select {
	case s.slots <- struct{}{}:
	case <-s.dead:
		return nil, s.failure()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	c := &call{s: s, id: s.last, op: op, answers: make(chan reply, 1), since: time.Now()}
	s.calls[c.id] = c
	return c, nil
}

// end closes the request. A program that has not answered it is told that
// nobody wants the answer.
func (c *call) end() {
	s := c.s
	s.mu.Lock()
	_, open := s.calls[c.id]
	delete(s.calls, c.id)
	if open && s.err == nil {
		s.gone[c.id] = true
	}
	forgotten := len(s.gone)
	s.mu.Unlock()
	if open {
		if forgotten > maxForgotten {
			s.fail(fmt.Errorf("it has left %d requests unanswered that were cancelled", forgotten))
		}
		go c.cancel()
	}
	<-s.slots
}

// cancel tells the program that the request is cancelled. It waits as long as
// the program may take to read it.
func (c *call) cancel() {
	head, err := encodeFrame(request{ID: c.id, Op: "cancel"}, 0)
	if err != nil {
		c.s.fail(err)
		return
	}
	_ = c.hand(context.Background(), frame{head: head})
}

// exchange sends one frame of the request and returns the program's answer to
// it. Its body is not changed until then, or ever if the exchange fails.
func (c *call) exchange(ctx context.Context, r request, body []byte) (reply, error) {
	r.ID = c.id
	head, err := encodeFrame(r, len(body))
	if err != nil {
		return reply{}, err
	}
	if err := c.hand(ctx, frame{head, body}); err != nil {
		return reply{}, err
	}
	c.s.mu.Lock()
	sent := time.Now()
	c.since = sent
	c.s.mu.Unlock()
	for wait := c.s.timeout; ; {
		timer := time.NewTimer(wait)
		select {
		case a := <-c.answers:
			timer.Stop()
			return a, a.err()
		case <-c.s.dead:
			timer.Stop()
			// The answer may have come before the end.
			select {
			case a := <-c.answers:
				return a, a.err()
			default:
			}
			return reply{}, c.s.failure()
		case <-ctx.Done():
			timer.Stop()
			return reply{}, ctx.Err()
		case <-timer.C:
		}
		if wait, err = c.late(sent); err != nil {
			return reply{}, err
		}
	}
}

// late returns how long the answer may still take, or the error of one that is
// too late. A program that has answered nothing at all since hangs.
func (c *call) late(sent time.Time) (time.Duration, error) {
	s := c.s
	s.mu.Lock()
	left, hangs := s.timeout-time.Since(c.since), s.heard.Before(sent)
	s.mu.Unlock()
	if left > 0 {
		return left, nil
	}
	err := fmt.Errorf("it has not answered the request %d (%s) within %s", c.id, c.op, s.timeout)
	if hangs {
		err = fmt.Errorf("%w, nor any other, and was killed", err)
		s.fail(err)
	}
	return 0, err
}

// hand gives a frame to the writer. If the program reads nothing for too long,
// it hangs.
func (c *call) hand(ctx context.Context, f frame) error {
	s := c.s
	for wait := s.timeout; ; {
		timer := time.NewTimer(wait)
		select {
		case s.out <- f:
			timer.Stop()
			return nil
		case <-s.dead:
			timer.Stop()
			return s.failure()
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		s.mu.Lock()
		wait = s.timeout - time.Since(s.wrote)
		s.mu.Unlock()
		if wait <= 0 {
			s.fail(fmt.Errorf("it has read nothing for %s and was killed", s.timeout))
		}
	}
}

// close ends the session and lets the program end by itself, for a while.
func (s *session) close(end, term time.Duration) {
	s.mu.Lock()
	if s.err == nil {
		s.err = fs.ErrClosed
		close(s.dead)
	}
	s.mu.Unlock()
	s.p.stop(end, term)
}
