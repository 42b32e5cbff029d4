package cache_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/cache"
)

// What a failure has left is done by itself once the store is well: nobody calls a
// barrier here, which hurries everything.

// byItself fails unless ok is true within the time that pauses after a few failures take.
func byItself(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 600 {
		time.Sleep(100 * time.Millisecond)
		if ok() {
			return
		}
	}
	t.Errorf("%s: not within a minute", what)
}

// holds reports whether the store has content under name, "" for nothing.
func holds(t *testing.T, s backends.Store, name, content string) bool {
	r, _, err := s.Open(t.Context(), name, backends.Range{}, backends.If{})
	if err != nil {
		return content == "" && errors.Is(err, fs.ErrNotExist)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return err == nil && string(b) == content
}

func createFile(t *testing.T, f *cache.FS, name, content string) {
	t.Helper()
	h := newFile(t, f, f.Root(), name)
	writeAt(t, h, content, 0)
	if err := closeFile(t, h); err != nil {
		t.Fatal(err)
	}
}

// A removal that has failed is tried again, also if something else makes the removals be
// looked at before its pause has ended.
func TestFailedRemovalByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMemory(t)
		put(t, s, "x", "old")
		p := newProbe(s)
		f := newCache(t, p, cache.Config{TTL: time.Hour, Durability: "writeback"})
		lookup(t, f, "x")
		failures := 1
		p.setRefuse(func(op, name string) error {
			if op == "remove" && name == "x" && failures > 0 {
				failures--
				return errors.New("internal error")
			}
			return nil
		})
		if err := f.Unlink(t.Context(), f.Root(), "x"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(300 * time.Millisecond)
		createFile(t, f, "y", "new") // its upload kicks the sweep, in the pause
		byItself(t, "the removal", func() bool { return holds(t, s, "x", "") })
	})
}

// unheard is a store whose first put is done and not answered, after which nothing is
// until it is well again.
type unheard struct {
	*probe
	done, well atomic.Bool
}

func (s *unheard) Put(ctx context.Context, name string, body *io.SectionReader, o backends.PutOptions) (backends.Entry, error) {
	if s.well.Load() {
		return s.probe.Put(ctx, name, body, o)
	}
	if s.done.CompareAndSwap(false, true) {
		if _, err := s.probe.Put(ctx, name, body, o); err != nil {
			return backends.Entry{}, err
		}
	}
	return backends.Entry{}, errors.New("internal error")
}

func (s *unheard) Stat(ctx context.Context, name string) (backends.Entry, error) {
	if !s.well.Load() {
		return backends.Entry{}, errors.New("internal error")
	}
	return s.probe.Stat(ctx, name)
}

// A file that waits for the outcome of an upload of the one that had its name is stored
// once that is known.
func TestUnknownOutcomeByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		s := &unheard{probe: newProbe(m)}
		f := newCache(t, s, cache.Config{TTL: time.Hour, Durability: "writeback"})
		if _, err := f.ReadDir(t.Context(), f.Root()); err != nil {
			t.Fatal(err)
		}
		createFile(t, f, "f", "old")
		time.Sleep(300 * time.Millisecond)
		if err := f.Unlink(t.Context(), f.Root(), "f"); err != nil {
			t.Fatal(err)
		}
		createFile(t, f, "f", "new")
		time.Sleep(3 * time.Second)
		s.well.Store(true)
		byItself(t, "the upload", func() bool { return holds(t, m, "f", "new") })
	})
}

// A file whose object others need, who can't have it any more because somebody has
// replaced it, is in conflict with that one all the same.
func TestOthersLostBytesByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newParts(t)
		f := newCache(t, m, cache.Config{TTL: time.Hour, Durability: "writeback"})
		put(t, m, "a", letters(copySize, 1))
		put(t, m, "b", letters(copySize, 2))
		na, _ := lookup(t, f, "a")
		nb, _ := lookup(t, f, "b")
		a, b := openFile(t, f, na, os.O_RDWR), openFile(t, f, nb, os.O_RDWR)
		defer a.Close(t.Context())
		if _, err := f.CopyRange(t.Context(), b, 0, a, copySize, 1<<20); err != nil {
			t.Fatal(err)
		}
		put(t, m, "b", "theirs")
		writeAt(t, b, "mine", 5)
		if err := closeFile(t, b); err != nil {
			t.Logf("close: %v", err)
		}
		byItself(t, "the conflict", func() bool {
			for _, x := range f.State().Conflicts {
				if x.Name == "b" {
					return true
				}
			}
			return false
		})
	})
}

// slowPart is a store whose uploads in parts of "a" begin when they may.
type slowPart struct {
	backends.Store
	backends.Uploader
	begun, may chan struct{}
}

func (s slowPart) BeginUpload(ctx context.Context, name string, o backends.PutOptions) (backends.Upload, error) {
	if name == "a" {
		close(s.begun)
		<-s.may
	}
	return s.Uploader.BeginUpload(ctx, name, o)
}

// While a file is being sent that has bytes of another one, whoever is to replace or remove
// that one waits, and does not try again and again.
func TestWaitingForWhatIsSent(t *testing.T) {
	for _, how := range []string{"written", "removed", "made a directory"} {
		t.Run(how, func(t *testing.T) {
			m := newParts(t)
			s := slowPart{plain{m}, m, make(chan struct{}), make(chan struct{})}
			dir := t.TempDir()
			f := newCache(t, s, cache.Config{Dir: dir, TTL: time.Hour, Durability: "writeback", Grace: time.Millisecond, Identity: "test:" + t.Name()})
			model := [2]string{letters(copySize, 1), letters(copySize, 2)}
			put(t, m, "a", model[0])
			put(t, m, "b", model[1])
			na, _ := lookup(t, f, "a")
			nb, _ := lookup(t, f, "b")
			a, b := openFile(t, f, na, os.O_RDWR), openFile(t, f, nb, os.O_RDWR)
			const piece = 1 << 20
			if _, err := f.CopyRange(t.Context(), b, 0, a, copySize, piece); err != nil {
				t.Fatal(err)
			}
			synced := make(chan error)
			go func() { synced <- a.Sync(t.Context()) }()
			<-s.begun
			if how == "written" {
				writeAt(t, b, "mine", 5)
			}
			if err := closeFile(t, b); err != nil {
				t.Fatal(err)
			}
			if how != "written" {
				if err := f.Unlink(t.Context(), f.Root(), "b"); err != nil {
					t.Fatal(err)
				}
			}
			if how == "made a directory" {
				mkdir(t, f, "b", 0o755)
				createIn(t, f, "b", "x", "new")
			}
			time.Sleep(100 * time.Millisecond)
			before := journalBytes(t, dir)
			time.Sleep(300 * time.Millisecond)
			if n := journalBytes(t, dir) - before; n > 8<<10 {
				t.Errorf("the journal has grown by %d bytes while nothing happened", n)
			}
			close(s.may)
			if err := <-synced; err != nil {
				t.Errorf("fsync: %v", err)
			}
			if err := closeFile(t, a); err != nil {
				t.Errorf("close: %v", err)
			}
			storeAll(t, f)
			if get(t, m, "a") != model[0]+model[1][:piece] {
				t.Error("the store has another a")
			}
			switch how {
			case "written":
				if get(t, m, "b") != model[1][:5]+"mine"+model[1][9:] {
					t.Error("the store has another b")
				}
			case "removed":
				if !holds(t, m, "b", "") {
					t.Error("the store still has b")
				}
			default:
				if get(t, m, "b/x") != "new" {
					t.Error("the store has another b/x")
				}
			}
		})
	}
}

// journalBytes returns how much has been written to the journal's log.
func journalBytes(t *testing.T, dir string) (n int64) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(dir, "rooms", "*", "journal-*.log"))
	if err != nil || len(logs) == 0 {
		t.Fatal(logs, err)
	}
	for _, name := range logs {
		if fi, err := os.Stat(name); err == nil {
			n += fi.Size()
		}
	}
	return n
}

// slowOpen is a store that takes its time with the content of "big".
type slowOpen struct {
	*probe
	may chan struct{}
}

func (s slowOpen) Open(ctx context.Context, name string, r backends.Range, cond backends.If) (io.ReadCloser, backends.Entry, error) {
	if name == "big" {
		<-s.may
	}
	return s.probe.Open(ctx, name, r, cond)
}

// Who puts a file where another was removed does not wait for a large one that was removed
// in the same moment, and is fetched for those who have it open.
func TestRemovalsDontWaitForFetches(t *testing.T) {
	m := newMemory(t)
	s := slowOpen{newProbe(m), make(chan struct{})}
	put(t, m, "big", letters(copySize, 1))
	put(t, m, "small", "old")
	f := newCache(t, s, cache.Config{TTL: time.Hour, Durability: "writeback"})
	nb, _ := lookup(t, f, "big")
	lookup(t, f, "small")
	big := openFile(t, f, nb, os.O_RDONLY)
	for _, name := range []string{"big", "small"} {
		if err := f.Unlink(t.Context(), f.Root(), name); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(500 * time.Millisecond) // the sweep has begun
	createFile(t, f, "small", "new")
	n, _ := lookup(t, f, "small")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := openFile(t, f, n, os.O_RDONLY).Sync(ctx); err != nil || get(t, m, "small") != "new" {
		t.Errorf("fsync: %v", err)
	}
	close(s.may)
	if got := readAll(t, big, copySize); got != letters(copySize, 1) {
		t.Error("who has it open reads something else")
	}
	storeAll(t, f)
}
