package main

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// counts are requests by operation.
type counts map[string]int

func (c counts) total() int {
	n := 0
	for _, v := range c {
		n += v
	}
	return n
}

// String lists the operations, most frequent first: "LOOKUP 1000, OPEN 20".
func (c counts) String() string {
	if len(c) == 0 {
		return "none"
	}
	ops := slices.SortedFunc(maps.Keys(c), func(a, b string) int {
		if c[a] != c[b] {
			return c[b] - c[a]
		}
		return strings.Compare(a, b)
	})
	parts := make([]string, len(ops))
	for i, op := range ops {
		parts[i] = fmt.Sprintf("%s %d", op, c[op])
	}
	return strings.Join(parts, ", ")
}

// fuseTracer counts the requests that the kernel sends to FUSE servers, by
// the kernel's own trace event: it needs nothing of the server and counts all
// servers alike. It needs root and Linux 6.10.
type fuseTracer struct {
	dir     string // an instance of its own, so that other tracing goes on
	pipe    *os.File
	lines   *bufio.Reader
	mounted string // the tracefs that was mounted for it, if any
}

const traceEvent = "events/fuse/fuse_request_send"

// newFuseTracer sets up the tracer. mountAt is where tracefs is mounted if it
// isn't anywhere yet.
func newFuseTracer(mountAt string) (_ *fuseTracer, err error) {
	t := &fuseTracer{}
	root := "/sys/kernel/tracing"
	if _, err := os.Stat(filepath.Join(root, "instances")); err != nil {
		if err := os.Mkdir(mountAt, 0o700); err != nil {
			return nil, err
		}
		if err := unix.Mount("tracefs", mountAt, "tracefs", 0, ""); err != nil {
			return nil, fmt.Errorf("mount tracefs: %w", err)
		}
		root, t.mounted = mountAt, mountAt
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.close())
		}
	}()
	if _, err := os.Stat(filepath.Join(root, traceEvent)); err != nil {
		return nil, fmt.Errorf("this kernel does not trace FUSE requests: %w", err)
	}
	t.dir = filepath.Join(root, "instances", fmt.Sprintf("agentfs-bench-%d", os.Getpid()))
	if err := os.Mkdir(t.dir, 0o700); err != nil {
		return nil, err
	}
	if err := t.set("buffer_size_kb", "32768"); err != nil {
		return nil, err
	}
	if t.pipe, err = os.Open(filepath.Join(t.dir, "trace_pipe")); err != nil {
		return nil, err
	}
	t.lines = bufio.NewReaderSize(t.pipe, 1<<20)
	return t, nil
}

func (t *fuseTracer) set(file, value string) error {
	return os.WriteFile(filepath.Join(t.dir, file), []byte(value), 0)
}

// count returns the requests that the mount at dir gets while f runs.
func (t *fuseTracer) count(dir string, f func() error) (_ counts, err error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return nil, err
	}
	// The event names a connection by its device number as the kernel packs it.
	device := unix.Major(st.Dev)<<20 | unix.Minor(st.Dev)
	if err := t.set(filepath.Join(traceEvent, "filter"), fmt.Sprintf("connection==%d", device)); err != nil {
		return nil, err
	}
	if err := t.set(filepath.Join(traceEvent, "enable"), "1"); err != nil {
		return nil, err
	}
	err = f()
	// The kernel sends what it does behind the caller's back, the RELEASE after
	// a close for one, a moment later.
	time.Sleep(20 * time.Millisecond)
	if e := t.set(filepath.Join(traceEvent, "enable"), "0"); e != nil || err != nil {
		return nil, errors.Join(err, e)
	}
	end := fmt.Sprintf("end of %s %d", dir, time.Now().UnixNano())
	if err := t.set("trace_marker", end); err != nil {
		return nil, err
	}
	c := counts{}
	for {
		line, err := t.lines.ReadString('\n')
		if err != nil {
			return nil, fmt.Errorf("trace: %w", err)
		}
		switch {
		case strings.Contains(line, end):
			return c, nil
		case strings.Contains(line, "LOST") && strings.Contains(line, "EVENTS"):
			return nil, errors.New("trace: the kernel's buffer was too small")
		}
		if op, ok := traceOp(line); ok {
			c[op]++
		}
	}
}

// traceOp takes the operation from a line of the trace:
//
//	cat-2781 [001] ..... 95.76: fuse_request_send: connection 43 req 4 opcode 14 (FUSE_OPEN) len 48
func traceOp(line string) (string, bool) {
	_, rest, ok := strings.Cut(line, " opcode ")
	if !ok {
		return "", false
	}
	number, rest, ok := strings.Cut(rest, " (")
	name, _, closed := strings.Cut(rest, ")")
	if !ok || !closed {
		return "", false
	}
	if op, ok := strings.CutPrefix(name, "FUSE_"); ok {
		return op, true
	}
	_, err := strconv.Atoi(number)
	return "opcode " + number, err == nil
}

func (t *fuseTracer) close() error {
	var errs []error
	if t.pipe != nil {
		errs = append(errs, t.pipe.Close())
	}
	if t.dir != "" {
		if _, err := os.Stat(t.dir); err == nil {
			errs = append(errs, unix.Rmdir(t.dir))
		}
	}
	if t.mounted != "" {
		errs = append(errs, detach(t.mounted))
	}
	return errors.Join(errs...)
}
