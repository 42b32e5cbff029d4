package semantics

import (
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A file that is unlinked while somebody has it open keeps everything until the
// last close, on every route: content, reads, writes, truncation, fchmod,
// futimens, fstat with a link count of 0, and extended attributes. On S3 the
// object is removed in the background, the file keeps its bytes, and nothing
// written later brings it back.
func TestUnlinkedOpenFile(t *testing.T) {
	onEach(t, func(t *testing.T, p place) {
		big := strings.Repeat("stored content, ", 200_000)
		write(t, p.path("f"), big)
		if p.s3 {
			p.sync()
		}
		f := open(t, p.path("f"), os.O_RDWR)
		fd := int(f.Fd())
		ok(t, "unlink", os.Remove(p.path("f")))
		if p.s3 {
			p.sync()
			if _, there := p.objectNow("f"); there {
				t.Error("the bucket still has the object")
			}
		}
		got := make([]byte, len(big))
		if n, err := f.ReadAt(got, 0); n != len(big) || string(got) != big {
			t.Fatalf("read %d bytes, %v", n, err)
		}
		_, err := f.WriteAt([]byte("WRITTEN"), 5)
		ok(t, "write", err)
		ok(t, "ftruncate", f.Truncate(20))
		ok(t, "fchmod", f.Chmod(0o600))
		when := unix.Timespec{Sec: 1_000_000_000}
		ok(t, "futimens", unix.UtimesNanoAt(unix.AT_FDCWD, "/proc/self/fd/"+itoa(fd), []unix.Timespec{when, when}, 0))
		ok(t, "fsetxattr", unix.Fsetxattr(fd, "user.x", []byte("y"), 0))
		ok(t, "fsync", f.Sync())
		var st unix.Stat_t
		ok(t, "fstat", unix.Fstat(fd, &st))
		if st.Nlink != 0 || st.Size != 20 || st.Mode&0o777 != 0o600 || st.Mtim.Sec != when.Sec {
			t.Errorf("fstat: %d links, size %d, mode %o, mtime %s", st.Nlink, st.Size, st.Mode&0o777, time.Unix(st.Mtim.Sec, 0))
		}
		n, _ := f.ReadAt(got, 0)
		if want := "storeWRITTENnt, stor"; string(got[:n]) != want {
			t.Errorf("read %q, want %q", got[:n], want)
		}
		write(t, p.path("f"), "another file")
		if n, _ := f.ReadAt(got, 0); n != 20 {
			t.Errorf("after a new file of that name: %q", got[:n])
		}
		ok(t, "close", f.Close())
		holds(t, p.path("f"), "another file")
		if p.s3 {
			p.holdsObject("f", "another file")
		}
	})
}

// A file that is created and unlinked before its first close never reaches the
// store, and is a scratch file like any other until it is closed.
func TestScratchFileNeverReachesTheStore(t *testing.T) {
	p := onS3(t)
	f := open(t, p.path("scratch"), os.O_RDWR|os.O_CREATE|os.O_EXCL)
	ok(t, "unlink", os.Remove(p.path("scratch")))
	_, err := f.WriteString("for me alone")
	ok(t, "write", err)
	ok(t, "fsync", f.Sync())
	got := make([]byte, 12)
	_, err = f.ReadAt(got, 0)
	ok(t, "read", err)
	ok(t, "close", f.Close())
	if string(got) != "for me alone" {
		t.Errorf("read %q", got)
	}
	if _, there := p.object("scratch"); there {
		t.Error("the bucket has the scratch file")
	}
	for _, k := range p.tree.server.Keys(t) {
		if strings.Contains(k, "scratch") {
			t.Errorf("the bucket has %s", k)
		}
	}
}
