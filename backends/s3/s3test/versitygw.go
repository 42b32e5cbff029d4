package s3test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Versitygw returns a versitygw server over a temporary directory, with a
// bucket of the test's own. The binary is $AGENTFS_VERSITYGW, or
// .tools/bin/versitygw in the module's root, where "make tools" puts it;
// without it the test is skipped, and fails with CI=true. Tests that run at
// the same time in one process share a server.
func Versitygw(t testing.TB) Server {
	t.Helper()
	bin, err := findVersitygw()
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("no versitygw: %v", err)
		}
		t.Skipf("no versitygw: %v", err)
	}
	url, err := shared.use(bin)
	if err != nil {
		t.Fatalf("starting versitygw: %v", err)
	}
	t.Cleanup(shared.release)
	s := Server{Endpoint: url, Region: "us-east-1", AccessKey: versityUser, SecretKey: versitySecret}
	s.newBucket(t)
	return s
}

// The credentials of a server that only this process reaches.
const (
	versityUser   = "agentfs-test"
	versitySecret = "agentfs-test-secret"
)

func findVersitygw() (string, error) {
	if bin := os.Getenv("AGENTFS_VERSITYGW"); bin != "" {
		return bin, nil
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			bin := filepath.Join(dir, ".tools", "bin", "versitygw")
			if _, err := os.Stat(bin); err != nil {
				return "", errors.New("run make tools, or set AGENTFS_VERSITYGW")
			}
			return bin, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("no module root above the test: set AGENTFS_VERSITYGW")
		}
		dir = up
	}
}

// shared is the server of this process. It runs while any test uses it: a test
// that wants to keep it across subtests calls Versitygw itself.
var shared versity

type versity struct {
	mu    sync.Mutex
	users int
	cmd   *exec.Cmd
	ended chan struct{}
	dir   string
	url   string
}

func (v *versity) use(bin string) (string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.cmd == nil {
		if err := v.start(bin); err != nil {
			return "", err
		}
	}
	v.users++
	return v.url, nil
}

func (v *versity) release() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.users--
	if v.users == 0 {
		v.stop()
	}
}

// start runs the server. A test process that is killed takes it along: the
// kernel watches the thread that started it, which therefore waits for it and
// does nothing else.
func (v *versity) start(bin string) error {
	dir, err := os.MkdirTemp("", "agentfs-versitygw-*")
	if err != nil {
		return err
	}
	addr, err := freeAddress()
	if err != nil {
		return err
	}
	data, versions := filepath.Join(dir, "data"), filepath.Join(dir, "versions")
	for _, d := range []string{data, versions} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	var output bytes.Buffer
	cmd := exec.Command(bin, "--port", addr, "--health", "/healthz", "--quiet", "posix", "--versioning-dir", versions, data)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+versityUser, "ROOT_SECRET_KEY="+versitySecret)
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	ended := make(chan struct{})
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Wait()
			close(ended)
		}
	}()
	if err := <-started; err != nil {
		os.RemoveAll(dir)
		return err
	}
	v.cmd, v.ended, v.dir, v.url = cmd, ended, dir, "http://"+addr
	deadline := time.Now().Add(20 * time.Second)
	for !healthy(v.url + "/healthz") {
		if time.Now().After(deadline) {
			v.stop()
			return fmt.Errorf("not ready after 20 s: %s", output.String()) // the process has ended: nobody writes
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil
}

func (v *versity) stop() {
	v.cmd.Process.Kill()
	<-v.ended
	os.RemoveAll(v.dir)
	v.cmd = nil
}

// freeAddress returns an address of the loopback interface on which nobody
// listens.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
