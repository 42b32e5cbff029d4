package semantics

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func itoa(n int) string { return strconv.Itoa(n) }

func stat(t testing.TB, path string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	ok(t, "lstat "+path, unix.Lstat(path, &st))
	return st
}

// chmod, chown and utimensat work on files and directories of every route, to
// the nanosecond, and stat shows what they set.
func TestAttributes(t *testing.T) {
	onEach(t, func(t *testing.T, p place) {
		write(t, p.path("f"), "x")
		mkdir(t, p.path("d"))
		for _, n := range []string{"f", "d"} {
			ok(t, "chmod", os.Chmod(p.path(n), 0o741))
			a, m := unix.Timespec{Sec: 1_111_111_111, Nsec: 111_111_111}, unix.Timespec{Sec: 1_222_222_222, Nsec: 222_222_222}
			ok(t, "utimensat", unix.UtimesNanoAt(unix.AT_FDCWD, p.path(n), []unix.Timespec{a, m}, 0))
			if os.Geteuid() == 0 {
				ok(t, "chown", os.Chown(p.path(n), 1234, 5678))
			}
			time.Sleep(ttl + ttl/10)
			st := stat(t, p.path(n))
			if st.Mode&0o7777 != 0o741 || st.Atim != a || st.Mtim != m {
				t.Errorf("%s: mode %o, atime %v, mtime %v", n, st.Mode&0o7777, st.Atim, st.Mtim)
			}
			if os.Geteuid() == 0 && (st.Uid != 1234 || st.Gid != 5678) {
				t.Errorf("%s: owner %d:%d", n, st.Uid, st.Gid)
			}
		}
	})
}

// A change of content sets mtime and ctime, a change of attributes ctime, a
// change of names the directory's mtime. Reading does not change atime, on no
// route but the host's, which does as its own file system.
func TestTimes(t *testing.T) {
	onEach(t, func(t *testing.T, p place) {
		write(t, p.path("f"), "x")
		past := unix.Timespec{Sec: 1_000_000_000}
		for _, n := range []string{"f", "."} {
			ok(t, "utimensat", unix.UtimesNanoAt(unix.AT_FDCWD, p.path(n), []unix.Timespec{past, past}, 0))
		}
		holds(t, p.path("f"), "x")
		if st := stat(t, p.path("f")); filepath.Base(filepath.Dir(p.dir)) != "host" && st.Atim != past {
			t.Errorf("atime after a read: %v", st.Atim)
		}
		before := stat(t, p.path("f"))
		time.Sleep(20 * time.Millisecond)
		ok(t, "chmod", os.Chmod(p.path("f"), 0o600))
		st := stat(t, p.path("f"))
		if st.Mtim != past || st.Ctim == before.Ctim {
			t.Errorf("after chmod: mtime %v, ctime %v", st.Mtim, st.Ctim)
		}
		write(t, p.path("f"), "y")
		if st := stat(t, p.path("f")); st.Mtim == past {
			t.Error("mtime did not change with the content")
		}
		write(t, p.path("g"), "z")
		if st := stat(t, p.path(".")); st.Mtim == past {
			t.Error("the directory's mtime did not change with its names")
		}
	})
}

// Inode numbers are those of distinct files: as long as the mount remembers it, a
// file keeps its number through rename, and through changes by this machine. A
// content that another client has put is another file with another number.
func TestInodeNumbers(t *testing.T) {
	onEach(t, func(t *testing.T, p place) {
		write(t, p.path("a"), "a")
		write(t, p.path("b"), "b")
		a, b := stat(t, p.path("a")), stat(t, p.path("b"))
		if a.Ino == b.Ino {
			t.Fatal("two files, one number")
		}
		f := open(t, p.path("a"), os.O_WRONLY|os.O_APPEND)
		_, err := f.WriteString("more")
		ok(t, "write", err)
		ok(t, "close", f.Close())
		ok(t, "rename", os.Rename(p.path("a"), p.path("c")))
		settle()
		if c := stat(t, p.path("c")); c.Ino != a.Ino {
			t.Errorf("number %d became %d", a.Ino, c.Ino)
		}
		if p.s3 {
			p.put("c", "theirs")
			settle()
			if c := stat(t, p.path("c")); c.Ino == a.Ino {
				t.Error("another client's content has the number of the old one")
			}
		}
	})
}

// Extended attributes (user.*, trusted.*) work on every route; those of one file
// on S3 take at most 2 MiB together (ENOSPC). Every regular file of a route (none
// in .agentfs/) has one more to read, user.agentfs.version: the version of its
// content, which on S3 is the one that the store calls it by, and ENODATA while the
// store does not have it yet. It is not listed; names that begin with user.agentfs.
// are EPERM to set and to remove.
func TestExtendedAttributes(t *testing.T) {
	onEach(t, func(t *testing.T, p place) {
		write(t, p.path("f"), "x")
		buf := make([]byte, 1000)
		isErr(t, "setxattr of a reserved name", unix.Setxattr(p.path("f"), "user.agentfs.mine", nil, 0), syscall.EPERM)
		isErr(t, "removexattr of the version", unix.Removexattr(p.path("f"), "user.agentfs.version"), syscall.EPERM)
		var versions []string
		for _, content := range []string{"x", "y"} {
			write(t, p.path("f"), content)
			p.sync()
			n, err := unix.Getxattr(p.path("f"), "user.agentfs.version", buf)
			ok(t, "version", err)
			versions = append(versions, string(buf[:n]))
		}
		if versions[0] == versions[1] {
			t.Errorf("another content, the same version %q", versions[0])
		}
		_, err := unix.Getxattr(filepath.Join(p.tree.dir, ".agentfs/status"), "user.agentfs.version", buf)
		isErr(t, "version of a control file", err, syscall.ENODATA)
		ok(t, "setxattr", unix.Setxattr(p.path("f"), "user.mine", []byte("value"), 0))
		n, err := unix.Getxattr(p.path("f"), "user.mine", buf)
		ok(t, "getxattr", err)
		if string(buf[:n]) != "value" {
			t.Errorf("getxattr: %q", buf[:n])
		}
		isErr(t, "XATTR_CREATE", unix.Setxattr(p.path("f"), "user.mine", nil, unix.XATTR_CREATE), syscall.EEXIST)
		isErr(t, "XATTR_REPLACE", unix.Setxattr(p.path("f"), "user.none", nil, unix.XATTR_REPLACE), syscall.ENODATA)
		n, err = unix.Listxattr(p.path("f"), buf)
		if ok(t, "listxattr", err); string(buf[:n]) != "user.mine\x00" {
			t.Errorf("listxattr: %q", buf[:n])
		}
		ok(t, "removexattr", unix.Removexattr(p.path("f"), "user.mine"))
		_, err = unix.Getxattr(p.path("f"), "user.mine", buf)
		isErr(t, "getxattr after removexattr", err, syscall.ENODATA)
	})
}

// Symbolic links exist on every route, hard links and FIFOs on memory and on the
// host. On S3, link(2) is EXDEV, upon which most programs copy, and mknod(2) is
// EOPNOTSUPP; both leave nothing behind.
func TestLinksAndSpecialFiles(t *testing.T) {
	onEach(t, func(t *testing.T, p place) {
		write(t, p.path("f"), "x")
		link, symlink := os.Link(p.path("f"), p.path("hard")), os.Symlink("f", p.path("soft"))
		fifo := unix.Mkfifo(p.path("fifo"), 0o644)
		if p.s3 {
			isErr(t, "link", link, syscall.EXDEV)
			isErr(t, "mkfifo", fifo, syscall.EOPNOTSUPP)
			if got := names(t, p.dir); len(got) != 2 {
				t.Errorf("left behind: %q", got)
			}
		}
		ok(t, "symlink", symlink)
		holds(t, p.path("soft"), "x")
		if to, err := os.Readlink(p.path("soft")); err != nil || to != "f" {
			t.Errorf("readlink: %q, %v", to, err)
		}
		if p.s3 {
			return
		}
		ok(t, "link", link)
		if st := stat(t, p.path("f")); st.Nlink != 2 || st.Ino != stat(t, p.path("hard")).Ino {
			t.Errorf("%d links", st.Nlink)
		}
		write(t, p.path("hard"), "through the link")
		holds(t, p.path("f"), "through the link")
		holds(t, p.path("soft"), "through the link")
		ok(t, "mkfifo", fifo)
		if st := stat(t, p.path("fifo")); st.Mode&unix.S_IFMT != unix.S_IFIFO {
			t.Errorf("mode of the FIFO: %o", st.Mode)
		}
	})
}

// statfs(2) shows memory's limit and what is left of it, and the host's disk. A
// bucket has no limit: it shows a petabyte, all of it free. Every route says
// that names have at most 255 bytes.
func TestStatfs(t *testing.T) {
	onEach(t, func(t *testing.T, p place) {
		var s unix.Statfs_t
		ok(t, "statfs", unix.Statfs(p.dir, &s))
		total, free := s.Blocks*uint64(s.Bsize), s.Bavail*uint64(s.Bsize)
		switch {
		case s.Namelen != 255 || total == 0 || free > total:
			t.Errorf("names %d, %d of %d free", s.Namelen, free, total)
		case p.s3 && (total != 1<<50 || free != total):
			t.Errorf("S3: %d of %d free", free, total)
		}
	})
	mem := onMemory(t)
	var before, after unix.Statfs_t
	ok(t, "statfs", unix.Statfs(mem.dir, &before))
	write(t, mem.path("f"), string(make([]byte, 10<<20)))
	ok(t, "statfs", unix.Statfs(mem.dir, &after))
	if before.Blocks*uint64(before.Bsize) != 2<<30 || before.Bfree <= after.Bfree {
		t.Errorf("memory: total %d, free %d then %d", before.Blocks*uint64(before.Bsize), before.Bfree, after.Bfree)
	}
}
