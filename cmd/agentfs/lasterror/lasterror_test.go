package lasterror

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/audit"
)

// sleeper is a process that does nothing.
func sleeper(t *testing.T) uint32 {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return uint32(cmd.Process.Pid)
}

func add1(s *Failures, kind audit.Kind, path string, pid, uid uint32) {
	s.Add(&audit.Op{Time: time.Now(), Kind: kind, Path: path, Caller: backends.Caller{PID: pid, UID: uid}, Err: fs.ErrNotExist})
}

// want fails unless the caller's last failure is of path; "" means none.
func want(t *testing.T, s *Failures, pid, uid uint32, path string, relation int) {
	t.Helper()
	all, r := s.Of(backends.WithCaller(context.Background(), backends.Caller{PID: pid, UID: uid}))
	got := ""
	if len(all) > 0 {
		got = all[0].Path
	}
	if got != path || r != relation {
		t.Errorf("process %d of user %d is told of %q, %d generations up, want %q, %d", pid, uid, got, r, path, relation)
	}
}

func TestFamily(t *testing.T) {
	var s Failures
	self, uid := uint32(os.Getpid()), uint32(os.Getuid())
	other := uid + 1
	a, b := sleeper(t), sleeper(t)
	want(t, &s, a, uid, "", 0)
	add1(&s, audit.Create, "by a", a, uid)
	want(t, &s, a, uid, "by a", 0)
	want(t, &s, self, uid, "by a", 0) // which has started it
	want(t, &s, b, uid, "by a", 1)    // a sibling
	add1(&s, audit.Create, "by b", b, uid)
	want(t, &s, a, uid, "by a", 0)
	want(t, &s, b, uid, "by b", 0)
	want(t, &s, self, uid, "by b", 0)
	if other != 0 && uid == 0 {
		want(t, &s, a, other, "", 0)
	}
	// The unseen are one family for each user.
	want(t, &s, 0, uid, "", 0)
	add1(&s, audit.Create, "unseen", 0, uid)
	want(t, &s, 0, uid, "unseen", 0)
	want(t, &s, 0, other, "", 0)
	want(t, &s, a, uid, "by a", 0)
	if all, _ := s.Of(context.Background()); all != nil {
		t.Errorf("nobody is told of %v", all)
	}
}

func TestLookupsOfWhatIsMadeThen(t *testing.T) {
	var s Failures
	self, uid := uint32(os.Getpid()), uint32(os.Getuid())
	add1(&s, audit.Lookup, "new", self, uid)
	want(t, &s, self, uid, "new", 0)
	s.Made("new")
	want(t, &s, self, uid, "", 0)
}

// What one process has runs neither memory nor others out.
func TestBounds(t *testing.T) {
	var s Failures
	uid := uint32(os.Getuid())
	a, b := sleeper(t), sleeper(t)
	add1(&s, audit.Write, "by a", a, uid)
	for i := range 10 * maxFailures {
		add1(&s, audit.Write, fmt.Sprint(i), b, uid)
		add1(&s, audit.Lookup, fmt.Sprint(i), b, uid)
	}
	want(t, &s, a, uid, "by a", 0)
	if len(s.failed) != 1+maxOfProcess || len(s.lookups) != 1 {
		t.Errorf("%d failures and %d lookups of two processes are kept", len(s.failed), len(s.lookups))
	}
	for i := range 2 * maxFailures { // of as many users
		s.Add(&audit.Op{Kind: audit.Write, Caller: backends.Caller{UID: uint32(i)}, Err: errors.New("x")})
	}
	if len(s.failed) != maxFailures {
		t.Errorf("%d failures are kept, want %d", len(s.failed), maxFailures)
	}
	all, _ := s.Of(backends.WithCaller(context.Background(), backends.Caller{PID: b, UID: uid}))
	if len(all) > maxShown {
		t.Errorf("%d are shown", len(all))
	}
}
