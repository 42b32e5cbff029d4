package fs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends/memory"
)

// helperEnv makes the test binary another program, which uses a mount as any
// program does. (What blocks a thread without telling the Go runtime, such as
// a page fault, can't be done by the process that serves the mount.)
const helperEnv = "AGENTFS_TEST_HELPER"

var helpers = map[string]func(args []string) error{
	"serve":  helpServe,
	"read":   helpRead,
	"noisy":  helpNoisy,
	"append": helpAppend,
	"mmap":   helpMmap,
	"lock":   helpLock,
	"copy":   helpCopy,
	"hold":   helpHold,
	"mkdir":  func(a []string) error { return os.Mkdir(a[0], 0o755) },
}

func TestMain(m *testing.M) {
	if name := os.Getenv(helperEnv); name != "" {
		if err := helpers[name](os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func helper0(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), helperEnv+"="+name, "GORACE=atexit_sleep_ms=0")
	return cmd
}

// runHelper runs a helper to its end and returns what it printed.
func runHelper(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := helper0(t, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
	return string(out)
}

// startHelper starts a helper and returns when it has printed a line. It is
// killed when the test ends.
func startHelper(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("the helper said nothing: %v", err)
	}
}

// helpServe mounts memory on a directory until it is killed or the mount is
// unmounted.
func helpServe(a []string) error {
	s, err := memory.New(memory.Config{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())})
	if err != nil {
		return err
	}
	srv, err := Mount(a[0], s.FileSystem(), Options{})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	srv.Wait()
	return s.Close()
}

func helpRead(a []string) error {
	f, err := os.Open(a[0])
	if err != nil {
		return err
	}
	defer f.Close()
	fmt.Println("reading")
	_, err = io.Copy(os.Stdout, f)
	return err
}

// helpNoisy reads while signals with handlers come in without end: SIGURG as
// in a busy Go program, and a timer.
func helpNoisy(a []string) error {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGALRM, syscall.SIGUSR1)
	every := unix.Timeval{Usec: 1000}
	if _, err := unix.Setitimer(unix.ITIMER_REAL, unix.Itimerval{Interval: every, Value: every}); err != nil {
		return err
	}
	go func() {
		for range time.Tick(time.Millisecond) {
			syscall.Kill(os.Getpid(), syscall.SIGURG)
			syscall.Kill(os.Getpid(), syscall.SIGUSR1)
		}
	}()
	fd, err := unix.Open(a[0], unix.O_RDONLY, 0)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	buf := make([]byte, 1<<16)
	n, err := unix.Read(fd, buf)
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	fmt.Print(string(buf[:n]))
	return unix.Close(fd)
}

// helpAppend appends count lines that begin with a tag.
func helpAppend(a []string) error {
	count, err := strconv.Atoi(a[2])
	if err != nil {
		return err
	}
	f, err := os.OpenFile(a[0], os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	for i := range count {
		if _, err := fmt.Fprintf(f, "%s %d\n", a[1], i); err != nil {
			return err
		}
	}
	return f.Close()
}

// helpMmap changes a file through a shared mapping and syncs it.
func helpMmap(a []string) error {
	f, err := os.OpenFile(a[0], os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	p, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	copy(p[5000:], a[1])
	if err := unix.Msync(p, unix.MS_SYNC); err != nil {
		return err
	}
	if !strings.HasPrefix(string(p[5000:]), a[1]) {
		return errors.New("the mapping lost what was written")
	}
	// Not synced, and written only after the descriptor is closed.
	f.Close()
	copy(p[9000:], a[1])
	return unix.Munmap(p)
}

// helpLock tries to get a lock: it prints what came of it.
func helpLock(a []string) error {
	f, err := os.OpenFile(a[1], os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if a[0] == "flock" {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	} else {
		err = unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	}
	fmt.Println(err)
	return nil
}

// helpCopy copies a file with copy_file_range(2), after it has changed the
// source through a mapping that nobody has synced.
func helpCopy(a []string) error {
	src, err := os.OpenFile(a[0], os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer src.Close()
	st, err := src.Stat()
	if err != nil {
		return err
	}
	p, err := unix.Mmap(int(src.Fd()), 0, int(st.Size()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	copy(p[10:], a[2])
	dst, err := os.OpenFile(a[1], os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	for left := int(st.Size()); left > 0; {
		n, err := unix.CopyFileRange(int(src.Fd()), nil, int(dst.Fd()), nil, left, 0)
		if err != nil || n == 0 {
			return fmt.Errorf("copy_file_range with %d bytes to go: %d, %w", left, n, err)
		}
		left -= n
	}
	return errors.Join(unix.Munmap(p), dst.Close())
}

// helpHold keeps a file open until it is killed.
func helpHold(a []string) error {
	f, err := os.Open(a[0])
	if err != nil {
		return err
	}
	fmt.Println("holding")
	time.Sleep(time.Minute)
	return f.Close()
}
