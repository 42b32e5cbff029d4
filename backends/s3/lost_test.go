package s3_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/s3"
	"github.com/agentfs/agentfs/backends/s3/s3test"
)

// losing makes every answer to one of these operations get lost until found is
// called.
func losing(p *s3test.Proxy, ops ...string) {
	p.Inject(func(r s3test.Request) s3test.Fault {
		for _, op := range ops {
			if r.Op == op {
				return s3test.Fault{Lost: true}
			}
		}
		return s3test.Fault{}
	})
}

// lostThenAgain makes a change whose answers get lost, and then makes it again,
// in the same process and in another one.
func lostThenAgain(t *testing.T, f func(t *testing.T, srv s3test.Server, s, again backends.Store, p *s3test.Proxy)) {
	onBoth(t, func(t *testing.T, srv s3test.Server) {
		for _, c := range []string{"same process", "new process"} {
			t.Run(c, func(t *testing.T) {
				s, p := faulty(t, srv, func(c *s3.Config) { c.Lean, c.MaxAttempts = true, 3 })
				again := s
				if c == "new process" {
					again, _ = faulty(t, srv, func(c *s3.Config) { c.Lean = true })
				}
				f(t, srv, s, again, p)
			})
		}
	})
}

func wantLost(t *testing.T, what string, err error) {
	t.Helper()
	if err == nil || errors.Is(err, backends.ErrChanged) {
		t.Fatalf("%s without an answer: %v", what, err)
	}
}

// What one operation wrote is its own success when it is tried again, and
// another operation that knows of it goes on from there; with one PUT and in
// parts.
func TestLostPut(t *testing.T) {
	for _, size := range []int{100, 6 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			lostThenAgain(t, func(t *testing.T, srv s3test.Server, s, again backends.Store, p *s3test.Proxy) {
				ctx, name := t.Context(), fmt.Sprint("f", t.Name())
				body := func(seed int) *io.SectionReader { return bytesOf(noise(size, uint64(seed))) }
				for i, cond := range []string{"absent", "match", "none"} {
					var opts backends.PutOptions
					switch cond {
					case "absent":
						opts.If.Absent = true
					case "match":
						opts.If.Match = put(t, s, name, "one", backends.If{}).Version
					}
					opts.Operation = fmt.Sprintf("op-%d", i)
					losing(p, "PutObject", "CompleteMultipartUpload")
					_, err := s.Put(ctx, name, body(i), opts)
					p.Inject(nil)
					wantLost(t, cond, err)
					e, err := again.Put(ctx, name, body(i), opts)
					if err != nil {
						t.Fatalf("%s: trying again: %v", cond, err)
					}
					if now, err := s.Stat(ctx, name); err != nil || now.Version != e.Version || now.Size != int64(size) {
						t.Fatalf("%s: Put says %+v, Stat %+v, %v", cond, e, now, err)
					}
					if op := srv.Head(t, name).Metadata["agentfs-op"]; op != opts.Operation {
						t.Errorf("%s: the object carries %q", cond, op)
					}
					// The same condition, by a later operation.
					later := opts
					later.Operation += "-later"
					if opts.If != (backends.If{}) {
						_, err = again.Put(ctx, name, section("other"), later)
						if err == nil {
							t.Fatalf("%s: a condition that doesn't hold is ignored", cond)
						}
					}
					later.Earlier = []string{"op-of-another", opts.Operation}
					if _, err = again.Put(ctx, name, section("later"), later); err != nil {
						t.Fatalf("%s: going on from an earlier operation: %v", cond, err)
					}
					if c, _ := srv.Get(t, name); c != "later" {
						t.Fatalf("%s: the content is %q", cond, c)
					}
				}
			})
		})
	}
}

// Somebody else's change is a conflict although our own attempt may have been
// done.
func TestLostPutConflict(t *testing.T) {
	srv := s3test.Versitygw(t) // gofakes3 gives the metadata of the old object to the new one
	s, p := faulty(t, srv, func(c *s3.Config) { c.Lean, c.MaxAttempts = true, 3 })
	opts := backends.PutOptions{If: backends.If{Match: put(t, s, "f", "one", backends.If{}).Version}, Operation: "op-1", Earlier: []string{"op-0"}}
	losing(p, "PutObject")
	_, err := s.Put(t.Context(), "f", section("two"), opts)
	wantLost(t, "Put", err)
	p.Inject(nil)
	srv.Put(t, "f", "theirs")
	for _, again := range []backends.Store{s, srv.Store(t, quick)} {
		_, err = again.Put(t.Context(), "f", section("two"), opts)
		wantIs(t, "Put over another's change", err, backends.ErrChanged)
	}
	// Nobody can tell whose it is: neither a conflict nor success.
	srv.Put(t, "g", "theirs")
	p.Inject(func(r s3test.Request) s3test.Fault {
		if r.Op == "HeadObject" && r.Key == "g" {
			return s3test.Fault{Status: 500}
		}
		return s3test.Fault{}
	})
	_, err = s.Put(t.Context(), "g", section("mine"), backends.PutOptions{If: backends.If{Absent: true}, Operation: "op-2"})
	wantLost(t, "Put", err)
	if c, _ := srv.Get(t, "g"); c != "theirs" {
		t.Errorf("g is %q", c)
	}
}

// A copy that was made unseen is found, also when its source is gone by then.
func TestLostCopy(t *testing.T) {
	lostThenAgain(t, func(t *testing.T, srv s3test.Server, s, again backends.Store, p *s3test.Proxy) {
		ctx := t.Context()
		src := backends.If{Match: put(t, s, "from", "content", backends.If{}).Version}
		for i, cond := range []backends.If{{}, {Absent: true}} {
			to := fmt.Sprint("to", i)
			opts := backends.PutOptions{If: cond, Operation: "op-" + to}
			losing(p, "CopyObject", "CompleteMultipartUpload", "PutObject")
			_, err := s.(backends.Copier).Copy(ctx, "from", src, to, opts)
			p.Inject(nil)
			if errors.Is(err, errors.ErrUnsupported) {
				continue
			}
			wantLost(t, "Copy", err)
			for range 2 {
				e, err := again.(backends.Copier).Copy(ctx, "from", src, to, opts)
				if err != nil || e.Size != 7 {
					t.Fatalf("trying again: %+v, %v", e, err)
				}
				srv.Put(t, "from", "another content")
			}
			if c, _ := srv.Get(t, to); c != "content" {
				t.Errorf("the copy is %q", c)
			}
			src = backends.If{Match: put(t, s, "from", "content", backends.If{}).Version}
		}
	})
}

// A removal that was made unseen is made, and one that follows a write that
// nobody saw removes what that left.
func TestLostRemove(t *testing.T) {
	lostThenAgain(t, func(t *testing.T, srv s3test.Server, s, again backends.Store, p *s3test.Proxy) {
		ctx := t.Context()
		for _, cond := range []bool{false, true} {
			var one, two, three backends.If
			e1 := put(t, s, "one", "1", backends.If{})
			e2 := put(t, s, "d/two", "2", backends.If{})
			e3 := put(t, s, "d/three", "3", backends.If{})
			if cond {
				one.Match, two.Match, three.Match = e1.Version, e2.Version, e3.Version
			}
			many := []backends.Removal{{Name: "d/two", If: two}, {Name: "d/three", If: three}}
			losing(p, "DeleteObject", "DeleteObjects")
			wantLost(t, "Remove", s.Remove(ctx, "one", one))
			for _, err := range backends.RemoveMany(ctx, s, many) {
				wantLost(t, "RemoveMany", err)
			}
			p.Inject(nil)
			if cond {
				wantIs(t, "Remove again", again.Remove(ctx, "one", one), nil)
			}
			for _, err := range backends.RemoveMany(ctx, again, many) {
				wantIs(t, "RemoveMany again", err, nil)
			}
			want(t, "keys", srv.Keys(t), nil)
		}
		old := put(t, s, "f", "old", backends.If{})
		losing(p, "PutObject")
		opts := backends.PutOptions{If: backends.If{Match: old.Version}, Operation: "op-f"}
		_, err := s.Put(ctx, "f", section("new"), opts)
		wantLost(t, "Put", err)
		p.Inject(nil)
		rm := backends.Removal{Name: "f", If: backends.If{Match: old.Version}, Earlier: []string{"op-f"}}
		wantIs(t, "RemoveMany", backends.RemoveMany(ctx, again, []backends.Removal{rm})[0], nil)
		want(t, "keys", srv.Keys(t), nil)
		put(t, s, "f", strings.Repeat("theirs", 3), backends.If{})
		wantIs(t, "RemoveMany of another's", backends.RemoveMany(ctx, again, []backends.Removal{rm})[0], backends.ErrChanged)
		wantIs(t, "Remove", s.Remove(ctx, "f", backends.If{}), nil)
	})
}
