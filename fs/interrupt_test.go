package fs

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends/memory"
)

// slowMount mounts a slow file system with a file "f" in it.
func slowMount(t *testing.T, wait time.Duration, o Options) (*slowFS, string) {
	t.Helper()
	s := newSlow(newMemory(t, memory.Config{NoTmpfs: true}), wait)
	dir, _ := mountFS(t, s, o)
	t.Cleanup(func() { close(s.release) })
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	return s, dir
}

// eventually waits until ok holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never came about: %s", what)
		}
	}
}

func TestSignalsAbortNothing(t *testing.T) {
	s, dir := slowMount(t, 500*time.Millisecond, Options{})
	if got := runHelper(t, "noisy", filepath.Join(dir, "f")); got != "content" {
		t.Errorf("read %q among signals, want %q", got, "content")
	}
	select {
	case err := <-s.ended:
		t.Errorf("the file system was told to stop: %v", err)
	default:
	}
}

func TestKilledCallerReturnsAtOnce(t *testing.T) {
	for _, c := range []struct {
		name, file string
		noisy      bool // other signals come before
		told       bool // the file system is told that nobody waits
		signal     syscall.Signal
	}{
		{"SIGKILL", "slow", false, true, syscall.SIGKILL},
		{"SIGTERM", "slow", false, true, syscall.SIGTERM},
		// Only the first signal is reported.
		{"harmless, then SIGKILL", "slow", true, true, syscall.SIGKILL},
		// The kernel waits for pages, not for our answer; nobody is told.
		{"read", "f", false, false, syscall.SIGKILL},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, dir := slowMount(t, time.Minute, Options{})
			// Not a Go program: that has a handler for SIGTERM, which can't run
			// in a thread that waits for a file system.
			cmd := exec.Command("cat", filepath.Join(dir, c.file))
			if c.noisy {
				cmd = helper0(t, "noisy", filepath.Join(dir, c.file))
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { cmd.Process.Kill() })
			eventually(t, "the operation reaches the file system", func() bool { return s.waiting.Load() > 0 })
			time.Sleep(50 * time.Millisecond)
			if err := cmd.Process.Signal(c.signal); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			cmd.Wait()
			if d := time.Since(start); d > 5*time.Second {
				t.Errorf("the process took %v to end", d)
			}
			if !c.told {
				return
			}
			select {
			case err := <-s.ended:
				if !errors.Is(err, context.Canceled) {
					t.Errorf("the operation ended with %v, want a cancellation", err)
				}
			case <-time.After(5 * time.Second):
				t.Error("the file system was not told that nobody waits any more")
			}
		})
	}
}

func TestChangesOutliveTheirCaller(t *testing.T) {
	s, dir := slowMount(t, 300*time.Millisecond, Options{})
	cmd := helper0(t, "mkdir", filepath.Join(dir, "d"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the change reaches the file system", func() bool { return s.waiting.Load() > 0 })
	cmd.Process.Kill()
	cmd.Wait()
	if _, err := os.Stat(filepath.Join(dir, "d")); err != nil {
		t.Errorf("the directory that a killed process asked for: %v", err)
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestDeadline(t *testing.T) {
	var log lockedBuffer
	_, dir := slowMount(t, time.Minute, Options{Timeout: 200 * time.Millisecond, Log: slog.New(slog.NewTextHandler(&log, nil))})
	start := time.Now()
	if _, err := os.ReadFile(filepath.Join(dir, "f")); !errors.Is(err, syscall.EIO) {
		t.Errorf("read: got %v, want EIO", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "d"), 0o755); !errors.Is(err, syscall.EIO) {
		t.Errorf("mkdir: got %v, want EIO", err)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("two operations with a timeout of 200ms took %v", d)
	}
	if got := log.String(); strings.Count(got, "timed out") != 2 {
		t.Errorf("the log lacks the two timeouts:\n%s", got)
	}
}

func TestOpContextStartsNothing(t *testing.T) {
	m := &mount{timeout: time.Hour}
	c := m.op(context.Background(), opRead)
	if c.Err() != nil || c.done != nil || c.timer != nil {
		t.Error("a context that nobody waited on started something")
	}
	done := c.Done()
	c.end()
	select {
	case <-done:
	default:
		t.Error("an ended operation's context is not done")
	}
	if !errors.Is(c.Err(), context.Canceled) {
		t.Errorf("an ended operation's context says %v", c.Err())
	}
	select {
	case <-m.ended().Done():
	default:
		t.Error("the Done of a context whose operation is over stays open")
	}
}

func (m *mount) ended() *opContext {
	c := m.op(context.Background(), opChange)
	c.end()
	return c
}
