package backendtest

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
)

const xattr = "user.test.agentfs"

var fsXattrUnits = []unit[*fsEnv]{
	{"Xattr", func(e *fsEnv) {
		for what, n := range map[string]backends.Node{"file": e.create(e.root, "f", "x"), "directory": e.mkdir(e.root, "d")} {
			_, err := backends.GetXattrAt(e.ctx, e.fs, n, xattr)
			e.wantErr(err, backends.ErrNoXattr, "GetXattr on a fresh %s", what)
			for _, value := range []string{"value", "", "bin\x00\xff", strings.Repeat("v", 2000)} {
				e.ok(backends.SetXattrAt(e.ctx, e.fs, n, xattr, []byte(value), 0), "SetXattr")
				got, err := backends.GetXattrAt(e.ctx, e.fs, n, xattr)
				if err != nil || string(got) != value {
					e.Errorf("%s: GetXattr = %q, %v, want %q", what, got, err, brief(value))
				}
			}
			e.ok(backends.SetXattrAt(e.ctx, e.fs, n, xattr+"2", []byte("2"), 0), "SetXattr")
			if got := e.xattrs(n); !slices.Equal(got, []string{xattr, xattr + "2"}) {
				e.Errorf("%s: ListXattr = %q", what, got)
			}
			e.ok(backends.RemoveXattrAt(e.ctx, e.fs, n, xattr), "RemoveXattr")
			err = backends.RemoveXattrAt(e.ctx, e.fs, n, xattr)
			e.wantErr(err, backends.ErrNoXattr, "RemoveXattr of a missing attribute")
			if got := e.xattrs(n); !slices.Equal(got, []string{xattr + "2"}) {
				e.Errorf("%s: ListXattr = %q after a removal", what, got)
			}
		}
	}},
	{"Xattr/Flags", func(e *fsEnv) {
		n := e.create(e.root, "f", "x")
		err := backends.SetXattrAt(e.ctx, e.fs, n, xattr, []byte("1"), backends.XattrReplace)
		e.wantErr(err, backends.ErrNoXattr, "SetXattr with REPLACE of a missing attribute")
		e.ok(backends.SetXattrAt(e.ctx, e.fs, n, xattr, []byte("1"), backends.XattrCreate), "SetXattr with CREATE")
		err = backends.SetXattrAt(e.ctx, e.fs, n, xattr, []byte("2"), backends.XattrCreate)
		e.wantErr(err, errExist, "SetXattr with CREATE of an existing attribute")
		e.ok(backends.SetXattrAt(e.ctx, e.fs, n, xattr, []byte("3"), backends.XattrReplace), "SetXattr with REPLACE")
		if got, err := backends.GetXattrAt(e.ctx, e.fs, n, xattr); err != nil || string(got) != "3" {
			e.Errorf("GetXattr = %q, %v", got, err)
		}
	}},
	{"Xattr/Unlinked", func(e *fsEnv) {
		n, f := e.createOpen(e.root, "f")
		e.ok(backends.SetXattrAt(e.ctx, e.fs, n, xattr, []byte("1"), 0), "SetXattr")
		e.unlink(e.root, "f")
		if got, err := backends.GetXattrAt(e.ctx, e.fs, n, xattr); err != nil || string(got) != "1" {
			e.Errorf("GetXattr of an unlinked open file = %q, %v", got, err)
		}
		e.ok(backends.SetXattrAt(e.ctx, e.fs, n, xattr, []byte("2"), 0), "SetXattr of an unlinked open file")
		e.close(f)
	}},
	{"Xattr/KeptByRename", func(e *fsEnv) {
		n := e.create(e.root, "f", "x")
		e.ok(backends.SetXattrAt(e.ctx, e.fs, n, xattr, []byte("1"), 0), "SetXattr")
		e.rename(e.root, "f", e.root, "g")
		if got, err := backends.GetXattrAt(e.ctx, e.fs, e.lookup(e.root, "g"), xattr); err != nil || string(got) != "1" {
			e.Errorf("GetXattr after a rename = %q, %v", got, err)
		}
	}},
	{"Xattr/Version", func(e *fsEnv) {
		version := func(n backends.Node) string {
			v, err := backends.GetXattrAt(e.ctx, e.fs, n, backends.VersionXattr)
			if err != nil || len(v) == 0 {
				e.Errorf("the version of a file is %q, %v", v, err)
			}
			return string(v)
		}
		n := e.create(e.root, "f", "one")
		e.ok(backends.SyncDirAt(e.ctx, e.fs, e.root), "SyncDir")
		first := version(n)
		if again := version(e.lookup(e.root, "f")); again != first {
			e.Errorf("the version of an unchanged file was %q and is %q", first, again)
		}
		f := e.openFile(n, os.O_WRONLY)
		e.write(f, "two", 0)
		e.close(f)
		e.ok(backends.SyncDirAt(e.ctx, e.fs, e.root), "SyncDir")
		if second := version(n); second == first {
			e.Errorf("another content has the same version %q", second)
		}
		listed, err := backends.ListXattrAt(e.ctx, e.fs, n)
		if e.ok(err, "ListXattr"); slices.Contains(listed, backends.VersionXattr) {
			e.Errorf("ListXattr = %q, and the version is not to be listed", listed)
		}
		for what, err := range map[string]error{
			"SetXattr":    backends.SetXattrAt(e.ctx, e.fs, n, backends.VersionXattr, []byte("1"), 0),
			"RemoveXattr": backends.RemoveXattrAt(e.ctx, e.fs, n, backends.VersionXattr),
		} {
			e.wantErr(err, backends.ErrNotPermitted, "%s of the version", what)
		}
		_, err = backends.GetXattrAt(e.ctx, e.fs, e.mkdir(e.root, "d"), backends.VersionXattr)
		e.wantErr(err, backends.ErrNoXattr, "GetXattr of a directory's version")
	}},
	{"Xattr/Ctime", func(e *fsEnv) {
		n := e.create(e.root, "f", "x")
		e.wantTimes("SetXattr", n, false, true, func() {
			e.ok(backends.SetXattrAt(e.ctx, e.fs, n, xattr, []byte("1"), 0), "SetXattr")
		})
		e.wantTimes("RemoveXattr", n, false, true, func() {
			e.ok(backends.RemoveXattrAt(e.ctx, e.fs, n, xattr), "RemoveXattr")
		})
	}},
}

// fsOptionalFileUnits are those of the optional interfaces of an open file.
var fsOptionalFileUnits = []unit[*fsEnv]{
	{"Allocate", func(e *fsEnv) {
		n, f := e.createOpen(e.root, "f")
		defer func() { e.close(f) }()
		a := e.allocator(f)
		e.write(f, "0123456789", 0)
		e.ok(a.Allocate(e.ctx, 0, 100, 0), "Allocate")
		e.wantOpenContent(f, "0123456789"+strings.Repeat("\x00", 90))
		e.ok(a.Allocate(e.ctx, 0, 10, 0), "Allocate of what is there")
		if got := e.attr(n).Size; got != 100 {
			e.Errorf("the size is %d, want 100", got)
		}
		for _, bad := range []struct{ off, length int64 }{{-1, 10}, {0, 0}, {0, -5}} {
			e.wantErr(a.Allocate(e.ctx, bad.off, bad.length, 0), errInvalid, "Allocate(%d, %d)", bad.off, bad.length)
		}
		e.wantErr(a.Allocate(e.ctx, 0, 10, 1<<30), errUnsupported, "Allocate with an unknown mode")
	}},
	{"Allocate/KeepSize", func(e *fsEnv) {
		_, f := e.createOpen(e.root, "f")
		defer func() { e.close(f) }()
		e.write(f, "0123456789", 0)
		e.ok(e.allocator(f).Allocate(e.ctx, 0, 1<<20, unix.FALLOC_FL_KEEP_SIZE), "Allocate with KEEP_SIZE")
		e.wantOpenContent(f, "0123456789")
	}},
	{"Allocate/PunchHole", func(e *fsEnv) {
		_, f := e.createOpen(e.root, "f")
		defer func() { e.close(f) }()
		content := []byte(patterned(64<<10, 1))
		e.write(f, string(content), 0)
		mode := uint32(unix.FALLOC_FL_KEEP_SIZE | unix.FALLOC_FL_PUNCH_HOLE)
		e.ok(e.allocator(f).Allocate(e.ctx, 5000, 20_000, mode), "Allocate with PUNCH_HOLE")
		clear(content[5000:25_000])
		e.wantOpenContent(f, string(content))
		e.ok(e.allocator(f).Allocate(e.ctx, 60<<10, 1<<20, mode), "a hole beyond the end")
		clear(content[60<<10:])
		e.wantOpenContent(f, string(content))
	}},
	{"Seek", func(e *fsEnv) {
		_, f := e.createOpen(e.root, "f")
		defer func() { e.close(f) }()
		s, ok := f.(backends.Seeker)
		if !ok {
			e.Fatal("the file is no backends.Seeker; declare an exception if it can't be one")
		}
		data := patterned(128<<10, 1)
		e.write(f, data, 1<<20)
		e.write(f, data, 3<<20)
		size := int64(3<<20 + len(data))
		// What is said to be a hole holds zeros, and no data is left out.
		content := e.readFile(f)
		for off := int64(0); off < size; {
			d, err := s.SeekData(e.ctx, off)
			e.ok(err, "SeekData(%d)", off)
			if d < off || strings.Trim(content[off:d], "\x00") != "" {
				e.Fatalf("SeekData(%d) = %d skips data", off, d)
			}
			h, err := s.SeekHole(e.ctx, d)
			e.ok(err, "SeekHole(%d)", d)
			if h <= d || h > size {
				e.Fatalf("SeekHole(%d) = %d in a file of %d bytes", d, h, size)
			}
			off = h
		}
		for _, off := range []int64{size, size + 100} {
			_, err := s.SeekData(e.ctx, off)
			e.wantErr(err, backends.ErrNoData, "SeekData at or beyond the end")
			_, err = s.SeekHole(e.ctx, off)
			e.wantErr(err, backends.ErrNoData, "SeekHole at or beyond the end")
		}
	}},
	{"Descriptor", func(e *fsEnv) {
		n, a := e.createOpen(e.root, "f")
		e.write(a, "content", 0)
		b := e.openFile(n, os.O_RDONLY)
		defer e.close(a)
		defer e.close(b)
		da, ok := a.(backends.Descriptor)
		if !ok {
			return // it never offers one
		}
		fd, ok := da.Descriptor()
		if db, is := b.(backends.Descriptor); !is {
			e.Fatal("only one of two handles of a node is a Descriptor")
		} else if _, ok2 := db.Descriptor(); ok2 != ok {
			e.Fatalf("of two open handles of a node one may be used directly (%v), the other not (%v)", ok, ok2)
		}
		if !ok {
			return
		}
		buf := make([]byte, 100)
		got, err := unix.Pread(fd, buf, 0)
		if err != nil || !bytes.Equal(buf[:got], []byte("content")) {
			e.Fatalf("the descriptor holds %q, %v", buf[:got], err)
		}
		if _, err := unix.Pwrite(fd, []byte("CON"), 0); err != nil {
			e.Fatalf("writing through the descriptor: %v", err)
		}
		e.wantOpenContent(b, "CONtent")
		if _, err := unix.Pwrite(fd, []byte("more"), 7); err != nil {
			e.Fatalf("writing through the descriptor: %v", err)
		}
		if size := e.attr(n).Size; size != 11 {
			e.Errorf("the size after writing through the descriptor is %d, want 11", size)
		}
	}},
	{"KeepPages", func(e *fsEnv) {
		// Whatever is answered, a node's first open has no pages to be wrong,
		// and the question may be asked at any time.
		n := e.create(e.root, "f", "one")
		for range 2 {
			f := e.openFile(n, os.O_RDWR)
			if p, ok := f.(backends.PageCacher); ok {
				p.KeepPages()
			}
			e.write(f, "two", 0)
			e.close(f)
			time.Sleep(time.Millisecond)
		}
		e.wantContent(n, "two")
	}},
}

func (e *fsEnv) allocator(f backends.File) backends.Allocator {
	e.Helper()
	a, ok := f.(backends.Allocator)
	if !ok {
		e.Fatal("the file is no backends.Allocator; declare an exception if it can't be one")
	}
	return a
}

// xattrs returns the sorted attributes of n that tests set. A host, or the file
// system itself, may add others.
func (e *fsEnv) xattrs(n backends.Node) []string {
	e.Helper()
	all, err := backends.ListXattrAt(e.ctx, e.fs, n)
	e.ok(err, "ListXattr")
	all = slices.DeleteFunc(slices.Clone(all), func(name string) bool { return !strings.HasPrefix(name, "user.test.") })
	slices.Sort(all)
	return all
}
