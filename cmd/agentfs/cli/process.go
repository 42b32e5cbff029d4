package cli

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
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
