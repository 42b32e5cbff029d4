package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/cache"
)

// ranges is a store that writes down which ranges are asked for and how many
// bytes of them are taken, and gives no more of an answer than gate allows.
type ranges struct {
	backends.Store
	mu    sync.Mutex
	more  sync.Cond
	asked []backends.Range
	taken int64
	open  int // answers that nobody has closed
	most  int
	// gate says how many bytes of an answer may be given by now; nil is all.
	// below 0 the call itself gets no answer. It is asked again after change.
	gate func(r backends.Range) int64
}

func newRanges(s backends.Store) *ranges {
	r := &ranges{Store: s}
	r.more.L = &r.mu
	return r
}

// change sets the gate.
func (s *ranges) change(gate func(backends.Range) int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gate = gate
	s.more.Broadcast()
}

// all returns what was asked for so far, in the order of offsets.
func (s *ranges) all() []backends.Range {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.Clone(s.asked)
	slices.SortFunc(all, func(a, b backends.Range) int { return int(a.Off - b.Off) })
	return all
}

func (s *ranges) bytes() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken
}

// until waits until what f says of the store is so.
func (s *ranges) until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		ok := f()
		s.mu.Unlock()
		if ok {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("never: %s; asked for %v", what, s.all())
		}
	}
}

// allowed waits until more than n bytes of r may be given. s.mu is held.
func (s *ranges) allowed(ctx context.Context, r backends.Range, n int64) (int64, error) {
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.more.Broadcast()
	})
	defer stop()
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if s.gate == nil {
			return 1 << 50, nil
		}
		if m := s.gate(r); m > n {
			return m - n, nil
		}
		s.more.Wait()
	}
}

func (s *ranges) Open(ctx context.Context, name string, r backends.Range, cond backends.If) (io.ReadCloser, backends.Entry, error) {
	s.mu.Lock()
	s.asked = append(s.asked, r)
	s.open++
	s.most = max(s.most, s.open)
	_, err := s.allowed(ctx, r, -1)
	s.mu.Unlock()
	var body io.ReadCloser
	var e backends.Entry
	if err == nil {
		body, e, err = s.Store.Open(ctx, name, r, cond)
	}
	if err != nil {
		s.mu.Lock()
		s.open--
		s.mu.Unlock()
		return nil, e, err
	}
	return &rangeBody{ReadCloser: body, ctx: ctx, s: s, r: r}, e, nil
}

type rangeBody struct {
	io.ReadCloser
	ctx context.Context
	s   *ranges
	r   backends.Range
	n   int64
}

func (b *rangeBody) Read(p []byte) (int, error) {
	b.s.mu.Lock()
	may, err := b.s.allowed(b.ctx, b.r, b.n)
	b.s.mu.Unlock()
	if err != nil {
		return 0, err
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), may)])
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	b.n += int64(n)
	b.s.taken += int64(n)
	return n, err
}

func (b *rangeBody) Close() error {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	b.s.open--
	return b.ReadCloser.Close()
}

// large returns a store with a file of random bytes, a cache over it and the
// file opened.
func large(t *testing.T, size int, c cache.Config) (*ranges, []byte, *cache.FS, backends.File) {
	t.Helper()
	m := newMemory(t)
	want := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(want[:min(size, mib)])
	for off := mib; off < size; off += mib {
		copy(want[off:], want[:mib])
		copy(want[off:], fmt.Sprintf("megabyte %d", off/mib))
	}
	put(t, m, "f", string(want))
	s := newRanges(plain{m})
	c.TTL = time.Hour
	f := newCache(t, s, c)
	n, _ := lookup(t, f, "f")
	h := openFile(t, f, n, os.O_RDWR)
	t.Cleanup(func() {
		s.change(nil)
		if err := h.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s, want, f, h
}

// wantRead reads size bytes at off, which have to be those of want.
func wantRead(t *testing.T, h backends.File, want []byte, off, size int) {
	t.Helper()
	p := make([]byte, size)
	n, err := h.ReadAt(t.Context(), p, int64(off))
	size = min(size, len(want)-off)
	if err != nil || n != size || !bytes.Equal(p[:n], want[off:off+size]) {
		t.Errorf("reading %d at %d: %d bytes, %v; the right ones: %v", size, off, n, err, bytes.Equal(p[:n], want[off:off+n]))
	}
}

const (
	kib = 1 << 10
	mib = 1 << 20
)

// Who reads from beginning to end gets a window of requests side by side, and
// every byte once.
func TestSequentialReadIsParallel(t *testing.T) {
	s, want, f, h := large(t, 64*mib, cache.Config{})
	// From there on nothing comes, and what is asked for is seen.
	s.change(func(r backends.Range) int64 {
		if r.Off >= 20*mib {
			return -1
		}
		return r.Len
	})
	for off := 0; off < len(want); off += mib {
		if off == 16*mib {
			wantRead(t, h, want, off, mib)
			s.until(t, "eight requests at once", func() bool { return s.open >= 8 })
			s.change(nil)
		}
		wantRead(t, h, want, off, mib)
	}
	end := int64(0)
	for _, r := range s.all() {
		if r.Off < end-2*mib { // the first request is cut short by those beside it
			t.Errorf("%v was asked for twice", r)
		}
		end = max(end, r.Off+r.Len)
	}
	if got := s.bytes(); got > 64*mib+256*kib {
		t.Errorf("%d bytes were fetched for %d", got, len(want))
	}
	st := f.State().Stats
	if n := len(s.all()); n > 48 {
		t.Errorf("%d requests for 64 MiB", n)
	}
	if st.FetchUsedBytes != int64(len(want)) {
		t.Errorf("%d of %d bytes were used", st.FetchUsedBytes, st.FetchBytes)
	}
}

// A reader goes on as soon as the bytes that it asked for are there, whatever
// else is still on its way.
func TestReadBeforeTheWholeIsThere(t *testing.T) {
	for _, size := range []int{700 * kib, 64 * mib} {
		s, want, _, h := large(t, size, cache.Config{})
		s.change(func(backends.Range) int64 { return 512 * kib })
		wantRead(t, h, want, 0, 256*kib)
		wantRead(t, h, want, 256*kib, 256*kib)
		if n := len(s.all()); n != 1 {
			t.Errorf("two reads of a range that is on its way cost %d requests", n)
		}
		s.change(nil)
		wantRead(t, h, want, 512*kib, 128*kib)
	}
}

// Reads all over a file fetch what was asked for, with one request each.
func TestRandomReadsFetchWhatWasAsked(t *testing.T) {
	s, want, _, h := large(t, 64*mib, cache.Config{})
	rnd := rand.New(rand.NewPCG(1, 2))
	offs := rnd.Perm(64 * mib / (64 * kib) / 2)[:100] // every second block: none follows another
	for _, i := range offs {
		wantRead(t, h, want, (2*i+1)*64*kib, 64*kib)
	}
	if n, b := len(s.all()), s.bytes(); n != 100 || b != 100*64*kib {
		t.Errorf("%d requests, %d bytes for 100 reads of 64 KiB", n, b)
	}
	// Pages, not megabytes, for what is not aligned, and a block for less.
	wantRead(t, h, want, 12*kib, 72*kib)
	wantRead(t, h, want, 2*64*kib+5000, 10)
	if n, b := len(s.all()), s.bytes(); n > 103 || b > 102*64*kib+128*kib {
		t.Errorf("%d requests, %d bytes after two more reads", n, b)
	}
}

// A seek ends reading ahead: what nobody asked for any more does not come.
func TestSeekCollapsesTheWindow(t *testing.T) {
	s, want, f, h := large(t, 64*mib, cache.Config{ReadAhead: 32 * mib})
	s.change(func(r backends.Range) int64 {
		if r.Off >= 8*mib && r.Off < 50*mib {
			return 0 // answered, but no bytes yet
		}
		return r.Len
	})
	for off := 0; off < 8*mib; off += mib {
		wantRead(t, h, want, off, mib)
	}
	s.until(t, "a window", func() bool { return s.open >= 4 })
	wantRead(t, h, want, 60*mib, 64*kib)
	s.until(t, "all of the window given up", func() bool { return s.open == 0 })
	s.change(nil)
	before := s.bytes()
	if before > 9*mib {
		t.Errorf("%d bytes were fetched for 8 MiB and 64 KiB", before)
	}
	// It grows again for who goes on there.
	for off := 8 * mib; off < 24*mib; off += mib {
		wantRead(t, h, want, off, mib)
	}
	if got := s.bytes() - before; got > (16+32)*mib {
		t.Errorf("%d bytes were fetched for 16 MiB", got)
	}
	if st := f.State().Stats; st.FetchUsedBytes > st.FetchBytes || st.FetchUsedBytes != 24*mib+64*kib {
		t.Errorf("%d of %d bytes were used", st.FetchUsedBytes, st.FetchBytes)
	}
}

// What is read ahead in vain is at most four times what was read in sequence.
func TestWastedBytesAreBounded(t *testing.T) {
	s, want, f, h := large(t, 64*mib, cache.Config{})
	for off := 0; off < 6*mib; off += mib {
		wantRead(t, h, want, off, mib)
	}
	s.until(t, "quiet", func() bool { return s.open == 0 })
	if got := s.bytes(); got > (1+4)*6*mib {
		t.Errorf("%d bytes were fetched for 6 MiB", got)
	}
	st := f.State().Stats
	if st.FetchBytes != s.bytes() || st.FetchUsedBytes != 6*mib {
		t.Errorf("the cache counts %d bytes, %d of them used; the store gave %d", st.FetchBytes, st.FetchUsedBytes, s.bytes())
	}
}

// Several readers of one file are told apart: each has a window of its own,
// and none ends that of another.
func TestSeveralStreamsInOneFile(t *testing.T) {
	s, want, _, h := large(t, 96*mib, cache.Config{ReadAhead: 16 * mib})
	starts := []int{0, 24 * mib, 48 * mib, 72 * mib}
	for i := range 20 {
		for _, start := range starts {
			wantRead(t, h, want, start+i*mib, mib)
		}
	}
	// Four windows of one reader each: far fewer requests than reads, and
	// nothing twice.
	if n := len(s.all()); n > 100 {
		t.Errorf("%d requests for four streams of 20 MiB: %v", n, s.all())
	}
	if got := s.bytes(); got > 100*mib {
		t.Errorf("%d bytes were fetched of a file of %d", got, len(want))
	}
}

// The pattern of a program that reads columns: the end of the file, then
// ranges. The kernel makes several requests of each, two of which it has under
// way, in any order. Each range costs one request, and little more than its
// bytes.
func TestRangeReadsCostOneRequestEach(t *testing.T) {
	for name, order := range map[string][]int{"in order": {0, 1}, "out of order": {1, 0}} {
		t.Run(name, func(t *testing.T) {
			s, want, _, h := large(t, 80*mib, cache.Config{})
			wantRead(t, h, want, len(want)-64*kib, 64*kib)
			requests, sum := 1, 64*kib
			// The second of a pair comes right after the first, before that is
			// answered: what the test holds back makes sure of it.
			for i, size := range []int{300 * kib, 2 * mib, 5 * mib, mib, 3 * mib} {
				start := (5 + 12*i) * mib
				hold := make(chan struct{})
				s.change(func(r backends.Range) int64 {
					select {
					case <-hold:
						return r.Len
					default:
						return -1
					}
				})
				var wg sync.WaitGroup
				first := min(size, 2*mib)
				for _, k := range order {
					if k*mib < first {
						wg.Go(func() { wantRead(t, h, want, start+k*mib, min(mib, first-k*mib)) })
						time.Sleep(50 * time.Microsecond)
					}
				}
				s.until(t, "a request", func() bool { return len(s.asked) > requests })
				close(hold)
				s.change(nil)
				wg.Wait()
				for off := first; off < size; off += mib {
					wantRead(t, h, want, start+off, min(mib, size-off))
				}
				requests++
				sum += size
			}
			// On a loaded machine the second request may come too late to be
			// made one with the first.
			if n := len(s.all()); n > requests+2 {
				t.Errorf("%d requests for %d ranges: %v", n, requests, s.all())
			}
			if got := s.bytes(); got > int64(sum)+2*mib {
				t.Errorf("%d bytes for %d", got, sum)
			}
		})
	}
}

// A read of what is on its way waits for it, however many there are.
func TestReadsShareWhatIsOnItsWay(t *testing.T) {
	s, want, _, h := large(t, 64*mib, cache.Config{})
	s.change(func(backends.Range) int64 { return -1 })
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() { wantRead(t, h, want, 10*mib+i%4*16*kib, 16*kib) })
	}
	s.until(t, "a request", func() bool { return len(s.asked) > 0 })
	time.Sleep(10 * time.Millisecond)
	s.change(nil)
	wg.Wait()
	if all := s.all(); len(all) != 1 {
		t.Errorf("eight reads of one block cost %v", all)
	}
}

// No more requests are under way than the configuration says, whatever many
// readers want, and all of them come to their end.
func TestFetchesAreBounded(t *testing.T) {
	s, want, _, h := large(t, 64*mib, cache.Config{Fetches: 4})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for off := i * 8 * mib; off < (i+1)*8*mib; off += mib {
				wantRead(t, h, want, off, mib)
			}
		})
	}
	wg.Wait()
	if s.most > 4 {
		t.Errorf("%d requests were under way", s.most)
	}
}

// Without room for what is fetched reading goes on, and gives the right bytes.
func TestReadWithoutRoom(t *testing.T) {
	_, want, f, h := large(t, 8*mib, cache.Config{Budget: cache.NewBudget(100 * kib)})
	for range 2 {
		for off := 0; off < len(want); off += 300 * kib {
			wantRead(t, h, want, off, 300*kib)
		}
	}
	if st := f.State(); st.CacheBytes > st.CacheBudget {
		t.Errorf("%d bytes cached of %d", st.CacheBytes, st.CacheBudget)
	}
}

// What is written, cut off or punched while older bytes are on their way there
// stays as it was made.
func TestChangesAgainstFetches(t *testing.T) {
	s, want, f, h := large(t, 24*mib, cache.Config{Budget: cache.NewBudget(64 * mib)})
	_ = s
	n, _ := lookup(t, f, "f")
	var wg sync.WaitGroup
	// Every second 96 KiB is rewritten, while readers run over all of it.
	const step = 96 * kib
	for w := range 2 {
		wg.Go(func() {
			for off := w * step; off+step <= len(want); off += 4 * step {
				p := bytes.Repeat([]byte{byte(w + 1)}, step)
				if _, err := h.WriteAt(t.Context(), p, int64(off)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 3 {
		wg.Go(func() {
			r := openFile(t, f, n, os.O_RDONLY)
			p := make([]byte, mib)
			for off := 0; off < len(want); off += mib {
				if _, err := r.ReadAt(t.Context(), p, int64(off)); err != nil {
					t.Error(err)
				}
			}
			if err := r.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	a := h.(backends.Allocator)
	const punched = 3 // FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
	if err := a.Allocate(t.Context(), 20*mib+7, 2*mib, punched); err != nil {
		t.Fatal(err)
	}
	for w := range 2 {
		for off := w * step; off+step <= len(want); off += 4 * step {
			copy(want[off:], bytes.Repeat([]byte{byte(w + 1)}, step))
		}
	}
	clear(want[20*mib+7 : 22*mib+7])
	for off := 0; off < len(want); off += mib {
		wantRead(t, h, want, off, mib)
	}
}

// A file that is cut off, removed or replaced while ranges of it are on their
// way leaves no request behind, and its readers hear of it.
func TestEndWhileRangesAreOnTheirWay(t *testing.T) {
	s, want, f, h := large(t, 64*mib, cache.Config{})
	s.change(func(r backends.Range) int64 {
		if r.Off >= 2*mib {
			return 0
		}
		return r.Len
	})
	for off := 0; off < 2*mib; off += mib {
		wantRead(t, h, want, off, mib)
	}
	s.until(t, "a window", func() bool { return s.open > 1 })
	var wg sync.WaitGroup
	wg.Go(func() {
		// It was there when the read began and is not when it ends.
		p := make([]byte, mib)
		if n, err := h.ReadAt(t.Context(), p, 3*mib); n != 0 && !bytes.Equal(p[:n], want[3*mib:3*mib+n]) || err != nil {
			t.Errorf("read %d bytes, %v", n, err)
		}
	})
	n, _ := lookup(t, f, "f")
	if _, err := f.SetAttr(t.Context(), n, backends.AttrChange{Set: backends.SetSize, Size: mib + 5}); err != nil {
		t.Fatal(err)
	}
	s.change(nil)
	wg.Wait()
	s.until(t, "no request left", func() bool { return s.open == 0 })
	wantRead(t, h, want[:mib+5], 0, 2*mib)
}

// Another version in the store in the middle of a file is an error for who has
// the old one open, never a mix.
func TestVersionChangesWhileReading(t *testing.T) {
	m := newMemory(t)
	old, now := bytes.Repeat([]byte("old."), 4*mib), bytes.Repeat([]byte("new!"), 4*mib)
	put(t, m, "f", string(old))
	s := newRanges(plain{m})
	f := newCache(t, s, cache.Config{TTL: time.Hour})
	n, _ := lookup(t, f, "f")
	h := openFile(t, f, n, os.O_RDONLY)
	wantRead(t, h, old, 0, 256*kib)
	put(t, m, "f", string(now))
	failed := false
	for off := 0; off < len(old); off += mib {
		p := make([]byte, mib)
		n, err := h.ReadAt(t.Context(), p, int64(off))
		failed = failed || errors.Is(err, backends.ErrChanged)
		if err != nil && !errors.Is(err, backends.ErrChanged) || !bytes.Equal(p[:n], old[off:off+n]) {
			t.Fatalf("at %d: %d bytes, %v", off, n, err)
		}
	}
	if !failed {
		t.Error("nobody said that the old version is gone")
	}
	if err := h.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
