package cli

import (
	"bufio"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"strings"
)

// level says how bad a finding of check is.
type level int

const (
	levelOK level = iota
	levelWarn
	levelFail
)

func (l level) String() string { return [...]string{"OK", "WARN", "FAIL"}[l] }

// finding is one thing that was looked at.
type finding struct {
	level  level
	text   string
	remedy string // what to do, unless it is OK
}

// fuseFindings looks at what a mount needs of this machine.
func fuseFindings(allowOther bool) []finding {
	all := []finding{deviceFinding()}
	root := os.Geteuid() == 0
	if prog, err := findFusermount(); err == nil {
		all = append(all, finding{text: prog + " is there"})
	} else if !root {
		all = append(all, finding{levelFail, "fusermount3 is not there, and without it only root can mount",
			"install the package fuse3: apt install fuse3, dnf install fuse3"})
	} else {
		all = append(all, finding{text: "fusermount3 is not there, and root needs none"})
	}
	if allowOther && !root && !userAllowOther("/etc/fuse.conf") {
		all = append(all, finding{levelFail, "--allow-other is not permitted to ordinary users here",
			"let root write the line user_allow_other into /etc/fuse.conf"})
	}
	return all
}

func deviceFinding() finding {
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	switch {
	case err == nil:
		f.Close()
		return finding{text: "/dev/fuse can be opened"}
	case errors.Is(err, fs.ErrNotExist):
		return finding{levelFail, "/dev/fuse is not there", "modprobe fuse; in a container: docker run --device /dev/fuse --cap-add SYS_ADMIN"}
	case errors.Is(err, fs.ErrPermission):
		return finding{levelFail, "no permission to open /dev/fuse",
			"chmod 0666 /dev/fuse as root; in a container: docker run --device /dev/fuse --cap-add SYS_ADMIN"}
	}
	return finding{levelFail, err.Error(), "modprobe fuse; in a container: docker run --device /dev/fuse --cap-add SYS_ADMIN"}
}

// userAllowOther reports whether the configuration of FUSE lets ordinary
// users open a mount to others (mount.fuse3(8)).
func userAllowOther(file string) bool {
	b, err := os.ReadFile(file)
	if err != nil {
		return false
	}
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		if strings.TrimSpace(s.Text()) == "user_allow_other" {
			return true
		}
	}
	return false
}

func findFusermount() (string, error) {
	if p, err := exec.LookPath("fusermount3"); err == nil {
		return p, nil
	}
	return exec.LookPath("fusermount")
}
