package cache

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
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
