// Package process tells which process a kernel's caller is. FUSE reports the
// thread that called, 0 if this process can't see it (another pid namespace).
//
// It reads /proc/PID/status, stat and exe and nothing else: what else is there
// may hold secrets (cmdline, environ). Of these, stat and exe can wait for ever:
// the kernel reads them under a lock that execve(2) holds while it closes the
// files that the new program is not to have, and such a close waits for us. So
// they are read at the side, and given up on after a while.
package process

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// ID names one process; unlike its pid, it is never used again.
type ID struct {
	PID uint32
	// Start is in clock ticks since boot, as /proc/PID/stat has it; 0 for a
	// process in the middle of execve(2).
	Start uint64
}

// Process is what a process was when it was looked at.
type Process struct {
	ID
	Parent uint32 // pid; 0 if it is not to be seen
	UID    uint32 // effective
}

// Exe returns the path of the program that the process runs now, "" if it may
// not be seen or is in the middle of execve(2). It asks anew every time, because
// execve keeps the pid.
func (p Process) Exe() string {
	if p.Start == 0 {
		return ""
	}
	exe, _ := Within(patience, func() (string, error) { return os.Readlink(dir(p.PID) + "/exe") })
	return exe
}

// patience is how long a reader of /proc waits for the kernel. Where it does not
// wait for us, that takes microseconds.
const patience = 30 * time.Millisecond

func dir(pid uint32) string { return "/proc/" + strconv.FormatUint(uint64(pid), 10) }

// read looks at the process of thread tid.
func read(tid uint32) (p Process, ok bool) {
	status, err := os.ReadFile(dir(tid) + "/status")
	if err != nil {
		return Process{}, false
	}
	for line := range bytes.Lines(status) {
		key, value, _ := strings.Cut(strings.TrimSuffix(string(line), "\n"), ":\t")
		switch key {
		case "Tgid":
			p.PID = number(value)
		case "PPid":
			p.Parent = number(value)
		case "Uid": // real, effective, saved, file system
			if f := strings.Fields(value); len(f) == 4 {
				p.UID = number(f[1])
			}
		}
	}
	if p.PID == 0 {
		return Process{}, false
	}
	stat, err := Within(patience, func() ([]byte, error) { return os.ReadFile(dir(p.PID) + "/stat") })
	switch {
	case errors.Is(err, ErrNoAnswer):
		return p, true
	case err != nil:
		return Process{}, false
	}
	// The command's name may contain anything but ends at the last bracket;
	// the start is field 22 (proc_pid_stat(5)).
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 {
		return Process{}, false
	}
	p.Start, err = strconv.ParseUint(string(fields[19]), 10, 64)
	return p, err == nil
}

func number(s string) uint32 {
	n, _ := strconv.ParseUint(s, 10, 32)
	return uint32(n)
}

const (
	// believed is how long what was read of a thread counts: far less than it
	// takes until its number is given to another one.
	believed = time.Second
	// maxKnown bounds how many are remembered.
	maxKnown = 4096
	// maxAncestors bounds how far up Ancestors goes.
	maxAncestors = 64
)

// Table looks processes up and remembers them for a second, because one
// operation is rarely alone. The zero value is ready for use. Its methods may be
// called by many goroutines at once.
type Table struct {
	mu    sync.Mutex
	known map[uint32]seen
}

type seen struct {
	p    Process
	ok   bool
	when time.Time
}

// Of returns the process of thread tid; ok is false if it is not to be seen.
func (t *Table) Of(tid uint32) (p Process, ok bool) {
	if tid == 0 {
		return Process{}, false
	}
	now := time.Now()
	t.mu.Lock()
	s, found := t.known[tid]
	t.mu.Unlock()
	if found && now.Sub(s.when) < believed {
		return s.p, s.ok
	}
	p, ok = read(tid)
	if ok && p.Start == 0 {
		return p, ok // more will be known soon
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known == nil || len(t.known) >= maxKnown {
		t.known = map[uint32]seen{}
	}
	t.known[tid] = seen{p, ok, now}
	return p, ok
}

// Ancestors returns the process of thread tid, its parent, and so on up to, not
// including, the first that belongs to another user or is the init of its
// machine or container; none if the process is not to be seen.
func (t *Table) Ancestors(tid uint32) []Process {
	p, ok := t.Of(tid)
	if !ok {
		return nil
	}
	all := []Process{p}
	for len(all) < maxAncestors {
		up, ok := t.Of(p.Parent)
		if !ok || up.PID <= 1 || up.UID != p.UID {
			break
		}
		all = append(all, up)
		p = up
	}
	return all
}
