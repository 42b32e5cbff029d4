package exec

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"os"
	osexec "os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// How long a program may take to end once its input has ended, and once it
// was asked to by SIGTERM. After that it is killed.
const (
	endGrace  = 5 * time.Second
	termGrace = 2 * time.Second
)

// maxLine is how much of a line of the program's standard error one line of
// the log has.
const maxLine = 4 << 10

// process is a running program. It and whatever it has started are one process
// group, which ends with it.
type process struct {
	cmd    *osexec.Cmd
	stdin  *os.File
	stdout *os.File
	ended  chan struct{} // closed once it was waited for
	err    error         // what Wait returned, once ended is closed
}

// start starts a program whose standard error goes to log.
func start(argv []string, log *slog.Logger) (*process, error) {
	var files []*os.File
	closeFiles := func() {
		for _, f := range files {
			f.Close()
		}
	}
	pipe := func() (r, w *os.File, err error) {
		if r, w, err = os.Pipe(); err == nil {
			files = append(files, r, w)
		}
		return r, w, err
	}
	inR, inW, err := pipe()
	if err != nil {
		return nil, err
	}
	outR, outW, err := pipe()
	if err != nil {
		closeFiles()
		return nil, err
	}
	errR, errW, err := pipe()
	if err != nil {
		closeFiles()
		return nil, err
	}
	cmd := osexec.Command(argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = inR, outW, errW
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	p := &process{cmd: cmd, stdin: inW, stdout: outR, ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel sends the signal when the thread ends that has started the
		// program, so this one does nothing else until then.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.wait()
		}
	}()
	if err := <-started; err != nil {
		closeFiles()
		return nil, err
	}
	for _, f := range []*os.File{inR, outW, errW} {
		f.Close()
	}
	go logLines(errR, log.With("pid", cmd.Process.Pid))
	return p, nil
}

// wait waits until the program has ended and ends what it has started. The
// group is killed before the program is reaped: until then its number belongs
// to nobody else.
func (p *process) wait() {
	for {
		err := unix.Waitid(unix.P_PID, p.cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	p.signal(unix.SIGKILL)
	p.err = p.cmd.Wait()
	// What it has written is still to be read, but nobody else may keep the
	// pipe open for ever.
	_ = p.stdout.SetReadDeadline(time.Now().Add(time.Second))
	close(p.ended)
}

// signal sends sig to the program and what it has started. It is for a program
// that was not reaped yet, or a moment ago.
func (p *process) signal(sig unix.Signal) { _ = unix.Kill(-p.cmd.Process.Pid, sig) }

// kill ends the program at once.
func (p *process) kill() {
	select {
	case <-p.ended:
	default:
		p.signal(unix.SIGKILL)
	}
}

// stop ends the program: by the end of its input, else by SIGTERM, else by
// SIGKILL.
func (p *process) stop(end, term time.Duration) {
	p.stdin.Close()
	if p.endsWithin(end) {
		return
	}
	p.signal(unix.SIGTERM)
	if p.endsWithin(term) {
		return
	}
	p.kill()
	<-p.ended
}

func (p *process) endsWithin(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-p.ended:
		return true
	case <-t.C:
		return false
	}
}

// end says how the program ended. It is called once ended is closed.
func (p *process) end() string {
	if p.err == nil {
		return "it has exited with status 0"
	}
	return "it has ended: " + p.err.Error()
}

// logLines writes what the program says to the log, line by line, until it
// says nothing more.
func logLines(r io.ReadCloser, log *slog.Logger) {
	defer r.Close()
	b := bufio.NewReaderSize(r, maxLine)
	for {
		// A line that is longer than the buffer comes in several.
		line, _, err := b.ReadLine()
		if text := strings.TrimRight(string(line), " \t\r"); text != "" {
			log.Info("program: " + text)
		}
		if err != nil {
			return
		}
	}
}
