package exec

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"
)

// Pauses before a program is started again: the first, and the longest that
// doubling it makes.
const (
	firstPause = 100 * time.Millisecond
	longPause  = 5 * time.Second
	// lasting is how long a program has to run for its end to be a surprise
	// that is over at once, and no failure to start.
	lasting = 10 * time.Second
)

// keeper keeps a program running: it starts it when somebody asks for it and
// it doesn't run.
type keeper struct {
	argv    []string
	timeout time.Duration
	log     *slog.Logger
	closing chan struct{}

	mu       sync.Mutex
	session  *session
	starting chan struct{} // closed at the end of the start that is under way
	startErr error         // of the last start
	failures int           // in a row
	resume   time.Time     // not to be started before
	closed   bool
	starts   sync.WaitGroup
}

func newKeeper(c Config) *keeper {
	return &keeper{argv: c.Command, timeout: c.Timeout, log: c.Log.With("program", c.Command[0]), closing: make(chan struct{})}
}

// get returns the session of the running program, which it starts if need be.
func (k *keeper) get(ctx context.Context) (*session, error) {
	k.mu.Lock()
	if k.closed {
		k.mu.Unlock()
		return nil, fs.ErrClosed
	}
	if s := k.session; s != nil && s.failure() == nil {
		k.mu.Unlock()
		return s, nil
	}
	if k.starting == nil {
		k.starting = make(chan struct{})
		k.starts.Go(k.start)
	}
	starting := k.starting
	k.mu.Unlock()
	select {
	case <-starting:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.session, k.startErr
}

// start starts the program after the pause that is due. It belongs to no
// caller, because many wait for it.
func (k *keeper) start() {
	s, err := k.run()
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.closed && err != nil:
		err = fs.ErrClosed
	case err != nil:
		k.failed()
		k.log.Error("the program can't be used", "err", err, "pause", time.Until(k.resume).Round(time.Millisecond))
		// Not wrapped: that the program does not exist says nothing of a file.
		err = fmt.Errorf("the program %s can't be used: %v", k.argv[0], err)
	default:
		k.starts.Go(func() { k.watch(s, time.Now()) })
	}
	k.session, k.startErr = s, err
	close(k.starting)
	k.starting = nil
}

func (k *keeper) run() (*session, error) {
	k.mu.Lock()
	pause := time.Until(k.resume)
	k.mu.Unlock()
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-k.closing:
		return nil, fs.ErrClosed
	}
	p, err := start(k.argv, k.log)
	if err != nil {
		return nil, err
	}
	s, err := newSession(p, k.timeout)
	if err != nil {
		return nil, err
	}
	k.log.Debug("the program is running", "pid", p.cmd.Process.Pid, "features", s.features)
	return s, nil
}

// failed makes the next start wait longer. k.mu is held.
func (k *keeper) failed() {
	k.failures++
	k.resume = time.Now().Add(min(firstPause<<min(k.failures-1, 10), longPause))
}

// watch says when the program has ended by itself.
func (k *keeper) watch(s *session, since time.Time) {
	<-s.dead
	<-s.p.ended
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return
	}
	if time.Since(since) >= lasting {
		k.failures = 0
	}
	k.failed()
	k.log.Error("the program is gone; what it was asked has failed, and the next request starts it again", "pid", s.p.cmd.Process.Pid, "err", s.failure())
}

// close ends the program. No get may follow.
func (k *keeper) close(end, term time.Duration) {
	k.mu.Lock()
	if k.closed {
		k.mu.Unlock()
		return
	}
	k.closed = true
	close(k.closing)
	starting := k.starting
	k.mu.Unlock()
	if starting != nil {
		<-starting
	}
	k.mu.Lock()
	s := k.session
	k.mu.Unlock()
	if s != nil {
		s.close(end, term)
	}
	k.starts.Wait()
}
