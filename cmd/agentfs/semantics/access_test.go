package semantics

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends/s3/s3test"
)

// flock(2) and fcntl(2) locks are the kernel's own: they work between all
// processes of one mount, on every route, and end with the process that holds
// them. They say nothing to other mounts of the same bucket.
func TestLocksBetweenProcesses(t *testing.T) {
	onEach(t, func(t *testing.T, p place) {
		write(t, p.path("f"), "0123456789")
		for _, kind := range []string{"flock", "fcntl"} {
			holder := helper("lock", kind, p.path("f"))
			in, err := holder.StdinPipe()
			ok(t, "pipe", err)
			out, err := holder.StdoutPipe()
			ok(t, "pipe", err)
			ok(t, "start", holder.Start())
			line, _ := bufio.NewReader(out).ReadString('\n')
			if line != "locked\n" {
				t.Fatalf("%s: the holder said %q", kind, line)
			}
			if got := helped(t, "try", kind, p.path("f")); got != "busy" {
				t.Errorf("%s: while another process holds it: %s", kind, got)
			}
			_, _ = io.WriteString(in, "go\n")
			ok(t, "holder", holder.Wait())
			if got := helped(t, "try", kind, p.path("f")); got != "free" {
				t.Errorf("%s: after the holder ended: %s", kind, got)
			}
		}
	})
}

// Permissions are checked by the kernel on every route: with --allow-other,
// other users may do what mode, owner and group let them, as on a local disk.
// Without it, nobody but who mounted sees the mount (EACCES).
func TestPermissionsAreChecked(t *testing.T) {
	needRoot(t)
	need(t, "setpriv", "util-linux")
	nobody := func(dir, script string) (string, error) {
		cmd := exec.Command("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", script)
		cmd.Dir = "/"
		cmd.Env = append(os.Environ(), "D="+dir)
		out, err := cmd.CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	onEach(t, func(t *testing.T, p place) {
		ok(t, "chmod", os.Chmod(p.dir, 0o755))
		write(t, p.path("private"), "private")
		ok(t, "chmod", os.Chmod(p.path("private"), 0o600))
		write(t, p.path("public"), "public")
		if got, err := nobody(p.dir, `cat $D/public`); err != nil || got != "public" {
			t.Errorf("reading what all may read: %s, %v", got, err)
		}
		for _, script := range []string{`cat $D/private`, `echo x > $D/public`, `touch $D/new`, `rm -f $D/public`, `chmod 777 $D/public`, `mv $D/public $D/y`} {
			if got, err := nobody(p.dir, script); err == nil {
				t.Errorf("%s: allowed: %s", script, got)
			}
		}
		mkdir(t, p.path("theirs"))
		ok(t, "chown", os.Chown(p.path("theirs"), 65534, 65534))
		if got, err := nobody(p.dir, `cd $D/theirs && echo mine > f && chmod 640 f && mv f g && stat -c '%u:%g %a' g`); err != nil || got != "65534:65534 640" {
			t.Errorf("in a directory of their own: %s, %v", got, err)
		}
		holds(t, p.path("public"), "public")
	})
	m := start(t, setup{routes: []string{"/=memory:"}})
	if got, err := nobody(m.dir, `ls $D`); err == nil {
		t.Errorf("without --allow-other: %s", got)
	}
}

// --read-only refuses every change on every route with EROFS, and
// read_only=true on a route those on that route; reading works as ever.
func TestReadOnly(t *testing.T) {
	server := s3test.Versitygw(t)
	server.Put(t, keyPrefix+"f", "content")
	try := func(t *testing.T, dir string) {
		t.Helper()
		holds(t, dir+"/f", "content")
		_, err := os.OpenFile(dir+"/f", os.O_WRONLY, 0)
		isErr(t, "open for writing", err, syscall.EROFS)
		_, err = os.Create(dir + "/new")
		isErr(t, "create", err, syscall.EROFS)
		isErr(t, "mkdir", os.Mkdir(dir+"/d", 0o755), syscall.EROFS)
		isErr(t, "unlink", syscall.Unlink(dir+"/f"), syscall.EROFS)
		isErr(t, "rename", os.Rename(dir+"/f", dir+"/g"), syscall.EROFS)
		isErr(t, "chmod", os.Chmod(dir+"/f", 0o600), syscall.EROFS)
		isErr(t, "truncate", os.Truncate(dir+"/f", 0), syscall.EROFS)
		if c, there := server.Get(t, keyPrefix+"f"); c != "content" || !there {
			t.Errorf("the object is %q, %v", c, there)
		}
	}
	t.Run("mount", func(t *testing.T) {
		try(t, startS3(t, server, "", []string{"--read-only"}).dir)
	})
	t.Run("route", func(t *testing.T) {
		m := start(t, setup{server: server, routes: []string{"/=memory:", "/ro=" + s3URL(server, "read_only", "true")}})
		try(t, m.dir+"/ro")
		write(t, m.dir+"/f", "the other route takes changes")
	})
}

// The options uid, gid, file_mode and dir_mode of a route say what S3 does not:
// the owner and mode of whatever has no others. They default to who mounts, 0644
// and 0755. A file created here belongs to who created it, with the mode that
// was asked for. With attributes=off that is so as long as the mount lives;
// after a remount, files show the options' owners and modes, and the object's
// time. Symbolic links and extended attributes are EOPNOTSUPP then.
func TestOwnersAndModesOfARoute(t *testing.T) {
	server := s3test.Versitygw(t)
	server.Put(t, keyPrefix+"dir/f", "content")
	cache := publicTempDir(t)
	m := startS3(t, server, cache, nil, "uid", "1234", "gid", "5678", "file_mode", "0640", "dir_mode", "0750", "attributes", "off")
	check := func(path string, uid, gid, mode uint32) {
		t.Helper()
		if st := stat(t, path); st.Uid != uid || st.Gid != gid || st.Mode&0o7777 != mode {
			t.Errorf("%s: %d:%d %o, want %d:%d %o", path, st.Uid, st.Gid, st.Mode&0o7777, uid, gid, mode)
		}
	}
	me, mine := uint32(os.Geteuid()), uint32(os.Getegid())
	if me == 0 {
		check(m.path("dir/f"), 1234, 5678, 0o640)
		check(m.path("dir"), 1234, 5678, 0o750)
		write(t, m.path("made"), "x")
		ok(t, "chmod", os.Chmod(m.path("made"), 0o700))
		check(m.path("made"), me, mine, 0o700)
	}
	isErr(t, "symlink", os.Symlink("f", m.path("link")), syscall.EOPNOTSUPP)
	isErr(t, "setxattr", unix.Setxattr(m.path("dir/f"), "user.x", nil, 0), syscall.EOPNOTSUPP)
	m.unmount(t)
	again := startS3(t, server, cache, nil)
	check(again.path("dir/f"), me, mine, 0o644)
	check(again.path("dir"), me, mine, 0o755)
	if me == 0 {
		if st := stat(t, again.path("made")); st.Mtim.Sec < 1_500_000_000 {
			t.Errorf("mtime %v", st.Mtim)
		}
		t.Logf("mode of a file after a remount: %o", stat(t, again.path("made")).Mode&0o7777)
	}
}

// One cache directory serves one mount of a store: mounting the same bucket and
// prefix again from it is refused, and the error names the mount point and the
// process that has it.
func TestSameStoreTwice(t *testing.T) {
	tr := common(t)
	base := publicTempDir(t)
	cmd := exec.Command(program(t), "mount", "--cache-dir", tr.cacheDir, "--route", "/="+s3URL(tr.server), base)
	cmd.Env = setup{server: tr.server}.env()
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatal("mounted")
	}
	if !strings.Contains(string(out), tr.dir) || !strings.Contains(string(out), itoa(tr.cmd.Process.Pid)) {
		t.Errorf("it said: %s", out)
	}
}
