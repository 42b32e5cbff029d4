package backendtest

import (
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/agentfs/agentfs/backends"
)

var fsContentUnits = []unit[*fsEnv]{
	{"Read/Ranges", func(e *fsEnv) {
		n := e.create(e.root, "f", "0123456789")
		f := e.openFile(n, os.O_RDONLY)
		defer e.close(f)
		for _, c := range []struct {
			off  int64
			len  int
			want string
		}{{0, 10, "0123456789"}, {3, 4, "3456"}, {8, 10, "89"}, {10, 5, ""}, {1000, 5, ""}, {1 << 40, 5, ""}, {5, 0, ""}} {
			buf := make([]byte, c.len)
			got, err := f.ReadAt(e.ctx, buf, c.off)
			if err != nil || string(buf[:got]) != c.want {
				e.Errorf("ReadAt(%d, %d) = %q, %v, want %q", c.off, c.len, buf[:got], err, c.want)
			}
		}
	}},
	{"Write/Overwrite", func(e *fsEnv) {
		n := e.create(e.root, "f", "0123456789")
		f := e.openFile(n, os.O_RDWR)
		e.write(f, "ab", 3)
		e.wantOpenContent(f, "012ab56789")
		e.write(f, "end", 9)
		e.wantOpenContent(f, "012ab5678end")
		e.close(f)
		e.wantContent(n, "012ab5678end")
	}},
	{"Write/Hole", func(e *fsEnv) {
		n, f := e.createOpen(e.root, "f")
		e.write(f, "x", 1<<20+3)
		e.write(f, "y", 10)
		want := strings.Repeat("\x00", 10) + "y" + strings.Repeat("\x00", 1<<20+3-11) + "x"
		e.wantOpenContent(f, want)
		e.close(f)
		e.wantContent(n, want)
	}},
	{"Write/FarHole", func(e *fsEnv) {
		// A sparse file costs what is in it, not what it spans.
		n, f := e.createOpen(e.root, "f")
		const far = 1 << 36
		e.write(f, "far", far)
		buf := make([]byte, 10)
		got, err := f.ReadAt(e.ctx, buf, far-5)
		if err != nil || string(buf[:got]) != "\x00\x00\x00\x00\x00far" {
			e.Errorf("ReadAt around the end = %q, %v", buf[:got], err)
		}
		if got := e.attr(n); got.Size != far+3 || got.Blocks > 1<<20 {
			e.Errorf("a sparse file has size %d and %d blocks", got.Size, got.Blocks)
		}
		// Gone before it is closed: nobody has to store 64 GiB of zeros.
		e.unlink(e.root, "f")
		e.ok(f.Close(e.ctx), "Close")
	}},
	{"Write/Append", func(e *fsEnv) {
		// The offsets of appending writes are the caller's.
		n := e.create(e.root, "f", "0123456789")
		f := e.openFile(n, os.O_WRONLY|os.O_APPEND)
		e.write(f, "ab", 2)
		e.write(f, "end", 10)
		e.close(f)
		e.wantContent(n, "01ab456789end")
	}},
	{"Write/TwoHandles", func(e *fsEnv) {
		n, a := e.createOpen(e.root, "f")
		b := e.openFile(n, os.O_RDWR)
		e.write(a, "from a", 0)
		e.wantOpenContent(b, "from a")
		e.write(b, "b", 5)
		e.wantOpenContent(a, "from b")
		if size := e.attr(n).Size; size != 6 {
			e.Errorf("the size of a file that is being written is %d, want 6", size)
		}
		e.close(a)
		e.write(b, "!", 6)
		e.close(b)
		e.wantContent(n, "from b!")
	}},
	{"Write/Large", func(e *fsEnv) {
		size := 9<<20 + 123
		if testing.Short() {
			size = 1<<20 + 123
		}
		content := patterned(size, 9)
		n, f := e.createOpen(e.root, "f")
		const piece = 128 << 10
		for off := 0; off < size; off += piece {
			e.write(f, content[off:min(off+piece, size)], int64(off))
		}
		e.ok(f.Sync(e.ctx), "Sync")
		e.close(f)
		e.wantContent(n, content)
	}},
	{"Write/Random", func(e *fsEnv) {
		seed := newSeed(e.T)
		r := rand.New(rand.NewPCG(seed, 1))
		n, f := e.createOpen(e.root, "f")
		var want []byte
		for i := range 300 {
			off := r.IntN(400 << 10)
			switch r.IntN(10) {
			case 0:
				e.truncate(n, int64(off))
				want = resize(want, off)
			case 1:
				e.close(f)
				f = e.openFile(n, os.O_RDWR)
			default:
				p := patterned(1+r.IntN(20<<10), byte(i))
				e.write(f, p, int64(off))
				if len(want) < off+len(p) {
					want = resize(want, off+len(p))
				}
				copy(want[off:], p)
			}
			if i%50 == 0 {
				e.wantOpenContent(f, string(want))
			}
		}
		e.close(f)
		e.wantContent(n, string(want))
	}},
	{"Write/Parallel", func(e *fsEnv) {
		n, f := e.createOpen(e.root, "f")
		const piece = 10_007
		content := patterned(piece*32, 4)
		parallel(8, func(w int) {
			for i := w; i < 32; i += 8 {
				if _, err := f.WriteAt(e.ctx, []byte(content[i*piece:(i+1)*piece]), int64(i*piece)); err != nil {
					e.Errorf("WriteAt: %v", err)
				}
			}
		})
		e.close(f)
		e.wantContent(n, content)
	}},
	{"Truncate", func(e *fsEnv) {
		n := e.create(e.root, "f", "0123456789")
		e.truncate(n, 4)
		e.wantContent(n, "0123")
		// What was cut off does not come back.
		e.truncate(n, 8)
		e.wantContent(n, "0123\x00\x00\x00\x00")
		e.truncate(n, 0)
		e.wantContent(n, "")
		e.truncate(n, 3<<20)
		e.wantContent(n, strings.Repeat("\x00", 3<<20))
	}},
	{"Truncate/Open", func(e *fsEnv) {
		n, f := e.createOpen(e.root, "f")
		e.write(f, "0123456789", 0)
		e.truncate(n, 5)
		e.wantOpenContent(f, "01234")
		e.write(f, "x", 7)
		e.wantOpenContent(f, "01234\x00\x00x")
		e.close(f)
		e.wantContent(n, "01234\x00\x00x")
	}},
	{"Truncate/Errors", func(e *fsEnv) {
		d := e.mkdir(e.root, "d")
		_, err := e.fs.SetAttr(e.ctx, d, backends.AttrChange{Set: backends.SetSize, Size: 0})
		e.wantErr(err, backends.ErrIsDir, "truncation of a directory")
		n := e.create(e.root, "f", "x")
		_, err = e.fs.SetAttr(e.ctx, n, backends.AttrChange{Set: backends.SetSize, Size: -1})
		e.wantErr(err, errInvalid, "truncation to -1")
		e.wantContent(n, "x")
	}},
	{"Open/Truncate", func(e *fsEnv) {
		n := e.create(e.root, "f", "0123456789")
		reader := e.openFile(n, os.O_RDONLY)
		f := e.openFile(n, os.O_WRONLY|os.O_TRUNC)
		if size := e.attr(n).Size; size != 0 {
			e.Errorf("the size after Open with O_TRUNC is %d", size)
		}
		e.write(f, "new", 0)
		e.close(f)
		e.wantOpenContent(reader, "new")
		e.close(reader)
		e.wantContent(n, "new")
	}},
	{"Open/Dir", func(e *fsEnv) {
		_, err := e.fs.Open(e.ctx, e.mkdir(e.root, "d"), os.O_RDONLY)
		e.wantErr(err, backends.ErrIsDir, "Open of a directory")
	}},
	{"Flush/Often", func(e *fsEnv) {
		// Every close of a duplicated descriptor is a Flush, and writing may
		// go on after it.
		n, f := e.createOpen(e.root, "f")
		e.ok(f.Flush(e.ctx), "Flush")
		e.write(f, "one", 0)
		e.ok(f.Flush(e.ctx), "Flush")
		e.ok(f.Flush(e.ctx), "Flush")
		e.write(f, " two", 3)
		e.ok(f.Sync(e.ctx), "Sync")
		e.write(f, " three", 7)
		e.ok(f.Close(e.ctx), "Close")
		e.wantContent(n, "one two three")
	}},
}

func resize(b []byte, n int) []byte {
	if n <= len(b) {
		return b[:n:n]
	}
	return append(b, make([]byte, n-len(b))...)
}
