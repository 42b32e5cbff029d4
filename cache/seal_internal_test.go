package cache

import "testing"

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
