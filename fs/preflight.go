package fs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends/process"
)

const (
	fuseDevice = "/dev/fuse"
	fuseConf   = "/etc/fuse.conf"
	// answerTime is how long a mount point may take to answer before it is
	// taken for hung.
	answerTime = 5 * time.Second
)

// ErrStale is matched by the error of a mount point whose server has died.
var ErrStale = errors.New("the program that served this mount point has died")

// checkMountPoint returns an error that names path and the remedy unless it
// is an existing, empty directory that is no mount point.
func checkMountPoint(path string) error {
	st, err := statInTime(path)
	switch {
	case errors.Is(err, syscall.ENOTCONN):
		return fmt.Errorf("mount point %s: %w; clear it with: fusermount3 -uz %s", path, ErrStale, path)
	case errors.Is(err, iofs.ErrNotExist):
		return fmt.Errorf("mount point %s does not exist; create it with: mkdir -p %s", path, path)
	case errors.Is(err, iofs.ErrPermission):
		return fmt.Errorf("mount point %s: no permission to reach it; choose a directory of your own", path)
	case errors.Is(err, process.ErrNoAnswer):
		return fmt.Errorf("mount point %s does not answer: something that hangs is mounted there; clear it with: umount -l %s", path, path)
	case err != nil:
		return fmt.Errorf("mount point %s: %w", path, err)
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return fmt.Errorf("mount point %s is not a directory; choose an empty directory", path)
	}
	if mi, ok := findMount(path); ok {
		return fmt.Errorf("mount point %s: %s (%s) is mounted there already; unmount it first with: umount %s", path, mi.source, mi.fsType, path)
	}
	dir, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("mount point %s: no permission to look into it; choose a directory of your own: %w", path, err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(1)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("mount point %s: %w", path, err)
	}
	if len(names) > 0 {
		return fmt.Errorf("mount point %s is not empty (it has %q, which the mount would hide); choose an empty directory", path, names[0])
	}
	return nil
}

// statInTime is stat(2) that fails with ENOTCONN also if the kernel could
// answer for a server that has died, and gives up with process.ErrNoAnswer
// when a hung file system is mounted on path.
func statInTime(path string) (unix.Stat_t, error) {
	return process.Within(answerTime, func() (st unix.Stat_t, err error) {
		if err = unix.Stat(path, &st); err == nil {
			// The kernel remembers attributes, but not this.
			var fs unix.Statfs_t
			if serr := unix.Statfs(path, &fs); errors.Is(serr, unix.ENOTCONN) {
				err = serr
			}
		}
		return st, err
	})
}

// checkFuse returns an error with the remedy where FUSE can't be used.
func checkFuse(allowOther bool) error {
	f, err := os.OpenFile(fuseDevice, os.O_RDWR, 0)
	switch {
	case errors.Is(err, iofs.ErrNotExist):
		return fmt.Errorf("%s is missing: load the kernel's module with: modprobe fuse (in a container, run it with: --device %s --cap-add SYS_ADMIN)", fuseDevice, fuseDevice)
	case errors.Is(err, iofs.ErrPermission) && os.Geteuid() != 0:
		// fusermount3 opens it with the user's rights, too.
		return fmt.Errorf("%s: no permission to use it; as root: chmod 666 %s", fuseDevice, fuseDevice)
	case errors.Is(err, iofs.ErrPermission):
		return fmt.Errorf("%s: no permission to use it, not even for root; run the container with: --device %s --cap-add SYS_ADMIN", fuseDevice, fuseDevice)
	case err != nil:
		return fmt.Errorf("%s can't be opened: %w; is the kernel's fuse module loaded (modprobe fuse)?", fuseDevice, err)
	}
	f.Close()
	if allowOther && os.Geteuid() != 0 && !userAllowOther(fuseConf) {
		return fmt.Errorf("allow_other: %s does not let users do this; as root, add a line user_allow_other to it, or mount without allow_other", fuseConf)
	}
	return nil
}

// userAllowOther reports whether the configuration of fusermount3 lets users
// other than root mount with allow_other. See mount.fuse3(8).
func userAllowOther(conf string) bool {
	f, err := os.Open(conf)
	if err != nil {
		return false
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if strings.TrimSpace(lines.Text()) == "user_allow_other" {
			return true
		}
	}
	return false
}

// checkHelper returns an error with the remedy if fusermount3 can't mount on
// path. direct is why mount(2) couldn't, if that was tried.
func checkHelper(path string, direct error) error {
	if direct != nil && os.Geteuid() == 0 && !errors.Is(direct, unix.EPERM) {
		return mountFailed(path, direct)
	}
	if _, err := helper(); err != nil {
		if direct != nil {
			return mountFailed(path, direct)
		}
		return fmt.Errorf("mount on %s: users other than root need fusermount3, which is not installed; install it with: apt install fuse3 (or dnf install fuse3)", path)
	}
	if os.Geteuid() != 0 && unix.Access(path, unix.W_OK) != nil {
		return fmt.Errorf("mount point %s is not writable for you, which fusermount3 asks for; choose a directory of your own", path)
	}
	return nil
}

// helper returns the path of the set-uid program that mounts and unmounts for
// users.
func helper() (string, error) {
	for _, name := range []string{"fusermount3", "/bin/fusermount3", "fusermount"} {
		if p, err := exec.LookPath(name); err == nil {
			return p, nil
		}
	}
	return "", exec.ErrNotFound
}

func mountFailed(path string, err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return fmt.Errorf("mount on %s: not permitted here: mounting needs CAP_SYS_ADMIN or the set-uid program fusermount3 (in a container, run it with: --device %s --cap-add SYS_ADMIN --security-opt apparmor=unconfined): %w", path, fuseDevice, err)
	}
	// fusermount3 says on stderr what is wrong; its status says nothing.
	return fmt.Errorf("mount on %s: %s", path, strings.TrimSpace(err.Error()))
}
