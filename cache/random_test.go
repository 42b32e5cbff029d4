package cache_test

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
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/cache"
)

// jitter is a store that takes a moment to answer, and sometimes fails.
type jitter struct {
	backends.Store
	fail int // percent of Open and Put

	mu sync.Mutex
	r  *rand.Rand
}

func newJitter(s backends.Store, seed uint64, fail int) *jitter {
	return &jitter{Store: plain{s}, fail: fail, r: rand.New(rand.NewPCG(seed, 2))}
}

func (j *jitter) roll(n int) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.r.IntN(n)
}

func (j *jitter) Open(ctx context.Context, name string, r backends.Range, cond backends.If) (io.ReadCloser, backends.Entry, error) {
	time.Sleep(time.Duration(j.roll(1500)) * time.Microsecond)
	if j.roll(100) < j.fail {
		return nil, backends.Entry{}, errDown
	}
	return j.Store.Open(ctx, name, r, cond)
}

func (j *jitter) Put(ctx context.Context, name string, body *io.SectionReader, o backends.PutOptions) (backends.Entry, error) {
	if j.roll(100) < j.fail {
		return backends.Entry{}, errDown
	}
	return j.Store.Put(ctx, name, body, o)
}

// byteFile is a file of a cache beside the bytes that it has to hold.
type byteFile struct {
	t     *testing.T
	r     *rand.Rand
	store backends.Store // beside the cache
	fail  int            // percent of the requests
	c     *cache.FS
	n     backends.Node
	h     backends.File
	model []byte
	done  []string // what has been done to it
}

const byteFileMax = 3 << 20

// fatal ends the test and shows what was done last.
func (x *byteFile) fatal(format string, args ...any) {
	x.t.Helper()
	last := x.done[max(0, len(x.done)-25):]
	x.t.Fatalf("%s; done:\n%s", fmt.Sprintf(format, args...), strings.Join(last, "\n"))
}

// insist repeats do while the store's failures may be to blame.
func (x *byteFile) insist(what string, do func() error) {
	x.t.Helper()
	err := do()
	for tries := 0; err != nil && x.fail > 0 && tries < 100; tries++ {
		err = do()
	}
	if err != nil {
		x.fatal("%s: %v", what, err)
	}
}

func (x *byteFile) grow(size int) {
	if size > len(x.model) {
		x.model = append(x.model, make([]byte, size-len(x.model))...)
	}
}

// want is what a read of n bytes at off has to return.
func (x *byteFile) want(off, n int) []byte {
	if off >= len(x.model) {
		return nil
	}
	return x.model[off:min(len(x.model), off+n)]
}

func (x *byteFile) check(off, n int) {
	x.t.Helper()
	p := make([]byte, n)
	var got int
	x.insist("read", func() (err error) {
		got, err = x.h.ReadAt(x.t.Context(), p, int64(off))
		return err
	})
	want := x.want(off, n)
	if !bytes.Equal(p[:got], want) {
		i := 0
		for i < min(got, len(want)) && p[i] == want[i] {
			i++
		}
		x.fatal("read %d+%d: %d bytes of %d, wrong from %d", off, n, got, len(want), off+i)
	}
}

func (x *byteFile) allocate(off, n int, mode uint32) {
	x.t.Helper()
	if err := x.h.(backends.Allocator).Allocate(x.t.Context(), int64(off), int64(n), mode); err != nil {
		x.fatal("allocate: %v", err)
	}
}

func (x *byteFile) sync() {
	x.t.Helper()
	x.insist("sync", func() error { return x.h.Sync(x.t.Context()) })
	if got := get(x.t, x.store, "f"); got != string(x.model) {
		x.fatal("the store has %d bytes, not the %d that were written", len(got), len(x.model))
	}
}

// reopen closes the file, does what is given and opens the file again.
func (x *byteFile) reopen(between func()) {
	x.t.Helper()
	x.insist("sync", func() error { return x.h.Sync(x.t.Context()) })
	if err := closeFile(x.t, x.h); err != nil {
		x.fatal("close: %v", err)
	}
	between()
	h, err := x.c.Open(x.t.Context(), x.n, os.O_RDWR)
	if err != nil {
		x.fatal("open: %v", err)
	}
	x.h = h
}

// fillBudget writes a large file, so that this one is evicted.
func (x *byteFile) fillBudget() {
	x.t.Helper()
	ctx := x.t.Context()
	var h backends.File
	x.insist("create", func() (err error) {
		_, _, h, err = x.c.Create(ctx, x.c.Root(), "other", os.O_RDWR|os.O_TRUNC, backends.CreateAttr{Mode: 0o644})
		return err
	})
	for i := range int64(10) {
		if _, err := h.WriteAt(ctx, make([]byte, 1<<20), i<<20); err != nil {
			x.fatal("write of another file: %v; %+v", err, x.c.State())
		}
	}
	x.insist("sync", func() error { return h.Sync(ctx) })
	if err := closeFile(x.t, h); err != nil {
		x.fatal("close: %v", err)
	}
}

// readers reads at several places at once.
func (x *byteFile) readers() {
	var wg sync.WaitGroup
	for range 4 {
		off, n := x.r.IntN(byteFileMax), 1+x.r.IntN(200000)
		wg.Go(func() {
			p := make([]byte, n)
			got, err := x.h.ReadAt(x.t.Context(), p, int64(off))
			if err != nil && x.fail > 0 {
				return
			}
			if err != nil || !bytes.Equal(p[:got], x.want(off, n)) {
				x.t.Errorf("a concurrent read of %d+%d is wrong: %v", off, n, err)
			}
		})
	}
	wg.Wait()
	if x.t.Failed() {
		x.fatal("concurrent reads")
	}
}

// renameAndBack leaves the file under its name, one way or the other.
func (x *byteFile) renameAndBack() {
	x.t.Helper()
	for _, names := range [][2]string{{"f", "g"}, {"g", "f"}} {
		x.insist("rename", func() error {
			return x.c.Rename(x.t.Context(), x.c.Root(), names[0], x.c.Root(), names[1], 0)
		})
	}
}

// copyRange copies within the file.
func (x *byteFile) copyRange(from, to, n int) {
	x.t.Helper()
	n = max(0, min(n, len(x.model)-from))
	if from < to+n && to < from+n {
		return
	}
	for n > 0 {
		var done int64
		x.insist("copy", func() (err error) {
			done, err = x.c.CopyRange(x.t.Context(), x.h, int64(from), x.h, int64(to), int64(n))
			return err
		})
		k := int(done)
		if k == 0 || k > n {
			x.fatal("copy of %d+%d: %d", from, n, k)
		}
		x.grow(to + k)
		copy(x.model[to:], x.model[from:from+k])
		from, to, n = from+k, to+k, n-k
	}
}

// step does one thing to the file and to the model.
func (x *byteFile) step() {
	ctx := x.t.Context()
	off, n := x.r.IntN(byteFileMax), 1+x.r.IntN(1<<uint(4+x.r.IntN(15)))
	op := []string{
		"write", "write", "write", "read", "read", "read", "truncate", "punch",
		"allocate", "reopen", "sync", "evict", "readers", "rename", "copy",
	}[x.r.IntN(15)]
	x.done = append(x.done, fmt.Sprintf("%s %d+%d", op, off, n))
	switch op {
	case "write":
		p := make([]byte, n)
		for i := range p {
			p[i] = byte(x.r.Uint32())
		}
		if _, err := x.h.WriteAt(ctx, p, int64(off)); err != nil {
			x.fatal("write: %v", err)
		}
		x.grow(off + n)
		copy(x.model[off:], p)
	case "read":
		x.check(off, n)
	case "truncate":
		x.insist("truncate", func() error {
			_, err := x.c.SetAttr(ctx, x.n, backends.AttrChange{Set: backends.SetSize, Size: int64(off)})
			return err
		})
		x.model = x.model[:min(off, len(x.model))]
		x.grow(off)
	case "punch":
		x.allocate(off, n, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE)
		clear(x.want(off, n))
	case "allocate":
		x.allocate(off, n, 0)
		x.grow(off + n)
	case "reopen":
		x.reopen(func() {})
	case "sync":
		x.sync()
	case "evict":
		x.reopen(x.fillBudget)
	case "readers":
		x.readers()
	case "rename":
		x.renameAndBack()
	case "copy":
		x.copyRange(x.r.IntN(byteFileMax), off, 4*n)
	}
	if a, err := x.c.Attr(ctx, x.n); err != nil || a.Size != int64(len(x.model)) {
		x.fatal("size %d, want %d, %v", a.Size, len(x.model), err)
	}
}

// end closes the file: the store has it then, and nothing is left to do.
func (x *byteFile) end() {
	x.t.Helper()
	x.sync()
	if err := closeFile(x.t, x.h); err != nil {
		x.fatal("close: %v", err)
	}
	if err := x.c.SyncDir(x.t.Context(), x.c.Root()); err != nil { // an old name's removal
		x.fatal("sync: %v", err)
	}
	st := x.c.State()
	if len(st.Conflicts) > 0 || len(st.Pending) > 0 || st.CacheBytes > st.CacheBudget {
		x.fatal("in the end status shows %+v", st)
	}
}

// Whatever is done to a file of the store, its content and size are those of a
// plain array of bytes, here at every moment and in the store after each
// fsync: with evictions, with renames, and with a store that fails at times.
func TestAgainstBytes(t *testing.T) {
	steps := 100
	if testing.Short() {
		steps = 50
	}
	base := uint64(time.Now().UnixNano())
	for i, fail := range []int{0, 3, 0, 3} {
		ttl := time.Duration(i/2) * time.Hour
		t.Run(fmt.Sprintf("fail=%d%%,ttl=%v", fail, ttl), func(t *testing.T) {
			t.Parallel()
			seed := base + uint64(i)
			t.Logf("seed %d", seed) // shown when it fails
			m := newMemory(t)
			x := &byteFile{t: t, r: rand.New(rand.NewPCG(seed, 1)), store: m, fail: fail}
			x.c = newCache(t, newJitter(m, seed, fail), cache.Config{TTL: ttl, Budget: cache.NewBudget(12 << 20)})
			x.model = make([]byte, 2<<20+x.r.IntN(1<<20))
			for i := range x.model {
				x.model[i] = byte(x.r.Uint32())
			}
			put(t, m, "f", string(x.model))
			x.n, _ = lookup(t, x.c, "f")
			x.h = openFile(t, x.c, x.n, os.O_RDWR)
			for range steps {
				x.step()
			}
			x.check(0, len(x.model)+10)
			x.end()
		})
	}
}

// A handle never reads a mix of versions, whatever others put into the store
// and whatever is renamed here meanwhile: it reads one of them, or hears
// ErrChanged.
func TestNoMixedVersions(t *testing.T) {
	length := 1500 * time.Millisecond
	if testing.Short() {
		length = 500 * time.Millisecond
	}
	for _, ttl := range []time.Duration{0, 20 * time.Millisecond} {
		t.Run(fmt.Sprint("ttl=", ttl), func(t *testing.T) { noMixedVersions(t, ttl, length) })
	}
}

func noMixedVersions(t *testing.T, ttl, length time.Duration) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed) // shown when it fails
	const files = 3
	m := newMemory(t)
	c := newCache(t, newJitter(m, seed, 0), cache.Config{TTL: ttl, Budget: cache.NewBudget(12 << 20)})
	// Each version is one letter all through.
	version := func(r *rand.Rand) error {
		b := bytes.Repeat([]byte{byte('a' + r.IntN(26))}, 1+r.IntN(2<<20))
		_, err := m.Put(t.Context(), fmt.Sprint("d/f", r.IntN(files)), io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b))), backends.PutOptions{})
		return err
	}
	put(t, m, "d/f0", "a")
	d, _ := lookup(t, c, "d")
	end := time.Now().Add(length)
	var reads atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() { // somebody else
		r := rand.New(rand.NewPCG(seed, 4))
		for time.Now().Before(end) {
			if err := version(r); err != nil {
				t.Errorf("put: %v", err)
			}
			time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
		}
	})
	wg.Go(func() { // renames here, which may meet a change and say so
		r := rand.New(rand.NewPCG(seed, 30))
		for time.Now().Before(end) {
			from, to := fmt.Sprint("f", r.IntN(files)), fmt.Sprint("f", r.IntN(files))
			err := c.Rename(t.Context(), d, from, d, to, 0)
			if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, backends.ErrChanged) {
				t.Errorf("rename of %s to %s: %v", from, to, err)
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
	for w := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(10+w)))
			for time.Now().Before(end) {
				n, a, err := c.Lookup(t.Context(), d, fmt.Sprint("f", r.IntN(files)))
				if errors.Is(err, fs.ErrNotExist) {
					continue
				}
				if err != nil {
					t.Errorf("lookup: %v", err)
					return
				}
				h, err := c.Open(t.Context(), n, os.O_RDONLY)
				if err != nil {
					if !errors.Is(err, backends.ErrChanged) {
						t.Errorf("open: %v", err)
					}
					continue
				}
				if err := readOneVersion(t.Context(), h, a.Size, r); err == nil {
					reads.Add(1)
				} else if !errors.Is(err, backends.ErrChanged) {
					t.Error(err)
				}
				if err := h.Close(t.Context()); err != nil {
					t.Errorf("close: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if reads.Load() == 0 {
		t.Error("no file could be read")
	}
}

// readOneVersion reads pieces of a file and compares their letters.
func readOneVersion(ctx context.Context, h backends.File, size int64, r *rand.Rand) error {
	var letter byte
	for range 6 {
		p := make([]byte, 1+r.IntN(300<<10))
		n, err := h.ReadAt(ctx, p, r.Int64N(size+1))
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		if n == 0 {
			continue
		}
		if letter == 0 {
			letter = p[0]
		}
		if bytes.Count(p[:n], []byte{letter}) != n {
			return fmt.Errorf("a handle that has read %c reads another version too", letter)
		}
	}
	return nil
}

// Allocating a range doesn't cut off what another writes behind it at the same
// time.
func TestAllocateAgainstWrite(t *testing.T) {
	rounds := 2000
	if testing.Short() {
		rounds = 100
	}
	c := newCache(t, plain{newMemory(t)}, cache.Config{TTL: time.Hour})
	h := newFile(t, c, c.Root(), "f")
	n, _ := lookup(t, c, "f")
	cut := 0
	for range rounds {
		if _, err := c.SetAttr(t.Context(), n, backends.AttrChange{Set: backends.SetSize}); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := h.(backends.Allocator).Allocate(t.Context(), 0, 1000, 0); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if _, err := h.WriteAt(t.Context(), make([]byte, 100), 2000); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		if a, err := c.Attr(t.Context(), n); err != nil || a.Size != 2100 {
			cut++
		}
	}
	if cut > 0 {
		t.Errorf("the write was cut off %d times of %d", cut, rounds)
	}
	if err := closeFile(t, h); err != nil {
		t.Error(err)
	}
}
