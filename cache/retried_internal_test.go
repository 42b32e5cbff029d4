package cache

import (
	"io/fs"
	"testing"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/cache/journal"
)

// withoutJournal calls f while nothing can be committed.
func (l *leaving) withoutJournal(f func()) {
	l.Helper()
	j, err := journal.Open(l.TempDir())
	if err != nil {
		l.Fatal(err)
	}
	if err := j.Close(); err != nil {
		l.Fatal(err)
	}
	set := func(to *journal.Journal) (was *journal.Journal) {
		l.f.ns.Lock()
		defer l.f.ns.Unlock()
		was, l.f.journal = l.f.journal, to
		return was
	}
	was := set(j)
	defer set(was)
	f()
}

// A chmod that failed because the journal could not take it, and then succeeds, is there after
// a kill.
func TestChmodAgain(t *testing.T) {
	l := newLeaving(t)
	l.down.Store(true)
	l.write(l.create("f"), "content")
	n := mustAt(t, l.f, "f")
	change := backends.AttrChange{Set: backends.SetMode, Mode: 0o600}
	l.withoutJournal(func() {
		if _, err := l.f.SetAttr(t.Context(), n, change); err == nil {
			t.Fatal("there is a journal")
		}
	})
	if _, err := l.f.SetAttr(t.Context(), n, change); err != nil {
		t.Fatal(err)
	}
	l.kill()
	if a := l.f.tree.Attr(mustAt(t, l.f, "f")); a.Mode.Perm() != fs.FileMode(0o600) {
		t.Errorf("mode %v", a.Mode)
	}
}
