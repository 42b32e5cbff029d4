package cli

import (
	"bufio"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// outcome tells others how the end of a mount goes: over a socket in the
// abstract name space, because the exit status of a process reaches only its
// parent and the mount itself is gone by then. It only tells: to end a mount
// takes a signal, for which the kernel asks who may.
type outcome struct {
	name string
	ln   *net.UnixListener

	mu       sync.Mutex
	watchers []net.Conn
	last     *endReport
}

// endReport is one line of what the socket says.
type endReport struct {
	Done bool `json:"done"`
	// Pending changes of PendingBytes are not stored yet, as far as known;
	// Stored of StoredBytes are since the end began.
	Pending      int64 `json:"pending"`
	PendingBytes int64 `json:"pending_bytes"`
	Stored       int64 `json:"stored"`
	StoredBytes  int64 `json:"stored_bytes"`
	// Rate is in bytes per second, Left how long the rest takes at that; 0 is
	// not known.
	Rate int64         `json:"rate,omitempty"`
	Left time.Duration `json:"left_ns,omitempty"`
	// Failing changes failed at their last attempt, and the first because of
	// Problem.
	Failing int64  `json:"failing,omitempty"`
	Problem string `json:"problem,omitempty"`
	// Error says, with Done, what could not be stored and where it is.
	Error string `json:"error,omitempty"`
}

func listenOutcome(m *mounted) (*outcome, error) {
	name := fmt.Sprintf("@agentfs-%d-%s", os.Getpid(), rand.Text())
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		// A sandbox may forbid sockets; the mount is as good without.
		m.log.Warn("unmount will not be able to follow the end of this mount", "err", err)
		return &outcome{}, nil
	}
	o := &outcome{name: name, ln: ln}
	go o.accept()
	return o, nil
}

func (o *outcome) accept() {
	for {
		c, err := o.ln.AcceptUnix()
		if err != nil {
			return
		}
		if !samePeer(c) {
			c.Close()
			continue
		}
		o.mu.Lock()
		o.watchers = append(o.watchers, c)
		if o.last != nil {
			send(c, *o.last)
		}
		o.mu.Unlock()
	}
}

// samePeer reports whether the other end belongs to this user or to root:
// the reports name files.
func samePeer(c *net.UnixConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	ok := false
	err = raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		ok = err == nil && (cred.Uid == 0 || int(cred.Uid) == os.Geteuid())
	})
	return err == nil && ok
}

func send(c net.Conn, r endReport) {
	b, err := json.Marshal(r)
	if err != nil {
		return
	}
	// A watcher that doesn't read must not hold up the end.
	_ = c.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = c.Write(append(b, '\n'))
}

func (o *outcome) report(r endReport) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last = &r
	for _, c := range o.watchers {
		send(c, r)
	}
}

func (o *outcome) close() {
	if o == nil || o.ln == nil {
		return
	}
	o.ln.Close()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range o.watchers {
		c.Close()
	}
}

// errNoOutcome: the process ended without a word.
var errNoOutcome = errors.New("the mount's process ended without saying how")

// dialOutcome begins to listen to the end of the mount whose status names the
// socket.
func dialOutcome(name string) (net.Conn, error) {
	return net.DialTimeout("unix", name, 5*time.Second)
}

// follow calls progress with each report until the last one, which it returns.
func follow(c net.Conn, progress func(endReport)) (endReport, error) {
	s := bufio.NewScanner(c)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var r endReport
		if err := json.Unmarshal(s.Bytes(), &r); err != nil {
			return r, err
		}
		if r.Done {
			return r, nil
		}
		progress(r)
	}
	return endReport{}, errNoOutcome
}
