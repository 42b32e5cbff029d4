package s3_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/s3"
	"github.com/agentfs/agentfs/backends/s3/s3test"
)

// store returns a Store through a proxy whose faults only the test decides:
// what the endpoint honours is found out before.
func faulty(t *testing.T, srv s3test.Server, opts ...func(*s3.Config)) (*s3.Store, *s3test.Proxy) {
	t.Helper()
	p := s3test.NewProxy(t, srv)
	s := srv.Through(p).Store(t, append([]func(*s3.Config){quick}, opts...)...)
	if _, err := s.Features(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.Reset()
	return s, p
}

// first makes f the fate of the first n requests of an operation.
func first(op string, n int, f s3test.Fault) func(s3test.Request) s3test.Fault {
	return func(r s3test.Request) s3test.Fault {
		if r.Op == op && r.N <= n {
			return f
		}
		return s3test.Fault{}
	}
}

// A body that is cut again and again is resumed, of the same version and byte
// for byte, in one stream and in parallel parts.
func TestCutBodies(t *testing.T) {
	onBoth(t, func(t *testing.T, srv s3test.Server) {
		s, p := faulty(t, srv)
		for _, size := range []int{1 << 20, 23 << 20} {
			data := noise(size, uint64(size))
			e, err := s.Put(t.Context(), "f", bytesOf(data), backends.PutOptions{})
			if err != nil {
				t.Fatal(err)
			}
			var cuts atomic.Int32
			p.Inject(func(r s3test.Request) s3test.Fault {
				if r.Op == "GetObject" && cuts.Add(1) <= 12 {
					return s3test.Fault{Cut: 300_000}
				}
				return s3test.Fault{}
			})
			got, ge, err := read(t.Context(), s, "f", backends.Range{}, backends.If{Match: e.Version})
			if err != nil || !bytes.Equal(got, data) {
				t.Fatalf("%d bytes: read %d, equal %v: %v", size, len(got), bytes.Equal(got, data), err)
			}
			if ge.Size != int64(size) || ge.Version != e.Version {
				t.Errorf("the entry is %+v, put was %+v", ge, e)
			}
			if cuts.Load() < 2 {
				t.Error("nothing was cut")
			}
			p.Inject(nil)
			for _, r := range []backends.Range{{Off: 100, Len: 1000}, {Off: int64(size) - 5}, {Off: 1 << 19, Len: int64(size)}, {Off: int64(size)}, {Off: 1 << 40, Len: 1}} {
				got, ge, err := read(t.Context(), s, "f", r, backends.If{})
				from := min(r.Off, int64(size))
				to := int64(size)
				if r.Len > 0 {
					to = min(to, from+r.Len)
				}
				if err != nil || !bytes.Equal(got, data[from:to]) || ge.Size != int64(size) {
					t.Errorf("%+v of %d bytes: read %d, size %d, %v", r, size, len(got), ge.Size, err)
				}
			}
		}
	})
}

// The rest of a cut body is never another version's.
func TestCutBodyOfChangedObject(t *testing.T) {
	onBoth(t, func(t *testing.T, srv s3test.Server) {
		s, p := faulty(t, srv)
		put(t, s, "f", strings.Repeat("a", 1<<20), backends.If{})
		p.Inject(func(r s3test.Request) s3test.Fault {
			if r.Op == "GetObject" && r.N == 1 {
				return s3test.Fault{Cut: 1000}
			}
			if r.Op == "GetObject" {
				srv.Put(t, "f", strings.Repeat("b", 1<<20))
			}
			return s3test.Fault{}
		})
		got, _, err := read(t.Context(), s, "f", backends.Range{}, backends.If{})
		wantIs(t, "reading", err, backends.ErrChanged)
		if bytes.ContainsRune(got, 'b') {
			t.Error("two versions are mixed")
		}
	})
}

// Whatever fails for a while is sent again: nobody notices but the counters.
func TestPassingFaults(t *testing.T) {
	faults := map[string]s3test.Fault{"503": {Status: 503}, "500": {Status: 500}, "reset": {Reset: true}, "lost": {Lost: true}, "409": {Status: 409}}
	for name, f := range faults {
		t.Run(name, func(t *testing.T) {
			s, p := faulty(t, s3test.Versitygw(t))
			p.Inject(func(r s3test.Request) s3test.Fault {
				if r.N%3 != 0 && (f.Status != 409 || r.Op == "PutObject" || r.Op == "CompleteMultipartUpload") {
					return f
				}
				return s3test.Fault{}
			})
			ctx := t.Context()
			e := put(t, s, "d/f", "one", backends.If{Absent: true})
			e = put(t, s, "d/f", "two", backends.If{Match: e.Version})
			big := noise(12<<20, 1)
			be, err := s.Put(ctx, "d/big", bytesOf(big), backends.PutOptions{If: backends.If{Absent: true}})
			if err != nil {
				t.Fatal(err)
			}
			if got, _, err := read(ctx, s, "d/big", backends.Range{}, backends.If{Match: be.Version}); err != nil || !bytes.Equal(got, big) {
				t.Fatalf("big: %v", err)
			}
			if _, err := s.Copy(ctx, "d/f", backends.If{Match: e.Version}, "d/copy", backends.PutOptions{If: backends.If{Absent: true}}); err != nil {
				t.Fatal(err)
			}
			want(t, "List", keys(t, s.List(ctx, "d", "")), []string{"big", "copy", "f"})
			if err := s.Lean().Remove(ctx, "d/f", backends.If{Match: e.Version}); err != nil {
				t.Fatal(err)
			}
			if err := s.Mkdir(ctx, "dir", backends.AttrChange{}); err != nil {
				t.Fatal(err)
			}
			for _, err := range s.RemoveMany(ctx, []backends.Removal{{Name: "d/copy"}, {Name: "d/big"}}) {
				if err != nil {
					t.Fatal(err)
				}
			}
			want(t, "List", keys(t, s.List(ctx, ".", "")), []string{"d/", "dir/"})
		})
	}
}

// An endpoint that stays away is an I/O error in bounded time. When it is back
// and the caller tries again, what took effect unseen is no conflict.
func TestUnknownOutcome(t *testing.T) {
	onBoth(t, func(t *testing.T, srv s3test.Server) {
		s, p := faulty(t, srv)
		ctx := t.Context()
		e := put(t, s, "f", "one", backends.If{})
		p.Inject(func(r s3test.Request) s3test.Fault { return s3test.Fault{Lost: r.Op == "PutObject"} })
		opts := backends.PutOptions{If: backends.If{Match: e.Version}}
		began := time.Now()
		_, err := s.Put(ctx, "f", section("two"), opts)
		if err == nil || errors.Is(err, backends.ErrChanged) {
			t.Fatalf("Put without an answer: %v", err)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("it took %v", took)
		}
		p.Inject(nil)
		if _, err := s.Stat(ctx, "f"); err != nil { // it forgets the version before
			t.Fatal(err)
		}
		if c, _ := srv.Get(t, "f"); c != "two" {
			t.Fatalf("the fault didn't do its part: %q", c)
		}
		if _, err = s.Put(ctx, "f", section("three"), opts); err != nil {
			t.Fatalf("trying again: %v", err)
		}
		if c, _ := srv.Get(t, "f"); c != "three" {
			t.Fatalf("the content is %q", c)
		}
		// Somebody else's change is one, also then.
		srv.Put(t, "f", "theirs")
		_, err = s.Put(ctx, "f", section("four"), opts)
		wantIs(t, "Put over another's change", err, backends.ErrChanged)
		// And created twice by us is once, by another is a conflict.
		p.Inject(first("PutObject", 1<<30, s3test.Fault{Lost: true}))
		absent := backends.PutOptions{If: backends.If{Absent: true}}
		if _, err = s.Put(ctx, "g", section("mine"), absent); err == nil || errors.Is(err, fs.ErrExist) {
			t.Fatalf("Put without an answer: %v", err)
		}
		p.Inject(nil)
		if _, err = s.Put(ctx, "g", section("mine"), absent); err != nil {
			t.Fatalf("trying again: %v", err)
		}
		_, err = s.Put(ctx, "g", section("again"), absent)
		wantIs(t, "creating what is there", err, fs.ErrExist)
	})
}

// The context's deadline ends the attempts.
func TestDeadline(t *testing.T) {
	s, p := faulty(t, s3test.Fake(t), func(c *s3.Config) { c.MaxAttempts = 100 })
	p.Inject(func(s3test.Request) s3test.Fault { return s3test.Fault{Status: 503} })
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := s.Stat(ctx, "f")
	if err == nil || time.Since(began) > 3*time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
}

// A connection that stands still fails, and the request is sent again.
func TestStall(t *testing.T) {
	s, p := faulty(t, s3test.Fake(t), func(c *s3.Config) { c.RequestTimeout = 200 * time.Millisecond })
	put(t, s, "f", "content", backends.If{})
	p.Inject(first("GetObject", 2, s3test.Fault{Delay: time.Minute}))
	began := time.Now()
	got, _, err := read(t.Context(), s, "f", backends.Range{}, backends.If{})
	if err != nil || string(got) != "content" || time.Since(began) > 5*time.Second {
		t.Errorf("%q, %v after %v", got, err, time.Since(began))
	}
}

// A failed upload in parts leaves none behind.
func TestFailedUploadIsAborted(t *testing.T) {
	s, p := faulty(t, s3test.Versitygw(t))
	p.Inject(func(r s3test.Request) s3test.Fault {
		if r.Op == "UploadPart" && r.N > 1 {
			return s3test.Fault{Status: 403}
		}
		return s3test.Fault{}
	})
	_, err := s.Put(t.Context(), "f", bytesOf(noise(17<<20, 2)), backends.PutOptions{})
	wantIs(t, "Put", err, fs.ErrPermission)
	if n := p.Counts()["AbortMultipartUpload"]; n != 1 {
		t.Errorf("%d uploads aborted", n)
	}
	_, err = s.Stat(t.Context(), "f")
	wantIs(t, "Stat", err, fs.ErrNotExist)
}

// A lean Store sends one request for each change, and an opened version is one
// GET.
func TestRequestCounts(t *testing.T) {
	st, p := faulty(t, s3test.Versitygw(t))
	s := st.Lean()
	ctx := t.Context()
	step := func(what string, counts map[string]int) {
		t.Helper()
		if got := fmt.Sprint(p.Counts()); got != fmt.Sprint(counts) {
			t.Errorf("%s: requests %s, want %v", what, got, counts)
		}
		p.Reset()
	}
	e := put(t, s, "d/f", "one", backends.If{Absent: true})
	step("create", map[string]int{"PutObject": 1})
	e = put(t, s, "d/f", "two", backends.If{Match: e.Version})
	step("rewrite", map[string]int{"PutObject": 1})
	if _, _, err := read(ctx, s, "d/f", backends.Range{}, backends.If{Match: e.Version}); err != nil {
		t.Fatal(err)
	}
	step("read", map[string]int{"GetObject": 1})
	if _, err := s.Stat(ctx, "."); err != nil {
		t.Fatal(err)
	}
	step("stat of the root", map[string]int{})
	if err := s.Remove(ctx, "d/f", backends.If{Match: e.Version}); err != nil {
		t.Fatal(err)
	}
	step("remove", map[string]int{"DeleteObject": 1})
	if err := s.Mkdir(ctx, "new", backends.AttrChange{}); err != nil {
		t.Fatal(err)
	}
	step("mkdir", map[string]int{"PutObject": 1})
}
