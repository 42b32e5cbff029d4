package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends/sql/sqltest"
)

// mainEnv makes the test binary the agentfs program: the end-to-end tests run
// this very code in processes of its own, under the race detector if they are.
const mainEnv = "AGENTFS_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(mainEnv) != "" {
		os.Exit(Main(Backends()))
	}
	os.Exit(sqltest.Main(m))
}

// needFuse skips a test where nothing can be mounted; with CI=true that is a
// failure.
func needFuse(t *testing.T) {
	t.Helper()
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err == nil {
		f.Close()
		return
	}
	lacks(t, "/dev/fuse", err)
}

// lacks skips a test that needs something which this machine lacks; with
// CI=true that is a failure.
func lacks(t *testing.T, what string, err error) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("this test needs %s: %v", what, err)
	}
	t.Skipf("this test needs %s: %v", what, err)
}

// command returns agentfs with these arguments, in an environment of its own.
func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Args[0] = "agentfs"
	cmd.Env = append(os.Environ(), mainEnv+"=1", "AWS_EC2_METADATA_DISABLED=true",
		"AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_REGION=us-east-1",
		"GORACE=atexit_sleep_ms=0") // a second per process otherwise
	return cmd
}

// runOnTerminal runs agentfs to its end with a terminal as standard error and
// returns what it showed there. A new process closes its copies of this one's
// open files, which stores them, so a shell waits until before has returned.
func runOnTerminal(t *testing.T, before func(), args ...string) (shown string, status int) {
	t.Helper()
	ptm, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer ptm.Close()
	if err := unix.IoctlSetPointerInt(int(ptm.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(ptm.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	pts, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	cmd := command(t, args...)
	cmd.Args = append([]string{"sh", "-c", `read go; exec "$0" "$@"`, cmd.Path}, args...)
	cmd.Path = "/bin/sh"
	cmd.Stderr = pts
	ready, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pts.Close()
	before()
	if _, err := io.WriteString(ready, "\n"); err != nil {
		t.Fatal(err)
	}
	all, _ := io.ReadAll(ptm) // EIO when the last one has closed the terminal
	_ = cmd.Wait()
	return string(all), cmd.ProcessState.ExitCode()
}

// run runs agentfs to its end and returns what it printed and its status.
func run(t *testing.T, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	cmd := command(t, args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

// mustRun runs agentfs, which has to succeed, and returns its output.
func mustRun(t *testing.T, args ...string) string {
	t.Helper()
	out, errOut, status := run(t, args...)
	if status != 0 {
		t.Fatalf("agentfs %s: exit status %d: %s", strings.Join(args, " "), status, errOut)
	}
	return out
}

// mountProcess is agentfs mount in the foreground.
type mountProcess struct {
	*exec.Cmd
	point string
	log   *syncBuffer
	done  chan struct{}
}

// startMount mounts at a new directory and waits until it is ready.
func startMount(t *testing.T, args ...string) *mountProcess {
	t.Helper()
	return startMountAt(t, newPoint(t), args...)
}

func startMountAt(t *testing.T, point string, args ...string) *mountProcess {
	t.Helper()
	return start(t, point, append(append([]string{"mount"}, args...), point)...)
}

// newPoint returns an empty directory, at which nothing is mounted any more
// when the test's directories are removed.
func newPoint(t *testing.T) string {
	t.Helper()
	point := filepath.Join(t.TempDir(), "mnt")
	if err := os.Mkdir(point, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, ok := mountAt(point); ok {
			t.Errorf("%s is still mounted", point)
			_ = unix.Unmount(point, unix.MNT_DETACH)
		}
	})
	return point
}

// start starts agentfs with these arguments and waits until it is ready.
func start(t *testing.T, point string, args ...string) *mountProcess {
	t.Helper()
	needFuse(t)
	m := &mountProcess{Cmd: command(t, args...), point: point, log: &syncBuffer{}, done: make(chan struct{})}
	m.Stdout, m.Stderr = m.log, m.log
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = m.Wait()
		close(m.done)
	}()
	t.Cleanup(func() {
		select {
		case <-m.done:
		default:
			_ = m.Process.Kill()
			<-m.done
			_ = unix.Unmount(point, unix.MNT_DETACH)
		}
	})
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(m.log.String(), "Ctrl-C unmounts"); {
		select {
		case <-m.done:
			t.Fatalf("ended before it was ready: %s", m.log)
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("not ready: %s", m.log)
		}
	}
	return m
}

// end waits for the process and returns its exit status.
func (m *mountProcess) end(t *testing.T) int {
	t.Helper()
	select {
	case <-m.done:
	case <-time.After(30 * time.Second):
		t.Fatalf("does not end: %s", m.log)
	}
	return m.ProcessState.ExitCode()
}

func (m *mountProcess) signal(t *testing.T, s unix.Signal) {
	t.Helper()
	if err := m.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// stop ends the mount, which has to succeed.
func (m *mountProcess) stop(t *testing.T) {
	t.Helper()
	m.signal(t, unix.SIGTERM)
	if status := m.end(t); status != 0 {
		t.Errorf("exit status %d: %s", status, m.log)
	}
	if _, ok := mountAt(m.point); ok {
		t.Errorf("%s is still mounted", m.point)
	}
}

// syncBuffer collects the output of a process while it runs.
type syncBuffer struct{ v atomic.Pointer[string] }

func (b *syncBuffer) Write(p []byte) (int, error) {
	s := b.String() + string(p) // one writer only: exec copies one pipe
	b.v.Store(&s)
	return len(p), nil
}

func (b *syncBuffer) String() string {
	if s := b.v.Load(); s != nil {
		return *s
	}
	return ""
}

// s3Server is an S3 server that can be made to stop answering.
type s3Server struct {
	*httptest.Server
	hang atomic.Bool  // writes don't get an answer
	slow atomic.Int64 // nanoseconds that a write takes
	down atomic.Bool  // everything is answered 503
	deny atomic.Bool  // writes are answered 403
}

func newS3Server(t *testing.T, bucket string) *s3Server {
	t.Helper()
	store := s3mem.New()
	if err := store.CreateBucket(bucket); err != nil {
		t.Fatal(err)
	}
	inner := gofakes3.New(store, gofakes3.WithLogger(gofakes3.DiscardLog())).Server()
	s := &s3Server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case s.down.Load():
			w.WriteHeader(http.StatusServiceUnavailable)
		case s.deny.Load() && r.Method != http.MethodGet && r.Method != http.MethodHead:
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>`)
		case s.hang.Load() && r.Method != http.MethodGet && r.Method != http.MethodHead:
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		default:
			if r.Method != http.MethodGet && r.Method != http.MethodHead {
				time.Sleep(time.Duration(s.slow.Load()))
			}
			inner.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

// route returns a route to the bucket.
func (s *s3Server) route(path, bucket, options string) string {
	return path + "=s3://" + bucket + "?anonymous=true&path_style=true&endpoint=" + s.URL + options
}

// put makes text the content of a key, as another client would.
func (s *s3Server) put(t *testing.T, bucket, key, text string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, s.URL+"/"+bucket+"/"+key, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("putting %s: %s", key, resp.Status)
	}
}

// object returns what the server has under a key.
func (s *s3Server) object(t *testing.T, bucket, key string) string {
	t.Helper()
	resp, err := http.Get(s.URL + "/" + bucket + "/" + key)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("object %s: %s, %v", key, resp.Status, err)
	}
	return string(b)
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%q is missing in:\n%s", p, text)
		}
	}
}
