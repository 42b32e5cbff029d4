package cache_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/faulty"
	"github.com/agentfs/agentfs/cache"
)

func rename(t *testing.T, f *cache.FS, from backends.Node, oldName string, to backends.Node, newName string) {
	t.Helper()
	if err := f.Rename(t.Context(), from, oldName, to, newName, 0); err != nil {
		t.Fatalf("rename of %s to %s: %v", oldName, newName, err)
	}
}

// A file that is not in the store yet is renamed over one that is, and then
// away from there: the replaced one doesn't come back, whether the new one is
// still open or its upload failed.
func TestRenameChain(t *testing.T) {
	for _, how := range []string{"open", "upload failed"} {
		t.Run(how, func(t *testing.T) {
			s := newMemory(t)
			p := newProbe(s)
			f := newCache(t, p, cache.Config{TTL: 0})
			put(t, s, "B", "old")
			h := newFile(t, f, f.Root(), "A")
			writeAt(t, h, "new", 0)
			rename(t, f, f.Root(), "A", f.Root(), "B")
			if how == "upload failed" {
				p.setRefuse(refusing("put"))
				if err := closeFile(t, h); !errors.Is(err, errDown) {
					t.Errorf("close: %v, want the store's error", err)
				}
				p.setRefuse(nil)
			}
			rename(t, f, f.Root(), "B", f.Root(), "C")
			if how == "open" {
				if err := closeFile(t, h); err != nil {
					t.Fatal(err)
				}
			}
			for _, name := range []string{"A", "B"} {
				if _, _, err := f.Lookup(t.Context(), f.Root(), name); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s was renamed away: %v", name, err)
				}
			}
			if got := get(t, s, "C"); got != "new" {
				t.Errorf("C holds %q", got)
			}
		})
	}
}

// putHook takes the place of Put while it is set.
type putHook struct {
	backends.Store
	mu   sync.Mutex
	hook func() error
}

func (p *putHook) set(hook func() error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hook = hook
}

func (p *putHook) Put(ctx context.Context, name string, body *io.SectionReader, o backends.PutOptions) (backends.Entry, error) {
	p.mu.Lock()
	hook := p.hook
	p.mu.Unlock()
	if hook != nil {
		return backends.Entry{}, hook()
	}
	return p.Store.Put(ctx, name, body, o)
}

// A rename that fails takes no write with it that came while the store was
// being asked.
func TestWriteDuringFailedRename(t *testing.T) {
	rounds := 100
	if testing.Short() {
		rounds = 20
	}
	s := newMemory(t)
	p := &putHook{Store: plain{s}}
	f := newCache(t, p, cache.Config{TTL: time.Hour})
	for i := range rounds {
		put(t, s, strconv.Itoa(i), "base")
	}
	lost := 0
	for i := range rounds {
		name := strconv.Itoa(i)
		n, _ := lookup(t, f, name)
		h := openFile(t, f, n, os.O_RDWR)
		readAll(t, h, 10)
		var once sync.Once
		written := make(chan struct{})
		write := func() {
			defer close(written)
			if _, err := h.WriteAt(t.Context(), []byte("OURS"), 0); err != nil {
				t.Error(err)
			}
		}
		p.set(func() error {
			once.Do(func() { go write() })
			time.Sleep(2 * time.Millisecond)
			return errDown
		})
		if err := f.Rename(t.Context(), f.Root(), name, f.Root(), name+".new", 0); err != nil {
			t.Fatalf("rename: %v", err)
		}
		p.set(nil)
		once.Do(write) // the store was not asked while the hook was there
		<-written
		if err := h.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := closeFile(t, h); err != nil {
			t.Fatal(err)
		}
		if get(t, s, name+".new") != "OURS" {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d acknowledged writes are lost", lost, rounds)
	}
}

// A rename of a directory that the store can't follow at once takes effect here,
// over an empty directory too, shows up as pending, and is followed later.
func TestRenameOfDirectoryInAnOutage(t *testing.T) {
	s := newMemory(t)
	p := newProbe(s)
	f := newCache(t, p, cache.Config{TTL: 0})
	put(t, s, "d/x", "x")
	if err := s.Mkdir(t.Context(), "e", backends.AttrChange{}); err != nil {
		t.Fatal(err)
	}
	p.setRefuse(func(op, _ string) error {
		if op == "put" || op == "remove" {
			return errDown
		}
		return nil
	})
	rename(t, f, f.Root(), "d", f.Root(), "e")
	n, _ := lookup(t, f, "e/x")
	if _, _, err := f.Lookup(t.Context(), f.Root(), "d"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old name: %v", err)
	}
	if get(t, s, "d/x") != "x" {
		t.Error("the only copy is gone")
	}
	h := openFile(t, f, n, os.O_RDONLY)
	if got := readAll(t, h, 10); got != "x" {
		t.Errorf("it reads %q", got)
	}
	if err := closeFile(t, h); err != nil {
		t.Error(err)
	}
	if st := f.State(); len(st.Errors) == 0 {
		t.Errorf("no error is shown: %+v", st)
	}
	p.setRefuse(nil)
	if err := f.SyncDir(t.Context(), f.Root()); err != nil {
		t.Fatal(err)
	}
	if got := get(t, s, "e/x"); got != "x" {
		t.Errorf("the store has %q", got)
	}
	if _, err := s.Stat(t.Context(), "d/x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old name is in the store: %v", err)
	}
}

// A directory is moved while a file in it has replaced another and waits for
// its first close: the close is in conflict with nobody.
func TestMoveDirectoryWithReplacedFile(t *testing.T) {
	s := newMemory(t)
	f := newCache(t, plain{s}, cache.Config{TTL: time.Hour})
	put(t, s, "d/B", "old")
	d, _ := lookup(t, f, "d")
	lookup(t, f, "d/B")
	h := newFile(t, f, d, "A")
	writeAt(t, h, "new", 0)
	rename(t, f, d, "A", d, "B")
	rename(t, f, f.Root(), "d", f.Root(), "e")
	if err := closeFile(t, h); err != nil {
		t.Errorf("close: %v", err)
	}
	if c := f.State().Conflicts; len(c) > 0 {
		t.Errorf("in conflict with nobody: %+v", c)
	}
	if got := get(t, s, "e/B"); got != "new" {
		t.Errorf("the store has %q", got)
	}
}

// Removing a directory and renaming between it and its parent don't wait for
// each other for ever, although the parent is the younger of the two.
func TestRmdirAgainstRename(t *testing.T) {
	f := newCache(t, plain{newMemory(t)}, cache.Config{TTL: time.Hour})
	mkdir := func(name string) backends.Node {
		n, _, err := f.Mkdir(t.Context(), f.Root(), name, backends.CreateAttr{Mode: 0o755})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	below, parent := mkdir("n"), mkdir("p")
	rename(t, f, f.Root(), "n", parent, "n")
	for _, x := range []struct {
		dir  backends.Node
		name string
	}{{parent, "x"}, {below, "y"}, {below, "stay"}} {
		if err := closeFile(t, newFile(t, f, x.dir, x.name)); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 2000 {
			if err := f.Rmdir(t.Context(), parent, "n"); !errors.Is(err, backends.ErrNotEmpty) {
				t.Errorf("rmdir: %v, want ErrNotEmpty", err)
				return
			}
		}
	})
	wg.Go(func() {
		for range 1000 {
			err := f.Rename(t.Context(), below, "y", parent, "y", 0)
			if err == nil {
				err = f.Rename(t.Context(), parent, "y", below, "y", 0)
			}
			if err != nil {
				t.Errorf("rename: %v", err)
				return
			}
		}
	})
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatal("they wait for each other")
	}
}

// vanishing is a store without a walk of its own in which a directory goes
// between the listing of the one above and its own.
type vanishing struct {
	backends.Store
	gone string
}

func (v *vanishing) List(ctx context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	if dir == v.gone {
		return func(yield func(backends.Entry, error) bool) {
			yield(backends.Entry{}, &fs.PathError{Op: "list", Path: dir, Err: fs.ErrNotExist})
		}
	}
	return v.Store.List(ctx, dir, after)
}

// A directory is renamed with all that is in it, also if one below is removed
// elsewhere while it is listed.
func TestRenameOfDirectoryThatIsListed(t *testing.T) {
	m := newMemory(t)
	put(t, m, "d/a/f", "gone")
	for _, name := range []string{"d/b/f", "d/c", "d/z/z/f"} {
		put(t, m, name, name)
	}
	c := newCache(t, &vanishing{Store: m, gone: "d/a"}, cache.Config{TTL: time.Hour})
	lookup(t, c, "d/c") // something of it is known
	lookup(t, c, "d/b/f")
	rename(t, c, c.Root(), "d", c.Root(), "e")
	if err := c.SyncDir(t.Context(), c.Root()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"b/f", "c", "z/z/f"} {
		lookup(t, c, "e/"+name)
		if got := get(t, m, "e/"+name); got != "d/"+name {
			t.Errorf("e/%s: %q", name, got)
		}
	}
}

// A close while what it sees is on its way sends nothing more: neither then, nor
// in the middle of the next write.
func TestCloseTwiceWhileSent(t *testing.T) {
	m := newMemory(t)
	put(t, m, "f", letters(20_000, 1))
	bad := faulty.Store(m, faulty.On(faulty.OnOp("Put"), faulty.Delay(100*time.Millisecond)))
	c := newCache(t, bad, cache.Config{TTL: time.Hour, Grace: time.Millisecond, Durability: "writeback"})
	n, _ := lookup(t, c, "f")
	h := openFile(t, c, n, os.O_RDWR)
	writeAt(t, h, "first", 0)
	for range 2 {
		if err := h.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Millisecond) // the upload has begun
	}
	for bad.Calls("Put") < 1 || len(c.State().Pending) > 0 {
		time.Sleep(time.Millisecond)
	}
	writeAt(t, h, "second", 0)
	rename(t, c, c.Root(), "f", c.Root(), "g") // looks at it again
	rename(t, c, c.Root(), "g", c.Root(), "f")
	time.Sleep(50 * time.Millisecond)
	if puts := bad.Calls("Put"); puts != 1 {
		t.Errorf("%d uploads, want 1: nothing was closed since", puts)
	}
	if err := closeFile(t, h); err != nil {
		t.Fatal(err)
	}
	if err := c.SyncDir(t.Context(), c.Root()); err != nil {
		t.Fatal(err)
	}
	if got := get(t, m, "f"); got[:6] != "second" || len(got) != 20_000 {
		t.Errorf("the store has %q and %d bytes", got[:6], len(got))
	}
}
