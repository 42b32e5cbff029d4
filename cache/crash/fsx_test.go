package crash_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/cache"
)

// fsxMax is how large the file gets.
const fsxMax = 2 << 20

// fsx is one file beside the bytes that it has to hold, after the program of
// that name that file systems have been tested with since 1991.
type fsx struct {
	t     *testing.T
	r     *rand.Rand
	store backends.Store // for the cache
	look  backends.Store // past it
	dir   string

	c    *cache.FS
	n    backends.Node
	h    backends.File
	want []byte
	done []string
}

func (x *fsx) fatal(format string, args ...any) {
	x.t.Helper()
	last := x.done[max(0, len(x.done)-30):]
	x.t.Fatalf("%s after %d operations, the last:\n%s", fmt.Sprintf(format, args...), len(x.done), strings.Join(last, "\n"))
}

func (x *fsx) ok(what string, err error) {
	x.t.Helper()
	if err != nil {
		x.fatal("%s: %v", what, err)
	}
}

// mount opens cache and file.
func (x *fsx) mount(ctx context.Context) {
	x.t.Helper()
	c := config(x.dir)
	c.Budget = cache.NewBudget(64 << 20)
	var err error
	x.c, err = cache.New(ctx, x.store, c)
	x.ok("opening the cache", err)
	x.n, _, x.h, err = x.c.Create(ctx, x.c.Root(), "f", os.O_RDWR|os.O_CREATE, backends.CreateAttr{Mode: 0o644})
	x.ok("opening the file", err)
}

func (x *fsx) shut(ctx context.Context) {
	x.t.Helper()
	x.ok("close", x.h.Flush(ctx))
	x.ok("release", x.h.Close(ctx))
}

// stored compares what the store has.
func (x *fsx) stored(ctx context.Context) {
	x.t.Helper()
	got, err := readObject(ctx, x.look, "f")
	x.ok("reading the store", err)
	if !bytes.Equal(got, x.want) {
		x.fatal("the store has %s", difference(got, x.want))
	}
}

// resize keeps the bytes in place: this runs a million times.
func (x *fsx) resize(size int) {
	if old := len(x.want); size > old {
		x.want = x.want[:size]
		clear(x.want[old:])
	}
	x.want = x.want[:size]
}

func (x *fsx) read(ctx context.Context, off, n int) {
	x.t.Helper()
	p := make([]byte, n)
	got, err := x.h.ReadAt(ctx, p, int64(off))
	x.ok("read", err)
	var want []byte
	if off < len(x.want) {
		want = x.want[off:min(len(x.want), off+n)]
	}
	if !bytes.Equal(p[:got], want) {
		x.fatal("read of %d at %d: %s", n, off, difference(p[:got], want))
	}
}

func (x *fsx) write(ctx context.Context, off, n int) {
	x.t.Helper()
	p := fill(x.r.Uint64(), int64(n))
	_, err := x.h.WriteAt(ctx, p, int64(off))
	x.ok("write", err)
	if off+n > len(x.want) {
		x.resize(off + n)
	}
	copy(x.want[off:], p)
}

func (x *fsx) punch(ctx context.Context, off, n int) {
	x.t.Helper()
	err := x.h.(backends.Allocator).Allocate(ctx, int64(off), int64(n), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE)
	x.ok("punch", err)
	if off < len(x.want) {
		clear(x.want[off:min(len(x.want), off+n)])
	}
}

func (x *fsx) step(ctx context.Context) {
	x.t.Helper()
	off, n := x.r.IntN(fsxMax), 1+x.r.IntN(1<<uint(1+x.r.IntN(16)))
	n = min(n, fsxMax-off)
	what := x.r.IntN(1000)
	note := func(op string) { x.done = append(x.done, fmt.Sprintf("%s %d+%d", op, off, n)) }
	switch {
	case what < 400:
		note("read")
		x.read(ctx, off, n)
	case what < 700:
		note("write")
		x.write(ctx, off, n)
	case what < 800:
		off = min(len(x.want), fsxMax-n)
		note("append")
		x.write(ctx, off, n)
	case what < 880:
		note("truncate")
		_, err := x.c.SetAttr(ctx, x.n, backends.AttrChange{Set: backends.SetSize, Size: int64(off)})
		x.ok("truncate", err)
		x.resize(off)
	case what < 965:
		note("punch")
		x.punch(ctx, off, n)
	case what < 980:
		note("fsync")
		x.ok("fsync", x.h.Sync(ctx))
		x.stored(ctx)
	case what < 997:
		note("reopen")
		x.shut(ctx)
		var err error
		x.h, err = x.c.Open(ctx, x.n, os.O_RDWR)
		x.ok("open", err)
	default:
		note("remount")
		x.shut(ctx)
		x.ok("closing the cache", x.c.Close(ctx))
		x.stored(ctx)
		x.mount(ctx)
	}
	if a, err := x.c.Attr(ctx, x.n); err != nil || a.Size != int64(len(x.want)) {
		x.fatal("size %d, want %d, %v", a.Size, len(x.want), err)
	}
}

// A file is an array of bytes, whatever is done to it in whatever order, and
// after each fsync and each remount the store has it: sent whole, and in parts
// where the store can.
func TestFsx(t *testing.T) {
	for _, parts := range []bool{false, true} {
		name := map[bool]string{false: "whole", true: "parts"}[parts]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := seed(t)
			m := newMemory(t)
			x := &fsx{t: t, r: rand.New(rand.NewPCG(s, 5)), store: plain{m}, look: m, dir: t.TempDir(), want: make([]byte, 0, fsxMax)}
			if parts {
				u, ok := smallParts(m)
				if !ok {
					t.Fatal("the memory store can't make a file of parts")
				}
				x.store = u
			}
			ctx := t.Context()
			x.mount(ctx)
			t.Cleanup(func() {
				if t.Failed() && x.c != nil {
					// The store's memory goes next; nobody may use it any more.
					ctx, cancel := seconds(30)
					defer cancel()
					_ = x.c.Close(ctx)
				}
			})
			for end := time.Now().Add(8 * time.Second); *fsxOps > 0 || len(x.done) < 20_000 && time.Now().Before(end); {
				x.step(ctx)
				if len(x.done) == *fsxOps {
					break
				}
			}
			t.Logf("%d operations", len(x.done))
			x.read(ctx, 0, fsxMax)
			x.shut(ctx)
			x.ok("closing the cache", x.c.Close(ctx))
			x.stored(ctx)
		})
	}
}

// uploading hides all but the six methods and those for files made of parts,
// which may be small.
type uploading struct {
	backends.Store
	backends.Uploader
}

func (u uploading) PartLimits() backends.PartLimits {
	l := u.Uploader.PartLimits()
	l.Good = max(l.MinSize, 64<<10)
	l.MaxSize = 4 * l.Good
	return l
}

// smallParts returns m as a store of which a file of this test has several
// parts; ok is false if it has none, or only large ones.
func smallParts(m backends.Store) (s backends.Store, ok bool) {
	u, ok := m.(backends.Uploader)
	if !ok || errors.Is(unsupported(u), errors.ErrUnsupported) {
		return nil, false
	}
	return uploading{plain{m}, u}, u.PartLimits().MinSize <= fsxMax/4
}

// unsupported begins an upload, to see whether one can, and gives it up.
func unsupported(u backends.Uploader) error {
	up, err := u.BeginUpload(context.Background(), "probe", backends.PutOptions{})
	if err != nil {
		return err
	}
	return up.Abort(context.Background())
}
