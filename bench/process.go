package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	startTimeout = 30 * time.Second
	stopTimeout  = 2 * time.Minute // a mount may have to upload what it holds
)

// server is a process that serves something: a mount, an S3 server.
type server struct {
	name string
	cmd  *exec.Cmd
	done chan struct{}
	log  string // file with what it printed
}

// startServer starts a server process. It gets its own process group, so that a
// Ctrl-C at the terminal reaches it through stop only, and a SIGTERM if this
// process dies.
func startServer(name, logFile string, env []string, argv ...string) (*server, error) {
	out, err := os.Create(logFile)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	// The user's own AWS settings have no part in this.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "AWS_") })
	cmd.Env = append(cmd.Env, env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	s := &server{name: name, cmd: cmd, done: make(chan struct{}), log: logFile}
	go func() {
		_ = cmd.Wait() // its exit status is looked at in stop
		close(s.done)
	}()
	return s, nil
}

// waitFor waits until ready returns true.
func (s *server) waitFor(ctx context.Context, what string, ready func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for !ready() {
		select {
		case <-s.done:
			return fmt.Errorf("%s ended before %s: %s", s.name, what, s.lastWords())
		case <-ctx.Done():
			return fmt.Errorf("%s: waiting until %s: %w: %s", s.name, what, ctx.Err(), s.lastWords())
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// stop asks the process to end and waits for it.
func (s *server) stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-s.done:
	case <-time.After(stopTimeout):
		_ = s.cmd.Process.Kill() // there is nothing gentler left
		<-s.done
		return fmt.Errorf("%s did not end within %v of a SIGTERM: %s", s.name, stopTimeout, s.lastWords())
	}
	return nil
}

// lastWords returns the end of what the process printed.
func (s *server) lastWords() string {
	text, err := os.ReadFile(s.log)
	if err != nil {
		return err.Error()
	}
	if n := len(text); n > 2000 {
		text = text[n-2000:]
	}
	if t := strings.TrimSpace(string(text)); t != "" {
		return t
	}
	return "it printed nothing"
}

// mount is a directory that a candidate serves.
type mount struct {
	dir string
	pid int // of the server; 0 if the kernel serves it
	// close unmounts. The server ends with it.
	close func() error
	// kill ends the server without a chance to put anything in order; close
	// has to follow.
	kill func()
	// lastWords returns the end of what the server printed.
	lastWords func() string
}

// serveMount starts a server that mounts itself at dir and waits until it has.
func serveMount(ctx context.Context, name, dir string, env []string, argv ...string) (*mount, error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	s, err := startServer(name, dir+".log", env, argv...)
	if err != nil {
		return nil, err
	}
	m := &mount{dir: dir, pid: s.cmd.Process.Pid, lastWords: s.lastWords}
	killed := false
	m.kill = func() {
		killed = true
		// That it is busy is known; what counts is that the kernel ends the
		// connection. A server that was about to tell the kernel something of a
		// directory that somebody reads would not die otherwise.
		_ = unix.Unmount(dir, unix.MNT_FORCE)
		_ = s.cmd.Process.Kill() // it may have ended before
		<-s.done
	}
	m.close = func() error {
		err := s.stop()
		if killed && isMountPoint(dir) {
			return errors.Join(err, detach(dir))
		}
		if isMountPoint(dir) {
			err = errors.Join(err, fmt.Errorf("%s left %s mounted", name, dir), detach(dir))
		}
		return err
	}
	if err := s.waitFor(ctx, "it is mounted", func() bool { return isMountPoint(dir) }); err != nil {
		return nil, errors.Join(err, m.close())
	}
	return m, nil
}

// mountTmpfs mounts a tmpfs at dir; without the right to, dir is a directory in
// /dev/shm, which is one.
func mountTmpfs(dir string, size int64) (*mount, error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0755", size))
	if err == nil {
		return &mount{dir: dir, close: func() error { return detach(dir) }}, nil
	}
	if !errors.Is(err, unix.EPERM) {
		return nil, fmt.Errorf("mount tmpfs at %s: %w", dir, err)
	}
	shm, err := os.MkdirTemp("/dev/shm", "agentfs-bench-")
	if err != nil {
		return nil, err
	}
	return &mount{dir: shm, close: func() error { return os.RemoveAll(shm) }}, nil
}

// isMountPoint reports whether another file system begins at dir. A mount whose
// server has died counts.
func isMountPoint(dir string) bool {
	var st, parent unix.Stat_t
	switch err := unix.Lstat(dir, &st); {
	case errors.Is(err, unix.ENOTCONN):
		return true
	case err != nil:
		return false
	}
	return unix.Lstat(filepath.Dir(dir), &parent) == nil && st.Dev != parent.Dev
}

// detach unmounts dir, in use or not.
func detach(dir string) error {
	err := unix.Unmount(dir, unix.MNT_DETACH)
	if errors.Is(err, unix.EPERM) {
		err = exec.Command("fusermount3", "-u", "-z", dir).Run()
	}
	if err != nil {
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	return nil
}

// removeUnmounted removes dir with everything in it, unless something is still
// mounted there.
func removeUnmounted(dir string) error {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	if strings.Contains(string(mounts), " "+dir+"/") {
		return fmt.Errorf("something is still mounted below %s: it was not removed", dir)
	}
	return os.RemoveAll(dir)
}
