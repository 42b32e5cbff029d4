package fs

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends/memory"
)

// A write that meets the end of the space says how much of it is in the file:
// who is told of nothing but an error writes all of it again.
func TestWriteWithRoomForAPart(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			c := k.memory
			c.Size = 5<<20 + 512<<10
			dir, _ := mountFS(t, newMemory(t, c), k.opts)
			f, err := os.OpenFile(filepath.Join(dir, "f"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			record := bytes.Repeat([]byte("r"), 1<<20)
			var sum int64
			for range 20 {
				var n int
				if n, err = syscall.Write(int(f.Fd()), record); err != nil {
					break
				}
				sum += int64(n)
			}
			info, serr := f.Stat()
			if serr != nil {
				t.Fatal(serr)
			}
			if !errors.Is(err, syscall.ENOSPC) || info.Size() != sum {
				t.Errorf("%v: the file has %d bytes, of %d it was said that they are written", err, info.Size(), sum)
			}
		})
	}
}

func TestUnlinkedFileKeepsEverything(t *testing.T) {
	eachKind(t, func(t *testing.T, dir string) {
		name := filepath.Join(dir, "f")
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		fd := int(f.Fd())
		if _, err := f.WriteString("hello world"); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		// Another file takes the name.
		if err := os.WriteFile(name, []byte("another"), 0o600); err != nil {
			t.Fatal(err)
		}
		mtime := time.Unix(1_000_000_000, 123_000_000)
		times := []unix.Timespec{unix.NsecToTimespec(mtime.UnixNano()), unix.NsecToTimespec(mtime.UnixNano())}
		for _, step := range []struct {
			what string
			do   func() error
		}{
			{"write", func() error { _, err := f.WriteAt([]byte("HELLO"), 0); return err }},
			{"ftruncate", func() error { return unix.Ftruncate(fd, 7) }},
			{"fchmod", func() error { return unix.Fchmod(fd, 0o640) }},
			{"fsetxattr", func() error { return unix.Fsetxattr(fd, "user.k", []byte("v"), 0) }},
			{"fsync", func() error { return unix.Fsync(fd) }},
			{"futimens", func() error { return futimens(fd, times) }},
		} {
			if err := step.do(); err != nil {
				t.Errorf("%s of an unlinked file: %v", step.what, err)
			}
		}
		got := make([]byte, 100)
		n, err := f.ReadAt(got, 0)
		if string(got[:n]) != "HELLO w" || !errors.Is(err, io.EOF) {
			t.Errorf("read %q, %v; want %q", got[:n], err, "HELLO w")
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			t.Fatal(err)
		}
		if st.Mode&0o777 != 0o640 || st.Size != 7 || st.Nlink != 0 || st.Mtim.Nano() != mtime.UnixNano() {
			t.Errorf("fstat: mode %o, size %d, nlink %d, mtime %d", st.Mode, st.Size, st.Nlink, st.Mtim.Nano())
		}
		val := make([]byte, 10)
		if n, err := unix.Fgetxattr(fd, "user.k", val); err != nil || string(val[:n]) != "v" {
			t.Errorf("fgetxattr: %q, %v", val[:max(n, 0)], err)
		}
		if b, err := os.ReadFile(name); err != nil || string(b) != "another" {
			t.Errorf("the file that took the name: %q, %v", b, err)
		}
	})
}

// What goes well is not in the log, whatever the size of a request.
func TestLargeReadsAreNotLogged(t *testing.T) {
	var log lockedBuffer
	dir, _ := mountFS(t, newMemory(t, memory.Config{}), Options{NoPassthrough: true, Log: slog.New(slog.NewTextHandler(&log, nil))})
	name, want := filepath.Join(dir, "f"), bytes.Repeat([]byte("0123456789abcdef"), 4<<20/16)
	if err := os.WriteFile(name, want, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_DIRECT, 0) // not what the kernel has kept
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(f, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("read: %v, as written: %v", err, bytes.Equal(got, want))
	}
	if log.String() != "" {
		t.Errorf("the log:\n%s", log.String())
	}
}

func futimens(fd int, ts []unix.Timespec) error {
	return unix.UtimesNanoAt(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), ts, 0)
}

func TestTimes(t *testing.T) {
	dir, _ := mountFS(t, newMemory(t, memory.Config{}), Options{})
	name := filepath.Join(dir, "f")
	if err := os.WriteFile(name, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	set := func(at, mt unix.Timespec) (st unix.Stat_t) {
		t.Helper()
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, name, []unix.Timespec{at, mt}, 0); err != nil {
			t.Fatal(err)
		}
		if err := unix.Stat(name, &st); err != nil {
			t.Fatal(err)
		}
		return st
	}
	old := unix.Timespec{Sec: 1000, Nsec: 1}
	if st := set(old, old); st.Atim != old || st.Mtim != old {
		t.Errorf("set both: %v %v", st.Atim, st.Mtim)
	}
	if st := set(unix.Timespec{Nsec: unix.UTIME_OMIT}, unix.Timespec{Sec: 2000}); st.Atim != old || st.Mtim.Sec != 2000 {
		t.Errorf("UTIME_OMIT of atime: %v %v", st.Atim, st.Mtim)
	}
	before := time.Now().Add(-time.Second).Unix()
	if st := set(unix.Timespec{Nsec: unix.UTIME_OMIT}, unix.Timespec{Nsec: unix.UTIME_NOW}); st.Atim != old || st.Mtim.Sec < before {
		t.Errorf("UTIME_NOW of mtime: %v %v", st.Atim, st.Mtim)
	}
}

// TestPassthroughIsSeen writes in ways that don't pass through the server and
// looks at what others see.
func TestPassthroughIsSeen(t *testing.T) {
	eachKind(t, func(t *testing.T, dir string) {
		name := filepath.Join(dir, "f")
		if err := os.WriteFile(name, []byte("small"), 0o644); err != nil {
			t.Fatal(err)
		}
		read := func() string {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			return string(b)
		}
		if got := read(); got != "small" {
			t.Fatalf("read %q", got)
		}
		for _, content := range []string{"SMALL", "longer than before", strings.Repeat("big", 100_000), "s"} {
			f, err := os.OpenFile(name, os.O_WRONLY|os.O_TRUNC, 0)
			if err != nil {
				t.Fatal(err)
			}
			for i := 0; i < len(content); i += 50_000 {
				if _, err := f.WriteString(content[i:min(i+50_000, len(content))]); err != nil {
					t.Fatal(err)
				}
				// While it is open.
				st, err := os.Stat(name)
				if want := int64(min(i+50_000, len(content))); err != nil || st.Size() != want {
					t.Fatalf("size while writing: %v, %v, want %d", st.Size(), err, want)
				}
				if time.Since(st.ModTime()) > time.Minute {
					t.Fatalf("mtime while writing: %v", st.ModTime())
				}
			}
			if got := read(); got != content {
				t.Fatalf("read %d bytes beside the writer, want %d", len(got), len(content))
			}
			f.Close()
			if got := read(); got != content {
				t.Fatalf("read %d bytes after the close, want %d", len(got), len(content))
			}
		}
	})
}

func TestAppendOfTwoProcesses(t *testing.T) {
	eachKind(t, func(t *testing.T, dir string) {
		name := filepath.Join(dir, "log")
		var wg sync.WaitGroup
		for _, tag := range []string{"a", "b"} {
			wg.Go(func() {
				if out, err := helper0(t, "append", name, tag, "100").CombinedOutput(); err != nil {
					t.Errorf("%v: %s", err, out)
				}
			})
		}
		wg.Wait()
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(string(b)), "\n")
		seen := map[string]bool{}
		for _, l := range lines {
			seen[l] = true
		}
		if len(lines) != 200 || len(seen) != 200 {
			t.Errorf("%d lines, %d different; want 200", len(lines), len(seen))
		}
	})
}

func TestSharedMapping(t *testing.T) {
	eachKind(t, func(t *testing.T, dir string) {
		name := filepath.Join(dir, "f")
		want := bytes.Repeat([]byte("0123456789"), 2000)
		if err := os.WriteFile(name, want, 0o644); err != nil {
			t.Fatal(err)
		}
		runHelper(t, "mmap", name, "MAPPED")
		copy(want[5000:], "MAPPED")
		copy(want[9000:], "MAPPED")
		if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("after the mapping: %v, equal %v", err, bytes.Equal(got, want))
		}
	})
}

func TestFallocateModes(t *testing.T) {
	eachKind(t, func(t *testing.T, dir string) {
		f, err := os.Create(filepath.Join(dir, "f"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		fd := int(f.Fd())
		content := bytes.Repeat([]byte("x"), 64<<10)
		if _, err := f.Write(content); err != nil {
			t.Fatal(err)
		}
		size := func() int64 {
			st, err := f.Stat()
			if err != nil {
				t.Fatal(err)
			}
			return st.Size()
		}
		if err := unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 0, 128<<10); err != nil || size() != 64<<10 {
			t.Errorf("KEEP_SIZE: %v, size %d", err, size())
		}
		if err := unix.Fallocate(fd, 0, 0, 100<<10); err != nil || size() != 100<<10 {
			t.Errorf("plain: %v, size %d", err, size())
		}
		if err := unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 4096, 8192); err != nil {
			t.Errorf("PUNCH_HOLE: %v", err)
		}
		clear(content[4096 : 4096+8192])
		got := make([]byte, len(content))
		if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, content) {
			t.Errorf("content after PUNCH_HOLE: %v, equal %v", err, bytes.Equal(got, content))
		}
		if err := unix.Fallocate(fd, unix.FALLOC_FL_COLLAPSE_RANGE, 0, 4096); !errors.Is(err, unix.EOPNOTSUPP) {
			t.Errorf("COLLAPSE_RANGE: %v, want EOPNOTSUPP", err)
		}
		if off, err := unix.Seek(fd, 0, unix.SEEK_HOLE); err != nil || off != 4096 && off != 100<<10 {
			t.Errorf("SEEK_HOLE: %d, %v", off, err)
		}
		if _, err := unix.Seek(fd, 200<<10, unix.SEEK_DATA); !errors.Is(err, unix.ENXIO) {
			t.Errorf("SEEK_DATA past the end: %v, want ENXIO", err)
		}
	})
}

func TestXattr(t *testing.T) {
	dir, _ := mountFS(t, newMemory(t, memory.Config{}), Options{})
	name := filepath.Join(dir, "f")
	if err := os.WriteFile(name, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(name, "user.k", []byte("value"), unix.XATTR_CREATE); err != nil {
		t.Fatal(err)
	}
	if n, err := unix.Getxattr(name, "user.k", nil); n != 5 || err != nil {
		t.Errorf("size of the value: %d, %v", n, err)
	}
	if n, err := unix.Listxattr(name, nil); n != len("user.k")+1 || err != nil {
		t.Errorf("size of the list: %d, %v", n, err)
	}
	setCap := error(unix.EOPNOTSUPP)
	if os.Geteuid() != 0 {
		setCap = unix.EPERM // the kernel's answer
	}
	get := func(attr string) error { _, err := unix.Getxattr(name, attr, make([]byte, 100)); return err }
	for _, c := range []struct {
		what string
		err  error
		want error
	}{
		{"a short buffer", func() error { _, err := unix.Getxattr(name, "user.k", make([]byte, 2)); return err }(), unix.ERANGE},
		{"a short list", func() error { _, err := unix.Listxattr(name, make([]byte, 2)); return err }(), unix.ERANGE},
		{"creating it again", unix.Setxattr(name, "user.k", nil, unix.XATTR_CREATE), unix.EEXIST},
		{"replacing another", unix.Setxattr(name, "user.x", nil, unix.XATTR_REPLACE), unix.ENODATA},
		{"a missing one", get("user.x"), unix.ENODATA},
		{"capabilities", get("security.capability"), unix.EOPNOTSUPP},
		{"a list of permissions", get("system.posix_acl_access"), unix.EOPNOTSUPP},
		{"a label", get("security.selinux"), unix.EOPNOTSUPP},
		{"setting capabilities", unix.Setxattr(name, "security.capability", []byte("\x00\x00\x00\x02"+strings.Repeat("\x00", 16)), 0), setCap},
		{"removing it", unix.Removexattr(name, "user.k"), nil},
		{"removing it again", unix.Removexattr(name, "user.k"), unix.ENODATA},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v, want %v", c.what, c.err, c.want)
		}
	}
}

func TestLocks(t *testing.T) {
	dir, _ := mountFS(t, newMemory(t, memory.Config{}), Options{})
	name := filepath.Join(dir, "f")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		kind string
		lock func() error
	}{
		{"flock", func() error { return unix.Flock(int(f.Fd()), unix.LOCK_EX) }},
		{"fcntl", func() error { return unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}) }},
	} {
		if err := c.lock(); err != nil {
			t.Fatal(err)
		}
		if got := runHelper(t, "lock", c.kind, name); !strings.Contains(got, "resource temporarily unavailable") {
			t.Errorf("%s of another process while it is locked: %s", c.kind, got)
		}
	}
	f.Close()
	for _, kind := range []string{"flock", "fcntl"} {
		if got := runHelper(t, "lock", kind, name); !strings.Contains(got, "nil") {
			t.Errorf("%s of another process after the close: %s", kind, got)
		}
	}
}

// TestRenameWhileOpening replaces a file by rename without end: an open finds
// a whole old or a whole new one, and never none.
func TestRenameWhileOpening(t *testing.T) {
	eachKind(t, func(t *testing.T, dir string) {
		name, tmp := filepath.Join(dir, "f"), filepath.Join(dir, "tmp")
		put := func(c byte) error {
			if err := os.WriteFile(tmp, bytes.Repeat([]byte{c}, 1000), 0o644); err != nil {
				return err
			}
			return os.Rename(tmp, name)
		}
		if err := put('a'); err != nil {
			t.Fatal(err)
		}
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					b, err := os.ReadFile(name)
					if err != nil || len(b) != 1000 || bytes.Count(b, b[:1]) != 1000 {
						t.Errorf("read %d bytes, %v", len(b), err)
						return
					}
				}
			})
		}
		for i := range 100 {
			if err := put('a' + byte(i%26)); err != nil {
				t.Error(err)
				break
			}
		}
		close(stop)
		wg.Wait()
	})
}

func TestSetIDBitsAreCleared(t *testing.T) {
	if os.Geteuid() != 0 {
		missing(t, "needs root, to act as another user")
	}
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			opts := k.opts
			opts.AllowOther = true
			dir, _ := mountFS(t, newMemory(t, k.memory), opts)
			// The test's own directory is closed to others.
			for p := dir; strings.HasPrefix(p, os.TempDir()+"/"); p = filepath.Dir(p) {
				if err := os.Chmod(p, 0o777); err != nil {
					t.Fatal(err)
				}
			}
			const nobody = 65534
			for what, change := range map[string]func(name string) error{
				"write": func(name string) error {
					cmd := exec.Command("dd", "if=/dev/zero", "of="+name, "bs=10", "count=1", "conv=notrunc")
					cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
					return cmd.Run()
				},
				"truncate": func(name string) error {
					cmd := exec.Command("truncate", "-s", "5", name)
					cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
					return cmd.Run()
				},
				"chown": func(name string) error { return os.Chown(name, 1, 1) },
			} {
				name := filepath.Join(dir, what)
				if err := errors.Join(os.WriteFile(name, []byte("0123456789"), 0o755), os.Chown(name, nobody, nobody), unix.Chmod(name, 0o6755)); err != nil {
					t.Fatal(err)
				}
				if err := change(name); err != nil {
					t.Errorf("%s: %v", what, err)
				}
				var st unix.Stat_t
				if err := unix.Stat(name, &st); err != nil || st.Mode&0o7777 != 0o755 {
					t.Errorf("mode after %s: %o, %v; want 0755", what, st.Mode&0o7777, err)
				}
			}
		})
	}
}
