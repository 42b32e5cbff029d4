package s3_test

import (
	"bytes"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/s3"
	"github.com/agentfs/agentfs/backends/s3/s3test"
)

// patient leaves hanging requests to hedging.
func patient(c *s3.Config) { c.RequestTimeout = time.Minute }

// A GET that gets no answer is sent again, and the second answer counts.
func TestHedgeOfLateAnswer(t *testing.T) {
	s, p := faulty(t, s3test.Fake(t), patient)
	put(t, s, "f", "content", backends.If{})
	for range 40 {
		if got, _, err := read(t.Context(), s, "f", backends.Range{}, backends.If{}); err != nil || string(got) != "content" {
			t.Fatalf("%q, %v", got, err)
		}
	}
	was := s.Load()
	p.Reset()
	p.Inject(first("GetObject", 1, s3test.Fault{Delay: time.Hour}))
	got, _, err := read(t.Context(), s, "f", backends.Range{}, backends.If{})
	if err != nil || string(got) != "content" {
		t.Errorf("%q, %v", got, err)
	}
	if n := p.Counts()["GetObject"]; n != 2 {
		t.Errorf("%d requests for one read", n)
	}
	if l := s.Load(); l.Hedged != was.Hedged+1 || l.HedgesWon != was.HedgesWon+1 {
		t.Errorf("%+v after %+v", l, was)
	}
}

// A body that stands still in the middle is asked for again from there on, of
// the same version.
func TestHedgeOfStalledBody(t *testing.T) {
	s, p := faulty(t, s3test.Fake(t), patient)
	want := noise(3<<20, 5)
	e, err := s.Put(t.Context(), "f", bytesOf(want), backends.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p.Inject(first("GetObject", 2, s3test.Fault{Stall: 1 << 20}))
	got, _, err := read(t.Context(), s, "f", backends.Range{}, backends.If{Match: e.Version})
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v; the right ones: %v", len(got), err, bytes.Equal(got, want))
	}
	if n := p.Counts()["GetObject"]; n != 3 {
		t.Errorf("%d requests for one read", n)
	}
	if l := s.Load(); l.HedgesWon != 2 {
		t.Errorf("%+v", l)
	}
	// Meanwhile the object may have changed: then there is no rest to be had.
	p.Reset()
	p.Inject(func(r s3test.Request) s3test.Fault {
		if r.Op == "GetObject" && r.N == 1 {
			return s3test.Fault{Stall: 1 << 20}
		}
		return s3test.Fault{}
	})
	f, _, err := s.Open(t.Context(), "f", backends.Range{}, backends.If{Match: e.Version})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	put(t, s, "f", "something else", backends.If{})
	head := make([]byte, 1<<20)
	for n := 0; n < len(head); {
		k, err := f.Read(head[n:])
		if err != nil {
			t.Fatalf("after %d bytes: %v", n, err)
		}
		n += k
	}
	if !bytes.Equal(head, want[:1<<20]) {
		t.Error("what came before is not the old content")
	}
}

// A store that is slow as a whole is not asked for twice as much.
func TestHedgesHaveABudget(t *testing.T) {
	s, p := faulty(t, s3test.Fake(t), patient)
	put(t, s, "f", "content", backends.If{})
	for range 40 {
		_, _, _ = read(t.Context(), s, "f", backends.Range{}, backends.If{})
	}
	was := s.Load()
	p.Reset()
	p.Inject(func(r s3test.Request) s3test.Fault { return s3test.Fault{Delay: 300 * time.Millisecond} })
	var wg sync.WaitGroup
	const reads = 64
	for range reads {
		wg.Go(func() {
			if got, _, err := read(t.Context(), s, "f", backends.Range{}, backends.If{}); err != nil || string(got) != "content" {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	wg.Wait()
	l := s.Load()
	if l.Hedged == was.Hedged {
		t.Error("no request was sent again: nothing was tested")
	}
	if max := int64((40+reads)/20 + 8); l.Hedged > max || int64(p.Counts()["GetObject"]) > reads+max {
		t.Errorf("%d of %d GETs were sent again, %d requests", l.Hedged, reads, p.Counts()["GetObject"])
	}
}

// A server that asks to slow down gets fewer requests at once, and in time as
// many as before.
func TestSlowDown(t *testing.T) {
	s, p := faulty(t, s3test.Fake(t), func(c *s3.Config) { c.MaxAttempts = 100 })
	put(t, s, "f", "content", backends.If{})
	var under, most atomic.Int64
	storm := atomic.Bool{}
	p.Inject(func(r s3test.Request) s3test.Fault {
		n := under.Add(1)
		defer under.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		time.Sleep(2 * time.Millisecond)
		if storm.Load() && n > 4 {
			return s3test.Fault{Status: 503}
		}
		return s3test.Fault{}
	})
	reads := func(n, workers int) {
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				for range n {
					if got, _, err := read(t.Context(), s, "f", backends.Range{}, backends.If{}); err != nil || string(got) != "content" {
						t.Errorf("%q, %v", got, err)
					}
				}
			})
		}
		wg.Wait()
	}
	reads(4, 32)
	if l := s.Load(); l.SlowDowns != 0 || l.Limit != 0 {
		t.Fatalf("nobody asked to slow down: %+v", l)
	}
	storm.Store(true)
	reads(20, 32)
	l := s.Load() // where in its ups and downs the limit is, is chance
	if l.SlowDowns == 0 || l.Limit == 0 || l.Limit >= 32 {
		t.Errorf("while the server refuses more than 4 at once: %+v", l)
	}
	storm.Store(false)
	before := l.Limit
	reads(60, 32)
	if l := s.Load(); l.Limit != 0 && l.Limit <= before {
		t.Errorf("the server has recovered, and the limit not: %+v, was %d", l, before)
	}
}
