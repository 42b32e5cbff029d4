package cache

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/memory"
	"github.com/agentfs/agentfs/backends/memory/memorytest"
)

// holding is a kernel that has been told of every name and lets go of those that
// it is asked for; it notes for how many at once.
type holding struct {
	*kernel
	most atomic.Int64
}

func (h *holding) Release(d backends.Node, names []string) {
	h.most.Store(max(h.most.Load(), int64(len(names)))) // one goroutine asks
	h.kernel.Release(d, names)
}

// A directory larger than the bound is read to its end although it is forgotten
// meanwhile, at the cost of a request per page, and by parts; afterwards no more
// is known than may be.
func TestForgetLarge(t *testing.T) {
	const n, most = 6000, 3000
	f, s, d := large(t, "big", n, Config{TTL: time.Hour, Entries: most})
	all, err := f.ReadDir(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	k := &holding{kernel: newKernel()}
	for _, e := range all {
		k.held[e.Name] = true
		k.idle[e.Name] = true
	}
	read := func(from, to int) {
		t.Helper()
		for _, e := range all[from:to] {
			k.call(func() {
				if _, a, err := f.Lookup(t.Context(), d, e.Name); err != nil || a.Mode.IsDir() != e.Mode.IsDir() {
					t.Fatalf("%s: %v, %v", e.Name, a.Mode, err)
				}
			})
		}
	}
	read(0, n/2)
	f.OnHold(k)
	f.learned()
	soon(t, "within the bound", func() bool { return f.tree.Nodes() <= most })
	for range 2 {
		read(0, n)
		soon(t, "within the bound", func() bool { return f.tree.Nodes() <= most })
	}
	if lists, stats := s.lists.Load(), s.stats.Load(); lists+stats > 60 {
		t.Errorf("%d listings and %d single questions", lists, stats)
	}
	if n := k.most.Load(); n == 0 || n > forgetAtOnce {
		t.Errorf("the kernel was asked for %d names at once", n)
	}
}

// What is in use all the time is forgotten around what is used.
func TestForgetBesideAUser(t *testing.T) {
	const n, most = 3000, 1000
	f, _, d := large(t, "big", n, Config{TTL: time.Hour, Entries: most})
	k := newKernel()
	k.held["f000000"] = true
	use := func() {
		k.call(func() {
			if _, _, err := f.Lookup(context.Background(), d, "f000000"); err != nil {
				t.Errorf("what is in use: %v", err)
			}
		})
	}
	use()
	f.OnHold(k)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
			use()
		}
	})
	f.learned()
	soon(t, "within the bound", func() bool { return f.tree.Nodes() <= most })
	close(stop)
	wg.Wait()
	if k.released["f000000"] {
		t.Error("the kernel was asked for what is being used")
	}
}

// paused is a store whose listings of a directory wait in their midst.
type paused struct {
	backends.Store
	dir     string
	midst   chan struct{} // is sent to by a listing that waits
	goes    chan struct{} // is received from by it
	entries int
}

func (p *paused) List(ctx context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	all := p.Store.List(ctx, dir, after)
	if dir != p.dir {
		return all
	}
	return func(yield func(backends.Entry, error) bool) {
		i := 0
		for e, err := range all {
			if i++; i == p.entries/2 {
				p.midst <- struct{}{}
				<-p.goes
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// A long listing is not asked for again because something else has moved
// meanwhile; it is if the directory itself or one above it has.
func TestListingOutlastsMoves(t *testing.T) {
	const n = 2000
	for move, lists := range map[string]int{"other": 1, "top": 2} {
		t.Run(move, func(t *testing.T) {
			m := &asked{counted: counted{Store: memorytest.New(t, memory.Config{NoTmpfs: true, Size: 1 << 30})}}
			for i := range n {
				m.put(t, fmt.Sprintf("top/big/f%06d", i))
			}
			m.put(t, "other/file")
			p := &paused{Store: sixMethods{m}, dir: "top/big", midst: make(chan struct{}), goes: make(chan struct{}), entries: n}
			f := newOver(t, p, Config{TTL: time.Hour, Grace: -1, NoAttributes: true})
			d := mustAt(t, f, "top/big")
			moved := mustAt(t, f, move)
			if err := f.refresh(t.Context(), moved); err != nil && move == "other" {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			wg.Go(func() {
				if all, err := f.ReadDir(context.Background(), d); err != nil || len(all) != n {
					t.Errorf("%d names, %v", len(all), err)
				}
			})
			for i := range lists {
				<-p.midst
				if i == 0 {
					// As a rename does it.
					f.ns.Lock()
					f.moves++
					dirOf(moved).since = f.moves
					f.ns.Unlock()
				}
				p.goes <- struct{}{}
			}
			done := make(chan struct{})
			go func() { wg.Wait(); close(done) }()
			select {
			case <-done:
			case <-p.midst:
				t.Error("it is listed once more")
				p.goes <- struct{}{}
				wg.Wait()
			}
		})
	}
}

// A directory that was confirmed a while ago is believed for longer than a file,
// by the kernel too, but no longer than here.
func TestDirectoriesAreBelievedLonger(t *testing.T) {
	const ttl = time.Hour
	f, _, d := large(t, "big", 1, Config{TTL: ttl})
	n := mustAt(t, f, "big/f000000")
	valid := func(age time.Duration) (forDir, forFile time.Duration) {
		t.Helper()
		then := time.Now().Add(-age)
		for _, x := range []*dir{dirOf(f.tree.Root()), dirOf(d)} {
			x.mu.Lock()
			x.seen, x.listed = then, then
			x.mu.Unlock()
		}
		x := n.Data.(*file)
		x.mu.Lock()
		x.seen = then
		x.mu.Unlock()
		a, err := f.Attr(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		b, err := f.Attr(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		return a.Valid, b.Valid
	}
	for _, c := range []struct {
		age, forDir, forFile time.Duration
	}{
		{0, ttl, ttl},
		{ttl, ttl, 0},
		{dirTrust*ttl - ttl/2, ttl / 2, 0},
		{dirTrust * ttl, 0, 0},
	} {
		forDir, forFile := valid(c.age)
		// It was a moment ago.
		if forDir > c.forDir || forDir < c.forDir-time.Minute || forFile > c.forFile || forFile < c.forFile-time.Minute {
			t.Errorf("%v after it was confirmed: a directory counts for %v, a file for %v; want %v and %v", c.age, forDir, forFile, c.forDir, c.forFile)
		}
	}
}
