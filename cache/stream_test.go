package cache_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/faulty"
	"github.com/agentfs/agentfs/backends/memory"
	"github.com/agentfs/agentfs/cache"
)

const streamPart = 2 * smallPart // what newParts says is good

// growing is a file that is written from its beginning to its end.
type growing struct {
	t     *testing.T
	m     *memory.Store
	bad   *faulty.Faulty
	c     *cache.FS
	h     backends.File
	model []byte
}

func newGrowing(t *testing.T, cfg cache.Config, rules ...faulty.Rule) *growing {
	t.Helper()
	g := &growing{t: t, m: newParts(t)}
	g.bad = faulty.Store(g.m, rules...)
	cfg.TTL = time.Hour
	g.c = newCache(t, g.bad, cfg)
	g.h = newFile(t, g.c, g.c.Root(), "f")
	return g
}

// write appends n bytes, a little at a time.
func (g *growing) write(n int) {
	g.t.Helper()
	text := letters(n, uint64(len(g.model)))
	for off := 0; off < n; off += 32 << 10 {
		writeAt(g.t, g.h, text[off:min(n, off+32<<10)], int64(len(g.model)+off))
	}
	g.model = append(g.model, text...)
}

// change overwrites what is there.
func (g *growing) change(off int, text string) {
	g.t.Helper()
	writeAt(g.t, g.h, text, int64(off))
	copy(g.model[off:], text)
}

// sent waits until at least n parts were sent.
func (g *growing) sent(n int) {
	g.t.Helper()
	end := time.Now().Add(10 * time.Second)
	for g.bytes() < int64(n)*streamPart && time.Now().Before(end) {
		time.Sleep(time.Millisecond)
	}
	if got := g.bytes(); got < int64(n)*streamPart {
		g.t.Fatalf("%d parts were sent of %d bytes in all, want %d parts", g.bad.Calls("UploadPart"), got, n)
	}
}

func (g *growing) bytes() int64 { return g.c.State().Stats.UploadBytes }

func (g *growing) sync() {
	g.t.Helper()
	syncFile(g.t, g.h)
	g.stored("f")
}

func (g *growing) stored(name string) {
	g.t.Helper()
	if got := get(g.t, g.m, name); got != string(g.model) {
		g.t.Fatalf("%s: the store has %d bytes, not the %d that were written", name, len(got), len(g.model))
	}
}

// end closes the file and looks for what should not be left.
func (g *growing) end() {
	g.t.Helper()
	if err := closeFile(g.t, g.h); err != nil {
		g.t.Error(err)
	}
	if x := g.c.State(); len(x.Conflicts) > 0 || len(x.Pending) > 0 {
		g.t.Errorf("conflicts: %+v, pending: %+v", x.Conflicts, x.Pending)
	}
	noUploads(g.t, g.m)
}

// A file that grows is sent while it does: what is left for fsync is the last
// part.
func TestGrowingIsSent(t *testing.T) {
	g := newGrowing(t, cache.Config{})
	g.write(20*streamPart + 100)
	g.sent(20)
	if n := g.bad.Calls("UploadPart"); n != 20 {
		t.Errorf("%d parts were sent before fsync, want 20", n)
	}
	g.sync()
	if p, c, puts := g.bad.Calls("UploadPart"), g.bad.Calls("Complete"), g.bad.Calls("Put"); p != 21 || c != 1 || puts != 0 {
		t.Errorf("%d parts, %d completions, %d puts", p, c, puts)
	}
	if got := g.bytes(); got != int64(len(g.model)) {
		t.Errorf("%d bytes were sent of %d", got, len(g.model))
	}
	g.end()
}

// A change of what was sent sends that part again, and no other.
func TestGrowingIsChanged(t *testing.T) {
	g := newGrowing(t, cache.Config{})
	g.write(20 * streamPart)
	g.sent(20)
	g.change(10, "header")
	g.change(5*streamPart-3, "over two")
	if err := g.h.(backends.Allocator).Allocate(t.Context(), 9*streamPart+100, 100, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE); err != nil {
		t.Fatal(err)
	}
	clear(g.model[9*streamPart+100:][:100])
	g.write(streamPart) // behind a hole it is not sent early
	g.sync()
	if p, c := g.bad.Calls("UploadPart"), g.bad.Calls("Complete"); p != 21+4 || c != 1 {
		t.Errorf("%d parts, %d completions", p, c)
	}
	g.end()
}

// What is written after fsync has begun, before the parts are there, is not in
// what it stores.
func TestGrowingUnderSeal(t *testing.T) {
	g := newGrowing(t, cache.Config{})
	g.bad.SetRules(faulty.On(faulty.OnOp("UploadPart"), faulty.Delay(50*time.Millisecond)))
	g.write(12 * streamPart)
	done := make(chan error, 1)
	go func() { done <- g.h.Sync(t.Context()) }()
	time.Sleep(10 * time.Millisecond)
	for k := range 12 {
		writeAt(t, g.h, "later", int64(k*streamPart))
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	// All of them or none: a seal is one moment, and the writes come in order.
	got := get(t, g.m, "f")
	late := 0
	for k := range 12 {
		if strings.HasPrefix(got[k*streamPart:], "later") {
			if late++; late != k+1 {
				t.Fatalf("a later write is there, an earlier one is not")
			}
			copy(g.model[k*streamPart:], "later")
		}
	}
	g.stored("f")
	for k := range 12 {
		copy(g.model[k*streamPart:], "later")
	}
	g.bad.SetRules()
	g.sync()
	g.end()
}

// Whatever happens to the name or to what was written, the upload ends, and the
// store has what is there.
func TestGrowingEndsOtherwise(t *testing.T) {
	for what, do := range map[string]func(g *growing){
		"renamed": func(g *growing) {
			if err := g.c.Rename(g.t.Context(), g.c.Root(), "f", g.c.Root(), "g", 0); err != nil {
				g.t.Fatal(err)
			}
		},
		"renamed and back": func(g *growing) {
			for _, n := range [][2]string{{"f", "g"}, {"g", "f"}} {
				if err := g.c.Rename(g.t.Context(), g.c.Root(), n[0], g.c.Root(), n[1], 0); err != nil {
					g.t.Fatal(err)
				}
			}
		},
		"its directory renamed": func(g *growing) {
			d, _, err := g.c.Mkdir(g.t.Context(), g.c.Root(), "d", backends.CreateAttr{Mode: 0o755})
			if err != nil {
				g.t.Fatal(err)
			}
			if err := g.c.Rename(g.t.Context(), g.c.Root(), "f", d, "f", 0); err != nil {
				g.t.Fatal(err)
			}
			calls := g.bad.Calls("UploadPart")
			g.write(12 * streamPart)
			for g.bad.Calls("UploadPart") < calls+3 {
				time.Sleep(time.Millisecond)
			}
			if err := g.c.Rename(g.t.Context(), g.c.Root(), "d", g.c.Root(), "e", 0); err != nil {
				g.t.Fatal(err)
			}
		},
		"unlinked": func(g *growing) {
			if err := g.c.Unlink(g.t.Context(), g.c.Root(), "f"); err != nil {
				g.t.Fatal(err)
			}
		},
		"replaced": func(g *growing) {
			h := newFile(g.t, g.c, g.c.Root(), "h")
			writeAt(g.t, h, "other", 0)
			if err := closeFile(g.t, h); err != nil {
				g.t.Fatal(err)
			}
			if err := g.c.Rename(g.t.Context(), g.c.Root(), "h", g.c.Root(), "f", 0); err != nil {
				g.t.Fatal(err)
			}
		},
		"truncated": func(g *growing) {
			n, _ := lookup(g.t, g.c, "f")
			if _, err := g.c.SetAttr(g.t.Context(), n, backends.AttrChange{Set: backends.SetSize}); err != nil {
				g.t.Fatal(err)
			}
			g.model = nil
			g.write(1000)
		},
		"cut": func(g *growing) {
			n, _ := lookup(g.t, g.c, "f")
			if _, err := g.c.SetAttr(g.t.Context(), n, backends.AttrChange{Set: backends.SetSize, Size: 10*streamPart - 7}); err != nil {
				g.t.Fatal(err)
			}
			g.model = g.model[:10*streamPart-7]
		},
		"rewritten": func(g *growing) {
			g.change(0, letters(len(g.model), 77))
		},
		"closed": func(*growing) {},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			g := newGrowing(t, cache.Config{})
			g.write(11 * streamPart)
			g.sent(11)
			do(g)
			switch what {
			case "renamed":
				syncFile(t, g.h)
				g.stored("g")
			case "its directory renamed":
				syncFile(t, g.h)
				g.stored("e/f")
			case "unlinked", "replaced":
				noUploads(t, g.m) // although it is open
			default:
				g.sync()
			}
			g.end()
			if what == "replaced" && get(t, g.m, "f") != "other" {
				t.Error("the store has something else")
			}
		})
	}
}

// A name over which somebody else has put something meanwhile is a conflict, as
// ever.
func TestGrowingMeetsOthers(t *testing.T) {
	g := newGrowing(t, cache.Config{})
	g.write(11 * streamPart)
	g.sent(11)
	put(t, g.m, "f", "theirs")
	if err := g.h.Sync(t.Context()); !errors.Is(err, backends.ErrChanged) {
		t.Errorf("sync: %v", err)
	}
	if err := g.h.Close(t.Context()); err != nil && !errors.Is(err, backends.ErrChanged) {
		t.Error(err)
	}
	x := g.c.State().Conflicts
	if len(x) != 1 || get(t, g.m, "f") != "theirs" {
		t.Fatalf("conflicts: %+v", x)
	}
	g.stored(x[0].Ours)
	noUploads(t, g.m)
}

// A file of the store that is cut to nothing and written anew replaces what is
// there.
func TestGrowingReplacesStored(t *testing.T) {
	m := newParts(t)
	put(t, m, "f", letters(500_000, 3))
	bad := faulty.Store(m)
	c := newCache(t, bad, cache.Config{TTL: time.Hour})
	n, _ := lookup(t, c, "f")
	g := &growing{t: t, m: m, bad: bad, c: c, h: openFile(t, c, n, os.O_RDWR|os.O_TRUNC)}
	g.write(10 * streamPart)
	g.sent(10)
	g.sync()
	if n := bad.Calls("UploadPart"); n != 10 {
		t.Errorf("%d parts were sent, want 10", n)
	}
	g.write(streamPart)
	g.sync() // in the ordinary way: the rest is copied
	g.end()
}

// What fails is made good by fsync, in one way or the other.
func TestGrowingFails(t *testing.T) {
	nth := func(op string, n int64, e faulty.Effect) faulty.Rule {
		return faulty.On(faulty.And(faulty.OnOp(op), faulty.Nth(n)), e)
	}
	for name, x := range map[string]struct {
		rules []faulty.Rule
		fails bool // the first fsync may
	}{
		"no upload":            {[]faulty.Rule{faulty.On(faulty.OnOp("BeginUpload"), faulty.Fail(errors.ErrUnsupported))}, false},
		"begin fails":          {[]faulty.Rule{nth("BeginUpload", 1, faulty.Fail(errDown))}, false},
		"begin's answer lost":  {[]faulty.Rule{nth("BeginUpload", 1, faulty.LostAnswer(errDown))}, false},
		"a part fails":         {[]faulty.Rule{nth("UploadPart", 3, faulty.Fail(errDown))}, false},
		"a part's answer lost": {[]faulty.Rule{nth("UploadPart", 3, faulty.LostAnswer(errDown))}, false},
		"all parts fail":       {[]faulty.Rule{faulty.On(faulty.OnOp("UploadPart"), faulty.Fail(errDown))}, false},
		"the last part fails":  {[]faulty.Rule{nth("UploadPart", 11, faulty.Fail(errDown))}, false},
		"Complete fails":       {[]faulty.Rule{nth("Complete", 1, faulty.Fail(errDown))}, true},
		"Complete's is lost":   {[]faulty.Rule{nth("Complete", 1, faulty.LostAnswer(errDown))}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// With a short grace, an attempt in the background may have met the fault first.
			g := newGrowing(t, cache.Config{Grace: time.Minute}, x.rules...)
			g.write(10*streamPart + 1)
			time.Sleep(20 * time.Millisecond)
			if err := g.h.Sync(t.Context()); (err != nil) != x.fails {
				t.Errorf("sync: %v", err)
			}
			if x.fails {
				syncFile(t, g.h)
			}
			g.stored("f")
			if err := closeFile(t, g.h); err != nil {
				t.Error(err)
			}
			if st := g.c.State(); len(st.Conflicts) > 0 || len(st.Pending) > 0 {
				t.Errorf("%+v", st)
			}
			if name != "begin's answer lost" {
				noUploads(t, g.m)
			}
		})
	}
}

// An upload that the store has given up is no reason for fsync to fail.
func TestGrowingUploadIsGone(t *testing.T) {
	g := newGrowing(t, cache.Config{})
	g.write(10*streamPart + 1)
	g.sent(10)
	for u, err := range g.m.Uploads(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if err := g.m.ResumeUpload(u.Name, u.ID, backends.PutOptions{}).Abort(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	g.sync()
	g.end()
}

// A mount that ends leaves no upload behind, whether the store takes the file or
// not.
func TestGrowingAtTheEnd(t *testing.T) {
	for _, fail := range []bool{false, true} {
		t.Run(fmt.Sprint("fails=", fail), func(t *testing.T) {
			m := newParts(t)
			bad := faulty.Store(m)
			c, err := cache.New(t.Context(), bad, cache.Config{Dir: t.TempDir(), Identity: "test:" + t.Name(), TTL: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			g := &growing{t: t, m: m, bad: bad, c: c, h: newFile(t, c, c.Root(), "f")}
			g.write(10 * streamPart)
			g.sent(10)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if fail {
				bad.SetRules(faulty.On(faulty.OnOp("Complete", "Put"), faulty.Fail(errDown)))
				ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
				defer cancel()
			}
			err = c.Close(ctx)
			if (err != nil) != fail {
				t.Errorf("Close: %v", err)
			}
			if !fail {
				g.stored("f")
			}
			if left := begun(t, m); len(left) > 0 {
				t.Errorf("uploads are left: %v", left)
			}
			// Too late for anything, refused or not.
			late, stop := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer stop()
			_, _ = g.h.WriteAt(late, make([]byte, 5*streamPart), 10*streamPart)
			if left := begun(t, m); len(left) > 0 {
				t.Errorf("uploads are left: %v", left)
			}
		})
	}
}

// What a killed process has begun, the next one gives up; the content is what was
// written.
func TestGrowingThenKill(t *testing.T) {
	m := newParts(t)
	bad := faulty.Store(m)
	dir, after := t.TempDir(), t.TempDir()
	c, err := cache.New(t.Context(), bad, cache.Config{Dir: dir, Identity: "test:" + t.Name(), TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	g := &growing{t: t, m: m, bad: bad, c: c, h: newFile(t, c, c.Root(), "f")}
	g.write(10*streamPart + 5)
	g.sent(10)
	if err := os.CopyFS(after, os.DirFS(dir)); err != nil { // a kill leaves the room as it is
		t.Fatal(err)
	}
	bad.SetRules(faulty.On(faulty.Mutating(), faulty.Fail(errDown)))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_ = c.Close(ctx) // the process that is killed would not
	if got := begun(t, m); len(got) != 1 {
		t.Fatalf("begun are %v", got)
	}
	bad.SetRules()
	next := newCache(t, bad, cache.Config{Dir: after, TTL: time.Hour})
	if err := next.SyncDir(t.Context(), next.Root()); err != nil {
		t.Error(err)
	}
	g.stored("f")
	noUploads(t, m)
}

// A file that is written anyhow, through handles and names that change, is an
// array of bytes also where most of it is sent while it grows.
func TestGrowingAgainstBytes(t *testing.T) {
	rounds := 12
	if testing.Short() {
		rounds = 4
	}
	overParts(t,
		func(fail int) []faulty.Rule {
			if fail == 0 {
				return nil
			}
			return []faulty.Rule{faulty.On(faulty.OnOp("UploadPart"), faulty.Delay(time.Millisecond))}
		},
		func(*byteFile, uint64) string { return "something" },
		func(x *byteFile) {
			for range rounds {
				x.writeAnew()
				for range 3 {
					x.step()
				}
			}
		},
		func(t *testing.T, bad *faulty.Faulty) {
			t.Logf("%d parts, %d completions, %d puts", bad.Calls("UploadPart"), bad.Calls("Complete"), bad.Calls("Put"))
		})
}

// writeAnew writes the file from its beginning, with a change of what was
// written now and then.
func (x *byteFile) writeAnew() {
	x.t.Helper()
	ctx := x.t.Context()
	x.done = append(x.done, "anew")
	x.insist("truncate", func() error {
		_, err := x.c.SetAttr(ctx, x.n, backends.AttrChange{Set: backends.SetSize})
		return err
	})
	x.model = x.model[:0]
	write := func(off, n int) {
		p := []byte(letters(n, x.r.Uint64()))
		x.insist("write", func() error {
			_, err := x.h.WriteAt(ctx, p, int64(off))
			return err
		})
		x.grow(off + n)
		copy(x.model[off:], p)
	}
	size := x.r.IntN(byteFileMax)
	for len(x.model) < size {
		write(len(x.model), 1+x.r.IntN(128<<10))
		switch x.r.IntN(16) {
		case 0:
			off := x.r.IntN(len(x.model))
			write(off, 1+x.r.IntN(100))
		case 1:
			off, n := x.r.IntN(len(x.model)), 1+x.r.IntN(1000)
			x.allocate(off, n, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE)
			clear(x.want(off, n))
		case 2:
			x.sync()
		case 3:
			time.Sleep(time.Duration(x.r.IntN(3000)) * time.Microsecond)
		}
	}
}
