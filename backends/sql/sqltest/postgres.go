// Package sqltest starts a PostgreSQL server for tests.
package sqltest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends/sql"
)

// Main runs the tests of a package and ends the server that they have used.
func Main(m *testing.M) int {
	defer shared.stop()
	return m.Run()
}

// Postgres returns the configuration of an empty schema of a PostgreSQL server,
// which runs in a temporary directory until [Main] has run all tests. The server is that of
// the Debian package postgresql, or in $AGENTFS_POSTGRES, a directory with initdb
// and postgres; without it the test is skipped, and fails with CI=true.
func Postgres(t testing.TB) sql.Config {
	t.Helper()
	bin, err := find()
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("no PostgreSQL: %v", err)
		}
		t.Skipf("no PostgreSQL: %v", err)
	}
	n, dsn, err := shared.use(bin)
	if err != nil {
		t.Fatalf("starting PostgreSQL: %v", err)
	}
	return sql.Config{DSN: dsn, Schema: fmt.Sprintf("test%d", n)}
}

// find returns the directory of the newest server that is installed.
func find() (string, error) {
	if dir := os.Getenv("AGENTFS_POSTGRES"); dir != "" {
		return dir, nil
	}
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	dirs = slices.DeleteFunc(dirs, func(dir string) bool {
		_, err := os.Stat(filepath.Join(dir, "initdb"))
		return err != nil
	})
	if len(dirs) == 0 {
		return "", errors.New("run make tools, install the package postgresql, or set AGENTFS_POSTGRES")
	}
	slices.Sort(dirs)
	return dirs[len(dirs)-1], nil
}

// shared is the server of this process.
var shared server

type server struct {
	mu    sync.Mutex
	uses  int
	cmd   *exec.Cmd
	ended chan struct{}
	dir   string
	dsn   string
}

func (s *server) use(bin string) (n int, dsn string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		if err := s.start(bin); err != nil {
			return 0, "", err
		}
	}
	s.uses++
	return s.uses, s.dsn, nil
}

// start makes a cluster and runs a server on it that listens on a socket only.
// A test process that is killed takes it along: the kernel watches the thread
// that started it, which therefore waits for it and does nothing else.
func (s *server) start(bin string) error {
	attr, own, err := unprivileged()
	if err != nil {
		return err
	}
	// Short, because the path of a socket has at most 107 bytes.
	dir, err := os.MkdirTemp("/tmp", "agentfs-pg-*")
	if err != nil {
		return err
	}
	if err := own(dir); err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	data := filepath.Join(dir, "data")
	initdb := exec.Command(filepath.Join(bin, "initdb"), "--pgdata", data, "--username", "agentfs", "--auth", "trust", "--no-sync", "--encoding", "UTF8", "--locale", "C")
	initdb.SysProcAttr, initdb.Dir = attr(), dir
	if out, err := initdb.CombinedOutput(); err != nil {
		return errors.Join(fmt.Errorf("%w: %s", err, out), os.RemoveAll(dir))
	}
	var output bytes.Buffer
	cmd := exec.Command(filepath.Join(bin, "postgres"), "-D", data, "-k", dir, "-h", "", "-c", "fsync=off", "-c", "max_connections=200")
	cmd.SysProcAttr, cmd.Dir = attr(), dir
	cmd.SysProcAttr.Pdeathsig, cmd.SysProcAttr.Setpgid = syscall.SIGQUIT, true
	cmd.Stdout, cmd.Stderr = &output, &output
	ended, started := make(chan struct{}), make(chan error)
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
		return errors.Join(err, os.RemoveAll(dir))
	}
	s.cmd, s.ended, s.dir = cmd, ended, dir
	s.dsn = "postgres://agentfs@/postgres?host=" + dir
	for deadline := time.Now().Add(60 * time.Second); ; {
		err := reach(s.dsn)
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			s.stop()
			return fmt.Errorf("not ready after a minute: %w: %s", err, output.String()) // the process has ended: nobody writes
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func reach(dsn string) error {
	s, err := sql.New(sql.Config{DSN: dsn, Schema: "ready"})
	if err != nil {
		return err
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err = s.Features(ctx)
	return err
}

func (s *server) stop() {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Signal(syscall.SIGQUIT) // at once, without a checkpoint
	<-s.ended
	os.RemoveAll(s.dir)
	s.cmd = nil
}

// unprivileged returns with what attributes a process runs as somebody who is
// not root, as which PostgreSQL refuses to run, and what gives a directory to
// that user.
func unprivileged() (attr func() *syscall.SysProcAttr, own func(dir string) error, err error) {
	if os.Geteuid() != 0 {
		return func() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }, func(string) error { return nil }, nil
	}
	u, err := user.Lookup("postgres") // made by the package
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return nil, nil, err
		}
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return nil, nil, err
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return nil, nil, err
	}
	attr = func() *syscall.SysProcAttr {
		return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	return attr, func(dir string) error { return os.Chown(dir, uid, gid) }, nil
}
