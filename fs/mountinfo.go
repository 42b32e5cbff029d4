package fs

import (
	"bufio"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// mountInfo is one line of /proc/self/mountinfo. See proc_pid_mountinfo(5).
type mountInfo struct {
	device string // "MAJOR:MINOR"
	path   string
	fsType string
	source string
}

// findMount returns the topmost mount on exactly path. It doesn't touch the
// mount itself.
func findMount(path string) (mountInfo, bool) {
	if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		path = filepath.Join(dir, filepath.Base(path))
	}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return mountInfo{}, false
	}
	defer f.Close()
	var found mountInfo
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if mi, ok := parseMountInfo(lines.Text()); ok && mi.path == path {
			found = mi
		}
	}
	return found, found.path != ""
}

func parseMountInfo(line string) (mountInfo, bool) {
	before, after, ok := strings.Cut(line, " - ")
	b, a := strings.Fields(before), strings.Fields(after)
	if !ok || len(b) < 5 || len(a) < 2 {
		return mountInfo{}, false
	}
	return mountInfo{device: b[2], path: unescape(b[4]), fsType: a[0], source: unescape(a[1])}, true
}

// unescape undoes the kernel's octal escapes of blanks and backslashes.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

// raiseReadAhead lets the kernel read as far ahead of a sequential reader as
// one request can carry; its default for FUSE is 128 KiB. Only root can, and
// where it can't be done reading is slower and nothing else.
func raiseReadAhead(mountPoint string) {
	mi, ok := findMount(mountPoint)
	if !ok {
		return
	}
	kb := strconv.Itoa(maxRequest / 1024)
	_ = os.WriteFile("/sys/class/bdi/"+mi.device+"/read_ahead_kb", []byte(kb), 0o644)
}
