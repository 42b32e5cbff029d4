package exec_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	osexec "os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/exec"
)

// logBuffer is a log that tests look into.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// wait waits until the log has said want.
func (l *logBuffer) wait(t *testing.T, want string) {
	t.Helper()
	eventually(t, "the log says "+want, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return strings.Contains(l.b.String(), want)
	})
}

// eventually waits until ok; for ever, as far as a test can.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// broken returns the store of a program that breaks something, and its log.
func broken(t *testing.T, name string, timeout time.Duration) (*exec.Store, *logBuffer) {
	t.Helper()
	c, log := program(t, name), &logBuffer{}
	c.Timeout, c.Log = timeout, slog.New(slog.NewTextHandler(log, nil))
	return newStore(t, c), log
}

const patient = time.Minute

// A program that ends or answers what is no answer fails what it was asked, and
// is started again for the next request.
func TestEnds(t *testing.T) {
	for name, want := range map[string]string{
		"exits when asked":  "it has ended: exit status 7",
		"killed when asked": "it has ended: signal: killed",
		"exits in a frame":  "it has exited with status 0",
		"closes its output": "it has closed its standard output",
		"prints":            `what is no frame, beginning with "got a re"`,
		"long content":      "a frame with 4278190080 bytes of content",
		"no JSON":           `it wrote "{{", which is no message: invalid character`,
		"unasked answer":    "it wrote an answer to the request 999, which is not open",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, log := broken(t, name, patient)
			for range 2 {
				_, err := s.Stat(t.Context(), "some/name")
				wantFailure(t, err, want)
				if !strings.Contains(err.Error(), "stat some/name") {
					t.Errorf("%v doesn't say what it was about", err)
				}
			}
			log.wait(t, "the program is gone")
		})
	}
}

func TestCannotStart(t *testing.T) {
	for name, want := range map[string]string{
		"exits at once":   "it has ended: exit status 3",
		"old protocol":    "it speaks version 0 of the protocol, and this agentfs 1",
		"unknown feature": `it says that it has "time travel"`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, log := broken(t, name, patient)
			for range 2 {
				_, err := s.Stat(t.Context(), "f")
				wantFailure(t, err, want)
			}
			log.wait(t, "the program can't be used")
			if name == "exits at once" {
				log.wait(t, "program: no configuration")
			}
		})
	}
}

// That the program is gone from the disk is no answer to whether a file exists.
func TestVanishes(t *testing.T) {
	name := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(name, []byte("#!/bin/sh\nexit 0\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := newStore(t, exec.Config{Command: []string{name}})
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	_, err := s.Stat(t.Context(), "f")
	wantFailure(t, err, "no such file or directory")
}

// Everything that was under way fails when the program is killed, and nothing
// afterwards.
func TestKilled(t *testing.T) {
	s, log := broken(t, "never answers", patient)
	const n = 8
	errs := make(chan error, n)
	for i := range n {
		go func() {
			_, err := s.Stat(t.Context(), fmt.Sprint("f", i))
			errs <- err
		}()
	}
	eventually(t, "it runs", func() bool { return s.PID() != 0 })
	pid := s.PID()
	syscall.Kill(pid, syscall.SIGKILL)
	// Those that had not been sent by then ask the next program.
	eventually(t, "it is started again or all have failed", func() bool { return len(errs) == n || s.PID() != pid && s.PID() != 0 })
	for again := s.PID(); len(errs) < n; again = s.PID() {
		if again != 0 {
			syscall.Kill(again, syscall.SIGKILL)
		}
		time.Sleep(5 * time.Millisecond)
	}
	for range n {
		wantFailure(t, <-errs, "signal: killed")
	}
	log.wait(t, "the program is gone")

	m := newStore(t, program(t, "memory"))
	put(t, m, "f", "x")
	syscall.Kill(m.PID(), syscall.SIGKILL)
	eventually(t, "its end is seen", func() bool { return m.PID() == 0 })
	put(t, m, "f", "again")
	wantContent(t, m, "f", "again")
}

// A program that hangs is killed. One that answers others is not.
func TestHangs(t *testing.T) {
	t.Run("never answers", func(t *testing.T) {
		t.Parallel()
		s, log := broken(t, "never answers", 100*time.Millisecond)
		_, err := s.Stat(t.Context(), "f")
		// The hello, too, has to come within that time.
		if !strings.Contains(err.Error(), "(hello)") {
			wantFailure(t, err, "it has not answered the request 2 (stat) within 100ms, nor any other, and was killed")
			log.wait(t, "the program is gone")
		}
	})
	t.Run("never reads", func(t *testing.T) {
		t.Parallel()
		s, _ := broken(t, "never reads", time.Second)
		body := io.NewSectionReader(zeros{}, 0, 10<<20)
		_, err := s.Put(t.Context(), "f", body, backends.PutOptions{})
		wantFailure(t, err, "and was killed")
	})
	t.Run("answers the rest", func(t *testing.T) {
		t.Parallel()
		s, _ := broken(t, "answers the rest", time.Second)
		if _, err := s.Stat(t.Context(), "f"); err != nil {
			t.Fatal(err)
		}
		pid := s.PID()
		done := make(chan error)
		go func() {
			_, err := s.Stat(t.Context(), "stuck")
			done <- err
		}()
		for {
			if _, err := s.Stat(t.Context(), "f"); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-done:
				wantFailure(t, err, "(stat) within 1s")
				if s.PID() != pid {
					t.Error("it was started again")
				}
				return
			default:
			}
		}
	})
	t.Run("slow but alive", func(t *testing.T) {
		t.Parallel()
		s, _ := broken(t, "slow but alive", 500*time.Millisecond)
		if _, err := s.Stat(t.Context(), "f"); err != nil && !strings.Contains(err.Error(), "(hello)") {
			t.Fatal(err)
		}
	})
}

// An answer that makes no sense fails its request and says what about.
func TestSenseless(t *testing.T) {
	stat := func(ctx context.Context, s *exec.Store) error { _, err := s.Stat(ctx, "f"); return err }
	open := func(ctx context.Context, s *exec.Store) error {
		_, _, err := s.Open(ctx, "f", backends.Range{}, backends.If{Match: "v"})
		return err
	}
	put := func(ctx context.Context, s *exec.Store) error {
		_, err := s.Put(ctx, "f", section("123456"), backends.PutOptions{})
		return err
	}
	list := func(ctx context.Context, s *exec.Store) error {
		for _, err := range s.List(ctx, ".", "") {
			if err != nil {
				return err
			}
		}
		return nil
	}
	for name, c := range map[string]struct {
		call func(context.Context, *exec.Store) error
		want string
	}{
		"another name":    {stat, `stat f: the program answers with the entry of "other"`},
		"no version":      {stat, `stat f: the program's entry of "f" has no version`},
		"no size":         {stat, `stat f: the program's entry of "f" has the size -1`},
		"no type":         {stat, `stat f: the program's entry of "f" has the type "socket"`},
		"no entry":        {stat, "stat f: the program's answer has no entry"},
		"a directory":     {open, "read f: the program answers with a directory"},
		"short content":   {open, "read f: the program answers with 4 bytes from 0 of 5; 5 were asked for"},
		"another version": {open, `read f: the program answers with the version "v2" for "v"`},
		"unknown error":   {stat, "stat f: the program failed: quota: ask Bob"},
		"wants more":      {put, "put f: the program asks for more than the 6 bytes"},
		"wrong order":     {list, `list .: the program lists "a" after "b"`},
		"twice":           {list, `list .: the program lists "a" after "a"`},
		"of elsewhere":    {list, `list .: the program lists "d/x", which doesn't belong there`},
		"above itself":    {list, `list .: the program lists "..", which doesn't belong there`},
		"no last page":    {list, "list .: the program answers with a page that is empty and not the last"},
		"few errors": {func(ctx context.Context, s *exec.Store) error {
			return s.RemoveMany(ctx, []backends.Removal{{Name: "f"}})[0]
		}, "remove f: the program answers 1 removals with 0 errors"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _ := broken(t, name, patient)
			wantFailure(t, c.call(t.Context(), s), c.want)
			if s.PID() == 0 {
				t.Error("the program was ended for it")
			}
		})
	}
}

// Answers that nobody waits for any more do no harm, and a program that answers
// more than it was asked is ended.
func TestCancelled(t *testing.T) {
	s, _ := broken(t, "answers the rest", patient)
	for i := range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		if i%2 == 0 {
			cancel()
		} else {
			time.AfterFunc(time.Millisecond, cancel)
		}
		if _, err := s.Stat(ctx, "stuck"); !errors.Is(err, context.Canceled) {
			t.Fatalf("a cancelled request: %v", err)
		}
		cancel()
		if _, err := s.Stat(t.Context(), "f"); err != nil {
			t.Fatal(err)
		}
	}
	twice, _ := broken(t, "two answers", patient)
	_, err := twice.Put(t.Context(), "f", io.NewSectionReader(zeros{}, 0, 10<<20), backends.PutOptions{})
	if err == nil {
		t.Fatal("a put that was answered three times has succeeded")
	}
}

type zeros struct{}

func (zeros) ReadAt(p []byte, _ int64) (int, error) {
	clear(p)
	return len(p), nil
}

// Large contents take no memory of their size, on the way in and out.
func TestLarge(t *testing.T) {
	s := newStore(t, program(t, "sink"))
	put(t, s, "warm", "up")
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	var peak atomic.Uint64
	watch := func() {
		var now runtime.MemStats
		runtime.ReadMemStats(&now)
		peak.Store(max(peak.Load(), now.HeapAlloc))
	}
	body := watchedReader{watch}
	if e, err := s.Put(t.Context(), "f", io.NewSectionReader(body, 0, large), backends.PutOptions{}); err != nil || e.Size != large {
		t.Fatal(e, err)
	}
	r, _, err := s.Open(t.Context(), "f", backends.Range{}, backends.If{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	buf, n := make([]byte, 1<<20), int64(0)
	for {
		m, err := r.Read(buf)
		n += int64(m)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if n%(16<<20) == 0 {
			watch()
		}
	}
	if n != large {
		t.Errorf("read %d bytes, want %d", n, large)
	}
	if grown := int64(peak.Load()) - int64(before.HeapAlloc); grown > large/4 {
		t.Errorf("%d MiB of memory for a content of %d MiB", grown>>20, large>>20)
	}
}

type watchedReader struct{ watch func() }

func (r watchedReader) ReadAt(p []byte, off int64) (int, error) {
	if off%(16<<20) == 0 {
		r.watch()
	}
	return len(p), nil
}

// gone reports whether there is no process pid, not even a zombie.
func gone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

// Close ends the program, whatever it does, and all that it has started.
func TestClose(t *testing.T) {
	for _, name := range []string{"memory", "ignores the end", "ignores SIGTERM"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t, program(t, name))
			child := 0
			if name == "ignores SIGTERM" {
				e, err := s.Stat(t.Context(), "f")
				if err != nil {
					t.Fatal(err)
				}
				child = int(e.Size)
			} else if _, err := s.Features(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.EndWithin(200*time.Millisecond, 100*time.Millisecond)
			pid := s.PID()
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if !gone(pid) {
				t.Error("the program is there after Close")
			}
			if child != 0 {
				eventually(t, "what it has started is gone", func() bool { return ended(child) })
			}
			if _, err := s.Stat(t.Context(), "f"); !errors.Is(err, os.ErrClosed) {
				t.Errorf("after Close: %v", err)
			}
		})
	}
}

// ended reports whether the process is gone or waits to be reaped by somebody
// else.
func ended(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(b), ") Z ")
}

// beHost runs a program as the store of a process that is going to be killed.
func beHost() {
	// The program that it starts is another one than this.
	os.Setenv(programVariable, "ignores the end")
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	s, err := exec.New(exec.Config{Command: []string{exe}})
	if err != nil {
		panic(err)
	}
	if _, err := s.Features(context.Background()); err != nil {
		panic(err)
	}
	fmt.Println(s.PID())
	select {}
}

// The program does not outlive a process that is killed, even if it ignores the
// end of its input.
func TestHostKilled(t *testing.T) {
	c := program(t, "host")
	host := osexec.Command(c.Command[0], c.Command[1:]...)
	host.Stderr = os.Stderr
	out, err := host.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	defer host.Wait()
	defer host.Process.Kill()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(line, &pid); err != nil {
		t.Fatal(err)
	}
	if ended(pid) {
		t.Fatal("the program does not run")
	}
	host.Process.Kill()
	eventually(t, "the program is gone", func() bool { return ended(pid) })
}

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		values map[string]backends.Option
		want   string
	}{
		{nil, "test: command: is required"},
		{map[string]backends.Option{"command": {List: []string{"/no/such/program"}}}, "there is no program /no/such/program"},
		{map[string]backends.Option{"command": {Value: "no-such-program-anywhere"}}, "there is no program no-such-program-anywhere"},
		{map[string]backends.Option{"command": {Value: "true"}, "timeout": {Value: "0"}}, "timeout: an answer needs some time"},
		{map[string]backends.Option{"command": {Value: "true"}, "comand": {Value: "x"}}, "comand: unknown option; this route knows command, identity, timeout"},
		{map[string]backends.Option{"command": {Value: "true"}, "timeout": {List: []string{"1s"}}}, "timeout: is one value, not a list"},
	} {
		_, err := exec.Open(t.Context(), backends.NewOptions("test", nil, c.values))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %q", c.values, err, c.want)
		}
	}
	s, err := exec.Open(t.Context(), backends.NewOptions("test", nil, map[string]backends.Option{"command": {List: []string{"true", "--token", "secret"}}}))
	if err != nil {
		t.Fatal(err)
	}
	if id := backends.IdentityOf(s, ""); strings.Contains(id, "secret") || !strings.HasPrefix(id, "exec:/") {
		t.Errorf("the identity is %s", id)
	}
}
