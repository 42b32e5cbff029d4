package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// quiet are options with which nothing happens by itself.
var quiet = options{bootID: "this boot", logLimit: 1 << 40, idle: time.Hour}

func mustOpen(t testing.TB, dir string, opt options) *Journal {
	t.Helper()
	j, err := open(dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

func mustClose(t testing.TB, j *Journal) {
	t.Helper()
	if err := j.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

// put commits pairs of key and value as one batch.
func put(t testing.TB, j *Journal, pairs ...string) {
	t.Helper()
	var b Batch
	for i := 0; i < len(pairs); i += 2 {
		b.Put(pairs[i], []byte(pairs[i+1]))
	}
	if err := j.Commit(&b); err != nil {
		t.Fatalf("Commit: %v", err)
	}
}

// contents returns what All gives, and that it gives it in order.
func contents(t testing.TB, j *Journal) map[string]string {
	t.Helper()
	got, last := map[string]string{}, ""
	err := j.All(func(key string, value []byte) error {
		if len(got) > 0 && key <= last {
			t.Errorf("All gives %q after %q", key, last)
		}
		last = key
		got[key] = string(value)
		return nil
	})
	if err != nil {
		t.Fatalf("All: %v", err)
	}
	return got
}

func wantContents(t testing.TB, j *Journal, want map[string]string) {
	t.Helper()
	if got := contents(t, j); !maps.Equal(got, want) {
		t.Fatalf("journal has %d records:\n%.500q\nwant %d:\n%.500q", len(got), fmt.Sprint(got), len(want), fmt.Sprint(want))
	}
}

func wantSilence(t testing.TB, j *Journal) {
	t.Helper()
	if j.Damage() != "" || j.Rebooted() {
		t.Errorf("Damage %q, Rebooted %t", j.Damage(), j.Rebooted())
	}
}

func TestReopen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "there yet?#%41")
	j := mustOpen(t, dir, quiet)
	wantSilence(t, j)
	want := map[string]string{"": "empty key", "a": "", "a/1": "one", "a\x00b": "\x00\xff", "\xff": "x", "\xff\xff\x01": "y", "ä": "umlaut"}
	var b Batch
	for k, v := range want {
		b.Put(k, []byte(v))
	}
	b.Put("a", nil)
	if err := j.Commit(&b); err != nil {
		t.Fatal(err)
	}
	wantContents(t, j, want)
	mustClose(t, j)

	names, err := os.ReadDir(dir)
	if err != nil || len(names) != 2 {
		t.Errorf("after Close: %v, %v; want the database and the numbers", names, err)
	}
	j = mustOpen(t, dir, quiet)
	wantSilence(t, j)
	wantContents(t, j, want)
}

func TestBatchOrder(t *testing.T) {
	j := mustOpen(t, t.TempDir(), quiet)
	put(t, j, "p/1", "old", "p/2", "old", "q", "old", "\xff\xffz", "old")
	var b Batch
	b.Put("p/3", []byte("lost"))
	b.DeletePrefix("p/")
	b.Put("p/2", []byte("new"))
	b.Put("r", []byte("1"))
	b.Put("r", []byte("2"))
	b.Put("s", []byte("gone"))
	b.Delete("s")
	b.Delete("never there")
	b.DeletePrefix("\xff\xff")
	if b.Len() != 9 {
		t.Errorf("Len = %d", b.Len())
	}
	if err := j.Commit(&b); err != nil {
		t.Fatal(err)
	}
	wantContents(t, j, map[string]string{"p/2": "new", "q": "old", "r": "2"})
	b.Reset()
	b.DeletePrefix("")
	if err := j.Commit(&b); err != nil {
		t.Fatal(err)
	}
	wantContents(t, j, nil)
	b.Reset()
	if err := j.Commit(&b); b.Len() != 0 || err != nil {
		t.Errorf("empty batch: %v", err)
	}
}

// TestPutCopies: a batch does not refer to what it was given.
func TestPutCopies(t *testing.T) {
	j := mustOpen(t, t.TempDir(), quiet)
	value := []byte("before")
	var b Batch
	b.Put("k", value)
	copy(value, "after!")
	if err := j.Commit(&b); err != nil {
		t.Fatal(err)
	}
	wantContents(t, j, map[string]string{"k": "before"})
}

// queueUp starts commits one after the other while nobody can commit, and
// returns when all wait, in this order.
func queueUp(j *Journal, batches ...*Batch) (wait func() []error) {
	j.turn.Lock()
	errs := make([]error, len(batches))
	var wg sync.WaitGroup
	for i, b := range batches {
		wg.Go(func() { errs[i] = j.Commit(b) })
		for waiting := 0; waiting <= i; time.Sleep(50 * time.Microsecond) {
			j.queue.mu.Lock()
			waiting = len(j.queue.waiting)
			j.queue.mu.Unlock()
		}
	}
	return func() []error {
		j.turn.Unlock()
		wg.Wait()
		return errs
	}
}

// TestOrder: what waits is committed in the order in which it came.
func TestOrder(t *testing.T) {
	j := mustOpen(t, t.TempDir(), quiet)
	put(t, j, "first", "with the boot")
	var batches []*Batch
	for i := range 50 {
		b := &Batch{}
		b.Put("last", fmt.Append(nil, i))
		if i%2 == 0 {
			b.Delete("last")
		}
		batches = append(batches, b)
	}
	seq := j.seq
	if err := errors.Join(queueUp(j, batches...)()...); err != nil {
		t.Fatal(err)
	}
	wantContents(t, j, map[string]string{"first": "with the boot", "last": "49"})
	if j.seq != seq+50 {
		t.Errorf("%d commits counted, want 50", j.seq-seq)
	}
}

// TestGroupsAreBounded: those who come first don't wait for everybody.
func TestGroupsAreBounded(t *testing.T) {
	var q queue
	for range 10 {
		b := &Batch{}
		for range maxGroup/4 + 1 {
			b.Delete("x")
		}
		q.enter(&request{b: b})
	}
	var sizes []int
	for len(q.waiting) > 0 {
		sizes = append(sizes, len(q.take()))
	}
	if !slices.Equal(sizes, []int{3, 3, 3, 1}) {
		t.Errorf("groups of %v", sizes)
	}
}

// TestConcurrentUse runs everything at once; the rest is the race detector's.
func TestConcurrentUse(t *testing.T) {
	dir := t.TempDir()
	j := mustOpen(t, dir, options{bootID: "this boot", logLimit: 64 << 10, idle: time.Millisecond})
	const writers, each = 8, 60
	var wg, others sync.WaitGroup
	stop := make(chan struct{})
	for w := range writers {
		wg.Go(func() {
			var b Batch
			for i := range each {
				b.Reset()
				b.Put(fmt.Sprintf("%d/%d", w, i), make([]byte, 100))
				b.Put(fmt.Sprintf("latest/%d", w), fmt.Append(nil, i))
				if err := j.Commit(&b); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for _, f := range []func() error{
		j.Sync,
		func() error { _, err := Count(dir, "latest/"); return err },
		func() error { return j.All(func(string, []byte) error { return nil }) },
		func() error {
			if j.Size() <= 0 || j.Damage() != "" || j.Rebooted() {
				return errors.New("it has no size, or is damaged")
			}
			return nil
		},
	} {
		others.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if err := f(); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	close(stop)
	others.Wait()
	if got := contents(t, j); len(got) != writers*each+writers || got["latest/0"] != fmt.Sprint(each-1) {
		t.Errorf("%d records, latest/0 is %s", len(got), got["latest/0"])
	}
	mustClose(t, j)
	wantSilence(t, mustOpen(t, dir, quiet))
}

// TestAllSeesOneState: what is committed while All runs, by its own function
// even, is not in it, and the first error ends it.
func TestAllSeesOneState(t *testing.T) {
	j := mustOpen(t, t.TempDir(), quiet)
	put(t, j, "a", "1", "b", "1", "c", "1")
	n := 0
	err := j.All(func(key string, value []byte) error {
		n++
		put(t, j, "b", "2", "c/"+key, "new")
		if string(value) != "1" {
			t.Errorf("%s = %s", key, value)
		}
		return nil
	})
	if n != 3 || err != nil {
		t.Errorf("All gave %d records, %v", n, err)
	}
	stop := errors.New("stop")
	if err := j.All(func(string, []byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("All = %v", err)
	}
}

func TestCloseIsFinal(t *testing.T) {
	dir := t.TempDir()
	j := mustOpen(t, dir, quiet)
	if _, err := open(dir, quiet); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("second Open: %v", err)
	}
	put(t, j, "k", "v")
	mustClose(t, j)
	var b Batch
	b.Put("k", nil)
	if err := j.Commit(&b); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Commit after Close: %v", err)
	}
	if err := j.All(nil); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("All after Close: %v", err)
	}
	if err := j.Close(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("second Close: %v", err)
	}
	if err := j.Sync(); err != nil {
		t.Errorf("Sync after Close, which has synced: %v", err)
	}
}

// TestSyncOnlyWhatIsNew: a sync with nothing new asks nothing of the disk, and an
// error is final.
func TestSyncOnlyWhatIsNew(t *testing.T) {
	j := mustOpen(t, t.TempDir(), quiet)
	put(t, j, "k", "v")
	if err := j.Sync(); err != nil || j.sync.upto != j.seq {
		t.Fatalf("Sync: %v, up to %d of %d", err, j.sync.upto, j.seq)
	}
	f := j.current.f
	defer func() { j.current.f = f }()
	j.current.f = os.NewFile(^uintptr(0), "no file")
	if err := j.Sync(); err != nil {
		t.Errorf("Sync with nothing new: %v", err)
	}
	j.done.Add(1) // as after a commit
	if err := j.Sync(); err == nil {
		t.Error("Sync of no file succeeded")
	}
	j.current.f = f
	if err := j.Sync(); err == nil {
		t.Error("a failed sync was forgotten")
	}
}

// TestLogIsBounded: the log is folded when it has grown, without anybody asking.
func TestLogIsBounded(t *testing.T) {
	const limit = 1 << 20
	j := mustOpen(t, t.TempDir(), options{bootID: "this boot", logLimit: limit, idle: time.Hour})
	var b Batch
	b.Put("k", make([]byte, 10_000))
	folded := j.ack.turns
	for range 2000 { // 32 MB of log
		if err := j.Commit(&b); err != nil {
			t.Fatal(err)
		}
		if size := j.size.Load(); size > 9*limit {
			t.Fatalf("the log has %d bytes, its limit is %d", size, limit)
		}
	}
	mustClose(t, j)
	if j.ack.turns < folded+4 {
		t.Error("the log was not folded")
	}
}

// TestLogIsFoldedWhenIdle: and before, once nothing is committed.
func TestLogIsFoldedWhenIdle(t *testing.T) {
	j := mustOpen(t, t.TempDir(), options{bootID: "this boot", logLimit: 1 << 20, idle: 10 * time.Millisecond})
	for _, v := range []string{strings.Repeat("v", 200<<10), strings.Repeat("w", 200<<10)} {
		put(t, j, "k", v)
		waitFor(t, func() bool { return j.size.Load() < 10<<10 })
		wantContents(t, j, map[string]string{"k": v})
	}
}

// TestCommitsDontSync: no commit waits for the disk, not even the first into a log.
func TestCommitsDontSync(t *testing.T) {
	j := mustOpen(t, t.TempDir(), quiet)
	for i := range 3 {
		put(t, j, "k", fmt.Sprint(i))
		if s := j.current; s.named || s.whole {
			t.Error("the log is on the disk, and nobody has asked for that")
		}
		j.tidy()
	}
}

func waitFor(t *testing.T, what func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !what(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not happen")
		}
	}
}

// TestReaderDelaysFolding: who reads keeps what he reads; commits don't wait for
// him, and nothing is lost.
func TestReaderDelaysFolding(t *testing.T) {
	j := mustOpen(t, t.TempDir(), options{bootID: "this boot", logLimit: 64 << 10, idle: time.Hour})
	put(t, j, "a", "1", "b", "1")
	err := j.All(func(key string, value []byte) error {
		for i := range 300 {
			put(t, j, "b", "2", fmt.Sprint("new/", i), strings.Repeat("x", 1000))
		}
		if string(value) != "1" {
			t.Errorf("%s = %s", key, value)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// More than once if what was there before the reader was done is still on its way.
	waitFor(t, func() bool { j.tendOnce(); return j.size.Load() <= 10<<10 })
	if got := contents(t, j); len(got) != 302 {
		t.Errorf("%d records", len(got))
	}
}

// TestShrinks: an empty journal takes no room.
func TestShrinks(t *testing.T) {
	j := mustOpen(t, t.TempDir(), quiet)
	fill(t, j, 20_000)
	j.tidy()
	full := j.Size()
	var b Batch
	b.DeletePrefix("")
	b.Put("left", []byte("over"))
	if err := j.Commit(&b); err != nil {
		t.Fatal(err)
	}
	j.tidy()
	if size := j.Size(); full < 4<<20 || size > 1<<20 {
		t.Errorf("%d bytes with 20,000 records, %d with one", full, size)
	}
	wantContents(t, j, map[string]string{"left": "over"})
}

// TestRebooted: until something is committed after the boot.
func TestRebooted(t *testing.T) {
	dir := t.TempDir()
	in := func(boot string) *Journal {
		opt := quiet
		opt.bootID = boot
		return mustOpen(t, dir, opt)
	}
	for i, step := range []struct {
		boot   string
		want   bool
		commit bool
	}{
		{"one", false, false}, // nothing to lose
		{"two", false, true},
		{"two", false, false},
		{"three", true, false},
		{"three", true, true},
		{"three", false, true},
		{"", true, false}, // it can't be told
	} {
		j := in(step.boot)
		if j.Rebooted() != step.want || j.Damage() != "" {
			t.Errorf("step %d: Rebooted %t, Damage %q", i, j.Rebooted(), j.Damage())
		}
		if step.commit {
			put(t, j, "k", fmt.Sprint(i))
		}
		mustClose(t, j)
	}
}

// FuzzBatches compares with a map what a journal has after commits, folds and
// openings.
func FuzzBatches(f *testing.F) {
	f.Add([]byte("\x01\x02\x03\x04\x05\x06\x07\x08"))
	r := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		b := make([]byte, 200)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, program []byte) {
		dir := t.TempDir()
		opt := quiet
		opt.slice = 1 + len(program)%7
		j := mustOpen(t, dir, opt)
		var b Batch
		want, pending := map[string]string{}, map[string]string{}
		next := func() byte {
			if len(program) == 0 {
				return 0
			}
			c := program[0]
			program = program[1:]
			return c
		}
		key := func() string {
			k := []byte{"ab\xff"[next()%3], "ab\xff"[next()%3], "ab\xff"[next()%3]}
			return string(k[:next()%4])
		}
		for n := 0; len(program) > 0 && n < 300; n++ {
			switch op := next() % 16; op {
			case 0:
				b.Reset()
				pending = maps.Clone(want)
			case 1, 2, 3:
				if err := j.Commit(&b); err != nil {
					t.Fatal(err)
				}
				b.Reset()
				want = maps.Clone(pending)
			case 4:
				mustClose(t, j)
				j = mustOpen(t, dir, opt)
				wantSilence(t, j)
			case 5:
				j.tidy()
			case 15:
				after := t.TempDir() // a kill
				j.turn.Lock()
				if j.freeze() { // some of it has gone into the table
					if err := j.spread(); err != nil {
						t.Fatal(err)
					}
				}
				j.turn.Unlock()
				copyFiles(t, dir, after)
				_ = j.Close()
				dir = after
				j = mustOpen(t, dir, opt)
				wantSilence(t, j)
				b.Reset()
				pending = maps.Clone(want)
			case 6:
				wantContents(t, j, want)
			case 7:
				p := key()
				count := 0
				for k := range want {
					if strings.HasPrefix(k, p) {
						count++
					}
				}
				if n, err := Count(dir, p); err != nil || n != int64(count) {
					t.Fatalf("Count of %q = %d, %v; want %d", p, n, err, count)
				}
			case 8, 9:
				k := key()
				b.Delete(k)
				delete(pending, k)
			case 10:
				p := key()
				b.DeletePrefix(p)
				maps.DeleteFunc(pending, func(k, _ string) bool { return strings.HasPrefix(k, p) })
			default:
				k, v := key(), strings.Repeat("v", int(next())*int(op-10))
				b.Put(k, []byte(v))
				pending[k] = v
			}
		}
		wantContents(t, j, want)
		mustClose(t, j)
	})
}
