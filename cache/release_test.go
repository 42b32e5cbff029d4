package cache_test

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/cache"
)

// The end of an open file, after its last mapping is gone, hears of nothing: nobody
// sees what it says. The next close(2) of the file does.
func TestReleaseHearsNothing(t *testing.T) {
	p := newProbe(newMemory(t))
	f := newCache(t, p, cache.Config{Durability: "writeback", Grace: -1})
	p.setRefuse(refusing("put"))
	h := newFile(t, f, f.Root(), "f")
	writeAt(t, h, "x", 0)
	if err := h.Flush(t.Context()); err != nil && !errors.Is(err, errDown) {
		t.Fatal(err)
	}
	p.setRefuse(nil)
	if err := h.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	put(t, p.Store, "f", "theirs") // a conflict, which is told once
	writeAt(t, h, "y", 0)
	if err := h.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); len(f.State().Conflicts) == 0; {
		if time.Now().After(deadline) {
			t.Fatal("no conflict")
		}
		time.Sleep(5 * time.Millisecond)
	}
	name := f.State().Conflicts[0].Ours
	_ = h.Close(t.Context())
	n, _ := lookup(t, f, name)
	h = openFile(t, f, n, os.O_RDWR)
	if err := h.Flush(t.Context()); !errors.Is(err, backends.ErrChanged) {
		t.Errorf("the next close says %v, want ErrChanged", err)
	}
	_ = h.Close(t.Context())
}
