package fs

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
)

// copier gives a file system CopyRange, by reading and writing.
type copier struct {
	backends.FileSystem
	calls  atomic.Int64
	copied atomic.Int64
}

func (c *copier) CopyRange(ctx context.Context, src backends.File, srcOff int64, dst backends.File, dstOff, n int64) (int64, error) {
	c.calls.Add(1)
	p := make([]byte, min(n, 64<<10)) // less than asked for, as a real one may
	got, err := src.ReadAt(ctx, p, srcOff)
	if err != nil || got == 0 {
		return 0, err
	}
	got, err = dst.WriteAt(ctx, p[:got], dstOff)
	c.copied.Add(int64(got))
	return int64(got), err
}

// TestCopyFileRange copies files with copy_file_range(2), what was written
// through a mapping included: where the file system can copy it does, and
// otherwise the kernel.
func TestCopyFileRange(t *testing.T) {
	for _, k := range kinds {
		for _, own := range []bool{true, false} {
			t.Run(map[bool]string{true: "by the file system/", false: "by the kernel/"}[own]+k.name, func(t *testing.T) {
				fsys := newMemory(t, k.memory)
				c := &copier{FileSystem: fsys}
				if own {
					fsys = c
				}
				dir, s := mountFS(t, fsys, k.opts)
				if k.name == "passthrough" && !s.Passthrough() {
					missing(t, "passing files through needs root and Linux 6.9")
				}
				from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
				content := strings.Repeat("0123456789", 50_000)
				if err := os.WriteFile(from, []byte(content), 0o644); err != nil {
					t.Fatal(err)
				}
				// The kernel has pages of what was there before.
				if err := os.WriteFile(to, []byte(strings.Repeat("old", 1000)), 0o644); err != nil {
					t.Fatal(err)
				}
				if b, err := os.ReadFile(to); err != nil || len(b) != 3000 {
					t.Fatal(len(b), err)
				}
				runHelper(t, "copy", from, to, "CHANGED")
				want := content[:10] + "CHANGED" + content[17:]
				if b, err := os.ReadFile(to); err != nil || string(b) != want {
					t.Errorf("the copy has %d bytes, want %d, %v; it begins with %.30q", len(b), len(want), err, b)
				}
				if b, err := os.ReadFile(from); err != nil || string(b) != want {
					t.Errorf("the source has %d bytes, %v", len(b), err)
				}
				if copied := c.copied.Load(); own && copied != int64(len(want)) || !own && copied != 0 {
					t.Errorf("the file system was asked %d times and has copied %d of %d bytes", c.calls.Load(), copied, len(want))
				}
				out, err := exec.Command("cp", "--reflink=never", from, filepath.Join(dir, "cp")).CombinedOutput()
				if err != nil {
					t.Fatalf("cp: %v: %s", err, out)
				}
				if b, err := os.ReadFile(filepath.Join(dir, "cp")); err != nil || string(b) != want {
					t.Errorf("cp made %d bytes, %v", len(b), err)
				}
			})
		}
	}
}

// Wrong requests of copy_file_range(2) are refused, and the ends of files are
// where they are.
func TestCopyFileRangeErrors(t *testing.T) {
	dir, _ := mountFS(t, &copier{FileSystem: newMemory(t, kinds[2].memory)}, Options{})
	name := filepath.Join(dir, "f")
	if err := os.WriteFile(name, []byte("0123456789"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	copyRange := func(from, to *os.File, srcOff, dstOff int64, n int) (int, error) {
		return unix.CopyFileRange(int(from.Fd()), &srcOff, int(to.Fd()), &dstOff, n, 0)
	}
	if _, err := copyRange(f, r, 0, 0, 4); !errors.Is(err, unix.EBADF) {
		t.Errorf("to a file that is open for reading: %v", err)
	}
	if _, err := copyRange(f, f, 0, 2, 4); !errors.Is(err, unix.EINVAL) {
		t.Errorf("of ranges that overlap: %v", err)
	}
	if n, err := copyRange(r, f, 10, 0, 4); n != 0 || err != nil {
		t.Errorf("from the end: %d, %v", n, err)
	}
	if n, err := copyRange(r, f, 0, 20, 10); n != 10 || err != nil {
		t.Errorf("beyond the end of the target: %d, %v", n, err)
	}
	if st, err := os.Stat(name); err != nil || st.Size() != 30 {
		t.Errorf("the size is %v, %v", st, err)
	}
}
