package cache

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/memory"
	"github.com/agentfs/agentfs/backends/memory/memorytest"
)

// leaving is a series of caches over one store, each of which may be killed: the
// next one begins with a copy of the room as it was at that moment.
type leaving struct {
	*testing.T
	store *memory.Store
	down  atomic.Bool // for changes
	lost  atomic.Bool // a put is done, and its answer lost
	blind atomic.Bool // the store knows no operations
	dir   string
	f     *FS
}

func newLeaving(t *testing.T) *leaving {
	l := &leaving{T: t, store: memorytest.New(t, memory.Config{NoTmpfs: true, Size: 1 << 30}), dir: t.TempDir()}
	l.open()
	t.Cleanup(func() { l.close() })
	return l
}

func (l *leaving) open() {
	l.Helper()
	f, err := New(l.Context(), &refusing{sixMethods{l.store}, &l.down, &l.lost, &l.blind}, Config{Dir: l.dir, Identity: "test:leaving", TTL: time.Hour})
	if err != nil {
		l.Fatal(err)
	}
	l.f = f
}

// close ends a cache in order, though perhaps not all of it is stored.
func (l *leaving) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	_ = l.f.Close(ctx)
}

// kill goes on with the next process.
func (l *leaving) kill() {
	l.Helper()
	after := l.TempDir()
	if err := os.CopyFS(after, os.DirFS(l.dir)); err != nil {
		l.Fatal(err)
	}
	l.close()
	l.dir = after
	l.open()
}

// refusing is a store that takes no changes while it is down.
type refusing struct {
	backends.Store
	down, lost, blind *atomic.Bool
}

var errRefused = errors.New("the store is down")

func (s *refusing) Put(ctx context.Context, name string, body *io.SectionReader, o backends.PutOptions) (backends.Entry, error) {
	if s.down.Load() {
		return backends.Entry{}, errRefused
	}
	e, err := s.Store.Put(ctx, name, body, o)
	if err == nil && s.lost.Load() {
		return backends.Entry{}, errRefused
	}
	return e, err
}

func (s *refusing) Stat(ctx context.Context, name string) (backends.Entry, error) {
	e, err := s.Store.Stat(ctx, name)
	if s.blind.Load() {
		e.Operation = ""
	}
	return e, err
}

func (s *refusing) Remove(ctx context.Context, name string, cond backends.If) error {
	if s.down.Load() {
		return errRefused
	}
	return s.Store.Remove(ctx, name, cond)
}

// has puts a file into the store, beside the cache.
func (l *leaving) has(name, content string) {
	l.Helper()
	_, err := l.store.Put(l.Context(), name, io.NewSectionReader(strings.NewReader(content), 0, int64(len(content))), backends.PutOptions{})
	if err != nil {
		l.Fatal(err)
	}
}

func (l *leaving) handle(name string, flags int) *handle {
	l.Helper()
	h, err := l.f.Open(l.Context(), mustAt(l.T, l.f, name), flags)
	if err != nil {
		l.Fatal(err)
	}
	return h.(*handle)
}

func (l *leaving) create(name string) *handle {
	l.Helper()
	_, _, h, err := l.f.Create(l.Context(), l.f.Root(), name, os.O_RDWR, backends.CreateAttr{Mode: 0o644})
	if err != nil {
		l.Fatal(err)
	}
	return h.(*handle)
}

func (l *leaving) write(h *handle, text string) {
	l.Helper()
	if _, err := h.WriteAt(l.Context(), []byte(text), 0); err != nil {
		l.Fatal(err)
	}
	if err := h.Close(l.Context()); err != nil {
		l.Fatal(err)
	}
}

// want reads a file.
func (l *leaving) want(name, content string) {
	l.Helper()
	h := l.handle(name, os.O_RDONLY)
	p := make([]byte, len(content)+1)
	n, err := h.ReadAt(l.Context(), p, 0)
	if err != nil {
		l.Fatal(err)
	}
	if err := h.Close(l.Context()); err != nil {
		l.Error(err)
	}
	if got := string(p[:n]); got != content {
		at := 0
		for at < min(len(got), len(content)) && got[at] == content[at] {
			at++
		}
		l.Errorf("%s has %d bytes, want %d; they part at %d", name, len(got), len(content), at)
	}
}

// A write of which the journal has not heard yet leaves bytes behind the end of
// what the index knows: they don't come back when the file is made longer.
func TestKilledInAWriteBeyondTheEnd(t *testing.T) {
	for _, size := range []int{5000, 200 << 10} {
		l := newLeaving(t)
		content := strings.Repeat("x", size)
		l.has("f", content)
		l.want("f", content)
		l.close() // now the index has it
		l.open()
		h := l.handle("f", os.O_RDWR)
		if _, _, err := h.c.writeAt(t.Context(), []byte(strings.Repeat("y", 3000)), int64(size)-1000); err != nil {
			t.Fatal(err)
		}
		l.kill()
		l.want("f", content)
		l.down.Store(true)
		long := int64(size) + 2000
		if _, err := l.f.SetAttr(t.Context(), mustAt(t, l.f, "f"), backends.AttrChange{Set: backends.SetSize, Size: long}); err != nil {
			t.Fatal(err)
		}
		l.kill()
		l.want("f", content+strings.Repeat("\x00", 2000))
	}
}

// A slot that a new file has got, and has not written to yet, still says what
// was there before; so does the index, if the process is killed at once. It is
// the new file's all the same.
func TestKilledWithASlotOfAnother(t *testing.T) {
	l := newLeaving(t)
	old, fresh := strings.Repeat("old", 1000), strings.Repeat("new", 1000)
	l.has("old", old)
	l.want("old", old)
	l.close()
	l.open()
	l.down.Store(true)
	if l.f.evict(1, time.Now().UnixNano()) == 0 {
		t.Fatal("nothing was evicted")
	}
	l.create("new")
	l.kill()
	l.write(l.handle("new", os.O_RDWR), fresh)
	l.want("old", old)
	l.want("new", fresh)
}

// What nobody has opened in this mount, because it was in the journal, or can't
// be opened, as a link, is still in use when its content is shelved: its place
// is not given to another one.
func TestShelvedWithoutAnOpen(t *testing.T) {
	l := newLeaving(t)
	old, fresh := strings.Repeat("old", 1000), strings.Repeat("new", 1000)
	l.has("shelved", old)
	l.want("shelved", old)
	l.close()
	l.open()
	l.down.Store(true)
	l.write(l.create("old"), old)
	l.kill()
	l.down.Store(false)
	if _, _, err := l.f.Symlink(t.Context(), l.f.Root(), "link", old, backends.CreateAttr{Mode: 0o777}); err != nil {
		t.Fatal(err)
	}
	if err := l.f.SyncDir(t.Context(), l.f.Root()); err != nil {
		t.Fatal(err)
	}
	l.f.shelf.write(false)
	var evicted int64 // the index may have one in hand
	for end := time.Now().Add(5 * time.Second); evicted < int64(3*len(old)) && time.Now().Before(end); time.Sleep(time.Millisecond) {
		evicted += l.f.evict(1<<20, time.Now().UnixNano())
	}
	if evicted != int64(3*len(old)) {
		t.Errorf("%d bytes were evicted, want all", evicted)
	}
	l.write(l.create("new1"), fresh+"1")
	l.write(l.create("new2"), fresh+"2")
	l.want("old", old)
	if err := l.f.Rename(t.Context(), l.f.Root(), "link", l.f.Root(), "moved", 0); err != nil {
		t.Fatal(err)
	}
	if err := l.f.SyncDir(t.Context(), l.f.Root()); err != nil {
		t.Fatal(err)
	}
	l.want("new1", fresh+"1")
	l.want("new2", fresh+"2")
	r, _, err := l.store.Open(t.Context(), "moved", backends.Range{}, backends.If{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || string(got) != old {
		t.Errorf("the store has %d bytes of the link, %v", len(got), err)
	}
}

// What was put although nobody heard of it, and has been removed since, is known
// by its bytes in a store that knows no operations. They are here until the
// journal knows it otherwise.
func TestKilledAfterALostPutWasFound(t *testing.T) {
	l := newLeaving(t)
	l.blind.Store(true)
	l.lost.Store(true)
	l.write(l.create("f"), "lost")
	if err := l.f.SyncDir(t.Context(), l.f.Root()); err == nil {
		t.Fatal("nothing was lost")
	}
	l.down.Store(true)
	if err := l.f.Unlink(t.Context(), l.f.Root(), "f"); err != nil {
		t.Fatal(err)
	}
	l.f.settleMaybes(t.Context())
	l.kill()
	l.down.Store(false)
	l.lost.Store(false)
	if err := l.f.SyncDir(t.Context(), l.f.Root()); err != nil {
		t.Fatal(err)
	}
	if e, err := l.store.Stat(t.Context(), "f"); err == nil {
		t.Errorf("it was removed, and is in the store: %+v", e)
	}
}

// A file that was changed in part, and sent without an answer, is renamed by the
// next process: what it needs is only in what was sent under the old name.
func TestKilledAfterALostPutThenRenamed(t *testing.T) {
	l := newLeaving(t)
	content := strings.Repeat("x", 200<<10)
	l.has("a", content)
	l.lost.Store(true)
	l.write(l.handle("a", os.O_RDWR), "changed")
	if err := l.f.SyncDir(t.Context(), l.f.Root()); err == nil {
		t.Fatal("nothing was lost")
	}
	l.kill()
	l.lost.Store(false)
	if err := l.f.Rename(t.Context(), l.f.Root(), "a", l.f.Root(), "b", 0); err != nil {
		t.Fatal(err)
	}
	l.f.runSweep(t.Context(), nil) // before the grace is over
	if err := l.f.SyncDir(t.Context(), l.f.Root()); err != nil {
		t.Error(err)
	}
	l.want("b", "changed"+content[7:])
	if _, err := l.store.Stat(t.Context(), "a"); err == nil {
		t.Error("the old name is still there")
	}
}

// An attempt that may still arrive and one that is not settled are both known to the next
// process.
func TestKilledWithTwoUnsettled(t *testing.T) {
	l := newLeaving(t)
	l.down.Store(true)
	l.f.ns.Lock()
	var b batch
	g := &ghost{key: "f", st: &stored{key: "f", version: "v", size: 1}, maybe: &maybe{Op: "new", Earlier: []string{"before"}}}
	g.late = &maybe{Op: "late", Earlier: []string{"old", "before"}}
	l.f.addGhost(&b, g)
	err := l.f.commit(&b)
	l.f.ns.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	l.kill()
	l.f.ns.Lock()
	defer l.f.ns.Unlock()
	g = l.f.ghosts["f"]
	if g == nil || g.maybe == nil || g.maybe.Op != "new" || !slices.Equal(g.maybe.Earlier, []string{"before", "late", "old"}) {
		t.Errorf("the next process has %+v", g)
	}
	delete(l.f.ghosts, "f")
	l.f.q.drop(g.job)
}
