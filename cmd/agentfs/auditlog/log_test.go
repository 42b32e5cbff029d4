package auditlog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/audit"
)

var describer = &Describer{
	Route: func(string) string { return "/" },
	Errno: func(audit.Kind, error) string { return "EIO" },
}

// logBuffer is a log that many goroutines write.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func open(t *testing.T, c Config) (*Log, *logBuffer) {
	t.Helper()
	var said logBuffer
	c.Log = slog.New(slog.NewTextHandler(&said, nil))
	if c.Queue == 0 {
		c.Queue = DefaultQueue
	}
	if c.MaxSize == 0 {
		c.MaxSize = DefaultMaxSize
	}
	l, err := Open(c, describer)
	if err != nil {
		t.Fatal(err)
	}
	return l, &said
}

func closeLog(t *testing.T, l *Log) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := l.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

// do records one operation as a wrapper does, and returns whether it was
// refused.
func do(l *Log, name string) error {
	if err := l.Reserve(1); err != nil {
		return err
	}
	l.Record(&audit.Op{Time: time.Now(), Kind: audit.Unlink, Path: name})
	return nil
}

// records reads the file and what it was rotated to.
func records(t *testing.T, file string) (all []Line) {
	t.Helper()
	damaged, err := Read(t.Context(), file, false, func(l *Line, _ []byte) error {
		all = append(all, *l)
		return nil
	})
	if err != nil || damaged > 0 {
		t.Fatalf("%s: %v, %d damaged lines", file, err, damaged)
	}
	return all
}

func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

// fullDisk returns a directory on a file system of its own with room for few
// records, and a function that makes room.
func fullDisk(t *testing.T) (dir string, makeRoom func()) {
	t.Helper()
	dir = t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skipf("a small file system can't be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 56<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, func() {
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
	}
}

// A full disk stops nobody: what has no room is counted or refused, and both
// the log and the audit say so. When there is room again, everything that
// waited is written, whole, and nothing is in the file twice.
func TestFullDisk(t *testing.T) {
	for _, when := range []WhenFull{Drop, Refuse} {
		t.Run(string(when), func(t *testing.T) {
			dir, makeRoom := fullDisk(t)
			l, said := open(t, Config{File: filepath.Join(dir, "audit"), Queue: 64, WhenFull: when})
			var done, refused int64
			until(t, "the queue is full", func() bool {
				err := do(l, fmt.Sprint(done))
				if err == nil {
					done++
				} else if refused++; !errors.Is(err, backends.ErrNotRecorded) {
					t.Fatal(err)
				}
				s := l.Status()
				return s.Problem != "" && s.Dropped+s.Refused > 10
			})
			s := l.Status()
			if (when == Refuse) != (refused > 0) || s.Refused != refused {
				t.Errorf("%d operations were refused, the status is %+v", refused, s)
			}
			if !strings.Contains(s.Problem, "no space left") || !strings.Contains(said.String(), "the audit can't keep up") {
				t.Errorf("the status is %+v, the log %s", s, said)
			}
			makeRoom()
			until(t, "it works again", func() bool { return strings.Contains(said.String(), "the audit works again") })
			closeLog(t, l)
			s = l.Status()
			seen := map[string]bool{}
			var told int64
			for _, r := range records(t, l.c.File) {
				if r.Op == OpAudit {
					told += r.Count
					continue
				}
				if seen[r.Path] {
					t.Errorf("%s is recorded twice", r.Path)
				}
				seen[r.Path] = true
			}
			if int64(len(seen)) != done-s.Dropped || told != s.Dropped+s.Refused {
				t.Errorf("%d operations done, %d on record, %d told as lost; the status is %+v", done, len(seen), told, s)
			}
		})
	}
}

// A pipe that nobody reads, or nobody has open, stops nobody either.
func TestPipeThatNobodyReads(t *testing.T) {
	for _, when := range []WhenFull{Drop, Refuse} {
		for _, reader := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/opened=%v", when, reader), func(t *testing.T) {
				fifo := filepath.Join(t.TempDir(), "fifo")
				if err := unix.Mkfifo(fifo, 0o600); err != nil {
					t.Fatal(err)
				}
				var r *os.File
				openReader := func() {
					var err error
					// Not to wait for a writer: it is there a moment later.
					if r, err = os.OpenFile(fifo, os.O_RDONLY|unix.O_NONBLOCK, 0); err != nil {
						t.Fatal(err)
					}
				}
				if reader {
					openReader()
				}
				l, _ := open(t, Config{File: fifo, Queue: 64, WhenFull: when})
				until(t, "the queue is full", func() bool {
					for range 50 {
						if do(l, "x") != nil || l.Status().Dropped > 0 {
							return true
						}
					}
					return false
				})
				if s := l.Status(); s.Problem == "" {
					t.Errorf("the status is %+v, without a problem", s)
				}
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				if err := l.Close(ctx); err == nil || !strings.Contains(err.Error(), "could not be written") {
					t.Errorf("a close that doesn't wait: %v", err)
				}
				if !reader {
					openReader()
				}
				// Without a writer the pipe is at its end, until one comes.
				var lines atomic.Int64
				stop, stopped := make(chan struct{}), make(chan struct{})
				go func() {
					defer close(stopped)
					for last := false; ; {
						select {
						case <-stop:
							last = true
						case <-time.After(time.Millisecond):
						}
						b, err := io.ReadAll(r)
						lines.Add(int64(bytes.Count(b, []byte("\n"))))
						if err != nil {
							t.Errorf("reading the pipe: %v", err)
						}
						if last || err != nil {
							return
						}
					}
				}()
				closeLog(t, l)
				close(stop)
				<-stopped
				r.Close()
				if n := lines.Load(); n != l.Status().Written || n == 0 {
					t.Errorf("%d lines came through the pipe, %d were written", n, l.Status().Written)
				}
			})
		}
	}
}

// An open file holds the room for its end: with refuse no open goes through
// whose close would have none.
func TestRoomIsReserved(t *testing.T) {
	dir, makeRoom := fullDisk(t)
	l, _ := open(t, Config{File: filepath.Join(dir, "audit"), Queue: MinQueue, WhenFull: Refuse})
	if err := os.WriteFile(filepath.Join(dir, "more"), make([]byte, 8<<10), 0o600); err != nil && !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	opened := 0
	for l.Reserve(2) == nil {
		opened++
		l.Record(&audit.Op{Kind: audit.Open, Path: "x"})
	}
	for range opened {
		l.Record(&audit.Op{Kind: audit.Close, Path: "x"})
	}
	makeRoom()
	closeLog(t, l)
	n := 0
	for _, r := range records(t, l.c.File) {
		if r.Op == string(audit.Close) {
			n++
		}
	}
	if n != opened || opened == 0 {
		t.Errorf("%d files were opened, the ends of %d are on record", opened, n)
	}
}

// Where open files have taken the queue, nothing waits to be written, and no one
// is told that.
func TestRoomOfOpenFiles(t *testing.T) {
	l, _ := open(t, Config{File: filepath.Join(t.TempDir(), "audit"), Queue: MinQueue, WhenFull: Refuse})
	for range MinQueue - 1 {
		if err := l.Reserve(1); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range []int{2, 3} {
		if err := l.Reserve(n); !errors.Is(err, backends.ErrNotRecorded) || !strings.Contains(err.Error(), "15 places of the queue of 16 are held for the ends of open files") {
			t.Errorf("%v", err)
		}
	}
	l.Release(MinQueue - 1)
	closeLog(t, l)
}

// A file that is too large becomes FILE.1 and so on, up to as many as are to be
// kept; nobody but the owner may read any.
func TestRotation(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit")
	l, _ := open(t, Config{File: file, MaxSize: 4096, Keep: 2})
	const n = 400
	for i := range n {
		if err := do(l, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
		if i%10 == 0 { // so that there are many writes
			until(t, "written", func() bool { return l.Status().Queued == 0 })
		}
	}
	closeLog(t, l)
	for i := range 4 {
		st, err := os.Stat(backup(file, i))
		if i > 2 {
			if err == nil {
				t.Errorf("%s is there, 2 are to be kept", backup(file, i))
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode() != fileMode || st.Size() > 4096 {
			t.Errorf("%s has mode %v and %d bytes", backup(file, i), st.Mode(), st.Size())
		}
	}
	all := records(t, file)
	for i, r := range all {
		if want := fmt.Sprintf("/%d", n-len(all)+i); r.Path != want {
			t.Fatalf("record %d of %d is of %s, want %s", i, len(all), r.Path, want)
		}
	}
}

// Several processes write to one file, each rotating it; no record is lost or
// torn.
func TestSeveralWriters(t *testing.T) {
	const env, each = "AUDITLOG_TEST_WRITER", 300
	if who := os.Getenv(env); who != "" {
		l, _ := open(t, Config{File: os.Getenv(env + "_FILE"), MaxSize: 8192, Keep: 1000})
		for i := range each {
			if err := do(l, who+"/"+fmt.Sprint(i)); err != nil {
				t.Fatal(err)
			}
			if i%7 == 0 {
				until(t, "written", func() bool { return l.Status().Queued == 0 })
			}
		}
		closeLog(t, l)
		return
	}
	file := filepath.Join(t.TempDir(), "audit")
	var wg sync.WaitGroup
	for _, who := range []string{"a", "b", "c"} {
		wg.Go(func() {
			cmd := exec.Command(os.Args[0], "-test.run=^TestSeveralWriters$")
			cmd.Env = append(os.Environ(), env+"="+who, env+"_FILE="+file)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("writer %s: %v\n%s", who, err, out)
			}
		})
	}
	wg.Wait()
	seen := map[string]int{}
	for _, r := range records(t, file) {
		seen[r.Path]++
	}
	if len(seen) != 3*each {
		t.Errorf("%d records, want %d", len(seen), 3*each)
	}
	if _, err := os.Stat(backup(file, 2)); err != nil {
		t.Errorf("nothing was rotated: %v", err)
	}
}

// A name that is no text is on record, byte for byte.
func TestNamesThatAreNoText(t *testing.T) {
	l := describer.line(&audit.Op{Kind: audit.Rename, Path: "a\xff\"b\n", To: "c"})
	var back Line
	if err := json.Unmarshal(l.encode(), &back); err != nil {
		t.Fatal(err)
	}
	if string(back.PathBytes) != "/a\xff\"b\n" || back.To != "/c" || back.ToBytes != nil {
		t.Errorf("%+v", back)
	}
	if n := bytes.Count(l.encode(), []byte("\n")); n != 1 {
		t.Errorf("%d ends of lines in one record", n)
	}
}
