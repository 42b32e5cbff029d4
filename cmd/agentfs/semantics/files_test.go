package semantics

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"

	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sys/unix"
)

// Of several processes that create the same name with O_EXCL on one mount,
// exactly one succeeds and the others get EEXIST, on every route.
func TestExclusiveCreateHasOneWinner(t *testing.T) {
	onEach(t, func(t *testing.T, p place) {
		const n = 40
		won := inTwo(t, "create", []string{p.dir, fmt.Sprint(n)}, []string{p.dir, fmt.Sprint(n)})
		if a, b := strings.Count(won[0], "\n"), strings.Count(won[1], "\n"); a+b != n {
			t.Errorf("%d and %d names won, together want %d", a, b, n)
		}
		for line := range strings.Lines(won[0] + won[1]) {
			name, pid, _ := strings.Cut(strings.TrimSpace(line), " ")
			holds(t, p.path(name), pid)
			if p.s3 {
				p.holdsObject(name, pid)
			}
		}
	})
}

// A write with O_APPEND goes to the end of the file as it is at that moment:
// processes of one mount that append to the same file lose nothing and tear no
// record.
func TestAppend(t *testing.T) {
	onEach(t, func(t *testing.T, p place) {
		const n = 150
		log := p.path("log")
		write(t, log, "head\n")
		inTwo(t, "append", []string{log, "a", fmt.Sprint(n)}, []string{log, "b", fmt.Sprint(n)})
		content := read(t, log)
		lines := strings.Split(strings.TrimSuffix(content, "\n"), "\n")
		if len(lines) != 2*n+1 || lines[0] != "head" {
			t.Fatalf("%d lines, want %d; the first is %q", len(lines), 2*n+1, lines[0])
		}
		next := map[string]int{}
		for _, l := range lines[1:] {
			who := l[:1]
			if want := fmt.Sprintf("%s %d %s", who, next[who], strings.Repeat("x", next[who]%300)); l != want {
				t.Fatalf("line %q, want %q", l, want)
			}
			next[who]++
		}
		if p.s3 {
			p.holdsObject("log", content)
		}
	})
}

// Opening with O_TRUNC and truncate(2) without an open file change the size at
// once. What a larger size adds reads as zeros, and is zeros in the object.
func TestTruncate(t *testing.T) {
	onEach(t, func(t *testing.T, p place) {
		f := p.path("f")
		write(t, f, "0123456789")
		ok(t, "truncate", os.Truncate(f, 4))
		holds(t, f, "0123")
		if p.s3 {
			p.holdsObject("f", "0123")
		}
		ok(t, "truncate", os.Truncate(f, 6))
		holds(t, f, "0123\x00\x00")
		if p.s3 {
			p.holdsObject("f", "0123\x00\x00")
		}
		w := open(t, f, os.O_WRONLY|os.O_TRUNC)
		if fi, err := os.Stat(f); err != nil || fi.Size() != 0 {
			t.Errorf("after O_TRUNC: %v, %v", fi, err)
		}
		_, err := w.WriteString("new")
		ok(t, "write", err)
		ok(t, "ftruncate", w.Truncate(2))
		ok(t, "close", w.Close())
		holds(t, f, "ne")
		if p.s3 {
			p.holdsObject("f", "ne")
		}
		write(t, f, "")
		if p.s3 {
			p.holdsObject("f", "")
		}
	})
}

// Reads and writes at any offset and of any size give what a local disk gives:
// a random series of writes, truncations and punched holes ends with the same
// bytes, read through the mount, through a mapping, and as the object in the
// bucket.
func TestRandomAccess(t *testing.T) {
	onEach(t, func(t *testing.T, p place) {
		const seed = 1
		rnd := rand.New(rand.NewPCG(seed, 2))
		want := make([]byte, 3<<20)
		for i := range want {
			want[i] = byte(rnd.Uint32())
		}
		write(t, p.path("f"), string(want))
		for round := range 4 {
			f := open(t, p.path("f"), os.O_RDWR)
			for range 40 {
				off := rnd.IntN(len(want))
				switch n := rnd.IntN(200_000); rnd.IntN(8) {
				case 0:
					want = append(want[:off:off], make([]byte, n)...)
					ok(t, "ftruncate", f.Truncate(int64(off)))
					ok(t, "ftruncate", f.Truncate(int64(len(want))))
				case 1:
					n = min(n+1, len(want)-off)
					clear(want[off : off+n])
					ok(t, "punch", unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(off), int64(n)))
				case 2, 3:
					got := make([]byte, min(n, len(want)-off))
					if k, _ := f.ReadAt(got, int64(off)); k != len(got) || !bytes.Equal(got, want[off:off+len(got)]) {
						t.Fatalf("seed %d, round %d: read of %d bytes at %d differs", seed, round, len(got), off)
					}
				default:
					data := bytes.Repeat([]byte{byte(rnd.Uint32())}, n)
					want = append(want, make([]byte, max(0, off+n-len(want)))...)
					copy(want[off:], data)
					_, err := f.WriteAt(data, int64(off))
					ok(t, "write", err)
				}
			}
			ok(t, "close", f.Close())
			if got := read(t, p.path("f")); got != string(want) {
				t.Fatalf("seed %d, round %d: the file differs", seed, round)
			}
			if p.s3 {
				p.holdsObject("f", string(want))
			}
		}
		f := open(t, p.path("f"), os.O_RDONLY)
		m, err := unix.Mmap(int(f.Fd()), 0, len(want), unix.PROT_READ, unix.MAP_SHARED)
		ok(t, "mmap", err)
		if !bytes.Equal(m, want) {
			t.Error("the mapping differs")
		}
		ok(t, "munmap", unix.Munmap(m))
	})
}

// A change in the middle of a large object that another client has put sends
// the right bytes around it, although this machine never read them.
func TestChangeInsideALargeObject(t *testing.T) {
	p := onS3(t)
	want := []byte(strings.Repeat("0123456789abcdef", 20<<20/16))
	p.put("large", string(want))
	settle()
	f := open(t, p.path("large"), os.O_RDWR)
	_, err := f.WriteAt([]byte("CHANGED"), 9<<20)
	ok(t, "write", err)
	_, err = f.WriteAt([]byte("END"), int64(len(want)))
	ok(t, "write", err)
	ok(t, "close", f.Close())
	copy(want[9<<20:], "CHANGED")
	p.holdsObject("large", string(want)+"END")
}

// What is written through a shared mapping is in the file: other readers see it
// after msync(2). On S3 msync(2) is an fsync, and what is written after the last
// close is sent when the kernel lets go of the mapping.
func TestWritableMapping(t *testing.T) {
	onEach(t, func(t *testing.T, p place) {
		write(t, p.path("f"), strings.Repeat("a", 10_000))
		f := open(t, p.path("f"), os.O_RDWR)
		m, err := unix.Mmap(int(f.Fd()), 0, 10_000, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		ok(t, "mmap", err)
		copy(m[5000:], "written through the mapping")
		ok(t, "msync", unix.Msync(m, unix.MS_SYNC))
		want := strings.Repeat("a", 5000) + "written through the mapping" + strings.Repeat("a", 10_000-5027)
		holds(t, p.path("f"), want)
		if p.s3 {
			p.holdsObjectNow("f", want)
		}
		// After the last close, the mapping alone keeps the file.
		ok(t, "close", f.Close())
		copy(m, "LATE")
		ok(t, "munmap", unix.Munmap(m))
		want = "LATE" + want[4:]
		within(t, ttl*10, "in the file", func() bool { return read(t, p.path("f")) == want })
		if p.s3 {
			within(t, ttl*10, "in the bucket", func() bool { got, _ := p.objectNow("f"); return got == want })
		}
	})
}

// fallocate(2) makes a file as large as it says; on memory and the host space
// is reserved, on S3 only the size is promised. FALLOC_FL_PUNCH_HOLE and
// FALLOC_FL_ZERO_RANGE make zeros; modes that move bytes (COLLAPSE_RANGE,
// INSERT_RANGE) are EOPNOTSUPP.
func TestFallocate(t *testing.T) {
	onEach(t, func(t *testing.T, p place) {
		f := open(t, p.path("f"), os.O_RDWR|os.O_CREATE)
		_, err := f.WriteString("0123456789")
		ok(t, "write", err)
		ok(t, "fallocate", unix.Fallocate(int(f.Fd()), 0, 0, 100_000))
		ok(t, "fallocate keeping the size", unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, 500_000))
		ok(t, "punch", unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 2, 3))
		isErr(t, "collapse", unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_COLLAPSE_RANGE, 0, 4096), syscall.EOPNOTSUPP)
		ok(t, "close", f.Close())
		holds(t, p.path("f"), "01\x00\x00\x0056789"+strings.Repeat("\x00", 99_990))
		if p.s3 {
			p.holdsObject("f", "01\x00\x00\x0056789"+strings.Repeat("\x00", 99_990))
		}
	})
}

// Holes cost nothing while a file is open and are zeros for every reader;
// SEEK_HOLE and SEEK_DATA find them in a file of this machine's making. An
// object has no holes: their zeros are sent to the store.
func TestHoles(t *testing.T) {
	onEach(t, func(t *testing.T, p place) {
		f := open(t, p.path("f"), os.O_RDWR|os.O_CREATE)
		const at = 8 << 20
		_, err := f.WriteAt([]byte("end"), at)
		ok(t, "write", err)
		var st unix.Stat_t
		ok(t, "fstat", unix.Fstat(int(f.Fd()), &st))
		if st.Size != at+3 || st.Blocks*512 > 1<<20 {
			t.Errorf("size %d, %d blocks", st.Size, st.Blocks)
		}
		if data, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_DATA); err != nil || data != at {
			t.Errorf("SEEK_DATA: %d, %v", data, err)
		}
		if hole, err := unix.Seek(int(f.Fd()), at, unix.SEEK_HOLE); err != nil || hole != at+3 {
			t.Errorf("SEEK_HOLE: %d, %v", hole, err)
		}
		_, err = unix.Seek(int(f.Fd()), at+3, unix.SEEK_DATA)
		isErr(t, "SEEK_DATA at the end", err, syscall.ENXIO)
		ok(t, "close", f.Close())
		holds(t, p.path("f"), strings.Repeat("\x00", at)+"end")
		if p.s3 {
			p.holdsObject("f", strings.Repeat("\x00", at)+"end")
		}
	})
}

// copy_file_range(2) and sendfile(2) work. Where a route can copy a range without
// moving the bytes, copy_file_range(2) does that; elsewhere, and between routes,
// the kernel does the copying.
func TestCopyFileRange(t *testing.T) {
	copyRange := func(t *testing.T, from, to string, off, n int) {
		t.Helper()
		in, out := open(t, from, os.O_RDONLY), open(t, to, os.O_WRONLY|os.O_CREATE)
		at, done := int64(off), 0
		for done < n {
			k, err := unix.CopyFileRange(int(in.Fd()), &at, int(out.Fd()), nil, n-done, 0)
			ok(t, "copy_file_range", err)
			if k == 0 {
				break
			}
			done += k
		}
		ok(t, "close", out.Close())
	}
	want := strings.Repeat("0123456789abcdef", 200_000/16)
	onEach(t, func(t *testing.T, p place) {
		write(t, p.path("f"), want)
		copyRange(t, p.path("f"), p.path("g"), 1000, 100_001)
		holds(t, p.path("g"), want[1000:101_001])
		in, out := open(t, p.path("f"), os.O_RDONLY), open(t, p.path("h"), os.O_WRONLY|os.O_CREATE)
		for left := len(want); left > 0; {
			n, err := unix.Sendfile(int(out.Fd()), int(in.Fd()), nil, left)
			ok(t, "sendfile", err)
			if left -= n; n == 0 {
				break
			}
		}
		ok(t, "close", out.Close())
		holds(t, p.path("h"), want)
		if p.s3 {
			p.holdsObject("g", want[1000:101_001])
			p.holdsObject("h", want)
			copyRange(t, p.path("f"), onMemory(t).path("f"), 0, len(want))
		}
	})
}

// An object in the bucket is exactly the file's bytes, with nothing before,
// after or around them, under the key that is the route's prefix and the path.
// A new object gets its Content-Type from the name's extension, and one that is
// written again keeps what another client gave it: content type, metadata and
// tags.
func TestObjectIsTheFile(t *testing.T) {
	p := onS3(t)
	mkdir(t, p.path("a/b"))
	write(t, p.path("a/b/page.html"), "<p>")
	p.holdsObject("a/b/page.html", "<p>")
	if ct := p.tree.server.Head(t, p.key+"a/b/page.html").ContentType; ct == nil || !strings.HasPrefix(*ct, "text/html") {
		t.Errorf("content type %v", ct)
	}
	kind, tags := "application/x-mine", "team=red"
	p.tree.server.Put(t, p.key+"a/theirs.txt", "v1", func(in *awss3.PutObjectInput) {
		in.ContentType, in.Tagging, in.Metadata = &kind, &tags, map[string]string{"who": "them"}
	})
	settle()
	f := open(t, p.path("a/theirs.txt"), os.O_WRONLY|os.O_APPEND)
	_, err := f.WriteString(" and more")
	ok(t, "write", err)
	ok(t, "close", f.Close())
	p.holdsObject("a/theirs.txt", "v1 and more")
	h := p.tree.server.Head(t, p.key+"a/theirs.txt")
	if h.ContentType == nil || *h.ContentType != kind || h.Metadata["who"] != "them" {
		t.Errorf("content type %v, metadata %v", h.ContentType, h.Metadata)
	}
	key := p.key + "a/theirs.txt"
	tg, err := p.tree.server.Client().GetObjectTagging(t.Context(), &awss3.GetObjectTaggingInput{Bucket: &p.tree.server.Bucket, Key: &key})
	ok(t, "tags", err)
	if len(tg.TagSet) != 1 || *tg.TagSet[0].Key != "team" {
		t.Errorf("tags %v", tg.TagSet)
	}
}
