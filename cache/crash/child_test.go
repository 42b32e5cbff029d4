package crash_test

import (
	"context"
	"encoding/gob"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime/pprof"
	"sync"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/faulty"
	"github.com/agentfs/agentfs/cache"
)

// childEnv has the task of a process that is going to be killed.
const childEnv = "AGENTFS_CRASH_CHILD"

// TestMain runs the tests, or the life of a process that a test kills.
func TestMain(m *testing.M) {
	if t := os.Getenv(childEnv); t != "" {
		os.Exit(liveUntilKilled(t))
	}
	os.Exit(m.Run())
}

// task is what such a process has to do.
type task struct {
	Place   place
	Cache   string // directory
	Fault   string // name of a variant
	Budget  int64
	Workers int
	Ops     int
	Seed    uint64
	State   string // file with what the tree holds at the beginning
	Lax     bool
}

// saved is an entry of a listing in a file.
type saved struct {
	Path, Target string
	Dir          bool
	Data         []byte
	Mode         uint32
}

func saveListing(name string, l listing) error {
	var all []saved
	for p, e := range l {
		all = append(all, saved{p, e.target, e.dir, e.data, uint32(e.mode)})
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return gob.NewEncoder(f).Encode(all)
}

func loadListing(name string) (listing, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []saved
	if err := gob.NewDecoder(f).Decode(&all); err != nil {
		return nil, err
	}
	l := listing{}
	for _, s := range all {
		l[s.Path] = entry{dir: s.Dir, target: s.Target, data: s.Data, mode: os.FileMode(s.Mode)}
	}
	return l, nil
}

// report is one line that a process writes about itself.
type report struct {
	// What is "begin", "done", "ready", "idle" (nothing left to do), "closed"
	// or "broken" (it couldn't begin).
	What    string  `json:"what"`
	Op      op      `json:"op,omitzero"`
	Outcome outcome `json:"outcome,omitempty"`
	Err     string  `json:"err,omitempty"`
}

// reporter writes reports, each in one write(2): what the parent reads has
// happened, whenever it killed us.
type reporter struct {
	mu sync.Mutex
	w  io.Writer
}

func (r *reporter) say(x report) {
	b, err := json.Marshal(x)
	if err != nil {
		panic(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, err := r.w.Write(append(b, '\n')); err != nil {
		os.Exit(3) // nobody listens
	}
}

// liveUntilKilled opens a cache, works, and waits for its end. When stdin
// ends it closes the cache.
func liveUntilKilled(text string) int {
	out := &reporter{w: os.NewFile(3, "reports")}
	broken := func(err error) int {
		out.say(report{What: "broken", Err: err.Error()})
		return 1
	}
	var t task
	if err := json.Unmarshal([]byte(text), &t); err != nil {
		return broken(err)
	}
	state, err := loadListing(t.State)
	if err != nil {
		return broken(err)
	}
	direct, err := t.Place.open()
	if err != nil {
		return broken(err)
	}
	store := direct
	var bad *faulty.Faulty
	if rules := faults[t.Fault]; rules != nil {
		bad = faulty.Store(direct)
		store = bad
	}
	c := config(t.Cache)
	if t.Budget > 0 {
		c.Budget = cache.NewBudget(t.Budget)
	}
	f, err := cache.New(context.Background(), store, c)
	if err != nil {
		return broken(err)
	}
	if bad != nil {
		// What an outage finds is a mount that has been in use.
		if _, err := readTree(context.Background(), f); err != nil {
			return broken(err)
		}
		bad.SetRules(faults[t.Fault](t.Seed)...)
	}
	out.say(report{What: "ready"})
	var wg sync.WaitGroup
	for w := range t.Workers {
		x := newWorker(t, w, state, f, direct, out)
		wg.Go(x.work)
	}
	wg.Wait()
	out.say(report{What: "idle"})
	_, _ = io.Copy(io.Discard, os.Stdin)
	ctx, cancel := seconds(20)
	defer cancel()
	if err := f.Close(ctx); err != nil {
		out.say(report{What: "closed", Err: err.Error()})
		return 0
	}
	out.say(report{What: "closed"})
	return 0
}

// worker does one sequence of operations.
type worker struct {
	t      task
	g      *generator
	d      *driver
	direct backends.Store // past the cache and all faults
	out    *reporter
}

// home is the directory of a worker, sharedDir where all have names.
func home(w int) string { return fmt.Sprint("w", w) }

const sharedDir = "shared"

func newWorker(t task, w int, state listing, f *cache.FS, direct backends.Store, out *reporter) *worker {
	m := newModel()
	m.lax, m.attrs = t.Lax, keepsAttributes
	m.adopt(state)
	return &worker{t, &generator{
		choices: newRandom(t.Seed, uint64(w)), m: m, w: w, home: home(w), shared: sharedDir,
		// Without a journal an upload whose outcome is unknown must be the last.
		barriers: !t.Lax || t.Fault == "" || t.Fault == "slow",
		attrs:    keepsAttributes, seed: t.Seed << 16,
	}, newDriver(f), direct, out}
}

func (w *worker) work() {
	for range w.t.Ops {
		o, ok := w.g.next()
		if !ok {
			return
		}
		w.out.say(report{What: "begin", Op: o})
		ctx, cancel := seconds(20)
		r, err := w.d.do(ctx, o, w.g.m)
		if r == asWanted && err == nil {
			w.g.m.done(o)
			if err = w.isStored(ctx, o); err != nil {
				r = wrong
			}
		}
		if r == failed && ctx.Err() != nil {
			w.stands(o)
		}
		cancel()
		if r == failed {
			w.g.m.unsure(o)
		}
		said := report{What: "done", Op: op{W: o.W, N: o.N}, Outcome: r}
		if err != nil {
			said.Err = err.Error()
		}
		w.out.say(said)
		if r == wrong {
			return
		}
	}
}

// stands says what there is to know of an operation that did not end in its time:
// what waits, and what everybody is doing.
func (w *worker) stands(o op) {
	if f, ok := w.d.fs.(*cache.FS); ok {
		fmt.Fprintf(os.Stderr, "%v stands still: %+v\n", o, f.State())
	}
	_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 2)
}

// isStored looks whether the store has what an fsync promised, of a file or of
// the whole home: no other process changes it.
func (w *worker) isStored(ctx context.Context, o op) error {
	m := w.g.m
	if w.t.Fault == faultLate {
		return nil
	}
	switch o.Kind {
	case opSync:
		n := m.handles[o.H].n
		path, named := n.path()
		if !named || n.frozen || m.isDoubtful(path, false) {
			return nil
		}
		got, err := readObject(ctx, w.direct, path)
		if err != nil {
			return fmt.Errorf("after fsync of %s the store says: %w", path, err)
		}
		if string(got) != string(n.data) {
			return fmt.Errorf("after fsync of %s the store has %s", path, difference(got, n.data))
		}
	case opBarrier:
		if m.isDoubtful(o.Path, true) {
			return nil
		}
		got, err := readStore(ctx, w.direct, o.Path)
		if err != nil {
			return fmt.Errorf("after a barrier the store says: %w", err)
		}
		want := m.exact()
		for p := range want {
			if !under(p, o.Path) || p == o.Path {
				delete(want, p)
			}
		}
		m.at(o.Path).walk(func(rel string, n *node) {
			if n.frozen { // nobody knows how far a write came
				delete(want, join(o.Path, rel))
				delete(got, join(o.Path, rel))
			}
		})
		if bad := compare(got, want); len(bad) > 0 {
			return fmt.Errorf("after a barrier: %v", bad)
		}
	}
	return nil
}

// killed says when a process is killed.
type killed struct {
	after int           // so many operations
	delay time.Duration // and then this long
	close bool          // while, or after, it closes in order
	early time.Duration // or this long after its start, if not 0
}
