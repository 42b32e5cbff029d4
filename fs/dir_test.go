package fs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/memory"
)

// dirStream reads a directory with getdents64(2) as readdir(3) does, with
// offsets, which package os hides.
type dirStream struct {
	t   *testing.T
	fd  int
	buf [4096]byte
}

type dirent struct {
	name string
	off  int64 // of the entry after this one
	kind byte
}

func openDir(t *testing.T, path string) *dirStream {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return &dirStream{t: t, fd: fd}
}

// next returns the next bufferful without "." and "..", nil at the end.
func (d *dirStream) next() []dirent {
	d.t.Helper()
	for {
		n, err := unix.Getdents(d.fd, d.buf[:])
		if err != nil {
			d.t.Fatalf("getdents: %v", err)
		}
		if n == 0 {
			return nil
		}
		var out []dirent
		for b := d.buf[:n]; len(b) > 0; {
			// linux_dirent64: ino 8, off 8, reclen 2, type 1, name.
			size := binary.NativeEndian.Uint16(b[16:])
			name, _, _ := strings.Cut(string(b[19:size]), "\x00")
			if name != "." && name != ".." {
				out = append(out, dirent{name, int64(binary.NativeEndian.Uint64(b[8:])), b[18]})
			}
			b = b[size:]
		}
		if len(out) > 0 {
			return out
		}
	}
}

func (d *dirStream) seek(off int64) {
	d.t.Helper()
	if _, err := unix.Seek(d.fd, off, unix.SEEK_SET); err != nil {
		d.t.Fatalf("seekdir(%d): %v", off, err)
	}
}

func (d *dirStream) rest() []string {
	var names []string
	for es := d.next(); es != nil; es = d.next() {
		for _, e := range es {
			names = append(names, e.name)
		}
	}
	return names
}

// shortValid makes the kernel ask again at once, as for a store that others
// change, so that it keeps no listings.
type shortValid struct{ backends.FileSystem }

func (s shortValid) Attr(ctx context.Context, n backends.Node) (backends.Attr, error) {
	a, err := s.FileSystem.Attr(ctx, n)
	a.Valid = time.Millisecond
	return a, err
}

func (s shortValid) Lookup(ctx context.Context, p backends.Node, name string) (backends.Node, backends.Attr, error) {
	n, a, err := s.FileSystem.Lookup(ctx, p, name)
	a.Valid = time.Millisecond
	return n, a, err
}

// eachListing runs f on mounts where the kernel keeps listings and where not,
// with count files, whose names are given sorted.
func eachListing(t *testing.T, count int, f func(t *testing.T, dir string, names []string)) {
	for _, kept := range []bool{true, false} {
		t.Run(fmt.Sprintf("kept=%v", kept), func(t *testing.T) {
			fsys := newMemory(t, memory.Config{NoTmpfs: true})
			names := makeFiles(t, fsys, count)
			if !kept {
				fsys = shortValid{fsys}
			}
			dir, _ := mountFS(t, fsys, Options{})
			f(t, dir, names)
		})
	}
}

func makeFiles(t *testing.T, fsys backends.FileSystem, n int) []string {
	t.Helper()
	var names []string
	for i := range n {
		name := fmt.Sprintf("file-%05d", i)
		_, _, f, err := fsys.Create(t.Context(), fsys.Root(), name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, backends.CreateAttr{Mode: 0o644})
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	return names
}

// TestDeleteWhileReading is what "rm -rf" does: it must see every entry.
func TestDeleteWhileReading(t *testing.T) {
	const count = 5000
	eachListing(t, count, func(t *testing.T, dir string, _ []string) {
		openDir(t, dir).rest() // the kernel may keep this listing
		removed := 0
		d := openDir(t, dir)
		for es := d.next(); es != nil; es = d.next() {
			for _, e := range es {
				if err := os.Remove(filepath.Join(dir, e.name)); err != nil {
					t.Fatal(err)
				}
				removed++
			}
			if removed%1000 < 100 {
				// Somebody else lists meanwhile, and the kernel keeps that.
				openDir(t, dir).rest()
			}
		}
		if left, _ := os.ReadDir(dir); removed != count || len(left) != 0 {
			t.Errorf("removed %d of %d, %d are left", removed, count, len(left))
		}
	})
}

func TestSeekdir(t *testing.T) {
	eachListing(t, 5000, func(t *testing.T, dir string, want []string) {
		d := openDir(t, dir)
		var all []dirent
		for es := d.next(); es != nil; es = d.next() {
			all = append(all, es...)
		}
		var names []string
		for _, e := range all {
			names = append(names, e.name)
		}
		if sorted := slices.Sorted(slices.Values(names)); !slices.Equal(sorted, want) {
			t.Fatalf("listed %d names, want %d", len(names), len(want))
		}
		for i := 0; i < len(all); i += 777 {
			d.seek(all[i].off)
			if rest := d.rest(); !slices.Equal(rest, names[i+1:]) {
				t.Fatalf("after entry %d: %d entries, want %d", i, len(rest), len(names)-i-1)
			}
		}
		// A new handle continues an old one's position.
		e := openDir(t, dir)
		e.seek(all[4000].off)
		if rest := e.rest(); !slices.Equal(rest, names[4001:]) {
			t.Errorf("a new handle at entry 4000: %d entries, want %d", len(rest), len(names)-4001)
		}
		// rewinddir(3) shows the directory as it is then.
		if err := os.WriteFile(filepath.Join(dir, "new"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		d.seek(0)
		if rest := d.rest(); !slices.Contains(rest, "new") || len(rest) != len(want)+1 {
			t.Errorf("after rewinding: %d entries, want %d with the new one", len(rest), len(want)+1)
		}
	})
}

func TestDirentTypes(t *testing.T) {
	dir, _ := mountFS(t, newMemory(t, memory.Config{}), Options{})
	errs := errors.Join(
		os.WriteFile(filepath.Join(dir, "file"), nil, 0o644),
		os.Mkdir(filepath.Join(dir, "dir"), 0o755),
		os.Symlink("file", filepath.Join(dir, "link")),
		unix.Mkfifo(filepath.Join(dir, "fifo"), 0o644),
		unix.Mknod(filepath.Join(dir, "sock"), unix.S_IFSOCK|0o644, 0),
	)
	if errs != nil {
		t.Fatal(errs)
	}
	want := map[string]byte{"file": unix.DT_REG, "dir": unix.DT_DIR, "link": unix.DT_LNK, "fifo": unix.DT_FIFO, "sock": unix.DT_SOCK}
	for _, e := range openDir(t, dir).next() {
		if e.kind != want[e.name] {
			t.Errorf("%s has d_type %d, want %d", e.name, e.kind, want[e.name])
		}
		delete(want, e.name)
	}
	if len(want) > 0 {
		t.Errorf("not listed: %v", want)
	}
}
