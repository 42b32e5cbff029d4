package cache

import (
	"os"
	"strings"
	"testing"
)

// What waits to be sent follows when the objects that it refers to are replaced
// or copied, and holds them.
func TestSealFollowsObjects(t *testing.T) {
	f, _ := newOverMemory(t, 0)
	v1, v2, v3 := &stored{key: "a", size: 10}, &stored{key: "a", size: 10}, &stored{key: "b", size: 10}
	c := newContent(f, 1, v1)
	first, second := c.seal(1), c.seal(2)
	defer second.release()
	c.settle(v2, first, false)
	first.release()
	if src := second.ext[0].src; src != v2 {
		t.Errorf("after a put the later seal refers to %+v", src)
	}
	c.rebase(v2, v3)
	if src := second.ext[0].src; src != v3 {
		t.Errorf("after a copy the later seal refers to %+v", src)
	}
	c.mu.Lock()
	c.ext = nil // all was overwritten since
	c.mu.Unlock()
	if all := c.sources(); len(all) != 1 || all[0] != v3 {
		t.Errorf("the sources are %+v", all)
	}
}

// A write that has not been counted yet when an upload ends is not taken for a
// part of what was sent.
func TestSettleDuringWrite(t *testing.T) {
	f, _ := newOverMemory(t, 0)
	c := newContent(f, 1, nil)
	s := c.seal(1)
	if _, _, err := c.writeAt(t.Context(), []byte("late"), 0); err != nil {
		t.Fatal(err)
	}
	c.settle(&stored{key: "a"}, s, true)
	s.release()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.dirty {
		t.Error("the content passes for the stored one")
	}
}

// Whoever reads may find out that an earlier attempt has replaced the object that the
// file derives from, while another one is being sent: it sees the map of the seal
// as it was, or as it is (go test -race).
func TestSealFollowsWhileItIsSent(t *testing.T) {
	l := newLeaving(t)
	content := strings.Repeat("x", 200<<10)
	l.has("f", content)
	l.down.Store(true)
	l.write(l.handle("f", os.O_RDWR), "changed")
	f := mustAt(t, l.f, "f").Data.(*file)
	base := f.base
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for range 500 {
			s := &sending{f: f, key: "f", prior: base, cond: condition(base), seal: f.c.seal(f.change), op: "op"}
			_, _, _ = l.f.sendSeal(t.Context(), s)
			s.seal.release()
		}
	}()
	for moving := true; moving; {
		select {
		case <-sent:
			moving = false
		default:
			var b batch
			l.f.ns.Lock()
			l.f.moveBase(&b, f, &stored{key: "f", version: base.version, size: base.size})
			l.f.ns.Unlock()
		}
	}
	l.down.Store(false)
	l.want("f", "changed"+content[7:])
}

// What was lost since it was sealed is taken from an object that the next one
// replaces, although no twin says so any more.
func TestSettleWhatWasLost(t *testing.T) {
	l := newLeaving(t)
	content := strings.Repeat("x", 200<<10)
	l.has("f", content)
	l.want("f", content) // it is here
	l.down.Store(true)
	l.write(l.handle("f", os.O_RDWR), "changed")
	f := mustAt(t, l.f, "f").Data.(*file)
	base, c := f.base, f.c
	first := c.seal(f.change)
	c.mu.Lock()
	if !c.lost(1000, 2000) {
		t.Error("nothing has what was lost")
	}
	c.recount()
	c.mu.Unlock()
	second := c.seal(f.change)
	earlier, now := &stored{key: "f", version: "earlier", size: base.size}, &stored{key: "f", version: "now", size: base.size}
	if err := l.f.follow(&sending{f: f, key: "f", prior: base, seal: first}, earlier); err != nil {
		t.Fatal(err)
	}
	c.settle(now, first, false)
	first.release()
	c.mu.Lock()
	defer c.mu.Unlock()
	for what, x := range map[string]extents{"the content": c.ext, "the later seal": second.ext} {
		if all := x.sources(); len(all) != 1 || all[0] != now {
			t.Errorf("%s refers to %+v", what, all)
		}
	}
}
