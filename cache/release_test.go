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

// An attempt that was refused, and could not find out why, is told by the next
// close(2) as any other that failed.
func TestUnclearRefusalIsTold(t *testing.T) {
	p := newProbe(newMemory(t))
	f := newCache(t, p, cache.Config{Durability: "writeback", Grace: -1})
	h := newFile(t, f, f.Root(), "f")
	p.setRefuse(func(op, _ string) error {
		switch op {
		case "put":
			return backends.ErrChanged
		case "stat":
			return errDown
		}
		return nil
	})
	writeAt(t, h, "x", 0)
	if err := h.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); len(f.State().Errors) == 0; {
		if time.Now().After(deadline) {
			t.Fatal("no error")
		}
		time.Sleep(5 * time.Millisecond)
	}
	if err := h.Flush(t.Context()); !errors.Is(err, errDown) {
		t.Errorf("the next close says %v", err)
	}
	if n := f.State().Stats.Failures; n == 0 {
		t.Error("no failure is counted")
	}
	p.setRefuse(nil)
	if err := closeFile(t, h); err != nil {
		t.Error(err)
	}
}
