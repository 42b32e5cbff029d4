package fs

import (
	"bytes"
	"context"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/agentfs/agentfs/backends"
)

// opKind says what may end an operation before the file system has answered.
type opKind uint8

const (
	// opRead ends when the caller is being killed, or at the deadline.
	opRead opKind = iota
	// opChange ends at the deadline only: half of a change is of no use.
	opChange
	// opSync is an opChange that may have to move a whole file.
	opSync
	// opBarrier waits as long as an opSync for what goes on without it. So it ends
	// when the caller is being killed, too: nobody hears, and a process can't end
	// while it waits.
	opBarrier
	// opList is an opRead that may have to ask for thousands of pages of names.
	opList
)

// killPoll bounds how often an interrupted caller is looked at.
const (
	killPollMin = time.Millisecond
	killPollMax = 100 * time.Millisecond
)

// opContext is the context of one operation.
//
// The kernel reports any signal to the caller as an interrupt, and only once
// per operation: a Go program's preemption signal, a timer, a window that
// changes its size. None of them may abort a system call on a file. So an
// interrupt only starts to watch whether the caller is being killed.
//
// Timer and goroutine start when somebody calls Done, and the deadline counts
// from when somebody first asks for it: a file system in memory never does.
type opContext struct {
	caller  backends.Caller
	kind    opKind
	timeout time.Duration
	cancel  <-chan struct{} // closed by any signal to the caller; nil if none can come

	mu       sync.Mutex
	deadline time.Time // zero until first asked for
	done     chan struct{}
	timer    *time.Timer
	err      error
}

// op returns the context of an operation that go-fuse gave ctx for. The
// operation calls end when it is over.
func (m *mount) op(ctx context.Context, kind opKind) *opContext {
	c := &opContext{kind: kind, timeout: m.timeout}
	if kind == opSync || kind == opBarrier || kind == opList {
		c.timeout = m.syncTimeout
	}
	if fc, ok := ctx.(*fuse.Context); ok {
		c.caller = backends.Caller{PID: fc.Pid, UID: fc.Uid, GID: fc.Gid}
		c.cancel = fc.Cancel
	}
	return c
}

// end releases what the context started. Whoever kept it sees it canceled.
func (c *opContext) end() { c.finish(context.Canceled) }

func (c *opContext) finish(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = err
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.done != nil {
		close(c.done)
	}
}

// Deadline implements [context.Context].
func (c *opContext) Deadline() (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.deadlineLocked(), true
}

func (c *opContext) deadlineLocked() time.Time {
	if c.deadline.IsZero() {
		c.deadline = time.Now().Add(c.timeout)
	}
	return c.deadline
}

// Done implements [context.Context].
func (c *opContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done != nil {
		return c.done
	}
	c.done = make(chan struct{})
	if c.err != nil {
		close(c.done)
		return c.done
	}
	c.timer = time.AfterFunc(time.Until(c.deadlineLocked()), func() { c.finish(context.DeadlineExceeded) })
	if (c.kind == opRead || c.kind == opBarrier || c.kind == opList) && c.cancel != nil && c.caller.PID != 0 {
		go c.watch(c.done)
	}
	return c.done
}

// watch finishes the context when the caller is being killed.
func (c *opContext) watch(done <-chan struct{}) {
	select {
	case <-done:
		return
	case <-c.cancel:
	}
	// The signal that came may be harmless, and a deadly one that follows is
	// not reported: from now on look.
	for pause := killPollMin; ; pause = min(2*pause, killPollMax) {
		if killed(c.caller.PID) {
			c.finish(context.Canceled)
			return
		}
		select {
		case <-done:
			return
		case <-time.After(pause):
		}
	}
}

// Err implements [context.Context].
func (c *opContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	// Without Done nothing runs that would notice the deadline.
	if c.err == nil && c.done == nil && !time.Now().Before(c.deadlineLocked()) {
		c.err = context.DeadlineExceeded
	}
	return c.err
}

// Value implements [context.Context]: it has the caller.
func (c *opContext) Value(key any) any {
	if key == backends.CallerKey {
		return c.caller
	}
	return nil
}

// killed reports whether the thread tid has a SIGKILL pending. The kernel sets
// it for every thread of a process that any fatal signal ends. It is false
// where the thread can't be seen.
func killed(tid uint32) bool {
	status, err := os.ReadFile("/proc/" + strconv.FormatUint(uint64(tid), 10) + "/status")
	if err != nil {
		return false
	}
	for line := range bytes.Lines(status) {
		mask, ok := bytes.CutPrefix(line, []byte("SigPnd:"))
		if !ok {
			mask, ok = bytes.CutPrefix(line, []byte("ShdPnd:"))
		}
		if !ok {
			continue
		}
		const sigKill = 1 << (9 - 1)
		if bits, err := strconv.ParseUint(string(bytes.TrimSpace(mask)), 16, 64); err == nil && bits&sigKill != 0 {
			return true
		}
	}
	return false
}
