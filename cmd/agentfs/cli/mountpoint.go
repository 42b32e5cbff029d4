package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	fusefs "github.com/agentfs/agentfs/fs"
)

// mountEntry is one line of /proc/self/mountinfo (proc(5)).
type mountEntry struct {
	point  string
	fsType string
	source string
}

// mountAt returns what is mounted exactly at point: the uppermost of several.
// It asks the kernel's table and not the file system, which may hang.
func mountAt(point string) (mountEntry, bool) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return mountEntry{}, false
	}
	return findMount(string(b), point)
}

func findMount(mountinfo, point string) (found mountEntry, ok bool) {
	for line := range strings.Lines(mountinfo) {
		// The optional fields end with a dash.
		before, after, cut := strings.Cut(line, " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !cut || len(left) < 5 || len(right) < 2 || unescapeMount(left[4]) != point {
			continue
		}
		found, ok = mountEntry{point: point, fsType: right[0], source: unescapeMount(right[1])}, true
	}
	return found, ok
}

// unescapeMount undoes the octal escapes of spaces and the like.
func unescapeMount(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && isOctal(s[i+1:i+4]) {
			b.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func isOctal(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '7' {
			return false
		}
	}
	return s[0] <= '3'
}

func (m mountEntry) isAgentfs() bool { return m.fsType == "fuse."+fusefs.TypeName }

// resolvePoint returns the mount point as the kernel will name it: absolute
// and without symbolic links. The last element may be dead, so it is not
// looked into unless it is a link.
func resolvePoint(p string) (string, error) {
	abs, err := filepath.Abs(p)
	if err != nil {
		return "", err
	}
	if _, mounted := mountAt(abs); mounted {
		return abs, nil
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(abs))
	if err != nil {
		return "", whichMount(abs, missing(abs, err))
	}
	point := filepath.Join(parent, filepath.Base(abs))
	if _, mounted := mountAt(point); mounted {
		return point, nil
	}
	if real, err := filepath.EvalSymlinks(point); err == nil {
		return real, nil
	}
	return point, nil
}

// deadMountError is what the kernel's ENOTCONN means: the mount at point has
// lost its process.
type deadMountError struct{ point string }

func (e deadMountError) Error() string {
	return fmt.Sprintf("%s: the process of this mount is dead (agentfs unmount %s clears it)", e.point, shellQuote(e.point))
}

// whichMount returns err, or a deadMountError for the mount that path, which is
// absolute, is in if its process is dead.
func whichMount(path string, err error) error {
	if !errors.Is(err, unix.ENOTCONN) {
		return err
	}
	for p := path; ; p = filepath.Dir(p) {
		if m, ok := mountAt(p); ok {
			if m.isAgentfs() {
				return deadMountError{p}
			}
			return err
		}
		if p == "/" {
			return err
		}
	}
}

func missing(point string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: the mount point does not exist (mkdir -p %s)", point, shellQuote(point))
	}
	return err
}

// preparePoint clears a mount that a dead process left at point, which
// resolvePoint returned, and refuses one that lives. Whether the directory
// itself will do, package fs says.
func preparePoint(point string, log *slog.Logger) error {
	m, ok := mountAt(point)
	switch {
	case !ok:
		return nil
	case fusefs.Stale(point):
		log.Warn("clearing the mount that a dead process left behind", "mountpoint", point)
		return fusefs.ClearStale(point)
	case m.isAgentfs():
		return fmt.Errorf("%s: agentfs is already mounted there (agentfs unmount %s)", point, shellQuote(point))
	}
	return fmt.Errorf("%s: a file system of type %s is mounted there; choose another directory", point, m.fsType)
}

// checkPoint refuses a mount point within the directory of a local route: the
// mount would contain itself, and its process would wait for itself. It
// compares directories and not names, which links and bind mounts multiply.
func (c *config) checkPoint(point string) error {
	if real, err := filepath.EvalSymlinks(point); err == nil {
		point = real
	}
	for _, r := range c.routes {
		if r.backend != "local" {
			continue
		}
		dir := r.values["path"].Value
		served, err := os.Stat(dir)
		if err != nil {
			continue // its opener says what is wrong
		}
		for p := point; ; p = filepath.Dir(p) {
			if st, err := os.Stat(p); err == nil && os.SameFile(st, served) {
				return usagef("%s: the directory %s contains the mount point %s; choose a mount point outside it", r.source, dir, point)
			}
			if p == filepath.Dir(p) {
				break
			}
		}
	}
	return nil
}

// shellQuote returns s as one word of a shell.
func shellQuote(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:@%,=") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
