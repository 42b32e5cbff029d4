package semantics

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends/s3/s3test"
)

// On S3, modes, owners, times that were set (touch -d, cp -p, tar, rsync),
// symbolic links and extended attributes are there again after a remount, on
// this machine or another one, for as long as the content that they were given
// to, or one that was written here over it. cp -p, rsync -a and git find after
// the remount what they left. They are kept in objects of their own, .agentfs-
// attrs-ID, in each directory that needs them, which no mount shows; a file's
// object is exactly its bytes, and a link's is its target.
func TestAttributesSurviveARemount(t *testing.T) {
	needRoot(t)
	need(t, "git", "git")
	need(t, "rsync", "rsync")
	server := s3test.Versitygw(t)
	m := startS3(t, server, publicTempDir(t), nil)
	when := unix.Timespec{Sec: 1_111_111_111, Nsec: 222_222_222}
	write(t, m.path("script"), "#!/bin/sh\n")
	ok(t, "chmod", os.Chmod(m.path("script"), 0o755))
	write(t, m.path("old"), "old")
	ok(t, "utimensat", unix.UtimesNanoAt(unix.AT_FDCWD, m.path("old"), []unix.Timespec{when, when}, 0))
	write(t, m.path("theirs"), "theirs")
	ok(t, "chown", os.Chown(m.path("theirs"), 1234, 5678))
	mkdir(t, m.path("dir"))
	ok(t, "symlink", os.Symlink("../old", m.path("dir/link")))
	ok(t, "setxattr", unix.Setxattr(m.path("old"), "user.tag", []byte("value"), 0))
	ok(t, "setxattr", unix.Setxattr(m.path("dir"), "user.tag", []byte("of a directory"), 0))
	ok(t, "chmod", os.Chmod(m.path("dir"), 0o711))

	from := filepath.Join(t.TempDir(), "from")
	mkdir(t, from)
	for i := range 20 {
		name := filepath.Join(from, fmt.Sprint("f", i))
		write(t, name, strings.Repeat("x", i))
		ok(t, "chmod", os.Chmod(name, 0o600+os.FileMode(i)))
		past := time.Unix(1_000_000_000+int64(i), 123)
		ok(t, "chtimes", os.Chtimes(name, past, past))
	}
	ok(t, "symlink", os.Symlink("f1", filepath.Join(from, "link")))
	for _, name := range []string{"link", "."} {
		// rsync leaves times alone that differ by less than a second.
		ok(t, "utimensat", unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(from, name), []unix.Timespec{when, when}, unix.AT_SYMLINK_NOFOLLOW))
	}
	run(t, "/", "cp", "-p", filepath.Join(from, "f7"), m.path("copied"))
	run(t, "/", "rsync", "-a", from+"/", m.path("synced")+"/")

	git := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-c", "user.name=n", "-c", "user.email=n@example.org", "-c", "safe.directory=*", "-c", "gc.auto=0"}, args...)...)
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	origin := filepath.Join(t.TempDir(), "origin")
	git("init", "-q", "-b", "main", origin)
	write(t, filepath.Join(origin, "run"), "#!/bin/sh\n")
	ok(t, "chmod", os.Chmod(filepath.Join(origin, "run"), 0o755))
	ok(t, "symlink", os.Symlink("run", filepath.Join(origin, "again")))
	git("-C", origin, "add", ".")
	git("-C", origin, "commit", "-q", "-m", "first")
	git("clone", "-q", origin, m.path("repo"))
	m.unmount(t)

	m.holdsObject("script", "#!/bin/sh\n")
	m.holdsObject("dir/link", "../old")
	m.holdsObject("synced/f9", "xxxxxxxxx")

	m = startS3(t, server, publicTempDir(t), nil)
	if got := names(t, m.dir); fmt.Sprint(got) != "[copied dir old repo script synced theirs]" {
		t.Errorf("the mount shows %q", got)
	}
	if st := stat(t, m.path("script")); st.Mode&0o7777 != 0o755 {
		t.Errorf("script has mode %o", st.Mode)
	}
	if out := run(t, "/", m.path("script")); out != "" {
		t.Errorf("script says %q", out)
	}
	if st := stat(t, m.path("old")); st.Mtim != when || st.Atim != when {
		t.Errorf("old: mtime %v, atime %v", st.Mtim, st.Atim)
	}
	if st := stat(t, m.path("theirs")); st.Uid != 1234 || st.Gid != 5678 {
		t.Errorf("theirs belongs to %d:%d", st.Uid, st.Gid)
	}
	if st := stat(t, m.path("dir")); st.Mode&0o7777 != 0o711 {
		t.Errorf("dir has mode %o", st.Mode)
	}
	for name, want := range map[string]string{"old": "value", "dir": "of a directory"} {
		buf := make([]byte, 100)
		n, err := unix.Getxattr(m.path(name), "user.tag", buf)
		if ok(t, "getxattr", err); string(buf[:n]) != want {
			t.Errorf("%s: user.tag is %q", name, buf[:n])
		}
	}
	if to, err := os.Readlink(m.path("dir/link")); err != nil || to != "../old" {
		t.Errorf("readlink: %q, %v", to, err)
	}
	holds(t, m.path("dir/link"), "old")
	isErr(t, "open with O_NOFOLLOW", func() error {
		fd, err := unix.Open(m.path("dir/link"), unix.O_RDONLY|unix.O_NOFOLLOW, 0)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}(), syscall.ELOOP)
	a, b := stat(t, filepath.Join(from, "f7")), stat(t, m.path("copied"))
	if a.Mtim != b.Mtim || a.Mode != b.Mode {
		t.Errorf("cp -p: mtime %v mode %o, of the copy %v, %o", a.Mtim, a.Mode, b.Mtim, b.Mode)
	}
	if out := run(t, "/", "rsync", "-ain", from+"/", m.path("synced")+"/"); out != "" {
		t.Errorf("rsync -a would do again:\n%s", out)
	}
	if out := git("-C", m.path("repo"), "status", "--porcelain"); out != "" {
		t.Errorf("git status: %s", out)
	}
	if to, err := os.Readlink(m.path("repo/again")); err != nil || to != "run" {
		t.Errorf("readlink in the repository: %q, %v", to, err)
	}
	ok(t, "remove", os.RemoveAll(m.path("synced")))
	ok(t, "remove", os.RemoveAll(m.path("dir")))
	m.unmount(t)
	m = startS3(t, server, publicTempDir(t), nil)
	if got := names(t, m.dir); fmt.Sprint(got) != "[copied old repo script theirs]" {
		t.Errorf("after rm -r the mount shows %q", got)
	}
}
