package semantics

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends/s3/s3test"
)

// mount is a running "agentfs mount".
type mount struct {
	dir      string // the mount point
	cacheDir string
	cmd      *exec.Cmd
	ended    chan struct{} // closed when the process has ended
	log      *logBuffer
}

// logBuffer collects what a process writes to stderr.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// setup says how to mount.
type setup struct {
	routes   []string
	flags    []string
	server   s3test.Server // for its credentials
	cacheDir string        // "": one of its own
}

// start mounts, and unmounts at the end of the test, which then fails if the
// program has found a race or an unforeseen failure of its own.
func start(t testing.TB, s setup) *mount {
	t.Helper()
	needFuse(t)
	bin := program(t)
	// Below one directory that a user without rights can walk through.
	base := publicTempDir(t)
	m := &mount{dir: filepath.Join(base, "mnt"), cacheDir: s.cacheDir, ended: make(chan struct{}), log: &logBuffer{}}
	if m.cacheDir == "" {
		m.cacheDir = filepath.Join(base, "cache")
	}
	if err := os.Mkdir(m.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"mount", "--cache-dir", m.cacheDir, "--drain-timeout", "20s"}, s.flags...)
	for _, r := range s.routes {
		args = append(args, "--route", r)
	}
	m.cmd = exec.Command(bin, append(args, m.dir)...)
	m.cmd.Env = s.env()
	m.cmd.Stderr = m.log
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	// The mount must not outlive the tests, however these end. The kernel
	// watches the thread that starts it, so that one waits for it.
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	ready := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(m.ended)
		if err := m.cmd.Start(); err != nil {
			ready <- err
			return
		}
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "agentfs is ready") {
				ready <- nil
				break
			}
		}
		_, _ = io.Copy(io.Discard, out)
		_ = m.cmd.Wait() // what it means is asked of ProcessState
		select {
		case ready <- fmt.Errorf("agentfs mount ended: %s\n%s", m.cmd.ProcessState, m.log):
		default:
		}
	}()
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.finish(t) })
	return m
}

func (s setup) env() []string {
	return append(os.Environ(),
		"AWS_ACCESS_KEY_ID="+s.server.AccessKey, "AWS_SECRET_ACCESS_KEY="+s.server.SecretKey,
		"AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null")
}

// unmount runs "agentfs unmount", which must succeed.
func (m *mount) unmount(t testing.TB) {
	t.Helper()
	out, err := exec.Command(program(t), "unmount", "--timeout", "40s", m.dir).CombinedOutput()
	if err != nil {
		t.Errorf("agentfs unmount: %v\n%s\n%s", err, out, m.log)
	}
	m.wait(t)
}

// wait waits for the end of the process.
func (m *mount) wait(t testing.TB) {
	t.Helper()
	select {
	case <-m.ended:
	case <-time.After(time.Minute):
		t.Errorf("agentfs mount does not end\n%s", m.log)
		m.kill()
	}
}

// kill ends the process as a crash would, and takes the dead mount away.
func (m *mount) kill() {
	_ = m.cmd.Process.Kill() // it may have ended
	<-m.ended
	_ = syscall.Unmount(m.dir, syscall.MNT_DETACH)
	_ = exec.Command("fusermount3", "-uz", m.dir).Run()
}

func (m *mount) running() bool {
	select {
	case <-m.ended:
		return false
	default:
		return true
	}
}

func (m *mount) finish(t testing.TB) {
	t.Helper()
	if m.running() {
		m.unmount(t)
	}
	said := m.log.String()
	for _, bad := range []string{"DATA RACE", "panic", "fatal error:", "unforeseen"} {
		if strings.Contains(said, bad) {
			t.Errorf("the mount said %q:\n%s", bad, said)
		}
	}
}

// status is what the tests look at of .agentfs/status.
type status struct {
	Pending   int `json:"pending"`
	Conflicts int `json:"conflicts"`
}

func (m *mount) status(t testing.TB) status {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(m.dir, ".agentfs", "status"))
	if err != nil {
		t.Fatal(err)
	}
	var s status
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// needFuse skips where nothing can be mounted.
func needFuse(t testing.TB) {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		missing(t, "no /dev/fuse on this machine (load the kernel module fuse, or give the container the device)")
	}
}

// missing skips a test for want of something, which CI must have.
func missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s", what)
	}
	t.Skipf("%s", what)
}

// need skips where the command is not installed.
func need(t testing.TB, command, debianPackage string) string {
	t.Helper()
	path, err := exec.LookPath(command)
	if err != nil {
		missing(t, fmt.Sprintf("no %s on this machine: install %s", command, debianPackage))
	}
	return path
}

// needRoot skips for other users than root.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "only root may become another user")
	}
}

// publicTempDir is t.TempDir, but every user can walk through it.
func publicTempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "agentfs-semantics-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("%v", err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}
