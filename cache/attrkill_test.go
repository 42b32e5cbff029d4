package cache_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/s3"
	"github.com/agentfs/agentfs/backends/s3/s3test"
	"github.com/agentfs/agentfs/cache"
)

// An object with the same bytes has the same version in S3. A new file that is
// like one which had its name before does not get that one's mode, although the
// process was killed that knew what is recorded of it.
func TestModeOfTheFileBefore(t *testing.T) {
	p := newProbe(s3test.Fake(t).Store(t).Lean())
	next := killedWith(t, p, "test:before", func(f *cache.FS) {
		n := create(t, f, "f", "alike")
		setAttr(t, f, n, backends.AttrChange{Set: backends.SetMode, Mode: 0o700})
		syncAll(t, f)
		if err := f.Unlink(t.Context(), f.Root(), "f"); err != nil {
			t.Fatal(err)
		}
		syncAll(t, f)
		p.setRefuse(refusing("put"))
		create(t, f, "f", "alike")
	})
	p.setRefuse(nil)
	syncAll(t, next)
	if _, a := lookup(t, next, "f"); a.Mode != 0o644 {
		t.Errorf("after the kill its mode is %v", a.Mode)
	}
	if _, a := lookup(t, newCache(t, p, cache.Config{}), "f"); a.Mode != 0o644 {
		t.Errorf("for others its mode is %v", a.Mode)
	}
}

// A new directory does not get the mode of one that had its name before, also
// where what surrounds it is too large to be listed for a lookup.
func TestModeOfTheDirectoryBefore(t *testing.T) {
	p := newProbe(newMemory(t))
	for i := range 1000 {
		put(t, p.Store, fmt.Sprint("f", i), "")
	}
	one := described(t, p, cache.Config{Identity: "test:one"})
	mkdir(t, one, "d", 0o700)
	syncAll(t, one)
	if err := one.Rmdir(t.Context(), one.Root(), "d"); err != nil {
		t.Fatal(err)
	}
	syncAll(t, one)
	two := described(t, p, cache.Config{Identity: "test:two"})
	mkdir(t, two, "d", 0o755)
	syncAll(t, two)
	if _, err := two.ReadDir(t.Context(), two.Root()); err != nil {
		t.Fatal(err)
	}
	if _, a := lookup(t, two, "d"); a.Mode != fs.ModeDir|0o755 {
		t.Errorf("its mode is %v", a.Mode)
	}
}

// slowRecords is a store in which the first record takes as long as a test wants:
// before or after it is there.
type slowRecords struct {
	backends.Store
	first   sync.Once
	after   bool
	reached chan struct{}
	release chan struct{}
}

func (s *slowRecords) Put(ctx context.Context, name string, body *io.SectionReader, o backends.PutOptions) (e backends.Entry, err error) {
	wait := func() {}
	if strings.HasPrefix(path.Base(name), backends.RecordPrefix) {
		s.first.Do(func() {
			wait = func() { close(s.reached); <-s.release }
		})
	}
	if !s.after {
		wait()
	}
	e, err = s.Store.Put(ctx, name, body, o)
	if s.after {
		wait()
	}
	return e, err
}

// A directory that was renamed while its attributes were being saved does not
// come back with the record, although the process was killed before it heard
// that the record is there, and its old name can be that of a file.
func TestRecordOfARenamedDirectory(t *testing.T) {
	for _, after := range []bool{false, true} {
		p := newProbe(newMemory(t))
		s := &slowRecords{Store: p, after: after, reached: make(chan struct{}), release: make(chan struct{})}
		dir := t.TempDir()
		f, err := cache.New(t.Context(), s, cache.Config{Dir: dir, Identity: "test:slow", TTL: time.Hour, Grace: 5 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		mkdir(t, f, "d", 0o755)
		n := createIn(t, f, "d", "x", "x")
		setAttr(t, f, n, backends.AttrChange{Set: backends.SetMode, Mode: 0o700})
		<-s.reached
		if err := f.Rename(t.Context(), f.Root(), "d", f.Root(), "e", 0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(300 * time.Millisecond) // what can be done without the record
		killed := t.TempDir()
		if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		// Of the process that was killed only the request goes on.
		p.setRefuse(func(op, name string) error {
			if strings.HasPrefix(path.Base(name), backends.RecordPrefix) && op == "put" {
				return nil
			}
			return errDown
		})
		close(s.release)
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		_ = f.Close(ctx)
		cancel()
		p.setRefuse(nil)
		next := described(t, p, cache.Config{Dir: killed, Identity: "test:slow"})
		syncAll(t, next)
		for e, err := range p.Store.List(t.Context(), ".", "") {
			if err != nil || e.Name == "d" {
				t.Errorf("after=%t: the store has %s, %v", after, e.Name, err)
			}
		}
		create(t, next, "d", "a file now")
		syncAll(t, next)
		if got := get(t, p.Store, "d"); got != "a file now" {
			t.Errorf("after=%t: the store has %q", after, got)
		}
	}
}

// Who may not list can write all the same, and needs no records for it.
func TestWriteWithoutListing(t *testing.T) {
	p := newProbe(newMemory(t))
	p.setRefuse(func(op, name string) error {
		if op == "list" {
			return fs.ErrPermission
		}
		return nil
	})
	f := described(t, p, cache.Config{})
	create(t, f, "f", "plain")
	syncAll(t, f)
	if got := get(t, p.Store, "f"); got != "plain" {
		t.Errorf("the store has %q", got)
	}
}

// lostRecord is an S3 store that puts the first record, and loses the answer.
type lostRecord struct {
	*s3.Store
	first sync.Once
	lost  atomic.Bool
}

func (s *lostRecord) Put(ctx context.Context, name string, body *io.SectionReader, o backends.PutOptions) (e backends.Entry, err error) {
	e, err = s.Store.Put(ctx, name, body, o)
	if strings.HasPrefix(path.Base(name), backends.RecordPrefix) {
		s.first.Do(func() {
			e, err = backends.Entry{}, errDown
			s.lost.Store(true)
		})
	}
	return e, err
}

// Lean implements [backends.Leaner]: it is.
func (s *lostRecord) Lean() backends.Store { return s }

// A directory that was removed does not come back with a record whose answer was
// lost: S3 does not look whether there is one.
func TestLostRecordOfARenamedDirectory(t *testing.T) {
	lean := s3test.Fake(t).Store(t).Lean().(*s3.Store)
	s := &lostRecord{Store: lean}
	f := described(t, s, cache.Config{})
	mkdir(t, f, "d", 0o755)
	n := createIn(t, f, "d", "x", "x")
	setAttr(t, f, n, backends.AttrChange{Set: backends.SetMode, Mode: 0o700})
	_ = f.SyncDir(t.Context(), f.Root()) // perhaps the attempt that fails is its own
	if !s.lost.Load() {
		t.Fatal("no answer was lost")
	}
	if err := f.Rename(t.Context(), f.Root(), "d", f.Root(), "e", 0); err != nil {
		t.Fatal(err)
	}
	syncAll(t, f)
	for e, err := range lean.List(t.Context(), "d", "") {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("left: %s, %v", e.Name, err)
		}
	}
}
