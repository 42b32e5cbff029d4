package attrs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/faulty"
)

// hooked calls before with the name of the method before each call.
type hooked struct {
	backends.Store
	before func(op string)
}

func (h hooked) List(ctx context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	h.before("List")
	return h.Store.List(ctx, dir, after)
}

func (h hooked) Open(ctx context.Context, name string, r backends.Range, cond backends.If) (io.ReadCloser, backends.Entry, error) {
	h.before("Open")
	return h.Store.Open(ctx, name, r, cond)
}

func (h hooked) Put(ctx context.Context, name string, body *io.SectionReader, opts backends.PutOptions) (backends.Entry, error) {
	h.before("Put")
	return h.Store.Put(ctx, name, body, opts)
}

func (h hooked) Remove(ctx context.Context, name string, cond backends.If) error {
	h.before("Remove")
	return h.Store.Remove(ctx, name, cond)
}

func name(i int) string { return fmt.Sprintf("f%02d", i) }

// saveSome saves names from to below to, one after the other.
func saveSome(t *testing.T, s backends.Store, d *Dir, from, to int) *Dir {
	t.Helper()
	for i := from; i < to; i++ {
		d = mustSave(t, s, ".", d, map[string]Attr{name(i): {Version: "v", Mtime: ptr(int64(i))}}, nil)
	}
	return d
}

func wantSome(t *testing.T, d *Dir, n int) {
	t.Helper()
	for i := range n {
		want(t, d, name(i), Attr{Version: "v", Mtime: ptr(int64(i))})
	}
}

func TestMerge(t *testing.T) {
	s := newMemory(t)
	d := saveSome(t, s, nil, 0, maxRecords)
	if n := len(listed(t, s, ".")); n != maxRecords {
		t.Fatalf("%d records", n)
	}
	d = saveSome(t, s, d, maxRecords, maxRecords+1)
	if n := len(listed(t, s, ".")); n != 1 {
		t.Errorf("%d records after merging", n)
	}
	wantSome(t, d, maxRecords+1)
	if got := load(t, s, ".", d); got != d {
		t.Error("what was merged is read again")
	}
	wantSome(t, load(t, s, ".", nil), maxRecords+1)
}

// What changes again and again leaves records of which nothing counts: they go
// in removals alone.
func TestCovered(t *testing.T) {
	s := faulty.Store(newMemory(t))
	var d *Dir
	for i := range 100 {
		d = mustSave(t, s, ".", d, map[string]Attr{"f": {Version: "v", Mtime: ptr(int64(i))}}, nil)
	}
	if n := s.Calls("Put"); n != 100 {
		t.Errorf("%d puts for 100 changes", n)
	}
	if n := len(d.records); n > maxRecords {
		t.Errorf("%d records", n)
	}
	want(t, load(t, s, ".", nil), "f", Attr{Version: "v", Mtime: ptr(int64(99))})
}

// unseen returns d as who has not looked for long has it.
func unseen(d *Dir) *Dir {
	old := *d
	old.seen = 0
	return &old
}

// Who unpacks one file after the other knows what there is to merge. Who has not
// looked for long looks, once.
func TestMergeWithoutListing(t *testing.T) {
	s := faulty.Store(newMemory(t))
	at := now()
	var d *Dir
	saveAll := func(from, to int, trust time.Duration) {
		t.Helper()
		for i := from; i < to; i++ {
			at++
			var err error
			if d, err = save(t.Context(), s, ".", d, map[string]Attr{name(i): {Version: "v", Mtime: ptr(int64(i))}}, nil, trust, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	saveAll(0, 500, maxTrust)
	if n := s.Calls("List"); n != 0 {
		t.Errorf("500 saves of who knows all records listed them %d times", n)
	}
	at += int64(maxTrust)
	saveAll(500, 1000, time.Hour)
	if n := s.Calls("List"); n != 1 {
		t.Errorf("500 saves after a pause listed the records %d times", n)
	}
	at += int64(time.Second)
	saveAll(1000, 1100, time.Second)
	if n := s.Calls("List"); n != 2 {
		t.Errorf("100 saves of who believes nothing longer than a second listed the records %d times", n-1)
	}
	wantSome(t, d, 1100)
	wantSome(t, load(t, s, ".", nil), 1100)
	if n := len(listed(t, s, ".")); n > maxRecords {
		t.Errorf("%d records", n)
	}
}

// A merge of records that another machine has merged already removes none of that
// one's, and loses nothing; it is noticed, so that the next merge looks.
func TestMergeOfWhatIsGone(t *testing.T) {
	s := faulty.Store(newMemory(t))
	a := saveSome(t, s, nil, 0, maxRecords)
	b := saveSome(t, s, load(t, s, ".", nil), maxRecords, maxRecords+1) // merges
	before := s.Calls("List")
	a = saveSome(t, s, a, maxRecords+1, maxRecords+2)
	if n := s.Calls("List"); n != before {
		t.Errorf("%d listings by who has just saved all that it knows", n-before)
	}
	wantSome(t, load(t, s, ".", nil), maxRecords+2)
	wantSome(t, load(t, s, ".", b), maxRecords+2)
	before = s.Calls("List")
	a = saveSome(t, s, a, maxRecords+2, 3*maxRecords)
	if n := s.Calls("List"); n == before {
		t.Error("nobody has looked what others did")
	}
	wantSome(t, a, 3*maxRecords)
	wantSome(t, load(t, s, ".", nil), 3*maxRecords)
}

// Two machines merge the same records at once. Each step of the one's is a chance
// for the other to do all of it, whether or not the one looks first.
func TestMergeAtOnce(t *testing.T) {
	for _, op := range []string{"List", "Open", "Put", "Remove", "none"} {
		for nth := 1; nth <= 20; nth++ {
			t.Run(fmt.Sprintf("%s %d", op, nth), func(t *testing.T) {
				mem := newMemory(t)
				a := saveSome(t, mem, nil, 0, maxRecords)
				b := load(t, mem, ".", nil)
				if nth > 10 {
					a = unseen(a)
				}
				nth := (nth-1)%10 + 1
				calls, merged := 0, false
				s := hooked{mem, func(called string) {
					if called != op {
						return
					}
					if calls++; calls == nth {
						merged = true
						b = saveSome(t, mem, b, maxRecords, maxRecords+1)
					}
				}}
				a = saveSome(t, s, a, maxRecords+1, maxRecords+2)
				if !merged {
					b = saveSome(t, mem, b, maxRecords, maxRecords+1)
				}
				for range 2 { // and after the next merge
					a, b = load(t, mem, ".", a), load(t, mem, ".", b)
					wantSome(t, a, maxRecords+2)
					wantSome(t, b, maxRecords+2)
					wantSome(t, load(t, mem, ".", nil), maxRecords+2)
					for range maxRecords {
						a = mustSave(t, mem, ".", a, map[string]Attr{"other": {}}, nil)
					}
				}
			})
		}
	}
}

// A merge that is cut short anywhere leaves what counts, and what it leaves too
// much goes with a later one.
func TestMergeCutShort(t *testing.T) {
	for _, c := range []struct {
		op  string
		nth int64
	}{{"List", 1}, {"Open", 1}, {"Put", 2}, {"RemoveMany", 1}} {
		for _, effect := range []faulty.Effect{faulty.Fail(errDown), faulty.LostAnswer(errDown)} {
			mem := newMemory(t)
			other := saveSome(t, mem, nil, maxRecords, maxRecords+1)
			d := unseen(saveSome(t, mem, nil, 0, maxRecords))
			s := faulty.Store(mem, faulty.On(faulty.And(faulty.OnOp(c.op), faulty.Nth(c.nth)), effect))
			d = mustSave(t, s, ".", d, map[string]Attr{name(maxRecords + 1): {Version: "v", Mtime: ptr(int64(maxRecords + 1))}}, nil)
			if s.Injected() != 1 {
				t.Fatalf("%v: %d faults", c, s.Injected())
			}
			for i := range maxRecords + 2 {
				if i != maxRecords { // the other machine's may not be known yet
					want(t, d, name(i), Attr{Version: "v", Mtime: ptr(int64(i))})
				}
			}
			wantSome(t, load(t, mem, ".", nil), maxRecords+2)
			s.SetRules()
			d = saveSome(t, s, d, 0, maxRecords)
			d = saveSome(t, s, d, 0, 1)
			if n := len(listed(t, mem, ".")); n > maxRecords {
				t.Errorf("%v: %d records", c, n)
			}
			wantSome(t, load(t, mem, ".", d), maxRecords+2)
			wantSome(t, load(t, mem, ".", other), maxRecords+2)
		}
	}
}

// Where nothing can be removed, records become more by one with each save, and
// not by what merging adds.
func TestNothingCanBeRemoved(t *testing.T) {
	s := faulty.Store(newMemory(t), faulty.On(faulty.OnOp("Remove"), faulty.Fail(errDown)))
	d := saveSome(t, s, nil, 0, 40)
	if n := len(listed(t, s, ".")); n > 41 {
		t.Errorf("%d records", n)
	}
	wantSome(t, load(t, s, ".", d), 40)
}

// A save that fails may have taken place; saved again, it wins over that.
func TestSaveAgain(t *testing.T) {
	for _, effect := range []faulty.Effect{faulty.Fail(errDown), faulty.LostAnswer(errDown), faulty.CutBody(3)} {
		s := faulty.Store(newMemory(t), faulty.On(faulty.And(faulty.OnOp("Put"), faulty.Nth(2)), effect))
		d := mustSave(t, s, ".", nil, every, nil)
		if _, err := Save(t.Context(), s, ".", d, map[string]Attr{"f": {Version: "1"}}, nil, maxTrust); err == nil {
			t.Error("no error")
		}
		d = mustSave(t, s, ".", d, map[string]Attr{"f": {Version: "2"}}, nil)
		for _, d := range []*Dir{d, load(t, s, ".", nil)} {
			want(t, d, "f", Attr{Version: "2"})
			want(t, d, "mode", every["mode"])
		}
	}
}

// A record that is cut off on its way is an error and not a damaged one; one
// that is gone makes Load look again.
func TestLoadFaults(t *testing.T) {
	mem := newMemory(t)
	d := saveSome(t, mem, nil, 0, maxRecords)
	es := listed(t, mem, ".")
	for _, effect := range []faulty.Effect{faulty.CutBody(5), faulty.CutBody(0), faulty.Fail(errDown), faulty.LostAnswer(errDown)} {
		s := faulty.Store(mem, faulty.On(faulty.And(faulty.OnOp("Open"), faulty.Nth(2)), effect))
		if got, err := Load(t.Context(), s, ".", es, time.Time{}, nil); err == nil {
			t.Errorf("loaded with %v skipped", got.Skipped())
		}
	}
	saveSome(t, mem, d, maxRecords, maxRecords+1)
	got, err := Load(t.Context(), mem, ".", es, time.Time{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantSome(t, got, maxRecords+1)
	// All records may be gone, and the directory too.
	for _, e := range got.Records(".") {
		if err := mem.Remove(t.Context(), e.Name, backends.If{Match: e.Version}); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := Load(t.Context(), mem, ".", es, time.Time{}, nil); err != nil || got.Len() != 0 {
		t.Errorf("%d, %v", got.Len(), err)
	}
	// A store whose listings show what it hasn't is not asked forever.
	ghosts := faulty.Store(mem)
	ghosts.SetRules(faulty.On(faulty.OnOp("Open"), faulty.Fail(backends.ErrChanged)))
	saveSome(t, mem, nil, 0, 1)
	if _, err := Load(t.Context(), ghosts, ".", listed(t, mem, "."), time.Time{}, nil); !errors.Is(err, backends.ErrChanged) {
		t.Errorf("%v", err)
	}
}

// What is gone for an hour is dropped when records are merged, but not while an
// older entry of the name is anywhere.
func TestDrop(t *testing.T) {
	const hour = int64(time.Hour)
	s := newMemory(t)
	at := int64(1000 * hour)
	there := map[string]backends.Version{"stays": "v"}
	alive := func(name string, v backends.Version) bool { w, ok := there[name]; return ok && w == v }
	var d *Dir
	step := func(pause int64, changes map[string]Attr) {
		t.Helper()
		at += pause
		var err error
		if d, err = save(t.Context(), s, ".", d, changes, alive, maxTrust, at); err != nil {
			t.Fatal(err)
		}
	}
	fill := func() { // so that there is something to merge
		t.Helper()
		for i := range maxRecords {
			there[name(i)] = "v"
			step(1, map[string]Attr{name(i): {Version: "v"}})
		}
	}
	has := func(name string) bool {
		for _, h := range d.index {
			if h.name == name {
				return true
			}
		}
		return false
	}
	step(0, map[string]Attr{"stays": {Version: "v"}, "gone": {Version: "v"}, "changed": {Version: "v"}, "removed": {Version: "v"}})
	there["changed"] = "w"
	step(1, map[string]Attr{"removed": {Removed: true}})
	fill()
	for _, name := range []string{"stays", "gone", "changed", "removed"} {
		if !has(name) {
			t.Errorf("%s is dropped within the hour", name)
		}
	}
	at += hour + 1
	fill()
	for i := 0; has("gone") && i < 5; i++ {
		fill()
	}
	for name, want := range map[string]bool{"stays": true, "gone": false, "changed": false, "removed": false} {
		if has(name) != want {
			t.Errorf("%s is known: %v", name, !want)
		}
	}
	wantNothing(t, load(t, s, ".", nil), "removed", "v")

	// Nothing is left at all.
	clear(there)
	for range 3 {
		at += 2 * hour
		for range maxRecords {
			step(1, map[string]Attr{"f": {Removed: true}})
		}
	}
	at += 2 * hour
	for range maxRecords {
		step(1, map[string]Attr{"g": {Removed: true}})
	}
	if len(d.index) > 2 {
		t.Errorf("%d entries of nothing", len(d.index))
	}
}

// A record in a format of the future may have an older entry: nothing is
// dropped beside it.
func TestNoDropBesideOtherFormat(t *testing.T) {
	s := newMemory(t)
	put(t, s, newRecordName(1), string(bad["newer"]))
	d := load(t, s, ".", nil)
	at := now() - 10*int64(time.Hour)
	d, err := save(t.Context(), s, ".", d, map[string]Attr{"f": {Removed: true}}, nil, maxTrust, at)
	if err != nil {
		t.Fatal(err)
	}
	d = saveSome(t, s, d, 0, 3*maxRecords)
	if d.index[len(d.index)-1].name != name(3*maxRecords-1) || len(d.index) != 3*maxRecords+1 {
		t.Errorf("%d entries", len(d.index))
	}
}

// A merged record comes after what it replaces, also in a listing, and also if
// the clock of the machine that merges is behind.
func TestMergedComesLater(t *testing.T) {
	s := newMemory(t)
	d := saveSome(t, s, nil, 0, maxRecords)
	last := listed(t, s, ".")[maxRecords-1].Name
	at := now() - 24*int64(time.Hour)
	d, err := save(t.Context(), s, ".", d, map[string]Attr{name(maxRecords): {Version: "v", Mtime: ptr(int64(maxRecords))}}, nil, maxTrust, at)
	if err != nil {
		t.Fatal(err)
	}
	wantSome(t, d, maxRecords+1)
	own := ""
	for _, e := range listed(t, s, ".") {
		own = e.Name
		if e.Name < last {
			t.Errorf("%s comes before %s, which it replaces", e.Name, last)
		}
	}
	// Nor are two merged records of one machine in another order than made.
	saveSome(t, s, d, 0, maxRecords)
	for _, e := range listed(t, s, ".") {
		if e.Name < own {
			t.Errorf("%s comes before %s", e.Name, own)
		}
	}
}
