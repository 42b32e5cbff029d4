package cache_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/faulty"
	"github.com/agentfs/agentfs/backends/memory"
	"github.com/agentfs/agentfs/backends/memory/memorytest"
	"github.com/agentfs/agentfs/cache"
)

const smallPart = 64 << 10

// newParts returns a memory store whose parts may be small.
func newParts(t *testing.T) *memory.Store {
	t.Helper()
	return memorytest.New(t, memory.Config{NoTmpfs: true, Size: 1 << 30, MinPart: smallPart, GoodPart: 2 * smallPart})
}

// meter is a store that counts the bytes that come and go.
type meter struct {
	backends.Store
	up           backends.Uploader
	in, out      atomic.Int64
	beforeCopies atomic.Pointer[func()] // called before a part is copied
}

func newMeter(s backends.Store, up backends.Uploader) *meter { return &meter{Store: plain{s}, up: up} }

func (m *meter) reset() (in, out int64) { return m.in.Swap(0), m.out.Swap(0) }

func (m *meter) Put(ctx context.Context, name string, body *io.SectionReader, o backends.PutOptions) (backends.Entry, error) {
	m.in.Add(body.Size())
	return m.Store.Put(ctx, name, body, o)
}

func (m *meter) Open(ctx context.Context, name string, r backends.Range, cond backends.If) (io.ReadCloser, backends.Entry, error) {
	rc, e, err := m.Store.Open(ctx, name, r, cond)
	if err == nil {
		n := e.Size - r.Off
		if r.Len > 0 {
			n = min(n, r.Len)
		}
		m.out.Add(n)
	}
	return rc, e, err
}

// Copy copies inside the store, which has only parts for that.
func (m *meter) Copy(ctx context.Context, from string, src backends.If, to string, o backends.PutOptions) (backends.Entry, error) {
	if f := m.beforeCopies.Load(); f != nil {
		(*f)()
	}
	u, err := m.up.BeginUpload(ctx, to, o)
	if err != nil {
		return backends.Entry{}, err
	}
	p, err := u.Copy(ctx, 1, from, src, backends.Range{})
	if err == nil {
		var e backends.Entry
		if e, err = u.Complete(ctx, []backends.Part{p}); err == nil {
			return e, nil
		}
	}
	return backends.Entry{}, errors.Join(err, u.Abort(ctx))
}

func (m *meter) BeginUpload(ctx context.Context, name string, o backends.PutOptions) (backends.Upload, error) {
	u, err := m.up.BeginUpload(ctx, name, o)
	return metered{u, m}, err
}

func (m *meter) ResumeUpload(name, id string, o backends.PutOptions) backends.Upload {
	return m.up.ResumeUpload(name, id, o)
}

func (m *meter) Uploads(ctx context.Context) iter.Seq2[backends.UploadInfo, error] {
	return m.up.Uploads(ctx)
}

func (m *meter) PartLimits() backends.PartLimits { return m.up.PartLimits() }

type metered struct {
	backends.Upload
	m *meter
}

func (u metered) Put(ctx context.Context, n int, body *io.SectionReader) (backends.Part, error) {
	u.m.in.Add(body.Size())
	return u.Upload.Put(ctx, n, body)
}

func (u metered) Copy(ctx context.Context, n int, from string, src backends.If, r backends.Range) (backends.Part, error) {
	if f := u.m.beforeCopies.Load(); f != nil {
		(*f)()
	}
	return u.Upload.Copy(ctx, n, from, src, r)
}

// What was closed while another close was being sent is sent after it, also
// where a third change has taken away what told which bytes the store has.
func TestClosedWhileSending(t *testing.T) {
	m := newParts(t)
	s := newMeter(m, m)
	c := newCache(t, s, cache.Config{Durability: "writeback", Grace: time.Millisecond})
	model := []byte(letters(2<<20, 1))
	put(t, m, "f", string(model))
	n, _ := lookup(t, c, "f")
	h := openFile(t, c, n, os.O_RDWR)
	read := func(off, n int) {
		t.Helper()
		p := make([]byte, n)
		if k, err := h.ReadAt(t.Context(), p, int64(off)); err != nil || k != n {
			t.Fatal(k, err)
		}
	}
	write := func(off int, text string) {
		t.Helper()
		copy(model[off:], text)
		writeAt(t, h, text, int64(off))
		if err := h.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	read(512<<10, 128<<10) // is here, and with the store
	sending, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	wait := func() {
		once.Do(func() { close(sending) })
		<-goOn
	}
	s.beforeCopies.Store(&wait)
	write(0, "first")
	<-sending
	write(1<<20, "second")
	copy(model, "third")
	writeAt(t, h, "third", 0)
	if _, err := c.SetAttr(t.Context(), n, backends.AttrChange{Set: backends.SetSize, Size: 300 << 10}); err != nil {
		t.Fatal(err)
	}
	model = model[:300<<10]
	close(goOn)
	for end := time.Now().Add(10 * time.Second); c.State().Stats.Uploads < 2 && len(c.State().Conflicts) == 0; {
		if time.Now().After(end) {
			t.Fatal("the second close is not sent")
		}
		time.Sleep(time.Millisecond)
	}
	if err := h.Sync(t.Context()); err != nil {
		t.Error(err)
	}
	if get(t, m, "f") != string(model) {
		t.Error("the store has something else")
	}
	if err := h.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if x := c.State().Conflicts; len(x) > 0 {
		t.Errorf("conflicts: %+v", x)
	}
}

// begun returns the uploads that nobody has ended.
func begun(t *testing.T, s backends.Store) (all []string) {
	t.Helper()
	for u, err := range backends.Uploads(t.Context(), s) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, u.Name)
	}
	return all
}

func noUploads(t *testing.T, s backends.Store) {
	t.Helper()
	end := time.Now().Add(5 * time.Second)
	for len(begun(t, s)) > 0 && time.Now().Before(end) {
		time.Sleep(5 * time.Millisecond)
	}
	if left := begun(t, s); len(left) > 0 {
		t.Errorf("uploads are left: %v", left)
	}
}

func letters(n int, seed uint64) string {
	r := rand.New(rand.NewPCG(seed, 9))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('a' + r.IntN(26))
	}
	return string(b)
}

func syncFile(t *testing.T, h backends.File) {
	t.Helper()
	if err := h.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// What is sent of a changed file is what was changed and what a part needs
// beside it, whether the rest is here or not.
func TestChangeSendsLittle(t *testing.T) {
	const size = 2 << 20
	for _, where := range []string{"far", "here", "written"} {
		t.Run(where, func(t *testing.T) {
			m := newParts(t)
			s := newMeter(m, m)
			c := newCache(t, s, cache.Config{TTL: time.Hour})
			model := letters(size, 1)
			if where == "written" {
				create(t, c, "f", model)
			} else {
				put(t, m, "f", model)
			}
			n, _ := lookup(t, c, "f")
			h := openFile(t, c, n, os.O_RDWR)
			if where == "here" {
				readAll(t, h, size)
			}
			change := func(what string, off int64, text string, most int64) {
				t.Helper()
				s.reset()
				writeAt(t, h, text, off)
				syncFile(t, h)
				if grow := int(off) + len(text) - len(model); grow > 0 {
					model += strings.Repeat("\x00", grow)
				}
				model = model[:off] + text + model[int(off)+len(text):]
				in, out := s.reset()
				if in > most || out > most {
					t.Errorf("%s of %d bytes: %d bytes were sent, %d fetched", what, len(text), in, out)
				}
				if get(t, m, "f") != model {
					t.Fatalf("%s: the store has something else", what)
				}
			}
			change("an append", size, letters(1000, 2), 1000)
			change("an append", size+1000, letters(100, 3), 1100)
			change("a change", size/2, letters(10, 4), smallPart)
			change("a change at the beginning", 0, letters(10, 5), smallPart)
			change("a change at the end", size-10, letters(10, 6), smallPart+1100)
			change("a large change", size/4, letters(500_000, 7), 500_000)
			if got := readAll(t, h, len(model)+1); got != model {
				t.Error("it reads as something else")
			}
			if err := closeFile(t, h); err != nil {
				t.Error(err)
			}
			noUploads(t, m)
		})
	}
}

// A store that can't make a file of parts, or not of copies, gets the whole.
func TestPartsUnsupported(t *testing.T) {
	for _, op := range []string{"BeginUpload", "UploadCopy"} {
		t.Run(op, func(t *testing.T) {
			m := newParts(t)
			bad := faulty.Store(m, faulty.On(faulty.OnOp(op), faulty.Fail(errors.ErrUnsupported)))
			c := newCache(t, bad, cache.Config{TTL: time.Hour})
			model := letters(1<<20, 1)
			put(t, m, "f", model)
			n, _ := lookup(t, c, "f")
			h := openFile(t, c, n, os.O_RDWR)
			for i := range 3 {
				text := fmt.Sprint("more", i)
				writeAt(t, h, text, int64(len(model)))
				model += text
				syncFile(t, h)
				if get(t, m, "f") != model {
					t.Fatal("the store has something else")
				}
			}
			if got := bad.Calls(op); got > 3 {
				t.Errorf("%d calls of %s", got, op)
			}
			if err := closeFile(t, h); err != nil {
				t.Error(err)
			}
			noUploads(t, m)
		})
	}
}

// Of an upload whose end nobody has heard of, it is found out what became of
// it: nothing is lost, and nobody's change is taken for somebody else's.
func TestPartsLostAnswers(t *testing.T) {
	for _, op := range []string{"BeginUpload", "UploadPart", "UploadCopy", "Complete", "Abort"} {
		for _, again := range []bool{false, true} {
			t.Run(fmt.Sprint(op, ",changed again=", again), func(t *testing.T) {
				m := newParts(t)
				bad := faulty.Store(m)
				c := newCache(t, bad, cache.Config{TTL: time.Hour})
				model := letters(1<<20, 1)
				put(t, m, "f", model)
				n, _ := lookup(t, c, "f")
				h := openFile(t, c, n, os.O_RDWR)
				rules := []faulty.Rule{faulty.On(faulty.And(faulty.OnOp(op), faulty.Nth(1)), faulty.LostAnswer(errDown))}
				if op == "Abort" {
					rules = append(rules, faulty.On(faulty.And(faulty.OnOp("UploadPart"), faulty.Nth(1)), faulty.Fail(errDown)))
				}
				bad.SetRules(rules...)
				writeAt(t, h, "more", int64(len(model)))
				model += "more"
				if err := h.Sync(t.Context()); err == nil {
					t.Error("nothing has failed")
				}
				if again {
					writeAt(t, h, "again", 500_000)
					model = model[:500_000] + "again" + model[500_005:]
				}
				syncFile(t, h)
				if get(t, m, "f") != model || readAll(t, h, len(model)+1) != model {
					t.Error("the store has something else")
				}
				if err := closeFile(t, h); err != nil {
					t.Error(err)
				}
				if x := c.State().Conflicts; len(x) > 0 {
					t.Errorf("conflicts with nobody: %+v", x)
				}
				if op != "BeginUpload" {
					noUploads(t, m)
				}
			})
		}
	}
}

// Somebody else replaces the object while parts are copied of it: theirs keeps
// the name, and nothing that is shown is made up.
func TestPartsSourceChanged(t *testing.T) {
	for _, here := range []bool{false, true} {
		t.Run(fmt.Sprint("here=", here), func(t *testing.T) {
			m := newParts(t)
			s := newMeter(m, m)
			c := newCache(t, s, cache.Config{TTL: 0})
			model := letters(1<<20, 1)
			var h backends.File
			if here {
				var err error
				if _, _, h, err = c.Create(t.Context(), c.Root(), "f", os.O_RDWR, backends.CreateAttr{Mode: 0o644}); err != nil {
					t.Fatal(err)
				}
				writeAt(t, h, model, 0)
				if err := h.Sync(t.Context()); err != nil {
					t.Fatal(err)
				}
			} else {
				put(t, m, "f", model)
				n, _ := lookup(t, c, "f")
				h = openFile(t, c, n, os.O_RDWR)
			}
			var once sync.Once
			theirs := func() { once.Do(func() { put(t, m, "f", "theirs") }) }
			s.beforeCopies.Store(&theirs)
			writeAt(t, h, "more", int64(len(model)))
			if err := h.Sync(t.Context()); !errors.Is(err, backends.ErrChanged) {
				t.Errorf("sync: %v", err)
			}
			if err := h.Close(t.Context()); err != nil && !errors.Is(err, backends.ErrChanged) {
				t.Error(err)
			}
			if got := get(t, m, "f"); got != "theirs" {
				t.Errorf("the store has %.20q", got)
			}
			x := c.State().Conflicts
			if len(x) != 1 {
				t.Fatalf("conflicts: %+v", x)
			}
			if here {
				if get(t, m, x[0].Ours) != model+"more" {
					t.Error("ours is not what was written")
				}
			} else if b, err := os.ReadFile(x[0].Ours); err != nil || !strings.HasSuffix(string(b), "more") {
				t.Errorf("what was written is not kept: %v", err)
			}
			noUploads(t, m)
		})
	}
}

// What an earlier process has begun is given up by the next one, and nothing
// else.
func TestPartsLeftByOthers(t *testing.T) {
	m := newParts(t)
	if _, err := m.BeginUpload(t.Context(), "others", backends.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	bad := faulty.Store(m)
	dir := t.TempDir()
	c, err := cache.New(t.Context(), bad, cache.Config{Dir: dir, Identity: "test:" + t.Name(), TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	model := letters(1<<20, 1)
	put(t, m, "f", model)
	n, _ := lookup(t, c, "f")
	h := openFile(t, c, n, os.O_RDWR)
	bad.SetRules(faulty.On(faulty.OnOp("UploadPart", "Abort"), faulty.Fail(errDown)))
	writeAt(t, h, "more", int64(len(model)))
	if err := h.Sync(t.Context()); err == nil {
		t.Error("nothing has failed")
	}
	if got := begun(t, m); len(got) != 2 {
		t.Errorf("begun are %v", got)
	}
	if err := h.Close(t.Context()); err != nil {
		t.Log(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := c.Close(ctx); err == nil {
		t.Error("all is stored")
	}
	bad.SetRules()
	c = newCache(t, bad, cache.Config{Dir: dir, TTL: time.Hour})
	if err := c.SyncDir(t.Context(), c.Root()); err != nil {
		t.Error(err)
	}
	if get(t, m, "f") != model+"more" {
		t.Error("the store has something else")
	}
	for end := time.Now().Add(5 * time.Second); len(begun(t, m)) > 1 && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	if got := fmt.Sprint(begun(t, m)); got != "[others]" {
		t.Errorf("begun are %s, want [others]", got)
	}
}

// unreliable lets fail percent of the requests fail, before or after they were
// carried out or halfway.
func unreliable(seed uint64, fail int) []faulty.Rule {
	if fail == 0 {
		return nil
	}
	p := float64(fail) / 100
	return []faulty.Rule{
		faulty.On(faulty.Probability(seed, p), faulty.Fail(errDown)),
		faulty.On(faulty.And(faulty.Mutating(), faulty.Probability(seed+1, p)), faulty.LostAnswer(errDown)),
		faulty.On(faulty.And(faulty.OnOp("Open", "Put", "UploadPart"), faulty.Probability(seed+2, p)), faulty.CutBody(5000)),
	}
}

// open puts content into the store and opens the file of a cache over s, which
// is that store and may fail.
func (x *byteFile) open(s backends.Store, content string) {
	x.t.Helper()
	x.c = newCache(x.t, s, cache.Config{TTL: time.Hour, Budget: cache.NewBudget(12 << 20)})
	x.model = []byte(content)
	put(x.t, x.store, "f", content)
	x.insist("lookup", func() (err error) {
		x.n, _, err = x.c.Lookup(x.t.Context(), x.c.Root(), "f")
		return err
	})
	x.h = openFile(x.t, x.c, x.n, os.O_RDWR)
}

// overParts runs a test of a file called f over stores of parts, two of three
// of which fail at times and don't always say what they did; then the file has
// to be what its model says. rules come before the faults.
func overParts(t *testing.T, rules func(fail int) []faulty.Rule, content func(x *byteFile, seed uint64) string, do func(x *byteFile), report func(t *testing.T, bad *faulty.Faulty)) {
	base := uint64(time.Now().UnixNano())
	for i, fail := range []int{0, 3, 3} {
		t.Run(fmt.Sprintf("%d,fail=%d%%", i, fail), func(t *testing.T) {
			t.Parallel()
			seed := base + uint64(i)
			t.Logf("seed %d", seed)
			m := newParts(t)
			bad := faulty.Store(m, append(rules(fail), unreliable(seed, fail)...)...)
			x := &byteFile{t: t, r: rand.New(rand.NewPCG(seed, 1)), store: m, fail: fail}
			x.open(bad, content(x, seed))
			do(x)
			x.check(0, len(x.model)+10)
			bad.SetRules()
			x.end()
			report(t, bad)
		})
	}
}

// A file that is sent in parts is an array of bytes too, with a store that
// fails at times and doesn't always say what it did.
func TestPartsAgainstBytes(t *testing.T) {
	steps := 150
	if testing.Short() {
		steps = 25
	}
	overParts(t,
		func(int) []faulty.Rule { return nil },
		func(x *byteFile, seed uint64) string { return letters(2<<20+x.r.IntN(1<<20), seed) },
		func(x *byteFile) {
			for range steps {
				x.step()
			}
		},
		func(t *testing.T, bad *faulty.Faulty) {
			t.Logf("%d uploads, %d copied parts", bad.Calls("Complete"), bad.Calls("UploadCopy"))
		})
}
