package cache_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/faulty"
	"github.com/agentfs/agentfs/cache"
)

// hooked calls back around what the cache asks of its store.
type hooked struct {
	*probe
	afterStat    func(name string)
	beforeRemove func(name string)
}

func (s *hooked) Stat(ctx context.Context, name string) (backends.Entry, error) {
	e, err := s.probe.Stat(ctx, name)
	if s.afterStat != nil {
		s.afterStat(name)
	}
	return e, err
}

func (s *hooked) Remove(ctx context.Context, name string, cond backends.If) error {
	if s.beforeRemove != nil {
		s.beforeRemove(name)
	}
	return s.probe.Remove(ctx, name, cond)
}

// refusing is for setRefuse: the calls called op fail.
func refusing(op string) func(string, string) error {
	return func(o, _ string) error {
		if o == op {
			return errDown
		}
		return nil
	}
}

// remove takes a name out of the store from outside.
func remove(t *testing.T, s backends.Store, name string) {
	t.Helper()
	if err := s.Remove(t.Context(), name, backends.If{}); err != nil {
		t.Fatal(err)
	}
}

func writeAt(t *testing.T, h backends.File, content string, off int64) {
	t.Helper()
	if _, err := h.WriteAt(t.Context(), []byte(content), off); err != nil {
		t.Fatal(err)
	}
}

// newFile is a new file in dir that is open for writing.
func newFile(t *testing.T, f *cache.FS, dir backends.Node, name string) backends.File {
	t.Helper()
	_, _, h, err := f.Create(t.Context(), dir, name, os.O_RDWR, backends.CreateAttr{Mode: 0o644})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// What is written to an open file is not lost when somebody else has replaced
// or removed the file and a lookup has shown that here: it goes beside the
// name, and fsync says so.
func TestWriteToReplacedFile(t *testing.T) {
	for _, how := range []string{"replaced", "removed"} {
		t.Run(how, func(t *testing.T) {
			s := newMemory(t)
			f := newCache(t, plain{s}, cache.Config{TTL: 0})
			put(t, s, "log", "base")
			n, _ := lookup(t, f, "log")
			h := openFile(t, f, n, os.O_RDWR)
			readAll(t, h, 10)
			if how == "replaced" {
				put(t, s, "log", "theirs")
			} else {
				remove(t, s, "log")
			}
			_, _, err := f.Lookup(t.Context(), f.Root(), "log")
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			writeAt(t, h, "OURS", 4)
			if err := h.Sync(t.Context()); !errors.Is(err, backends.ErrChanged) {
				t.Errorf("fsync: %v, want ErrChanged", err)
			}
			if err := closeFile(t, h); err != nil {
				t.Errorf("close, after fsync has told: %v", err)
			}
			st := f.State()
			if len(st.Conflicts) != 1 || st.Conflicts[0].Name != "log" {
				t.Fatalf("status shows conflicts %+v", st.Conflicts)
			}
			if got := get(t, s, st.Conflicts[0].Ours); got != "baseOURS" {
				t.Errorf("beside it is %q", got)
			}
			if how == "replaced" && get(t, s, "log") != "theirs" {
				t.Errorf("the name holds %q", get(t, s, "log"))
			}
		})
	}
}

// What is written to a file while its directory is being removed, because
// nothing was in it any more for the store, is not lost either.
func TestWriteDuringRmdir(t *testing.T) {
	const ttl = 10 * time.Millisecond
	s := newMemory(t)
	p := &hooked{probe: newProbe(s)}
	f := newCache(t, p, cache.Config{TTL: ttl})
	put(t, s, "d/x", "x")
	n, _ := lookup(t, f, "d/x")
	h := openFile(t, f, n, os.O_RDWR)
	readAll(t, h, 10)
	remove(t, s, "d/x")
	time.Sleep(2 * ttl) // what d has is asked for again
	wrote := false
	p.beforeRemove = func(string) {
		writeAt(t, h, "precious", 0)
		wrote = true
	}
	rerr := f.Rmdir(t.Context(), f.Root(), "d")
	p.beforeRemove = nil
	if !wrote {
		t.Fatalf("rmdir removed nothing: %v", rerr)
	}
	cerr := closeFile(t, h)
	kept, _ := filepath.Glob(filepath.Join(f.State().Room, "kept", "*-x"))
	if !errors.Is(cerr, backends.ErrChanged) || len(kept) != 1 {
		t.Fatalf("rmdir: %v, close: %v, kept: %v", rerr, cerr, kept)
	}
	if b, err := os.ReadFile(kept[0]); err != nil || string(b) != "precious" {
		t.Errorf("kept %q, %v", b, err)
	}
}

// When the version that a change derives from is gone before all of it was
// here, what was written is kept in the room, close names the file, and the
// name is the store's version. No request is made in vain.
func TestConflictWithoutBase(t *testing.T) {
	s := newMemory(t)
	put(t, s, "f", strings.Repeat("x", 3<<20))
	p := newProbe(s)
	f := newCache(t, p, cache.Config{TTL: time.Hour})
	n, _ := lookup(t, f, "f")
	h := openFile(t, f, n, os.O_RDWR)
	writeAt(t, h, "precious", 1<<20)
	put(t, s, "f", "theirs")
	p.reset()
	err := h.Flush(t.Context())
	if st := f.State(); !errors.Is(err, backends.ErrChanged) || len(st.Conflicts) != 1 ||
		!strings.Contains(err.Error(), st.Conflicts[0].Ours) {
		t.Fatalf("close: %v; status shows conflicts %+v", err, st.Conflicts)
	}
	p.mu.Lock()
	calls := p.counts["open"] + p.counts["put"] + p.counts["stat"]
	p.mu.Unlock()
	if calls > 6 {
		t.Errorf("the conflict cost %s", p.reset())
	}
	b, rerr := os.ReadFile(f.State().Conflicts[0].Ours)
	if rerr != nil || len(b) < 1<<20+8 || string(b[1<<20:1<<20+8]) != "precious" {
		t.Errorf("the kept file has %d bytes, %v", len(b), rerr)
	}
	if err := h.Close(t.Context()); err != nil {
		t.Errorf("the release: %v", err) // the same answer once more is no harm
	}
	n, _ = lookup(t, f, "f")
	h = openFile(t, f, n, os.O_RDONLY)
	if got := readAll(t, h, 10); got != "theirs" {
		t.Errorf("the name reads %q", got)
	}
	if err := closeFile(t, h); err != nil {
		t.Error(err)
	}
}

// A change of a part of a large file that can't be uploaded before the mount
// ends is in the journal, and the next mount sends it with the rest of the
// version that it derives from.
func TestPartAfterRemount(t *testing.T) {
	s := newMemory(t)
	put(t, s, "f", strings.Repeat("x", 3<<20))
	p := newProbe(s)
	dir := t.TempDir()
	f, err := cache.New(t.Context(), p, cache.Config{Dir: dir, Identity: "test:part"})
	if err != nil {
		t.Fatal(err)
	}
	n, _ := lookup(t, f, "f")
	h := openFile(t, f, n, os.O_RDWR)
	writeAt(t, h, "precious", 1<<20)
	p.setRefuse(func(string, string) error { return errDown })
	if err := closeFile(t, h); err != nil {
		t.Errorf("close: %v, although the change is in the journal", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	var left *cache.NotStoredError
	if err := f.Close(ctx); !errors.As(err, &left) || left.Count != 1 || !strings.Contains(err.Error(), left.Room) {
		t.Errorf("Close: %v", err)
	}
	rooms, err := cache.Rooms(dir)
	if err != nil || len(rooms) != 1 || rooms[0].Pending != 1 || rooms[0].Holder != nil {
		t.Errorf("rooms: %+v, %v", rooms, err)
	}
	p.setRefuse(nil)
	f = newCache(t, p, cache.Config{Dir: dir, Identity: "test:part"})
	n, _ = lookup(t, f, "f")
	h = openFile(t, f, n, os.O_RDONLY)
	want := strings.Repeat("x", 1<<20) + "precious" + strings.Repeat("x", 2<<20-8)
	if got := readAll(t, h, 4<<20); got != want {
		t.Errorf("after a remount the file has %d other bytes", len(got))
	}
	if err := closeFile(t, h); err != nil {
		t.Error(err)
	}
	if err := f.SyncDir(t.Context(), f.Root()); err != nil {
		t.Fatal(err)
	}
	if got := get(t, s, "f"); got != want {
		t.Errorf("the store has %d other bytes", len(got))
	}
}

// An upload that took effect although its answer was lost is recognised as
// this machine's: the next fsync succeeds, and nothing is in conflict.
func TestLostAnswerOfPut(t *testing.T) {
	s := newMemory(t)
	bad := faulty.Store(plain{s})
	f := newCache(t, bad, cache.Config{TTL: time.Hour})
	n := create(t, f, "a", "one")
	bad.SetRules(faulty.On(faulty.And(faulty.OnOp("Put"), faulty.Nth(1)), faulty.LostAnswer(errDown)))
	h := openFile(t, f, n, os.O_RDWR)
	writeAt(t, h, "two", 0)
	if err := h.Flush(t.Context()); !errors.Is(err, errDown) {
		t.Errorf("close: %v, want the store's error", err)
	}
	if err := h.Sync(t.Context()); err != nil {
		t.Errorf("fsync after it: %v", err)
	}
	if err := closeFile(t, h); err != nil {
		t.Errorf("close after it: %v", err)
	}
	if st := f.State(); len(st.Conflicts) > 0 || len(st.Pending) > 0 {
		t.Errorf("conflicts %+v, pending %+v", st.Conflicts, st.Pending)
	}
	if got := get(t, s, "a"); got != "two" {
		t.Errorf("the store has %q", got)
	}
}

// A removal that took effect although its answer was lost is seen at once: the
// name is neither found nor listed, and can be removed again without harm.
func TestLostAnswerOfRemove(t *testing.T) {
	s := newMemory(t)
	bad := faulty.Store(plain{s})
	f := newCache(t, bad, cache.Config{TTL: time.Hour})
	create(t, f, "a", "one")
	if _, err := f.ReadDir(t.Context(), f.Root()); err != nil {
		t.Fatal(err)
	}
	bad.SetRules(faulty.On(faulty.And(faulty.OnOp("Remove"), faulty.Nth(1)), faulty.LostAnswer(errDown)))
	if err := f.Unlink(t.Context(), f.Root(), "a"); err != nil {
		t.Errorf("unlink: %v", err)
	}
	if list, err := f.ReadDir(t.Context(), f.Root()); err != nil || len(list) > 0 {
		t.Errorf("gone from the store, and listed: %v, %v", list, err)
	}
	if _, _, err := f.Lookup(t.Context(), f.Root(), "a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("gone from the store, and found: %v", err)
	}
	if err := f.Unlink(t.Context(), f.Root(), "a"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a second unlink: %v", err)
	}
}

// Removing a name that somebody else has removed already succeeds, or says
// that there is none.
func TestUnlinkOfGone(t *testing.T) {
	s := newMemory(t)
	f := newCache(t, plain{s}, cache.Config{TTL: time.Hour})
	create(t, f, "a", "x")
	remove(t, s, "a")
	if err := f.Unlink(t.Context(), f.Root(), "a"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("unlink: %v", err)
	}
	if _, _, err := f.Lookup(t.Context(), f.Root(), "a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("lookup after it: %v", err)
	}
}

// With a ttl of 0 a lookup sees what was there when it began, even while
// another lookup of the name waits for an older answer.
func TestLookupJoinsNoOlderAnswer(t *testing.T) {
	s := newMemory(t)
	p := &hooked{probe: newProbe(s)}
	asked, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	p.afterStat = func(string) { once.Do(func() { close(asked); <-goOn }) }
	f := newCache(t, p, cache.Config{TTL: 0})
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, _, err := f.Lookup(t.Context(), f.Root(), "new"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	})
	<-asked // the store has said "absent" to the first
	put(t, s, "new", "x")
	time.AfterFunc(50*time.Millisecond, func() { close(goOn) })
	if _, _, err := f.Lookup(t.Context(), f.Root(), "new"); err != nil {
		t.Errorf("made before the lookup began: %v", err)
	}
	wg.Wait()
}

// A file that was created and not written, not even opened for writing, is in
// the store when close returns.
func TestCreateForReading(t *testing.T) {
	s := newMemory(t)
	f := newCache(t, plain{s}, cache.Config{TTL: time.Hour})
	_, _, h, err := f.Create(t.Context(), f.Root(), "lock", os.O_RDONLY, backends.CreateAttr{Mode: 0o644})
	if err != nil {
		t.Fatal(err)
	}
	if err := closeFile(t, h); err != nil {
		t.Fatal(err)
	}
	if e, err := s.Stat(t.Context(), "lock"); err != nil || e.Size != 0 {
		t.Errorf("the store has %+v, %v", e, err)
	}
}
