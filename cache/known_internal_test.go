package cache

import (
	"errors"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/tree"
)

// made makes a directory with a file in it, which the store has when it returns.
func made(t *testing.T, f *FS, name string) *tree.Node {
	t.Helper()
	n, _, err := f.Mkdir(t.Context(), f.Root(), name, backends.CreateAttr{Mode: 0o755})
	if err != nil {
		t.Fatal(err)
	}
	_, _, h, err := f.Create(t.Context(), n, "f", 0, backends.CreateAttr{Mode: 0o644})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(h.Flush(t.Context()), h.Close(t.Context()), f.SyncDir(t.Context(), f.Root())); err != nil {
		t.Fatal(err)
	}
	return n.(*tree.Node)
}

// renamedLater renames d to e, and stores that, 50 minutes after n was listed.
func renamedLater(t *testing.T, f *FS, n *tree.Node) {
	t.Helper()
	d := dirOf(n)
	d.mu.Lock()
	d.listed = time.Now().Add(-50 * time.Minute)
	d.mu.Unlock()
	if err := f.Rename(t.Context(), f.Root(), "d", f.Root(), "e", 0); err != nil {
		t.Fatal(err)
	}
	if err := f.SyncDir(t.Context(), f.Root()); err != nil {
		t.Fatal(err)
	}
}

// A directory that is renamed is made here, in its new place: what is in it is known
// from then on for the ttl, and not from when it was listed in the old one.
func TestRenamedIsKnownSinceThen(t *testing.T) {
	f, m := newOverMemory(t, time.Hour)
	n := made(t, f, "d")
	renamedLater(t, f, n)
	if _, err := m.Stat(t.Context(), "e/f"); err != nil {
		t.Fatal(err)
	}
	if _, valid := f.Listing(n); valid < 55*time.Minute || valid > time.Hour {
		t.Errorf("after a rename its listing is believed for %v", valid)
	}
}

// Where there was another one, empty when it was listed, it is known since then:
// others may have put something there.
func TestRenamedOverAnotherIsKnownSinceThat(t *testing.T) {
	f, _ := newOverMemory(t, time.Hour)
	n := made(t, f, "d")
	over := made(t, f, "e")
	if err := f.Unlink(t.Context(), over, "f"); err != nil {
		t.Fatal(err)
	}
	if err := f.SyncDir(t.Context(), f.Root()); err != nil {
		t.Fatal(err)
	}
	renamedLater(t, f, over)
	if _, valid := f.Listing(n); valid > 10*time.Minute {
		t.Errorf("its listing is believed for %v", valid)
	}
}

// What changes there were long ago is forgotten, and a listing from before them says
// nothing about single names any more; but the directory stays known as long as the
// ttl says, for the changes were made here as well.
func TestListingOutlivesForgottenChanges(t *testing.T) {
	f, _ := newOverMemory(t, time.Hour)
	n := made(t, f, "d")
	d := dirOf(n)
	d.mu.Lock()
	d.listed = time.Now().Add(-5 * storeTimeout)
	for i := range 2000 {
		d.changed[strconv.Itoa(i)] = time.Now().Add(-4 * storeTimeout)
	}
	d.mu.Unlock()
	d.change("last")
	d.mu.Lock()
	left, said := len(d.changed), d.listedFor("17")
	d.mu.Unlock()
	if left > 10 || !said.IsZero() {
		t.Errorf("%d changes are remembered, and the listing says of a forgotten one: %v", left, said)
	}
	if !f.listedNow(n) {
		t.Error("the directory is not known any more")
	}
}

// A removal in the store makes nothing known for longer: what somebody else puts
// under the name is seen when the ttl since it was removed here is over.
func TestRemovedIsKnownSinceThen(t *testing.T) {
	f, m := newOverMemory(t, time.Hour)
	n := made(t, f, "d")
	if err := f.Unlink(t.Context(), n, "f"); err != nil {
		t.Fatal(err)
	}
	d := dirOf(n)
	d.mu.Lock()
	at := d.absent["f"]
	d.mu.Unlock()
	if err := f.SyncDir(t.Context(), f.Root()); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Put(t.Context(), "d/f", io.NewSectionReader(strings.NewReader("theirs"), 0, 6), backends.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.Lookup(t.Context(), n, "f"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("within the ttl: %v", err)
	}
	d.mu.Lock()
	if now := d.absent["f"]; at.IsZero() || !now.Equal(at) {
		t.Errorf("removed at %v, and known to be gone since %v", at, now)
	}
	d.absent["f"] = at.Add(-time.Hour)
	d.mu.Unlock()
	if _, _, err := f.Lookup(t.Context(), n, "f"); err != nil {
		t.Errorf("after the ttl: %v", err)
	}
}
