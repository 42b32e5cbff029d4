package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math/rand/v2"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/memory"
	"github.com/agentfs/agentfs/backends/memory/memorytest"
	"github.com/agentfs/agentfs/backends/tree"
)

// asked is a store that counts questions for single names beside listings.
type asked struct {
	counted
	stats atomic.Int64
}

func (s *asked) Stat(ctx context.Context, name string) (backends.Entry, error) {
	s.stats.Add(1)
	return s.Store.Stat(ctx, name)
}

func (s *asked) StatFile(ctx context.Context, name string) (backends.Entry, error) {
	s.stats.Add(1)
	return backends.StatFile(ctx, s.Store, name)
}

func (s *asked) put(t *testing.T, name string) {
	t.Helper()
	if _, err := s.Put(t.Context(), name, io.NewSectionReader(strings.NewReader(""), 0, 0), backends.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

// large returns a cache that has listed dir, which has n files and a directory in
// the midst of them, and how many requests that took the store.
func large(t *testing.T, dir string, n int, cfg Config) (*FS, *asked, *tree.Node) {
	t.Helper()
	s := &asked{counted: counted{Store: memorytest.New(t, memory.Config{NoTmpfs: true, Size: 1 << 30})}}
	for i := range n {
		s.put(t, fmt.Sprintf("%s/f%06d", dir, i))
	}
	s.put(t, fmt.Sprintf("%s/f%06d.d/below", dir, n/2))
	cfg.Grace = -1
	f := newOver(t, s, cfg)
	d := mustAt(t, f, dir)
	if all, err := f.ReadDir(t.Context(), d); err != nil || len(all) != n+1 {
		t.Fatalf("%d names, %v", len(all), err)
	}
	s.lists.Store(0)
	s.stats.Store(0)
	return f, s, d
}

// expire makes everything that is known of d older than the ttl.
func expire(f *FS, d *tree.Node) {
	old := time.Now().Add(-dirTrust * 2 * f.cfg.TTL)
	x := dirOf(d)
	x.mu.Lock()
	x.listed, x.records.loaded, x.absent = old, old, nil
	x.mu.Unlock()
	f.tree.Children(d, func(_ string, n *tree.Node) {
		switch x := n.Data.(type) {
		case *file:
			x.mu.Lock()
			x.seen = old
			x.mu.Unlock()
		case *dir:
			x.mu.Lock()
			x.seen, x.listed = old, time.Time{}
			x.mu.Unlock()
		}
	})
}

// What is asked of a large directory in the order of its names costs a request per
// page and not one per name, whatever the ttl; also for what others have removed
// and made meanwhile, and if several go through it.
func TestNamesInOrder(t *testing.T) {
	const n = 5000
	f, s, d := large(t, "big", n, Config{TTL: time.Hour})
	name := func(i int) string { return fmt.Sprintf("f%06d", i) }
	all, err := f.ReadDir(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	expire(f, d)
	for _, gone := range []string{name(0), name(1234), name(4998)} {
		if err := s.Remove(t.Context(), "big/"+gone, backends.If{}); err != nil {
			t.Fatal(err)
		}
	}
	s.put(t, "big/"+name(2345)+".new")
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for _, e := range all {
				_, _, err := f.Lookup(t.Context(), d, e.Name)
				if e.Name == name(0) || e.Name == name(1234) || e.Name == name(4998) {
					if !errors.Is(err, fs.ErrNotExist) {
						t.Errorf("%s, which is gone: %v", e.Name, err)
					}
				} else if err != nil {
					t.Errorf("%s: %v", e.Name, err)
				}
			}
		})
	}
	wg.Wait()
	if _, _, err := f.Lookup(t.Context(), d, name(2345)+".new"); err != nil {
		t.Errorf("a new name: %v", err)
	}
	// A page more per reader that was ahead, and records once.
	if lists, stats := s.lists.Load(), s.stats.Load(); lists > 3*(n/stretchNames+2) || stats > 30 {
		t.Errorf("%d listings and %d single questions", lists, stats)
	}
}

// endless is a store with a directory of n files, which it makes up.
type endless struct {
	backends.Store
	n            int
	lists, stats atomic.Int64
}

func (s *endless) entry(i int) backends.Entry {
	return backends.Entry{Name: fmt.Sprintf("big/f%08d", i), Size: 1, Version: "v"}
}

func (s *endless) List(_ context.Context, _, after string) iter.Seq2[backends.Entry, error] {
	s.lists.Add(1)
	return func(yield func(backends.Entry, error) bool) {
		for i := sort.Search(s.n, func(i int) bool { return s.entry(i).Base() > after }); i < s.n; i++ {
			if !yield(s.entry(i), nil) {
				return
			}
		}
	}
}

func (s *endless) Stat(_ context.Context, name string) (backends.Entry, error) {
	s.stats.Add(1)
	if name == "big" {
		return backends.Entry{Name: name, Mode: fs.ModeDir}, nil
	}
	var i int
	if _, err := fmt.Sscanf(name, "big/f%d", &i); err != nil || i >= s.n {
		return backends.Entry{}, fs.ErrNotExist
	}
	return s.entry(i), nil
}

// Who asks for names in no order does not pay for the names that follow each.
func TestNamesInNoOrder(t *testing.T) {
	s := &endless{Store: memorytest.New(t, memory.Config{NoTmpfs: true, Size: 1 << 30}), n: 1_000_000}
	f := newOver(t, s, Config{TTL: time.Hour, NoAttributes: true})
	d := mustAt(t, f, "big")
	r := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		if _, _, err := f.Lookup(t.Context(), d, s.entry(r.IntN(s.n)).Base()); err != nil {
			t.Fatal(err)
		}
	}
	if lists := s.lists.Load(); lists > 40 {
		t.Errorf("%d listings for 1000 names in no order", lists)
	}
}
