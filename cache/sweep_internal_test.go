package cache

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/memory"
	"github.com/agentfs/agentfs/backends/memory/memorytest"
)

// What is removed from a large directory is collected in a time that does not grow
// with the directory: nothing else goes on meanwhile.
func TestSweepOfALargeDirectory(t *testing.T) {
	f, m := newOverMemory(t, time.Hour)
	for i := range 20_000 {
		if _, err := m.Put(t.Context(), fmt.Sprintf("d/%05d", i), io.NewSectionReader(strings.NewReader("x"), 0, 1), backends.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	d, _, err := f.Lookup(t.Context(), f.Root(), "d")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadDir(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	for i := range 2000 {
		if err := f.Unlink(t.Context(), d, fmt.Sprintf("%05d", i)); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	gs, _, _, err := f.collect()
	if took := time.Since(began); err != nil || took > time.Second {
		t.Errorf("%d of them were collected in %v, %v", len(gs), took, err)
	}
	f.ns.Lock()
	defer f.ns.Unlock()
	for _, g := range gs {
		g.removing = false // the sweep takes them
	}
}

// statting does something while it is first asked about a name.
type statting struct {
	backends.Store
	once      sync.Once
	meanwhile func()
}

func (s *statting) Stat(ctx context.Context, name string) (backends.Entry, error) {
	e, err := s.Store.Stat(ctx, name)
	s.once.Do(s.meanwhile)
	return e, err
}

// While the sweep asks what an attempt has left, a reader may find out that another
// one has replaced what the ghost is of (go test -race).
func TestSettleMaybeBesideReplacedByUs(t *testing.T) {
	m := memorytest.New(t, memory.Config{NoTmpfs: true, Size: 1 << 30})
	e, err := m.Put(t.Context(), "f", io.NewSectionReader(strings.NewReader("x"), 0, 1), backends.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s := &statting{Store: sixMethods{m}}
	f := newOver(t, s, Config{TTL: time.Hour})
	old := &stored{key: "f", version: "older", size: 1}
	g := &ghost{key: "f", st: old, maybe: &maybe{Op: "op", Size: 1}}
	f.ns.Lock()
	var b batch
	f.addGhost(&b, g)
	f.commitLate(&b)
	f.ns.Unlock()
	s.meanwhile = func() {
		go func() {
			f.ns.Lock()
			defer f.ns.Unlock()
			g.st = &stored{key: "f", version: e.Version, size: 1}
		}()
		time.Sleep(50 * time.Millisecond) // nothing else orders the two
	}
	f.settleMaybes(t.Context())
}
