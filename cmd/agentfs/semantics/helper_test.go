package semantics

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// helperEnv names the operation that this test binary does in place of tests.
const helperEnv = "AGENTFS_SEMANTICS_HELPER"

// helpers are operations for tests that need another process. What one returns
// is written to stdout.
var helpers = map[string]func(args []string) (string, error){
	"create": helpCreate,
	"append": helpAppend,
	"lock":   helpLock,
	"try":    helpTry,
	"write":  helpWrite,
}

func runHelper(op string, args []string) int {
	out, err := helpers[op](args)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Print(out)
	return 0
}

// helper returns the command for an operation in another process.
func helper(op string, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), helperEnv+"="+op)
	return cmd
}

// helped runs an operation in another process and returns its output.
func helped(t testing.TB, op string, args ...string) string {
	t.Helper()
	out, err := helper(op, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("helper %s %v: %v\n%s", op, args, err, out)
	}
	return string(out)
}

// inTwo runs an operation in two processes at once and returns both outputs.
func inTwo(t testing.TB, op string, args1, args2 []string) [2]string {
	t.Helper()
	var out [2]strings.Builder
	cmds := [2]*exec.Cmd{helper(op, args1...), helper(op, args2...)}
	for i, c := range cmds {
		c.Stdout, c.Stderr = &out[i], &out[i]
		ok(t, "starting a helper", c.Start())
	}
	for i, c := range cmds {
		if err := c.Wait(); err != nil {
			t.Errorf("helper %s: %v\n%s", op, err, &out[i])
		}
	}
	return [2]string{out[0].String(), out[1].String()}
}

// helpCreate creates DIR/0 to DIR/N-1 with O_EXCL, writes its pid into those
// that it got, and says which.
func helpCreate(args []string) (string, error) {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return "", err
	}
	var got strings.Builder
	for i := range n {
		f, err := os.OpenFile(fmt.Sprintf("%s/%d", args[0], i), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		if _, err := fmt.Fprint(f, os.Getpid()); err != nil {
			return "", err
		}
		if err := f.Close(); err != nil {
			return "", err
		}
		fmt.Fprintln(&got, i, os.Getpid())
	}
	return got.String(), nil
}

// helpAppend appends N lines "WHO i" to a file.
func helpAppend(args []string) (string, error) {
	n, err := strconv.Atoi(args[2])
	if err != nil {
		return "", err
	}
	f, err := os.OpenFile(args[0], os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return "", err
	}
	for i := range n {
		if _, err := fmt.Fprintf(f, "%s %d %s\n", args[1], i, strings.Repeat("x", i%300)); err != nil {
			return "", err
		}
	}
	return "", f.Close()
}

// helpWrite writes a text to a file in place.
func helpWrite(args []string) (string, error) {
	return "", os.WriteFile(args[0], []byte(args[1]), 0o644)
}

// setLock takes a lock of that kind on f: flock(2) or fcntl(2).
func setLock(kind string, f *os.File, typ int16) error {
	if kind == "flock" {
		how := map[int16]int{unix.F_RDLCK: unix.LOCK_SH, unix.F_WRLCK: unix.LOCK_EX, unix.F_UNLCK: unix.LOCK_UN}[typ]
		return unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
	}
	return unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: typ, Whence: io.SeekStart, Start: 0, Len: 10})
}

// helpLock locks a file, says so, and holds the lock until stdin ends.
func helpLock(args []string) (string, error) {
	f, err := os.OpenFile(args[1], os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	if err := setLock(args[0], f, unix.F_WRLCK); err != nil {
		return "", err
	}
	fmt.Println("locked")
	_, err = bufio.NewReader(os.Stdin).ReadString('\n')
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return "", err
}

// helpTry says whether a lock on a file can be had.
func helpTry(args []string) (string, error) {
	f, err := os.OpenFile(args[1], os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	err = setLock(args[0], f, unix.F_WRLCK)
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) {
		return "busy", nil
	}
	return "free", err
}
