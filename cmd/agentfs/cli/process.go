package cli

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// startTicks returns when a process began, in clock ticks since boot (field 22
// of /proc/PID/stat, proc(5)).
func startTicks(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The command's name may contain anything but ends at the last bracket.
	s := string(b)
	fields := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	if len(fields) < 20 {
		return 0, errors.New("unexpected /proc/PID/stat")
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// isRunning reports whether the process that began at start still runs; one
// that only waits for its parent to look (a zombie) does not.
func isRunning(pid int, start uint64) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	s := string(b)
	fields := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return false
	}
	return fields[19] == strconv.FormatUint(start, 10)
}

// within calls f and gives up on it after d: for calls into a mount, which
// may be dead. The goroutine then stays behind until the call returns.
func within[T any](d time.Duration, f func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	c := make(chan result, 1)
	go func() {
		v, err := f()
		c <- result{v, err}
	}()
	select {
	case r := <-c:
		return r.v, r.err
	case <-time.After(d):
		var zero T
		return zero, errHangs
	}
}

var errHangs = errors.New("does not answer")
