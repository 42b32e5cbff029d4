package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// backgroundEnv marks the process that serves a mount in the background. Its
// value is the file that standard error becomes when the mount is ready.
const backgroundEnv = "AGENTFS_BACKGROUND_LOG"

// readyFD is where that process says that it is ready.
const readyFD = 3

func (p *program) inBackground() bool { return p.background != "" }

// takeBackground remembers what backgroundEnv says, and takes it out of the
// environment: programs that this process starts are not that process.
func (p *program) takeBackground() {
	p.background = os.Getenv(backgroundEnv)
	os.Unsetenv(backgroundEnv)
}

// runInBackground runs this command once more, detached, and returns when the
// mount is ready or has failed. Re-executing is what a Go program does instead
// of fork(2), which keeps only one of its threads.
func (p *program) runInBackground(ctx context.Context, f *mountFlags, mountPoint string) error {
	logFile, err := p.backgroundLog(f, mountPoint)
	if err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	readyR, readyW, err := os.Pipe()
	if err != nil {
		return err
	}
	defer readyR.Close()
	errR, errW, err := os.Pipe()
	if err != nil {
		return errors.Join(err, readyW.Close())
	}
	defer errR.Close()
	cmd := exec.Command(exe)
	cmd.Args = os.Args
	cmd.Env = append(os.Environ(), backgroundEnv+"="+logFile)
	cmd.Stderr = errW
	cmd.ExtraFiles = []*os.File{readyW} // readyFD
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	errors.Join(readyW.Close(), errW.Close())
	if err != nil {
		return fmt.Errorf("starting in the background: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(unix.SIGTERM) })()
	// Both pipes end when the child is ready, because it then closes them, or
	// when it ends.
	if _, err := io.Copy(p.err, errR); err != nil {
		return err
	}
	var ready bytes.Buffer
	if _, err := io.Copy(&ready, readyR); err != nil {
		return err
	}
	if ready.Len() > 0 {
		_, err := fmt.Fprintf(p.out, "%sIt runs in the background as process %d and logs to %s.\nagentfs unmount %s ends it.\n",
			ready.String(), cmd.Process.Pid, logFile, shellQuote(displayPath(mountPoint)))
		return errors.Join(err, cmd.Process.Release())
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		return silentError{exit.ExitCode()} // it said why
	}
	return fmt.Errorf("the process in the background ended before the mount was ready: %v", cmd.ProcessState)
}

// backgroundLog returns the log file of a mount in the background: that of
// --log-file, else one below the cache directory.
func (p *program) backgroundLog(f *mountFlags, mountPoint string) (string, error) {
	if p.log.file != "" {
		return filepath.Abs(p.log.file)
	}
	point, err := resolvePoint(mountPoint)
	if err != nil {
		return "", err
	}
	c, err := f.routes.read()
	if err != nil {
		return "", err
	}
	dir, err := cacheDir(f.cacheDir, c)
	if err != nil {
		return "", err
	}
	name := logPath(dir, point)
	return name, os.MkdirAll(filepath.Dir(name), 0o700)
}

// reportReady tells the process that waits in front that the mount is ready,
// and lets go of its terminal.
func (p *program) reportReady(write func(io.Writer)) error {
	log, err := os.OpenFile(p.background, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		log, err = os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	}
	if err != nil {
		return err
	}
	defer log.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	ready := os.NewFile(readyFD, "ready")
	var b bytes.Buffer
	write(&b)
	_, err = ready.Write(b.Bytes())
	return errors.Join(err,
		unix.Dup3(int(null.Fd()), 0, 0),
		unix.Dup3(int(log.Fd()), 1, 0),
		unix.Dup3(int(log.Fd()), 2, 0),
		ready.Close())
}

// logPath returns where the log of a mount in the background goes by default.
func logPath(cacheDir, point string) string {
	b := []byte(filepath.Clean(point)[1:])
	for i, c := range b {
		if c == '/' || c == '\n' {
			b[i] = '-'
		}
	}
	return filepath.Join(cacheDir, "logs", string(b)+".log")
}
