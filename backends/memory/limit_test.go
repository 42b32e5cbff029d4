package memory_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/memory"
	"github.com/agentfs/agentfs/backends/memory/memorytest"
)

// small are both kinds with a limit of 8 MiB.
func small() map[string]memory.Config {
	all := map[string]memory.Config{}
	for name, c := range kinds {
		c.Size = 8 << 20
		all[name] = c
	}
	return all
}

func create(t *testing.T, f backends.FileSystem, name string) (backends.Node, backends.File) {
	t.Helper()
	n, _, h, err := f.Create(t.Context(), f.Root(), name, os.O_RDWR|os.O_CREATE, backends.CreateAttr{Mode: 0o644})
	if err != nil {
		t.Fatal(err)
	}
	return n, h
}

// The limit is ENOSPC at the write that exceeds it; what was written before
// stays, and removing a file gives its space back.
func TestLimit(t *testing.T) {
	for name, c := range small() {
		t.Run(name, func(t *testing.T) {
			f := memorytest.New(t, c).FileSystem()
			n, h := create(t, f, "big")
			chunk := bytes.Repeat([]byte("x"), 1<<20)
			var written int64
			var err error
			for range 20 {
				var m int
				m, err = h.WriteAt(t.Context(), chunk, written)
				written += int64(m)
				if err != nil {
					break
				}
			}
			if !errors.Is(err, backends.ErrNoSpace) || written < 7<<20 {
				t.Fatalf("after %d bytes: %v, want ErrNoSpace at about 8 MiB", written, err)
			}
			got := make([]byte, 1<<20)
			if m, err := h.ReadAt(t.Context(), got, 5<<20); err != nil || !bytes.Equal(got[:m], chunk) {
				t.Errorf("what was written before is not there: %v", err)
			}
			if err := h.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := f.Unlink(t.Context(), f.Root(), "big"); err != nil {
				t.Fatal(err)
			}
			f.Forget(n)
			if u, err := f.StatFS(t.Context(), f.Root()); err != nil || u.FreeBytes < 8<<20-64<<10 {
				t.Errorf("after the removal %d bytes are free, %v", u.FreeBytes, err)
			}
		})
	}
}

// Names and extended attributes are limited too.
func TestLimitOfNodes(t *testing.T) {
	for name, c := range small() {
		t.Run(name, func(t *testing.T) {
			c.Size = 256 << 10
			f := memorytest.New(t, c).FileSystem()
			var err error
			var made int
			for made = range 1000 {
				if _, _, err = f.Mkdir(t.Context(), f.Root(), fmt.Sprint(made), backends.CreateAttr{Mode: 0o755}); err != nil {
					break
				}
			}
			if !errors.Is(err, backends.ErrNoSpace) || made > 300 {
				t.Errorf("after %d directories in 256 KiB: %v", made, err)
			}
			x := f.(backends.Xattrer)
			for i := range 100 {
				err = x.SetXattr(t.Context(), f.Root(), fmt.Sprint("user.", i), make([]byte, 32<<10), 0)
				if err != nil {
					break
				}
			}
			if !errors.Is(err, backends.ErrNoSpace) {
				t.Errorf("3 MiB of attributes in 256 KiB: %v", err)
			}
		})
	}
}

// Space is for what was written: a file with a hole costs its data, and a
// change of a large file costs the change.
func TestSparse(t *testing.T) {
	for name, c := range small() {
		t.Run(name, func(t *testing.T) {
			f := memorytest.New(t, c).FileSystem()
			n, h := create(t, f, "sparse")
			defer h.Close(t.Context())
			for _, off := range []int64{0, 1 << 30, 1 << 40} {
				if _, err := h.WriteAt(t.Context(), []byte("data"), off); err != nil {
					t.Fatal(err)
				}
			}
			a, err := f.Attr(t.Context(), n)
			if err != nil || a.Size != 1<<40+4 || a.Blocks*512 > 256<<10 {
				t.Errorf("size %d, %d bytes taken, %v", a.Size, a.Blocks*512, err)
			}
			if _, err := f.SetAttr(t.Context(), n, backends.AttrChange{Set: backends.SetSize, Size: 1 << 20}); err != nil {
				t.Fatal(err)
			}
			p := make([]byte, 8)
			if m, err := h.ReadAt(t.Context(), p, 0); err != nil || m != 8 || string(p) != "data\x00\x00\x00\x00" {
				t.Errorf("after the truncation it begins with %q, %v", p[:m], err)
			}
		})
	}
}

// A file that is not open holds no descriptor.
func TestDescriptors(t *testing.T) {
	count := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	for name, c := range small() {
		t.Run(name, func(t *testing.T) {
			f := memorytest.New(t, c).FileSystem()
			before := count()
			for i := range 200 {
				_, h := create(t, f, fmt.Sprint(i))
				if _, err := h.WriteAt(t.Context(), []byte("x"), 0); err != nil {
					t.Fatal(err)
				}
				if err := h.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if after := count(); after > before+20 {
				t.Errorf("200 closed files hold %d descriptors", after-before)
			}
		})
	}
}
