package cache

import (
	"strings"
	"testing"
)

// fileAt asks for a name, and returns the file that has it.
func (l *leaving) fileAt(name string) *file {
	l.Helper()
	n, _, err := l.f.Lookup(l.Context(), l.f.Root(), name)
	if err != nil {
		l.Fatal(err)
	}
	own, err := l.f.tree.Own(n)
	if err != nil {
		l.Fatal(err)
	}
	return own.Data.(*file)
}

// A file whose bytes are fetched for others, and that was stored meanwhile, is not pending
// because of that.
func TestFetchedForOthersAndStored(t *testing.T) {
	l := newLeaving(t)
	l.has("a", strings.Repeat("x", 200<<10))
	f := l.fileAt("a")
	if err := l.f.fetchHeld(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.job != nil || f.pending {
		t.Error("it is pending, and nobody has changed it")
	}
}

// What a file needs of the store stays as long as the journal can't take that it does not
// need it any more.
func TestFetchedForOthersWithoutJournal(t *testing.T) {
	l := newLeaving(t)
	content := strings.Repeat("x", 200<<10)
	l.has("a", content)
	f := l.fileAt("a")
	l.down.Store(true)
	if err := l.f.Rename(t.Context(), l.f.Root(), "a", l.f.Root(), "b", 0); err != nil {
		t.Fatal(err)
	}
	holds := func() int {
		l.f.ns.Lock()
		defer l.f.ns.Unlock()
		return len(f.holds)
	}
	if holds() == 0 {
		t.Fatal("it holds nothing: nothing is tested")
	}
	l.withoutJournal(func() {
		if err := l.f.fetchHeld(t.Context(), f); err == nil {
			t.Fatal("there is a journal")
		}
	})
	if holds() == 0 {
		t.Error("what the journal says that it needs may be replaced")
	}
	if err := l.f.fetchHeld(t.Context(), f); err != nil || holds() != 0 {
		t.Errorf("with a journal it still needs it: %v", err)
	}
	l.kill()
	l.want("b", content)
}
