// Package faulty wraps a store or a file system so that it fails on demand,
// for tests. What fails is said by rules, each a predicate and an effect:
//
//	s := faulty.Store(inner,
//		faulty.On(faulty.And(faulty.OnOp("Put"), faulty.Nth(3)), faulty.LostAnswer(errReset)),
//		faulty.On(faulty.And(faulty.OnOp("Open"), faulty.Probability(seed, 0.05)), faulty.CutBody(4096)))
//
// The wrapper counts calls, so that a test can say what an operation costs.
package faulty

import (
	"context"
	"io"
	"io/fs"
	"math/rand/v2"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Call is one call of a wrapped method.
type Call struct {
	// Op is the method's name: "Put", "Lookup", "WriteAt"; Put and Copy of an
	// upload are "UploadPart" and "UploadCopy".
	Op string
	// Name is what the call names: a store's name, the name in a directory,
	// of a rename or copy the source. Empty where there is none.
	Name string
}

// Predicate selects calls. It is called once for every call that it is asked
// about, by many goroutines at once, and may count them.
type Predicate func(Call) bool

// Always selects every call.
func Always() Predicate { return func(Call) bool { return true } }

// OnOp selects calls of these methods.
func OnOp(ops ...string) Predicate {
	return func(c Call) bool { return slices.Contains(ops, c.Op) }
}

// mutating are the methods of both depths that change something.
var mutating = []string{
	"Put", "Mkdir", "Remove", "Copy", "Rename", "RemoveMany", "SetAttr", "Symlink",
	"BeginUpload", "UploadPart", "UploadCopy", "Complete", "Abort",
	"Create", "Unlink", "Rmdir", "Link", "Mknod", "SetXattr", "RemoveXattr", "WriteAt", "Allocate", "CopyRange", "Flush", "Sync",
}

// Mutating selects calls of methods that change something.
func Mutating() Predicate { return OnOp(mutating...) }

// OnName selects calls whose name matches the pattern, as [path.Match] does.
// A pattern that is not valid selects nothing.
func OnName(pattern string) Predicate {
	return func(c Call) bool {
		ok, err := path.Match(pattern, c.Name)
		return ok && err == nil
	}
}

// Nth selects the nth call, from 1, that it is asked about: in an And, of
// those that the predicates before it select.
func Nth(n int64) Predicate {
	var seen atomic.Int64
	return func(Call) bool { return seen.Add(1) == n }
}

// EveryNth selects every nth call that it is asked about.
func EveryNth(n int64) Predicate {
	var seen atomic.Int64
	return func(Call) bool { return seen.Add(1)%max(n, 1) == 0 }
}

// Probability selects calls at random, with probability p. The same seed
// gives the same answers in the same order.
func Probability(seed uint64, p float64) Predicate {
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(seed, 0))
	return func(Call) bool {
		mu.Lock()
		defer mu.Unlock()
		return r.Float64() < p
	}
}

// And selects what all of these do. It asks them in order and stops at the
// first that says no.
func And(ps ...Predicate) Predicate {
	return func(c Call) bool {
		for _, p := range ps {
			if !p(c) {
				return false
			}
		}
		return true
	}
}

// Or selects what any of these does. It asks them in order and stops at the
// first that says yes.
func Or(ps ...Predicate) Predicate {
	return func(c Call) bool { return slices.ContainsFunc(ps, func(p Predicate) bool { return p(c) }) }
}

// Not selects what p doesn't.
func Not(p Predicate) Predicate { return func(c Call) bool { return !p(c) } }

// Effect is what happens to a call.
type Effect struct {
	fail  error
	lost  error
	delay time.Duration
	cut   bool
	after int64
}

// Fail lets the call fail with err, without being made.
func Fail(err error) Effect { return Effect{fail: err} }

// Delay lets the call wait for d, or until its context is over.
func Delay(d time.Duration) Effect { return Effect{delay: d} }

// CutBody cuts what the call transfers: an Open gives a reader that fails with
// [io.ErrUnexpectedEOF] after n bytes, a listing fails so after n entries, and
// a Put or UploadPart gets a body that can't be read beyond n bytes. Other
// calls are not changed.
func CutBody(n int64) Effect { return Effect{cut: true, after: n} }

// LostAnswer lets the call be made, and if it succeeds, answers err: the
// change was done and the caller doesn't know. An open file or reader that is
// in the answer is closed.
func LostAnswer(err error) Effect { return Effect{lost: err} }

// Rule is an effect on the calls that a predicate selects.
type Rule struct {
	When Predicate
	Then Effect
}

// On returns the rule that then happens to the calls that when selects.
func On(when Predicate, then Effect) Rule { return Rule{when, then} }

// Injector holds rules and counts calls. It is part of what [Store] and
// [FileSystem] return.
type Injector struct {
	mu       sync.Mutex
	rules    []Rule
	calls    map[string]int
	injected int
}

// SetRules replaces the rules.
func (i *Injector) SetRules(rules ...Rule) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.rules = rules
}

// Calls returns how often one of these methods was called, whatever became of
// the calls; without ops, how often any was.
func (i *Injector) Calls(ops ...string) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	n := 0
	for op, count := range i.calls {
		if len(ops) == 0 || slices.Contains(ops, op) {
			n += count
		}
	}
	return n
}

// Injected returns how many effects took place.
func (i *Injector) Injected() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.injected
}

// ResetCalls sets the counters to zero.
func (i *Injector) ResetCalls() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.calls, i.injected = nil, 0
}

// fate is what all rules together do to one call.
type fate struct {
	call Call
	lost error
	cut  int64 // -1: not cut
}

// begin counts a call and does what comes before it. If it returns an error,
// the call is not made.
func (i *Injector) begin(ctx context.Context, op, name string) (fate, error) {
	call := Call{op, name}
	i.mu.Lock()
	if i.calls == nil {
		i.calls = map[string]int{}
	}
	i.calls[op]++
	rules := i.rules
	i.mu.Unlock()

	f := fate{call: call, cut: -1}
	for _, r := range rules {
		if !r.When(call) {
			continue
		}
		i.mu.Lock()
		i.injected++
		i.mu.Unlock()
		if r.Then.delay > 0 {
			timer := time.NewTimer(r.Then.delay)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				return f, f.wrap(ctx.Err())
			}
		}
		if r.Then.fail != nil {
			return f, f.wrap(r.Then.fail)
		}
		if r.Then.lost != nil {
			f.lost = r.Then.lost
		}
		if r.Then.cut {
			f.cut = r.Then.after
		}
	}
	return f, nil
}

func (f fate) wrap(err error) error { return &fs.PathError{Op: f.call.Op, Path: f.call.Name, Err: err} }

// end returns the error that the caller gets for a call that ended with err.
func (f fate) end(err error) error {
	if err == nil && f.lost != nil {
		return f.wrap(f.lost)
	}
	return err
}

// cutReader fails after left bytes.
type cutReader struct {
	io.ReadCloser
	left int64
}

func (r *cutReader) Read(p []byte) (int, error) {
	if r.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := r.ReadCloser.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	return n, err
}

// body returns what is put in the place of body.
func (f fate) body(body *io.SectionReader) *io.SectionReader {
	if f.cut >= 0 && f.cut < body.Size() {
		return io.NewSectionReader(cutBody{body, f.cut}, 0, body.Size())
	}
	return body
}

// cutBody can't be read beyond after bytes.
type cutBody struct {
	io.ReaderAt
	after int64
}

func (b cutBody) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) <= b.after {
		return b.ReaderAt.ReadAt(p, off)
	}
	if off >= b.after {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := b.ReaderAt.ReadAt(p[:b.after-off], off)
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
