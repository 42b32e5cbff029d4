package cache

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/memory"
	"github.com/agentfs/agentfs/backends/memory/memorytest"
)

// tardy is a server that carries out some puts later, though who sent them has gone.
type tardy struct {
	backends.Store
	hold atomic.Bool
	mu   sync.Mutex
	held []func()
}

func (s *tardy) Put(ctx context.Context, name string, body *io.SectionReader, o backends.PutOptions) (backends.Entry, error) {
	data, err := io.ReadAll(io.NewSectionReader(body, 0, body.Size()))
	if err != nil {
		return backends.Entry{}, err
	}
	do := func() (backends.Entry, error) {
		return s.Store.Put(context.WithoutCancel(ctx), name, io.NewSectionReader(strings.NewReader(string(data)), 0, int64(len(data))), o)
	}
	if s.hold.Load() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.held = append(s.held, func() { _, _ = do() }) // refused or not, nobody hears it
		return backends.Entry{}, errors.New("connection reset")
	}
	return do()
}

// carryOut does what is held.
func (s *tardy) carryOut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, do := range s.held {
		do()
	}
	s.held = nil
}

// keep forgets all but the first n that are held, and reports whether there are so many.
func (s *tardy) keep(n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := len(s.held) >= n
	s.held = s.held[:min(n, len(s.held))]
	return all
}

// newTardy returns a cache of a file f that was sent to a server which holds that, and all
// that is sent until its hold ends.
func newTardy(t *testing.T) (*FS, *memory.Store, *tardy, Config) {
	t.Helper()
	m := memorytest.New(t, memory.Config{NoTmpfs: true, Size: 1 << 30})
	s := &tardy{Store: sixMethods{m}}
	s.hold.Store(true)
	cfg := Config{TTL: time.Second, Dir: t.TempDir(), Identity: "test:straggling"}
	f := openInternal(t, s, cfg)
	newInternal(t, f, "f", 5)
	time.Sleep(300 * time.Millisecond)
	return f, m, s, cfg
}

// straggling is a cache of a file f that was sent, and removed before anybody heard what
// became of that: nothing so far.
func straggling(t *testing.T) (*FS, *memory.Store, *tardy, Config) {
	t.Helper()
	f, m, s, cfg := newTardy(t)
	if !s.keep(1) {
		t.Fatal("nothing was sent")
	}
	if err := f.Unlink(t.Context(), f.Root(), "f"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	s.hold.Store(false)
	return f, m, s, cfg
}

// shown reports whether the cache has a name by a lookup, and in a listing.
func shown(t *testing.T, f *FS, name string) bool {
	t.Helper()
	_, _, err := f.Lookup(t.Context(), f.Root(), name)
	list, lerr := f.ReadDir(t.Context(), f.Root())
	if lerr != nil || err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err, lerr)
	}
	for _, e := range list {
		if e.Name == name {
			return true
		}
	}
	return err == nil
}

// comesToNothing has the server carry out what it holds of f, which nobody is to see, and
// which is to go.
func comesToNothing(t *testing.T, f *FS, m *memory.Store, s *tardy) {
	t.Helper()
	s.carryOut()
	if _, err := m.Stat(t.Context(), "f"); err != nil {
		t.Fatal(err)
	}
	for range 15 {
		if shown(t, f, "f") {
			t.Fatal("the name has come back")
		}
		time.Sleep(time.Second)
	}
	if e, err := m.Stat(t.Context(), "f"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still in the store: %+v, %v", e, err)
	}
	f.ns.Lock()
	defer f.ns.Unlock()
	if len(f.stragglers.by)+len(f.ghosts) > 0 {
		t.Errorf("left are %v, %v", f.stragglers.by, f.ghosts)
	}
}

// An upload that the server carries out after its name was removed, and after somebody has
// looked, does not bring the name back: nobody sees it, and it is removed. So it is in the
// next process.
func TestStragglerIsRemoved(t *testing.T) {
	for _, next := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			f, m, s, cfg := straggling(t)
			if next {
				closeNow(t, f)
				f = openInternal(t, s, cfg)
				time.Sleep(time.Second)
			}
			defer func() { closeNow(t, f) }()
			comesToNothing(t, f, m, s)
		})
	}
}

// What is put under the name meanwhile knows of it, and is in conflict with nobody.
func TestStragglerIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, m, s, _ := straggling(t)
		defer closeNow(t, f)
		newInternal(t, f, "f", 7)
		s.carryOut() // before that is sent
		time.Sleep(time.Second)
		if e, err := m.Stat(t.Context(), "f"); err != nil || e.Size != 7 {
			t.Errorf("the store has %+v, %v", e, err)
		}
		if st := f.State(); len(st.Conflicts) > 0 || len(st.Pending) > 0 {
			t.Errorf("conflicts %+v, pending %+v", st.Conflicts, st.Pending)
		}
	})
}

// What somebody else puts there is shown once it has been looked at.
func TestNoStraggler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, m, s, _ := straggling(t)
		defer closeNow(t, f)
		s.keep(0)
		if _, err := m.Put(t.Context(), "f", io.NewSectionReader(strings.NewReader("theirs"), 0, 6), backends.PutOptions{Operation: "their own"}); err != nil {
			t.Fatal(err)
		}
		for i := range 5 {
			time.Sleep(time.Second)
			if shown(t, f, "f") {
				return
			}
			t.Log("not shown after", i+1, "seconds")
		}
		t.Error("somebody else's file is hidden")
	})
}

// It waits for nobody: a barrier and the end of the mount don't wait for it either.
func TestStragglerHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _, _, _ := straggling(t)
		began := time.Now()
		if err := f.SyncDir(t.Context(), f.Root()); err != nil {
			t.Error(err)
		}
		if st := f.State(); len(st.Pending) > 0 {
			t.Errorf("pending %+v", st.Pending)
		}
		closeNow(t, f)
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// So it is with what was sent again, by the next process or this one, and is removed then.
func TestStragglerOfWhatIsSentAgain(t *testing.T) {
	for _, next := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			f, m, s, cfg := newTardy(t)
			newInternal(t, f, "kept", 5)
			time.Sleep(300 * time.Millisecond)
			if next {
				ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
				defer cancel()
				if err := f.Close(ctx); err == nil {
					t.Fatal("it was stored")
				}
				f = openInternal(t, s, cfg)
			}
			s.hold.Store(false)
			defer func() { closeNow(t, f) }()
			if err := f.SyncDir(t.Context(), f.Root()); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if time.Sleep(time.Second); !shown(t, f, "f") {
					t.Fatal("it is not shown")
				}
			}
			if next { // in which the file is one of the store's
				closeNow(t, f)
				f = openInternal(t, s, cfg)
				if !shown(t, f, "f") {
					t.Fatal("it is not shown")
				}
			}
			if err := f.Unlink(t.Context(), f.Root(), "f"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			comesToNothing(t, f, m, s)
			if !shown(t, f, "kept") {
				t.Error("the other file is not shown")
			}
		})
	}
}
