package semantics

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends/s3/s3test"
)

var (
	fsxOps  = flag.Int("fsx.ops", 3000, "operations of TestFsx")
	fsxSeed = flag.Uint64("fsx.seed", 0, "seed of TestFsx; 0 is a new one")
)

// fsxMax is how large the file of TestFsx gets.
const fsxMax = 2 << 20

// fsx is a file on an S3 route beside the bytes that it has to hold.
type fsx struct {
	t    *testing.T
	r    *rand.Rand
	m    s3Mount
	f    *os.File
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

func (x *fsx) open() {
	x.t.Helper()
	f, err := os.OpenFile(x.m.path("f"), os.O_RDWR|os.O_CREATE, 0o644)
	x.ok("open", err)
	x.f = f
}

// resize gives the model another length.
func (x *fsx) resize(size int) {
	if old := len(x.want); size > old {
		x.want = x.want[:size]
		clear(x.want[old:])
	}
	x.want = x.want[:size]
}

// same compares bytes that were read at off.
func (x *fsx) same(got []byte, off int) {
	x.t.Helper()
	want := x.want[min(off, len(x.want)):min(off+len(got), len(x.want))]
	if bytes.Equal(got, want) {
		return
	}
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	x.fatal("%d bytes at %d, want %d; they part at %d", len(got), off, len(want), off+i)
}

func (x *fsx) read(off, n int) {
	x.t.Helper()
	p := make([]byte, n)
	n, err := unix.Pread(int(x.f.Fd()), p, int64(off))
	x.ok("read", err)
	if n < len(p) && off+n < len(x.want) {
		x.fatal("a read of %d at %d ends after %d", len(p), off, n)
	}
	x.same(p[:n], off)
}

func (x *fsx) bytes(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(x.r.Uint32())
	}
	return p
}

func (x *fsx) write(off, n int) {
	x.t.Helper()
	p := x.bytes(n)
	_, err := x.f.WriteAt(p, int64(off))
	x.ok("write", err)
	x.resize(max(len(x.want), off+n))
	copy(x.want[off:], p)
}

// mapped reads or writes through a mapping, which never makes a file longer.
func (x *fsx) mapped(off, n int, write bool) {
	x.t.Helper()
	page := os.Getpagesize()
	n = min(n, len(x.want)-off)
	if n <= 0 {
		return
	}
	from := off / page * page
	prot := unix.PROT_READ
	if write {
		prot |= unix.PROT_WRITE
	}
	m, err := unix.Mmap(int(x.f.Fd()), int64(from), off+n-from, prot, unix.MAP_SHARED)
	x.ok("mmap", err)
	if write {
		p := x.bytes(n)
		copy(m[off-from:], p)
		copy(x.want[off:], p)
		if x.r.IntN(2) == 0 {
			x.ok("msync", unix.Msync(m, unix.MS_SYNC))
		}
	} else {
		x.same(bytes.Clone(m[off-from:]), off)
	}
	x.ok("munmap", unix.Munmap(m))
}

// stored compares what the bucket has.
func (x *fsx) stored() {
	x.t.Helper()
	got, there := getObject(x.t, x.m.server, keyPrefix+"f")
	if !there || len(got) != len(x.want) {
		x.fatal("the bucket has %d bytes (there: %v), want %d", len(got), there, len(x.want))
	}
	x.same([]byte(got), 0)
}

func (x *fsx) step(remount func()) {
	x.t.Helper()
	off, n := x.r.IntN(fsxMax), 1+x.r.IntN(1<<uint(1+x.r.IntN(17)))
	n = min(n, fsxMax-off)
	what := x.r.IntN(1000)
	note := func(op string) { x.done = append(x.done, fmt.Sprintf("%s %d+%d", op, off, n)) }
	switch {
	case what < 250:
		note("read")
		x.read(off, n)
	case what < 400:
		note("mapped read")
		x.mapped(off, n, false)
	case what < 620:
		note("write")
		x.write(off, n)
	case what < 700:
		off = min(len(x.want), fsxMax-n)
		note("append")
		x.write(off, n)
	case what < 820:
		note("mapped write")
		x.mapped(off, n, true)
	case what < 890:
		note("truncate")
		x.ok("truncate", x.f.Truncate(int64(off)))
		x.resize(off)
	case what < 950:
		note("punch")
		x.ok("punch", unix.Fallocate(int(x.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(off), int64(n)))
		if off < len(x.want) {
			clear(x.want[off:min(len(x.want), off+n)])
		}
	case what < 970:
		note("fsync")
		x.ok("fsync", x.f.Sync())
		x.stored()
	case what < 998:
		note("reopen")
		x.ok("close", x.f.Close())
		x.open()
	default:
		note("remount")
		x.ok("close", x.f.Close())
		remount()
		x.stored()
		x.open()
	}
	info, err := x.f.Stat()
	x.ok("stat", err)
	if info.Size() != int64(len(x.want)) {
		x.fatal("size %d, want %d", info.Size(), len(x.want))
	}
}

// On an S3 route a file is an array of bytes, whether it is read and written
// with calls or through mappings, truncated or punched, synced, closed and
// opened again in whatever order. After each fsync and each unmount the bucket
// holds it.
func TestFsx(t *testing.T) {
	seed := *fsxSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("to repeat: -run '^TestFsx$' -fsx.seed=%d", seed)
	server := s3test.Versitygw(t)
	cache := publicTempDir(t)
	x := &fsx{t: t, r: rand.New(rand.NewPCG(seed, 1)), m: startS3(t, server, cache, nil), want: make([]byte, 0, fsxMax)}
	x.open()
	ops := *fsxOps
	if testing.Short() {
		ops = min(ops, 500)
	}
	for range ops {
		x.step(func() {
			x.m.unmount(t)
			x.m = startS3(t, server, cache, nil)
		})
	}
	x.read(0, fsxMax)
	x.ok("close", x.f.Close())
	x.m.unmount(t)
	x.stored()
	if keys := server.Keys(t); len(keys) != 1 {
		t.Errorf("the bucket has %q, want one key", keys)
	}
}
