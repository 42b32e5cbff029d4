package cache_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/cache"
)

// A file that is larger than the budget can be read from end to end.
func TestReadBeyondBudget(t *testing.T) {
	s := newMemory(t)
	big := strings.Repeat("0123456789abcdef", 1<<18) // 4 MiB
	put(t, s, "big", big)
	f := newCache(t, plain{s}, cache.Config{TTL: time.Hour, Budget: cache.NewBudget(2 << 20)})
	n, _ := lookup(t, f, "big")
	h := openFile(t, f, n, os.O_RDONLY)
	p := make([]byte, 128<<10)
	for off := int64(0); off < int64(len(big)); off += int64(len(p)) {
		m, err := h.ReadAt(t.Context(), p, off)
		if err != nil || m != len(p) || string(p) != big[off:off+int64(m)] {
			t.Fatalf("reading at %d: %d bytes, %v", off, m, err)
		}
	}
	if st := f.State(); st.CacheBytes > st.CacheBudget {
		t.Errorf("%d bytes cached of %d", st.CacheBytes, st.CacheBudget)
	}
	if err := closeFile(t, h); err != nil {
		t.Error(err)
	}
}

// What could not be evicted because it waited to be uploaded can be once it is
// in the store.
func TestEvictAfterUpload(t *testing.T) {
	p := newProbe(newMemory(t))
	f := newCache(t, p, cache.Config{TTL: time.Hour, Budget: cache.NewBudget(1 << 20)})
	block := make([]byte, 800<<10)
	p.setRefuse(refusing("put"))
	a := newFile(t, f, f.Root(), "a")
	writeAt(t, a, string(block), 0)
	if err := closeFile(t, a); !errors.Is(err, errDown) {
		t.Fatalf("close: %v, want the store's error", err)
	}
	b := newFile(t, f, f.Root(), "b")
	if _, err := b.WriteAt(t.Context(), block, 0); !errors.Is(err, backends.ErrNoSpace) {
		t.Fatalf("write while nothing can be evicted: %v, want ErrNoSpace", err)
	}
	p.setRefuse(nil)
	if err := f.SyncDir(t.Context(), f.Root()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.WriteAt(t.Context(), block, 0); err != nil {
		t.Errorf("write when the other file is in the store: %v; %+v", err, f.State())
	}
	if err := closeFile(t, b); err != nil {
		t.Error(err)
	}
}

// What truncate(2) has made local of a file that nobody has open can be
// evicted.
func TestEvictAfterTruncate(t *testing.T) {
	s := newMemory(t)
	put(t, s, "a", strings.Repeat("x", 900<<10))
	f := newCache(t, plain{s}, cache.Config{TTL: time.Hour, Budget: cache.NewBudget(1 << 20)})
	n, _ := lookup(t, f, "a")
	if _, err := f.SetAttr(t.Context(), n, backends.AttrChange{Set: backends.SetSize, Size: 800 << 10}); err != nil {
		t.Fatal(err)
	}
	h := newFile(t, f, f.Root(), "b")
	if _, err := h.WriteAt(t.Context(), make([]byte, 800<<10), 0); err != nil {
		t.Errorf("the other file is closed and in the store: %v; %+v", err, f.State())
	}
	if err := closeFile(t, h); err != nil {
		t.Error(err)
	}
}

// Nothing is lost for eviction when readers give up and files are evicted
// while they are fetched: what is clean and closed makes room in the end.
func TestEvictAgainstFetches(t *testing.T) {
	rounds := 60
	if testing.Short() {
		rounds = 20
	}
	s := newMemory(t)
	const files = 20
	for i := range files {
		put(t, s, fmt.Sprint("f", i), strings.Repeat("x", 300<<10))
	}
	f := newCache(t, plain{s}, cache.Config{TTL: time.Hour, Budget: cache.NewBudget(1 << 20)})
	var wg sync.WaitGroup
	for w := range 6 {
		wg.Go(func() {
			for i := range rounds {
				n, _, err := f.Lookup(t.Context(), f.Root(), fmt.Sprint("f", (i*7+w)%files))
				if err != nil {
					t.Error(err)
					return
				}
				h, err := f.Open(t.Context(), n, os.O_RDONLY)
				if err != nil {
					t.Error(err)
					return
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%5)*100*time.Microsecond)
				p := make([]byte, 10)
				if m, err := h.ReadAt(ctx, p, 0); err == nil && string(p[:m]) != "xxxxxxxxxx" {
					t.Errorf("read %q", p[:m])
				}
				cancel()
				if err := h.Close(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	h := newFile(t, f, f.Root(), "w")
	var err error
	for range 100 { // fetches that nobody waits for any more come to their end
		if _, err = h.WriteAt(t.Context(), make([]byte, 1000<<10), 0); !errors.Is(err, backends.ErrNoSpace) {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil {
		t.Errorf("everything else is clean and closed: %v, %d bytes used", err, f.State().CacheBytes)
	}
	if err := closeFile(t, h); err != nil {
		t.Error(err)
	}
}

// stuckFirst holds the first Open back until told, and counts all.
type stuckFirst struct {
	backends.Store
	opens       atomic.Int64
	begun, goOn chan struct{}
}

func (s *stuckFirst) Open(ctx context.Context, name string, r backends.Range, cond backends.If) (io.ReadCloser, backends.Entry, error) {
	if s.opens.Add(1) == 1 {
		close(s.begun)
		<-s.goOn
	}
	return s.Store.Open(ctx, name, r, cond)
}

// A read behind what another request is bringing and what has been written
// here makes one request of its own, and waits for no other.
func TestReadBesideFetch(t *testing.T) {
	s := newMemory(t)
	put(t, s, "f", strings.Repeat("0123456789abcdef", 1<<16)) // 1 MiB
	stuck := &stuckFirst{Store: plain{s}, begun: make(chan struct{}), goOn: make(chan struct{})}
	f := newCache(t, stuck, cache.Config{TTL: time.Hour})
	n, _ := lookup(t, f, "f")
	h := openFile(t, f, n, os.O_RDWR)
	writeAt(t, h, string(make([]byte, 300<<10)), 100<<10)
	var wg sync.WaitGroup
	read := func(ctx context.Context, off int64) {
		p := make([]byte, 16)
		if _, err := h.ReadAt(ctx, p, off); err != nil || string(p) != "0123456789abcdef" {
			t.Errorf("the read at %d: %q, %v", off, p, err)
		}
	}
	wg.Go(func() { read(t.Context(), 0) })
	<-stuck.begun
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	read(ctx, 500<<10)
	close(stuck.goOn)
	wg.Wait()
	if got := stuck.opens.Load(); got > 2 {
		t.Errorf("two reads cost %d requests", got)
	}
	if err := closeFile(t, h); err != nil {
		t.Error(err)
	}
}
