package cache

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/memory"
	"github.com/agentfs/agentfs/backends/memory/memorytest"
)

// unreadable is a store whose files can't be read.
type unreadable struct{ backends.Store }

func (s unreadable) Open(context.Context, string, backends.Range, backends.If) (io.ReadCloser, backends.Entry, error) {
	return nil, backends.Entry{}, errors.New("not now")
}

// A guess that fails just when its walk is given up is counted once, and does not take
// away that of another walk which has come to the file since.
func TestGuessThatFailsAtTheEnd(t *testing.T) {
	m := memorytest.New(t, memory.Config{NoTmpfs: true, Size: 1 << 20})
	f := newOver(t, unreadable{sixMethods{m}}, Config{TTL: time.Hour})
	l := &leaving{T: t, store: m, f: f}
	l.has("f", "x")
	if _, _, err := f.Lookup(t.Context(), f.Root(), "f"); err != nil {
		t.Fatal(err)
	}
	x := mustAt(t, f, "f").Data.(*file)
	begin := func(g *group) *guess {
		gs := &guess{group: g, cursor: &cursor{ahead: 1}, size: 1}
		g.walk.ahead = map[*file]*guess{x: gs}
		if !x.guess.CompareAndSwap(nil, gs) {
			t.Fatal("somebody has guessed it already")
		}
		return gs
	}
	var one, other group
	f.walks.mu.Lock()
	first := begin(&one)
	failed := make(chan struct{})
	go func() {
		defer close(failed)
		f.fetchAhead(x, first)
	}()
	for range 50 { // until it has failed, and waits to say so
		if time.Sleep(time.Millisecond); x.guess.Load() == nil {
			break
		}
	}
	one.walk.end(f)
	second := begin(&other)
	f.walks.mu.Unlock()
	<-failed
	f.walks.mu.Lock()
	defer f.walks.mu.Unlock()
	if n := first.cursor.ahead; n != 0 {
		t.Errorf("the first walk has %d files ahead", n)
	}
	if n := f.stats.aheadWasted.Load(); n != 1 {
		t.Errorf("%d bytes were fetched in vain, want that of one guess", n)
	}
	if x.guess.Load() != second || other.walk.ahead[x] != second || second.cursor.ahead != 1 {
		t.Error("the guess of the second walk is gone")
	}
	other.walk.end(f)
}
