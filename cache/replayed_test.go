package cache_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/cache"
)

// A content that an earlier process has left in the journal, and this one has
// sent, is no content of an earlier mount that nobody has: when the budget is used
// up, its place in the slab is not given to another one while it has it.
func TestSentAfterAKillKeepsItsPlace(t *testing.T) {
	s := newShelfTest(t, map[string]string{"old1": text(30 << 10), "old2": text(30<<10 + 1)})
	s.read("old1")
	s.read("old2")
	s.remount(nil) // they are on the shelf
	s.p.setRefuse(refusing("put"))
	left := strings.Repeat("l", 10<<10)
	writeAll(t, s.f, "left", left)
	after := t.TempDir()
	if err := os.CopyFS(after, os.DirFS(s.dir)); err != nil { // a kill leaves the room as it is
		t.Fatal(err)
	}
	s.p.setRefuse(nil)
	s.unmount()
	if err := s.p.Remove(t.Context(), "left", backends.If{}); err != nil {
		t.Fatal(err)
	}
	s.dir, s.budget = after, cache.NewBudget(200<<10)
	s.mount()
	if err := s.f.SyncDir(t.Context(), s.f.Root()); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); s.f.State().Stats.Indexed < 3; {
		if time.Now().After(deadline) {
			t.Fatal("what was left is not in the index")
		}
		time.Sleep(20 * time.Millisecond)
	}
	s.p.setRefuse(refusing("put"))
	defer s.p.setRefuse(nil)
	writeAll(t, s.f, "large", text(135<<10)) // something has to go for it
	want := strings.Repeat("n", 1<<10)
	for i := range 3 { // one of them gets what has become free
		writeAll(t, s.f, fmt.Sprint("new", i), want)
	}
	if got := s.read("left"); got != left {
		t.Errorf("what was left reads otherwise: %.20q …", got)
	}
	for i := range 3 {
		if got := s.read(fmt.Sprint("new", i)); got != want {
			t.Errorf("a new file has other bytes than were written: %.20q …", got)
		}
	}
}

// writeAll makes a file with that content and closes it.
func writeAll(t *testing.T, f *cache.FS, name, content string) {
	t.Helper()
	h := newFile(t, f, f.Root(), name)
	writeAt(t, h, content, 0)
	if err := closeFile(t, h); err != nil {
		t.Error(err)
	}
}
