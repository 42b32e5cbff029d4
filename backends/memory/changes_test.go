package memory_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/memory"
	"github.com/agentfs/agentfs/backends/memory/memorytest"
)

// randomFile is a file beside the bytes that it has to hold.
type randomFile struct {
	t     *testing.T
	f     backends.FileSystem
	n     backends.Node
	h     backends.File
	r     *rand.Rand
	model []byte
}

func (x *randomFile) grow(size int) {
	if size > len(x.model) {
		x.model = append(x.model, make([]byte, size-len(x.model))...)
	}
}

func (x *randomFile) zero(from, to int) {
	to = min(to, len(x.model))
	if from < to {
		clear(x.model[from:to])
	}
}

// step does one thing to the file and to the model, and returns what it was
// and the file's error.
func (x *randomFile) step(off, size int) (op string, err error) {
	ctx := x.t.Context()
	allocate := func(mode uint32) error {
		return x.h.(backends.Allocator).Allocate(ctx, int64(off), int64(size), mode)
	}
	switch x.r.IntN(9) {
	case 0, 1:
		p := make([]byte, size)
		for i := range p {
			p[i] = byte(x.r.Uint32())
		}
		n, err := x.h.WriteAt(ctx, p, int64(off))
		if n > 0 {
			x.grow(off + n)
			copy(x.model[off:], p[:n])
		}
		return "write", err
	case 2:
		_, err := x.f.SetAttr(ctx, x.n, backends.AttrChange{Set: backends.SetSize, Size: int64(off)})
		if err == nil {
			x.model = x.model[:min(off, len(x.model))]
			x.grow(off)
		}
		return "truncate", err
	case 3:
		err := allocate(unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE)
		if err == nil {
			x.zero(off, off+size)
		}
		return "punch", err
	case 4:
		err := allocate(0)
		if err == nil {
			x.grow(off + size)
		}
		return "allocate", err
	case 5:
		err := allocate(unix.FALLOC_FL_ZERO_RANGE)
		if err == nil {
			x.zero(off, off+size)
			x.grow(off + size)
		} else {
			x.adopt(off, off+size)
		}
		return "zero", err
	case 6:
		return "allocate beyond the size", allocate(unix.FALLOC_FL_KEEP_SIZE)
	case 7:
		if err := x.h.Close(ctx); err != nil {
			return "close", err
		}
		x.h, err = x.f.Open(ctx, x.n, os.O_RDWR)
		return "reopen", err
	default:
		x.seek(off)
		return "seek", nil
	}
}

// adopt takes over what a failed ZERO_RANGE has made zeros already.
func (x *randomFile) adopt(from, to int) {
	p := make([]byte, len(x.model))
	if n, err := x.h.ReadAt(x.t.Context(), p, 0); err != nil || n != len(p) {
		x.t.Fatalf("read of %d bytes, %v", n, err)
	}
	for i := from; i < min(to, len(p)); i++ {
		if p[i] == 0 {
			x.model[i] = 0
		}
	}
}

// seek checks that SEEK_DATA skips only zeros.
func (x *randomFile) seek(off int) {
	if off >= len(x.model) {
		return
	}
	end := len(x.model)
	at, err := x.h.(backends.Seeker).SeekData(x.t.Context(), int64(off))
	if err == nil {
		end = int(at)
	} else if !errors.Is(err, backends.ErrNoData) {
		x.t.Fatalf("seek for data from %d: %v", off, err)
	}
	if !bytes.Equal(x.model[off:end], make([]byte, end-off)) {
		x.t.Fatalf("seek for data from %d skips some on its way to %d", off, end)
	}
}

// Whatever is done to a file, also at the limit, its content and size are
// those of a plain array of bytes; and when it is gone all space is free.
func TestAgainstBytes(t *testing.T) {
	steps := 250
	if testing.Short() {
		steps = 80
	}
	seed := uint64(time.Now().UnixNano())
	for name, c := range kinds {
		for _, size := range []int{50 << 10, 400 << 10} {
			t.Run(fmt.Sprintf("%s/%d", name, size), func(t *testing.T) {
				t.Logf("seed %d", seed) // shown when it fails
				c.Size = 600 << 10
				m := memorytest.New(t, c)
				x := &randomFile{t: t, f: m.FileSystem(), r: rand.New(rand.NewPCG(seed, uint64(size)))}
				x.n, x.h = create(t, x.f, "f")
				for i := range steps {
					off, n := x.r.IntN(size), 1+x.r.IntN(1<<uint(4+x.r.IntN(13)))
					op, err := x.step(off, n)
					if err != nil && !errors.Is(err, backends.ErrNoSpace) {
						t.Fatalf("step %d, %s %d+%d: %v", i, op, off, n, err)
					}
					p := make([]byte, len(x.model)+10)
					got, rerr := x.h.ReadAt(t.Context(), p, 0)
					if rerr != nil || !bytes.Equal(p[:got], x.model) {
						t.Fatalf("step %d, after %s %d+%d (%v): %d bytes, want %d, %v", i, op, off, n, err, got, len(x.model), rerr)
					}
					if a, err := x.f.Attr(t.Context(), x.n); err != nil || a.Size != int64(len(x.model)) {
						t.Fatalf("step %d, after %s %d+%d: size %d, want %d, %v", i, op, off, n, a.Size, len(x.model), err)
					}
				}
				if err := x.h.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
				if err := x.f.Unlink(t.Context(), x.f.Root(), "f"); err != nil {
					t.Fatal(err)
				}
				x.f.Forget(x.n)
				allFree(t, m)
			})
		}
	}
}

func allFree(t *testing.T, m *memory.Store) {
	t.Helper()
	if u, err := m.Usage(t.Context()); err != nil || u.FreeBytes != u.TotalBytes {
		t.Errorf("nothing is left, and not all is free: %+v, %v", u, err)
	}
}

// An extended attribute that is set on a file without a name is given back
// with the file.
func TestXattrOfUnlinked(t *testing.T) {
	m := memorytest.New(t, memory.Config{NoTmpfs: true, Size: 1 << 20})
	f := m.FileSystem()
	for i := range 40 { // twice the limit in all
		n, h := create(t, f, "f")
		if err := f.Unlink(t.Context(), f.Root(), "f"); err != nil {
			t.Fatal(err)
		}
		if err := f.(backends.Xattrer).SetXattr(t.Context(), n, "user.x", make([]byte, 60<<10), 0); err != nil {
			t.Fatalf("file %d: %v", i, err)
		}
		if err := h.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.Forget(n)
	}
	allFree(t, m)
}

// The kernel is not told to keep the pages of a file that was changed through
// its descriptor since they were read, even when the object depth has looked
// at the file in between.
func TestPagesAfterPassthrough(t *testing.T) {
	m := memorytest.New(t, memory.Config{Size: 1 << 20})
	f := m.FileSystem()
	ctx := t.Context()
	n, h := create(t, f, "f")
	if _, err := h.WriteAt(ctx, []byte("one"), 0); err != nil {
		t.Fatal(err)
	}
	_, direct := h.(backends.Descriptor).Descriptor()
	reopen := func(flags int) {
		t.Helper()
		if err := h.Close(ctx); err != nil {
			t.Fatal(err)
		}
		var err error
		if h, err = f.Open(ctx, n, flags); err != nil {
			t.Fatal(err)
		}
	}
	if !direct {
		_ = h.Close(ctx)
		if os.Getenv("CI") == "true" {
			t.Fatal("no tmpfs of its own can be had: it takes CAP_SYS_ADMIN")
		}
		t.Skip("no tmpfs of its own can be had: it takes CAP_SYS_ADMIN")
	}
	reopen(os.O_RDONLY) // the kernel reads its pages now
	reopen(os.O_RDWR)
	fd, _ := h.(backends.Descriptor).Descriptor()
	if _, err := unix.Pwrite(fd, []byte("two"), 0); err != nil {
		t.Fatal(err)
	}
	if err := h.Close(ctx); err != nil {
		t.Fatal(err)
	}
	r, _, err := m.Open(ctx, "f", backends.Range{}, backends.If{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	r.Close()
	if err != nil || string(got) != "two" {
		t.Errorf("the object is %q, %v", got, err)
	}
	h, err = f.Open(ctx, n, os.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	if h.(backends.PageCacher).KeepPages() {
		t.Error("the kernel is told to keep pages that are older than the change")
	}
	if err := h.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

// However puts, renames and removals of the same names meet, all space is free
// when the names are gone.
func TestSpaceOfConcurrentChanges(t *testing.T) {
	for kind, c := range kinds {
		t.Run(kind, func(t *testing.T) {
			c.Size = 2 << 20
			m := memorytest.New(t, c)
			name := func(i int) string { return fmt.Sprint("f", i%5) }
			change := func(ctx context.Context, i, w int) error {
				switch from := name(i * w); i % 5 {
				case 3:
					return m.Rename(ctx, from, backends.If{}, name(i*w+1), backends.If{})
				case 4:
					return m.Remove(ctx, from, backends.If{})
				default:
					size := int64(i * 7919 * (w + 1) % 200000)
					body := io.NewSectionReader(strings.NewReader(strings.Repeat("x", int(size))), 0, size)
					_, err := m.Put(ctx, from, body, backends.PutOptions{})
					return err
				}
			}
			var wg sync.WaitGroup
			for w := range 6 {
				wg.Go(func() {
					for i := range 100 {
						err := change(t.Context(), i, w)
						if err != nil && !errors.Is(err, backends.ErrNoSpace) && !errors.Is(err, fs.ErrNotExist) {
							t.Errorf("change %d of %d: %v", i, w, err)
						}
					}
				})
			}
			wg.Wait()
			for i := range 5 {
				if err := m.Remove(t.Context(), name(i), backends.If{}); err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Error(err)
				}
			}
			allFree(t, m)
		})
	}
}
