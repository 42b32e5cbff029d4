package cache_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/faulty"
	"github.com/agentfs/agentfs/cache"
)

// worker works on names of its own and knows what each may hold: after an
// operation that failed, what it held before or what it was to hold.
type worker struct {
	t    *testing.T
	f    *cache.FS
	r    *rand.Rand
	id   int
	may  map[string][]string // "" stands for a name that is not there
	next int
}

func (w *worker) name() string { return fmt.Sprintf("w%d-%d", w.id, w.r.IntN(4)) }

// holds returns what a name may hold.
func (w *worker) holds(name string) []string {
	if may, ok := w.may[name]; ok {
		return may
	}
	return []string{""}
}

// then records what an operation does to a name's content.
func (w *worker) then(name, content string, err error) {
	if err == nil {
		w.may[name] = []string{content}
	} else {
		w.may[name] = append(w.holds(name), content)
	}
}

// write replaces the content of a name, which is made if need be.
func (w *worker) write(name string) {
	ctx := w.t.Context()
	w.next++
	content := fmt.Sprintf("content %d of %s", w.next, name)
	_, _, h, err := w.f.Create(ctx, w.f.Root(), name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, backends.CreateAttr{Mode: 0o644})
	if err != nil {
		return // nothing has happened
	}
	// The truncation alone may reach the store with a later attempt.
	w.may[name] = append(w.holds(name), "empty")
	if _, err = h.WriteAt(ctx, []byte(content), 0); err == nil {
		err = h.Flush(ctx)
	}
	_ = h.Close(ctx) // its attempt is one more of the same
	w.then(name, content, err)
}

func (w *worker) unlink(name string) {
	err := w.f.Unlink(w.t.Context(), w.f.Root(), name)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	w.then(name, "", err)
}

func (w *worker) rename(from, to string) {
	if from == to {
		return
	}
	err := w.f.Rename(w.t.Context(), w.f.Root(), from, w.f.Root(), to, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	moved := w.holds(from)
	if err == nil {
		w.may[to], w.may[from] = moved, []string{""}
		return
	}
	w.may[to] = append(slices.Clone(w.holds(to)), moved...)
	w.may[from] = append(w.holds(from), "")
}

// Whatever fails on the way to the store, a name holds what it held before or
// what it was to hold, and what was acknowledged is there in the end.
func TestFaults(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	store := newMemory(t)
	bad := faulty.Store(plain{store})
	c := newCache(t, bad, cache.Config{TTL: time.Hour})
	bad.SetRules(
		faulty.On(faulty.Probability(seed, 0.2), faulty.Fail(errDown)),
		faulty.On(faulty.Probability(seed+1, 0.1), faulty.Delay(time.Millisecond)),
	)
	workers := make([]*worker, 6)
	var wg sync.WaitGroup
	for i := range workers {
		w := &worker{t: t, f: c, id: i, r: rand.New(rand.NewPCG(seed, uint64(i))), may: map[string][]string{}}
		workers[i] = w
		wg.Go(func() {
			for range 150 {
				switch w.r.IntN(4) {
				case 0, 1:
					w.write(w.name())
				case 2:
					w.unlink(w.name())
				default:
					w.rename(w.name(), w.name())
				}
			}
		})
	}
	wg.Wait()
	bad.SetRules()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for c.SyncDir(ctx, c.Root()) != nil && ctx.Err() == nil {
	}
	if p := c.State().Pending; len(p) > 0 {
		t.Errorf("still pending without faults: %+v", p)
	}
	if got := bad.Injected(); got == 0 {
		t.Fatal("no fault was injected")
	}
	for _, w := range workers {
		for name, may := range w.may {
			got := "empty"
			e, err := store.Stat(t.Context(), name)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				got = ""
			case err != nil:
				t.Fatal(err)
			case e.Size > 0:
				got = get(t, store, name)
			}
			if !slices.Contains(may, got) {
				t.Errorf("%s holds %q, and may hold %q", name, got, may)
			}
			// And the cache agrees with the store.
			n, _, err := c.Lookup(t.Context(), c.Root(), name)
			if (err == nil) != (got != "") {
				t.Errorf("%s holds %q in the store, and the cache says %v", name, got, err)
			} else if err == nil {
				h := openFile(t, c, n, os.O_RDONLY)
				if here := readAll(t, h, 1000); here != got && got != "empty" {
					t.Errorf("%s holds %q in the store and %q in the cache", name, got, here)
				}
				_ = h.Close(t.Context())
			}
		}
	}
	if n := len(c.State().Conflicts); n > 0 {
		t.Errorf("%d conflicts with nobody", n)
	}
}
