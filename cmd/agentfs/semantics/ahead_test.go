package semantics

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends/s3/s3test"
)

// crowd is a mount of S3 behind a proxy that counts and sees how many objects are
// being read at once.
type crowd struct {
	s3Mount
	proxy     *s3test.Proxy
	now, most atomic.Int64
	asked     atomic.Int64 // bytes
}

// startCrowd mounts server for the first time.
func startCrowd(t *testing.T, server s3test.Server, options ...string) *crowd {
	t.Helper()
	c := &crowd{proxy: s3test.NewProxy(t, server)}
	c.proxy.Inject(func(r s3test.Request) s3test.Fault {
		if r.Op != "GetObject" {
			return s3test.Fault{}
		}
		c.asked.Add(asked(r))
		n := c.now.Add(1)
		defer c.now.Add(-1)
		for most := c.most.Load(); n > most && !c.most.CompareAndSwap(most, n); most = c.most.Load() {
		}
		time.Sleep(20 * time.Millisecond)
		return s3test.Fault{}
	})
	c.s3Mount = startS3(t, server.Through(c.proxy), publicTempDir(t), nil, append([]string{"ttl", "1h"}, options...)...)
	return c
}

// stat returns a number of .agentfs/stats, summed over the routes.
func (c *crowd) stat(name string) (sum int64) {
	c.t.Helper()
	text, err := os.ReadFile(c.path(".agentfs/stats"))
	ok(c.t, "stats", err)
	for line := range strings.Lines(string(text)) {
		if rest, found := strings.CutPrefix(line, name+"{"); found {
			fields := strings.Fields(rest)
			n, err := strconv.ParseInt(fields[len(fields)-1], 10, 64)
			ok(c.t, line, err)
			sum += n
		}
	}
	return sum
}

const (
	// slow is how many requests may be sent twice here, because they take much
	// longer than others: the mount does so with a few.
	slow = 12

	aheadDirs, aheadFiles = 8, 10
	aheadNeedle           = "a needle"
)

// putTree puts a tree of small files beside any mount.
func putTree(t *testing.T, server s3test.Server) {
	t.Helper()
	for i := range aheadDirs {
		for j := range aheadFiles {
			text := fmt.Sprintf("%d of %d\n", j, i)
			if j == 3 {
				text += aheadNeedle + "\n"
			}
			server.Put(t, fmt.Sprintf("%stree/d%d/f%d.txt", keyPrefix, i, j), text)
		}
	}
}

// A program that goes through small files one after another (grep -r, rg, cat *,
// tar, Python's os.walk) has the next ones fetched in parallel while it reads:
// each object is asked for once, and the names of a tree of up to about a
// thousand objects take a page and a few small listings, however many directories it has.
func TestWalksAreReadAhead(t *testing.T) {
	server := s3test.Versitygw(t)
	putTree(t, server)
	const all = aheadDirs * aheadFiles
	for name, argv := range map[string][]string{
		"grep":    {"grep", "-rl", aheadNeedle, "tree"},
		"rg":      {"rg", "--no-ignore", "-l", aheadNeedle, "tree"},
		"cat":     {"sh", "-c", "cat tree/d*/* | grep " + aheadNeedle[2:]},
		"tar":     {"sh", "-c", "tar cf - tree | grep -ao '" + aheadNeedle + "'"},
		"os.walk": {"python3", "-c", "import os\nfor d, _, fs in os.walk('tree'):\n  for f in fs:\n    if '" + aheadNeedle + "' in open(os.path.join(d, f)).read(): print(f)"},
	} {
		t.Run(name, func(t *testing.T) {
			m := startCrowd(t, server)
			if found := strings.Count(run(t, m.dir, argv[0], argv[1:]...), "\n"); found != aheadDirs {
				t.Errorf("found %d files of %d", found, aheadDirs)
			}
			counts := m.proxy.Counts()
			if gets := counts["GetObject"]; gets < all || gets > all+slow || counts["ListObjectsV2"] > 4 || counts["HeadObject"] > 1 {
				t.Errorf("%d files took %v", all, counts)
			}
			if m.most.Load() < 8 {
				t.Errorf("at most %d objects were read at once", m.most.Load())
			}
		})
	}
}

// One file that is opened is one object that is asked for, and nothing beside it:
// no neighbour is fetched, and of the directories on the way a page and the records
// of attributes each.
func TestALoneOpenFetchesNothingElse(t *testing.T) {
	server := s3test.Versitygw(t)
	putTree(t, server)
	m := startCrowd(t, server)
	run(t, m.dir, "cat", "tree/d5/f5.txt")
	// One listing more is the mount's own look at the bucket.
	if counts := m.proxy.Counts(); counts["GetObject"] != 1 || m.proxy.Total() > 4 {
		t.Errorf("cat of one file took %v", counts)
	}
	m.proxy.Reset()
	run(t, m.dir, "cat", "tree/d5/f5.txt", "tree/d2/f1.txt")
	if counts := m.proxy.Counts(); counts["GetObject"] != 1 || m.proxy.Total() != 1 {
		t.Errorf("cat of one more file took %v", counts)
	}
}

// A listing, find and du of a tree that fits into a page are one page in all, and
// within the ttl none: also for names that are not there. What is read ahead
// in vain is counted in .agentfs/stats.
func TestNamesOfASmallTreeAreOnePage(t *testing.T) {
	server := s3test.Versitygw(t)
	putTree(t, server)
	m := startCrowd(t, server)
	if got := strings.Count(run(t, m.dir, "find", "tree", "-type", "f"), "\n"); got != aheadDirs*aheadFiles {
		t.Errorf("find has %d files", got)
	}
	run(t, m.dir, "sh", "-c", "du -s tree; ls -lR tree; ls tree/d3; cat tree/d3/none 2>/dev/null || true")
	if counts := m.proxy.Counts(); m.proxy.Total() > 3 || counts["ListObjectsV2"] == 0 {
		t.Errorf("find, du and ls took %v", counts)
	}
	stats, err := os.ReadFile(m.path(".agentfs/stats"))
	ok(t, "stats", err)
	if !strings.Contains(string(stats), "agentfs_ahead_wasted_bytes_total") {
		t.Errorf("stats don't say what was fetched in vain:\n%s", stats)
	}
}

// Of a large file, a read at a place far from the last one asks for what it reads
// and little more; several ranges, one after the other, take about a request
// each; and who reads from the beginning to the end has the next ranges fetched in
// parallel, each byte once.
func TestRangesOfALargeFile(t *testing.T) {
	server := s3test.Versitygw(t)
	const size, piece = 32 << 20, 64 << 10
	content := lettersOf(size)
	server.Put(t, keyPrefix+"large", content)
	read := func(t *testing.T, f *os.File, off, n int) {
		t.Helper()
		p := make([]byte, n)
		_, err := f.ReadAt(p, int64(off))
		ok(t, "read", err)
		if string(p) != content[off:off+n] {
			t.Errorf("%d bytes at %d are not those of the object", n, off)
		}
	}
	t.Run("here and there", func(t *testing.T) {
		m := startCrowd(t, server)
		f := open(t, m.path("large"), os.O_RDONLY)
		defer f.Close()
		for i := range 10 {
			read(t, f, (i*7%10)*(3<<20)+piece, piece)
		}
		if gets := m.proxy.Counts()["GetObject"]; gets < 10 || gets > 10+slow || m.asked.Load() > int64(gets)*(piece+16<<10) {
			t.Errorf("10 reads of %d bytes took %d requests for %d bytes", piece, gets, m.asked.Load())
		}
	})
	t.Run("columns", func(t *testing.T) {
		m := startCrowd(t, server)
		f := open(t, m.path("large"), os.O_RDONLY)
		defer f.Close()
		read(t, f, size-8, 8)
		read(t, f, size-piece, piece-8)
		for _, off := range []int{4 << 20, 20 << 20, 12 << 20} {
			read(t, f, off, 2<<20)
		}
		// The kernel asks for a range in pieces, which on a machine that is busy with
		// other things may not come together, and for up to 1 MiB beyond. A request may
		// be for more than is read of it before it is closed.
		gets, fetched := m.proxy.Counts()["GetObject"], m.stat("agentfs_fetch_bytes_total")
		if gets > 10+slow || fetched > 6<<20+4<<20 {
			t.Errorf("a footer and three ranges of 2 MiB took %d requests and brought %d bytes", gets, fetched)
		}
	})
	t.Run("all of it", func(t *testing.T) {
		m := startCrowd(t, server)
		holds(t, m.path("large"), content)
		if fetched := m.stat("agentfs_fetch_bytes_total"); fetched > size*11/10 || m.most.Load() < 4 {
			t.Errorf("%d bytes took %d from the store, %d requests at once", size, fetched, m.most.Load())
		}
	})
}

// On a route that takes no changes (read_only=true), a large file all of which is in
// the cache is read by the kernel itself, without a word to the process, if that runs
// as root on Linux 6.9 or later (FUSE passthrough). The first reader after a mount
// has it compared with its sums. On a route that takes changes the kernel would
// write by itself, too, so there it asks.
func TestKernelReadsTheCache(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may let the kernel do that")
	}
	server := s3test.Versitygw(t)
	content := lettersOf(3 << 20)
	server.Put(t, keyPrefix+"large", content)
	for _, readOnly := range []bool{true, false} {
		m := startCrowd(t, server, "read_only", strconv.FormatBool(readOnly))
		asked := func() int64 { return m.stat("agentfs_reads_hit_total") + m.stat("agentfs_reads_missed_total") }
		again := func() {
			t.Helper()
			f := open(t, m.path("large"), os.O_RDONLY)
			defer f.Close()
			// What the kernel has in memory it asks nobody for.
			ok(t, "fadvise", unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
			p := make([]byte, len(content))
			_, err := io.ReadFull(f, p)
			ok(t, "read", err)
			if string(p) != content {
				t.Error("what is read is not the object")
			}
		}
		again()
		before := asked()
		again()
		if after := asked(); (after == before) != readOnly {
			t.Errorf("read_only=%v: the process was asked %d times while what is here was read", readOnly, after-before)
		}
	}
}
