package cache_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/cache"
)

// lateAnswers is a store that lists in pages, the first of which it sends only
// when a test says so: what it says is how it was when it was asked.
type lateAnswers struct {
	*probe
	first sync.Once
	asked chan struct{}
	send  chan struct{}
}

func (s *lateAnswers) WalkPage(ctx context.Context, dir, after string) (backends.Page, error) {
	p, err := backends.PageOf(backends.Walk(ctx, s.Store, dir, after), 1000)
	s.first.Do(func() {
		close(s.asked)
		<-s.send
	})
	return p, err
}

// What an earlier mount has removed, and this one removes from the store, does
// not come back with an answer that is older than that, although nobody knew the
// directory when it was removed.
func TestRemovedWhileAskedAfterAKill(t *testing.T) {
	for _, name := range []string{"dir/f", "dir/sub/f", "dir/empty/"} {
		p := newProbe(newMemory(t))
		put(t, p.Store, "dir/other", "other")
		put(t, p.Store, "dir/sub/other", "other")
		path, isDir := strings.CutSuffix(name, "/")
		if isDir {
			if err := p.Store.Mkdir(t.Context(), path, backends.AttrChange{}); err != nil {
				t.Fatal(err)
			}
		} else {
			put(t, p.Store, path, "content")
		}
		p.setRefuse(refusing("remove"))
		s := &lateAnswers{probe: p, asked: make(chan struct{}), send: make(chan struct{})}
		dir, base := split(path)
		f := killedOver(t, p, s, "test:late", func(first *cache.FS) {
			d, _ := lookup(t, first, dir)
			if _, err := first.ReadDir(t.Context(), d); err != nil { // it has more than that
				t.Fatal(err)
			}
			remove := first.Unlink
			if isDir {
				remove = first.Rmdir
			}
			if err := remove(t.Context(), d, base); err != nil {
				t.Fatal(err)
			}
		})
		there := make(chan error)
		go func() {
			_, err := f.ReadDir(t.Context(), f.Root())
			there <- err
		}()
		<-s.asked
		p.setRefuse(nil)
		syncAll(t, f)
		close(s.send)
		if err := <-there; err != nil {
			t.Fatal(err)
		}
		d, _ := lookup(t, f, dir)
		if _, _, err := f.Lookup(t.Context(), d, base); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s was removed, and its lookup says %v", name, err)
		}
	}
}

func split(path string) (dir, base string) {
	i := strings.LastIndexByte(path, '/')
	return path[:i], path[i+1:]
}

// latePut is a store in which a put seems to fail, and is carried out just before
// the next removal.
type latePut struct {
	*probe
	mu   sync.Mutex
	late bool
	put  func()
}

func (s *latePut) Put(ctx context.Context, name string, body *io.SectionReader, o backends.PutOptions) (backends.Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.late {
		if s.put != nil {
			s.put()
		}
		return s.probe.Put(ctx, name, body, o)
	}
	content, err := io.ReadAll(body)
	if s.put == nil && err == nil {
		s.put = func() {
			_, _ = s.Store.Put(context.Background(), name, io.NewSectionReader(bytes.NewReader(content), 0, int64(len(content))), o)
		}
	}
	return backends.Entry{}, errDown
}

func (s *latePut) Remove(ctx context.Context, name string, cond backends.If) error {
	s.mu.Lock()
	put := s.put
	s.put = nil
	s.mu.Unlock()
	if put != nil {
		put()
	}
	return s.probe.Remove(ctx, name, cond)
}

// What was put and seemed to fail may arrive when the name has been looked at and
// is about to be removed: it is our own, and goes as well, also if the process is
// killed in between.
func TestRemovedWhileALostPutArrives(t *testing.T) {
	for _, killed := range []bool{false, true} {
		p := newProbe(newMemory(t))
		s := &latePut{probe: p}
		dir := t.TempDir()
		cfg := cache.Config{Dir: dir, Identity: "test:late", TTL: time.Hour, Grace: 5 * time.Millisecond}
		f, err := cache.New(t.Context(), s, cfg)
		if err != nil {
			t.Fatal(err)
		}
		create(t, f, "f", "what it was")
		syncAll(t, f)
		s.mu.Lock()
		s.late = true
		s.mu.Unlock()
		n, _ := lookup(t, f, "f")
		h := openFile(t, f, n, os.O_RDWR)
		writeAt(t, h, "what it is", 0)
		if err := h.Sync(t.Context()); err == nil {
			t.Fatal("nothing has failed")
		}
		if killed {
			p.setRefuse(refusing("remove"))
		}
		if err := f.Unlink(t.Context(), f.Root(), "f"); err != nil {
			t.Fatal(err)
		}
		if killed {
			// Looked at, and the removal is on its way.
			for p.count("remove") == 0 {
				time.Sleep(time.Millisecond)
			}
			time.Sleep(100 * time.Millisecond)
			cfg.Dir = t.TempDir()
			if err := os.CopyFS(cfg.Dir, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			_ = f.Close(ctx)
			cancel()
			p.setRefuse(nil)
			f, err = cache.New(t.Context(), p, cfg)
			if err != nil {
				t.Fatal(err)
			}
		}
		syncAll(t, f)
		if _, err := p.Store.Stat(t.Context(), "f"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("killed=%t: it was removed, and the store says %v", killed, err)
		}
		if !killed {
			_ = closeFile(t, h)
		}
		if err := f.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// What is put under such a name meanwhile derives from it, and is in no conflict
// with this machine's own content.
func TestReplacedWhileALostPutArrives(t *testing.T) {
	p := newProbe(newMemory(t))
	s := &latePut{probe: p}
	f := described(t, s, cache.Config{})
	late := func(on bool) {
		s.mu.Lock()
		s.late = on
		s.mu.Unlock()
	}
	create(t, f, "f", "what it was")
	syncAll(t, f)
	late(true)
	n, _ := lookup(t, f, "f")
	h := openFile(t, f, n, os.O_RDWR)
	writeAt(t, h, "what it is", 0)
	if err := h.Sync(t.Context()); err == nil {
		t.Fatal("nothing has failed")
	}
	p.setRefuse(refusing("remove"))
	if err := f.Unlink(t.Context(), f.Root(), "f"); err != nil {
		t.Fatal(err)
	}
	p.reset()
	for deadline := time.Now().Add(10 * time.Second); p.count("stat") == 0; { // it is looked at
		if time.Now().After(deadline) {
			t.Fatal("nobody looks")
		}
		time.Sleep(time.Millisecond)
	}
	time.Sleep(20 * time.Millisecond)
	late(false)
	create(t, f, "f", "new")
	p.setRefuse(nil)
	syncAll(t, f)
	if c := f.State().Conflicts; len(c) > 0 {
		t.Errorf("conflicts with nobody: %+v", c)
	}
	if got := get(t, p.Store, "f"); got != "new" {
		t.Errorf("the store has %q", got)
	}
	_ = closeFile(t, h)
}

// heldPut is a store in which a put waits for the test.
type heldPut struct {
	*probe
	held    bool
	reached chan struct{}
	release chan struct{}
}

func (s *heldPut) Put(ctx context.Context, name string, body *io.SectionReader, o backends.PutOptions) (backends.Entry, error) {
	if s.held {
		close(s.reached)
		<-s.release
		s.held = false
	}
	return s.probe.Put(ctx, name, body, o)
}

// The bytes that are kept to know an attempt by don't stay when it was refused.
func TestRefusedAfterRemovalLeavesNothing(t *testing.T) {
	p := newProbe(newMemory(t))
	s := &heldPut{probe: p, reached: make(chan struct{}), release: make(chan struct{})}
	dir := t.TempDir()
	f := described(t, s, cache.Config{Dir: dir})
	create(t, f, "f", "what it was")
	syncAll(t, f)
	s.held = true
	n, _ := lookup(t, f, "f")
	h := openFile(t, f, n, os.O_RDWR)
	writeAt(t, h, "ours", 0)
	if err := closeFile(t, h); err != nil {
		t.Fatal(err)
	}
	<-s.reached
	if err := f.Unlink(t.Context(), f.Root(), "f"); err != nil {
		t.Fatal(err)
	}
	put(t, p.Store, "f", "theirs")
	close(s.release)
	syncAll(t, f)
	if got := get(t, p.Store, "f"); got != "theirs" {
		t.Errorf("the store has %q", got)
	}
	left, err := filepath.Glob(filepath.Join(dir, "rooms", "*", "content", "ghost-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
