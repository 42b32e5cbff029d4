package semantics

import (
	"crypto/rand"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends/s3/s3test"
)

// ownServer is a versitygw of one test's own, which it may stop and start
// again at the same address over the same data.
type ownServer struct {
	s3test.Server
	t     testing.TB
	bin   string
	addr  string
	dir   string
	cmd   *exec.Cmd
	ended chan struct{}
}

func startOwnServer(t testing.TB) *ownServer {
	t.Helper()
	bin := os.Getenv("AGENTFS_VERSITYGW")
	if bin == "" {
		bin = filepath.Join("..", "..", "..", ".tools", "bin", "versitygw")
	}
	bin, err := filepath.Abs(bin)
	ok(t, "versitygw", err)
	if _, err := os.Stat(bin); err != nil {
		missing(t, "no versitygw: run make tools, or set AGENTFS_VERSITYGW")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, "a free port", err)
	s := &ownServer{t: t, bin: bin, addr: l.Addr().String(), dir: t.TempDir()}
	ok(t, "a free port", l.Close())
	secret := rand.Text()
	s.Server = s3test.Server{Endpoint: "http://" + s.addr, Region: "us-east-1", Bucket: "bucket", AccessKey: "test", SecretKey: secret}
	mkdir(t, filepath.Join(s.dir, "bucket"))
	s.start()
	t.Cleanup(s.kill)
	return s
}

// start starts the server and waits until it answers.
func (s *ownServer) start() {
	s.t.Helper()
	s.cmd = exec.Command(s.bin, "--port", s.addr, "--health", "/healthz", "--quiet", "posix", s.dir)
	s.cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+s.AccessKey, "ROOT_SECRET_KEY="+s.SecretKey)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started, ended := make(chan error), make(chan struct{})
	cmd := s.cmd
	go func() {
		runtime.LockOSThread() // Pdeathsig is the thread's
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
			close(ended)
		}
	}()
	ok(s.t, "starting versitygw", <-started)
	s.ended = ended
	within(s.t, 20*time.Second, "ready", func() bool {
		res, err := http.Get(s.Endpoint + "/healthz")
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
}

func (s *ownServer) kill() {
	_ = s.cmd.Process.Kill() // it may be dead
	<-s.ended
}

func (s *ownServer) signal(sig syscall.Signal) {
	s.t.Helper()
	ok(s.t, sig.String(), s.cmd.Process.Signal(sig))
}
