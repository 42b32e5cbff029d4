package cache

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// noLate keeps what can wait from the journal until somebody commits something.
func (l *leaving) noLate() {
	l.f.ns.Lock()
	defer l.f.ns.Unlock()
	l.f.lateTimer.Stop()
	l.f.lateTimer = time.AfterFunc(time.Hour, func() {})
}

// takeAway takes a file's name as a conflict does, and returns its layer.
func (l *leaving) takeAway(name string) *layer {
	l.Helper()
	n := mustAt(l.T, l.f, name)
	f := n.Data.(*file)
	was := f.c.layer
	l.f.ns.Lock()
	defer l.f.ns.Unlock()
	var b batch
	l.f.takeAway(&b, l.f.tree.Root(), name, f)
	l.f.commitLate(&b)
	return was
}

// What the journal still names, because it is to hear a little later that a file has
// lost its name, is nobody else's until then: after a kill it is as it was.
func TestTakenAwayThenKilled(t *testing.T) {
	other := strings.Repeat("o", 5000)
	for _, size := range []int{5000, 200 << 10} {
		mine := strings.Repeat("m", size)
		l := newLeaving(t)
		l.has("other", other)
		l.down.Store(true)
		l.write(l.create("f"), mine)
		l.noLate()
		l.takeAway("f")
		l.want("other", other) // gets a slot
		l.kill()
		l.want("f", mine)
		l.want("other", other)
	}
}

// Once the journal knows it, the place is free again, of a file that is open with
// its close.
func TestTakenAwayIsGivenBack(t *testing.T) {
	for _, size := range []int{5000, 200 << 10} {
		for _, open := range []bool{false, true} {
			l := newLeaving(t)
			l.down.Store(true)
			l.write(l.create("f"), strings.Repeat("m", size))
			h := l.handle("f", os.O_RDONLY)
			if !open {
				_ = h.Close(t.Context())
			}
			was := l.takeAway("f")
			if open {
				_ = h.Close(t.Context())
			}
			l.f.flushLate()
			_, err := os.Stat(was.path)
			free := os.IsNotExist(err)
			if was.slot != nil {
				free = slices.Contains(l.f.room.slab.free, was.slot.n)
			}
			if !free {
				t.Errorf("of %d bytes, open %t, the place is not free", size, open)
			}
		}
	}
}

// A file of which only some is here was changed, and the store has it since a moment
// ago, but the journal still has its map. It is cut now, and a kill comes before the
// journal hears of either: it is as it was, or as it is, not zeros of its old length.
func TestCutJustAfterItWasStoredThenKilled(t *testing.T) {
	for _, size := range []int64{0, 100} {
		content := strings.Repeat("x", 200<<10)
		l := newLeaving(t)
		l.has("f", content)
		h := l.handle("f", os.O_RDWR)
		l.noLate()
		if _, err := h.WriteAt(t.Context(), []byte("changed"), 1000); err != nil {
			t.Fatal(err)
		}
		if err := h.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		f := h.f
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			f.c.mu.Lock()
			stored := !f.c.dirty && len(f.c.seals) == 0
			f.c.mu.Unlock()
			if stored {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("it is not stored")
			}
		}
		l.f.lateTimer.Stop()
		l.down.Store(true)
		f.c.use()
		if _, err := f.c.truncate(size); err != nil {
			t.Fatal(err)
		}
		f.c.done()
		l.kill()
		want := content[:1000] + "changed" + content[1007:]
		if l.f.attr(mustAt(t, l.f, "f")).Size == size {
			want = want[:size]
		}
		l.want("f", want)
	}
}
