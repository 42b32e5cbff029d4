package attrs

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/faulty"
)

// counting counts the bytes that are put.
type counting struct {
	backends.Store
	written atomic.Int64
}

func (c *counting) Put(ctx context.Context, name string, body *io.SectionReader, opts backends.PutOptions) (backends.Entry, error) {
	c.written.Add(body.Size())
	return c.Store.Put(ctx, name, body, opts)
}

// scale divides the numbers of files.
var scale = 1

// unpacked is what an archive has of a file.
func unpacked(i int) (string, Attr) {
	return fmt.Sprintf("file-%06d.dat", i), Attr{
		// A hash, which doesn't compress.
		Version: backends.Version(fmt.Sprintf("\"%016x%016x\"", uint64(i)*0x9e3779b97f4a7c15, uint64(i+1)*0xbf58476d1ce4e5b9)),
		Mode:    ptr(uint32(0o755)),
		Mtime:   ptr(int64(1700000000_000000000 + int64(i)*7919_000000)),
	}
}

// Unpacking many files into one directory writes a multiple of what is there in
// the end that grows with its logarithm.
func TestScale(t *testing.T) {
	for _, c := range []struct{ names, batch int }{{100_000, 1000}, {3000, 1}} {
		if testing.Short() {
			scale = max(scale, 5)
		}
		c.names /= scale
		t.Run(fmt.Sprintf("%d by %d", c.names, c.batch), func(t *testing.T) {
			mem := newMemory(t)
			s := faulty.Store(mem)
			count := &counting{Store: s}
			var d *Dir
			most := 0
			start := time.Now()
			for i := 0; i < c.names; i += c.batch {
				changes := map[string]Attr{}
				for j := i; j < i+c.batch; j++ {
					name, a := unpacked(j)
					changes[name] = a
				}
				d = mustSave(t, count, ".", d, changes, nil)
				most = max(most, len(d.records))
			}
			saved := time.Since(start)
			var final int64
			es := listed(t, mem, ".")
			for _, e := range es {
				final += e.Size
			}
			start = time.Now()
			d, err := Load(t.Context(), mem, ".", es, time.Time{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			loaded := time.Since(start)
			for i := range c.names {
				name, a := unpacked(i)
				want(t, d, name, a)
			}
			written := count.written.Load()
			t.Logf("%d bytes in %d records (%d at most), %d bytes written (%.1fx), requests: %d puts, %d listings, %d reads, %d removals; saved in %v, loaded in %v",
				final, len(es), most, written, float64(written)/float64(final), s.Calls("Put"), s.Calls("List"), s.Calls("Open"), s.Calls("Remove"), saved, loaded)
			limit := 20 * final
			if c.batch == 1 {
				limit *= 2 // alone, an entry doesn't compress
			}
			if written > limit {
				t.Errorf("%d bytes written for %d", written, final)
			}
			if most > 24 {
				t.Errorf("%d records", most)
			}
			if n := s.Calls("Open"); n > 0 {
				t.Errorf("%d records read by who wrote them", n)
			}
		})
	}
}

// What is overwritten again and again doesn't grow without limit, also beyond
// the size from which records are not merged any more.
func TestOverwritten(t *testing.T) {
	if testing.Short() {
		scale = max(scale, 5)
	}
	// Attributes that are long enough for records to become full.
	const rounds = 5
	names := 15_000 / scale
	long := map[string][]byte{"user.x": bytes.Repeat([]byte("x"), 150*scale)}
	mem := newMemory(t)
	var d *Dir
	for range rounds {
		for i := 0; i < names; i += names / 10 {
			changes := map[string]Attr{}
			for j := i; j < i+names/10; j++ {
				name, a := unpacked(j)
				a.Xattrs = long
				changes[name] = a
			}
			d = mustSave(t, mem, ".", d, changes, nil)
		}
	}
	held, fulls := 0, 0
	for _, r := range d.records {
		if r.size > full {
			fulls++
		}
		held += len(r.entries)
	}
	t.Logf("%d entries of %d names in %d records, %d of them full", held, names, len(d.records), fulls)
	if held > 3*names || fulls == 0 {
		t.Errorf("%d entries of %d names, %d full records", held, names, fulls)
	}
}

func BenchmarkLookup(b *testing.B) {
	changes := map[string]Attr{}
	for i := range 100_000 {
		name, a := unpacked(i)
		changes[name] = a
	}
	d := mustSave(b, newMemory(b), ".", nil, changes, nil)
	for i := 0; b.Loop(); i++ {
		name, a := unpacked(i % 100_000)
		if _, ok := d.Lookup(name, a.Version); !ok {
			b.Fatal(name)
		}
	}
}
