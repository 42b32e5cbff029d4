package fs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends/process"
)

// maxHolders is how many processes a BusyError names.
const maxHolders = 8

// BusyError is the error of an Unmount while files of the mount were in use.
// The mount point has been detached: nobody can open anything anew, and the
// mount ends when the last of these processes lets go.
type BusyError struct {
	MountPoint string
	// Holders are the processes found, each as "name (pid 123): /what/it/uses";
	// none if those in question can't be seen.
	Holders []string
}

func (e *BusyError) Error() string {
	who := "by a process that can't be seen"
	if len(e.Holders) > 0 {
		who = "by " + strings.Join(e.Holders, ", ")
	}
	return fmt.Sprintf("%s was in use %s; it is detached and ends when they let go (end them, or let them leave the directory)", e.MountPoint, who)
}

// Unmount unmounts and returns when the last operation has ended. Of a mount
// that is in use it detaches the mount point and returns a [*BusyError]
// without waiting. Once it is unmounted, by anybody, Unmount returns nil.
func (s *Server) Unmount() error {
	for try, pause := 0, 5*time.Millisecond; ; try, pause = try+1, 2*pause {
		if s.ended() {
			return nil
		}
		err := unmount(s.mountPoint, s.direct, false)
		switch {
		case err == nil:
			<-s.done
			return nil
		case !errors.Is(err, unix.EBUSY):
			if s.ended() {
				return nil
			}
			return fmt.Errorf("unmount %s: %w", s.mountPoint, err)
		}
		// A file that was closed a moment ago may not be released yet.
		if try == 5 {
			break
		}
		time.Sleep(pause)
	}
	busy := &BusyError{MountPoint: s.mountPoint, Holders: holders(s.mountPoint)}
	if err := s.detach(); err != nil {
		return fmt.Errorf("unmount %s: %w", s.mountPoint, err)
	}
	return busy
}

// ended reports whether the connection has ended, giving the server the
// moment it needs to see it.
func (s *Server) ended() bool {
	if _, mounted := findMount(s.mountPoint); mounted {
		return false
	}
	select {
	case <-s.done:
		return true
	case <-time.After(100 * time.Millisecond):
		return false
	}
}

// detach takes the mount point out of the tree of names, in use or not.
func (s *Server) detach() error { return unmount(s.mountPoint, s.direct, true) }

// unmount unmounts path, lazily if asked to: by umount2(2) where that is
// allowed, else with fusermount3. An error matches EBUSY if that is why.
func unmount(path string, direct, lazy bool) error {
	flags := unix.UMOUNT_NOFOLLOW
	if lazy {
		flags |= unix.MNT_DETACH
	}
	err := unix.Unmount(path, flags)
	if err == nil || direct || !errors.Is(err, unix.EPERM) {
		return err
	}
	bin, err := helper()
	if err != nil {
		return fmt.Errorf("fusermount3 is not installed: %w", err)
	}
	args := []string{"-u", path}
	if lazy {
		args = []string{"-u", "-z", path}
	}
	var said bytes.Buffer
	cmd := exec.Command(bin, args...)
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		if strings.Contains(said.String(), "busy") {
			return unix.EBUSY
		}
		return fmt.Errorf("%s: %s (%w)", filepath.Base(bin), strings.TrimSpace(said.String()), err)
	}
	return nil
}

// Stale reports whether mountPoint is the remains of a mount whose server has
// died ("Transport endpoint is not connected").
func Stale(mountPoint string) bool {
	_, err := statInTime(mountPoint)
	return errors.Is(err, syscall.ENOTCONN)
}

// ClearStale removes a stale mount from mountPoint. It does nothing to a mount
// point that is not stale.
func ClearStale(mountPoint string) error {
	abs, err := filepath.Abs(mountPoint)
	if err != nil {
		return fmt.Errorf("mount point %s: %w", mountPoint, err)
	}
	// Several may lie on top of each other.
	for range 16 {
		if !Stale(abs) {
			return nil
		}
		if err := unmount(abs, false, true); err != nil {
			return fmt.Errorf("mount point %s is stale and can't be cleared: %w; as root: umount -l %s", abs, err, abs)
		}
	}
	return fmt.Errorf("mount point %s is still stale; as root: umount -l %s", abs, abs)
}

// holderPatience bounds how long one process is looked at. One that is in the
// middle of execve(2) may wait for a mounted file system, perhaps for this one,
// and who looks at it waits for it.
const holderPatience = time.Second

// holders finds the processes that use something below path. It only reads
// links of /proc, which never asks the mounted file system.
func holders(path string) []string {
	var found []string
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range procs {
		held, err := process.Within(holderPatience, func() (string, error) { return heldBelow(p, path) })
		if err != nil || held == "" {
			continue
		}
		name, _ := os.ReadFile(p + "/comm")
		found = append(found, fmt.Sprintf("%s (pid %s): %s", strings.TrimSpace(string(name)), filepath.Base(p), held))
		if len(found) == maxHolders {
			break
		}
	}
	return found
}

// heldBelow returns something at or below path that the process of directory
// proc uses, "" if there is nothing.
func heldBelow(proc, path string) (string, error) {
	links := []string{proc + "/cwd", proc + "/root", proc + "/exe"}
	for _, pattern := range []string{"/fd/*", "/map_files/*"} {
		l, err := filepath.Glob(proc + pattern)
		if err != nil {
			return "", err
		}
		links = append(links, l...)
	}
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil && (to == path || strings.HasPrefix(to, path+"/")) {
			return to, nil
		}
	}
	return "", nil
}
