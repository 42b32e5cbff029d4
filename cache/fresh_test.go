package cache_test

import (
	"context"
	"fmt"
	"io/fs"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/cache"
)

// asking is a probe of a store that, like S3, asks less for a file than for a
// name, lists page by page, and has a name and what is below it in one listing.
type asking struct{ *probe }

func (a asking) StatFile(ctx context.Context, name string) (backends.Entry, error) {
	if err := a.call("statfile", name); err != nil {
		return backends.Entry{}, err
	}
	return a.Store.Stat(ctx, name)
}

func (a asking) WalkPage(ctx context.Context, dir, after string) (backends.Page, error) {
	if err := a.call("page", dir); err != nil {
		return backends.Page{}, err
	}
	return backends.WalkPage(ctx, a.Store, dir, after)
}

func (a asking) StatWalk(ctx context.Context, name string) (backends.Entry, backends.Page, error) {
	if err := a.call("look", name); err != nil {
		return backends.Entry{}, backends.Page{}, err
	}
	return backends.StatWalk(ctx, a.Store, name)
}

// After the ttl a lone question about a file that was known costs one request for
// that file, and a second one soon after it one listing for all that is beside it.
func TestLoneQuestion(t *testing.T) {
	const ttl = 300 * time.Millisecond
	s := asking{newProbe(newMemory(t))}
	for i := range 20 {
		put(t, s.Store, fmt.Sprintf("d/f%02d", i), "x")
	}
	f := newCache(t, s, cache.Config{TTL: ttl})
	lookup(t, f, "d/f00")
	costs := func(what, want string) {
		t.Helper()
		if got := s.reset(); got != want {
			t.Errorf("%s cost %s, want %s", what, got, want)
		}
	}
	// Longer than a second: what follows is no second question.
	old := func() { time.Sleep(time.Second + ttl) }
	s.reset()

	old()
	was, _ := lookup(t, f, "d/f01")
	costs("a lone question", "map[statfile:1]")
	lookup(t, f, "d/f01")
	costs("the same within the ttl", "map[]")
	lookup(t, f, "d/f02")
	costs("a second question", "map[page:1]")
	for i := range 20 {
		lookup(t, f, fmt.Sprintf("d/f%02d", i))
	}
	costs("all names after that", "map[]")

	old()
	put(t, s.Store, "d/f01", "changed")
	if now, a := lookup(t, f, "d/f01"); now == was || a.Size != 7 {
		t.Errorf("what was changed elsewhere is seen as it was: %+v", a)
	}
	// What is recorded of another version has to be asked for.
	costs("a file that was changed elsewhere", "map[list:1 statfile:1]")

	old()
	if err := s.Store.Remove(t.Context(), "d/f03", backends.If{}); err != nil {
		t.Fatal(err)
	}
	put(t, s.Store, "d/f03/below", "x")
	if _, a := lookup(t, f, "d/f03"); !a.Mode.IsDir() {
		t.Errorf("a directory that took a file's place is %v", a.Mode)
	}
}

// With a ttl of 0 each question goes to the store, and sees at once what others
// have changed, attributes too.
func TestNoTTL(t *testing.T) {
	s := asking{newProbe(newMemory(t))}
	put(t, s.Store, "f", "x")
	f := newCache(t, s, cache.Config{})
	other := newCache(t, s, cache.Config{TTL: time.Hour, Identity: "the same elsewhere"})
	lookup(t, f, "f")
	for range 3 {
		s.reset()
		lookup(t, f, "f")
		if got := s.reset(); got != "map[list:1 statfile:1]" {
			t.Errorf("a lookup cost %s", got)
		}
	}
	n, _ := lookup(t, other, "f")
	setAttr(t, other, n, backends.AttrChange{Set: backends.SetMode, Mode: 0o600})
	if err := other.SyncDir(t.Context(), other.Root()); err != nil {
		t.Fatal(err)
	}
	if _, a := lookup(t, f, "f"); a.Mode != fs.FileMode(0o600) {
		t.Errorf("the mode that it was given elsewhere is not seen: %v", a.Mode)
	}
}

// What another machine records of a file whose content stays is seen with the next
// listing, and for 12 ttls at most not before it.
func TestRecordsOfLoneFile(t *testing.T) {
	const ttl = 50 * time.Millisecond
	s := asking{newProbe(newMemory(t))}
	put(t, s.Store, "f", "x")
	put(t, s.Store, "g", "x")
	f := newCache(t, s, cache.Config{TTL: ttl})
	lookup(t, f, "f")
	other := newCache(t, s, cache.Config{TTL: time.Hour, Identity: "the same elsewhere"})
	n, _ := lookup(t, other, "f")
	setAttr(t, other, n, backends.AttrChange{Set: backends.SetMode, Mode: 0o600})
	if err := other.SyncDir(t.Context(), other.Root()); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * ttl)
	if _, err := f.ReadDir(t.Context(), f.Root()); err != nil {
		t.Fatal(err)
	}
	if _, a := lookup(t, f, "f"); a.Mode != 0o600 {
		t.Errorf("after a listing: %v", a.Mode)
	}
	setAttr(t, other, n, backends.AttrChange{Set: backends.SetMode, Mode: 0o640})
	if err := other.SyncDir(t.Context(), other.Root()); err != nil {
		t.Fatal(err)
	}
	time.Sleep(13*ttl + time.Second)
	if _, a := lookup(t, f, "f"); a.Mode != 0o640 {
		t.Errorf("after 13 ttls: %v", a.Mode)
	}
}

// What somebody else puts into a directory that was made here is seen when the
// ttl since then is over, however long it takes until the store has the
// directory.
func TestPutIntoANewDirectory(t *testing.T) {
	const ttl = 200 * time.Millisecond
	m := newMemory(t)
	c := newCache(t, plain{m}, cache.Config{TTL: ttl, Durability: "writeback", Grace: time.Hour})
	if _, _, err := c.Mkdir(t.Context(), c.Root(), "d", backends.CreateAttr{Mode: 0o755}); err != nil {
		t.Fatal(err)
	}
	put(t, m, "d/f", "theirs")
	time.Sleep(ttl)
	if err := c.SyncDir(t.Context(), c.Root()); err != nil {
		t.Fatal(err)
	}
	lookup(t, c, "d/f")
}
