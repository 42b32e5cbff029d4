package cache_test

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"sync"
	"testing"

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
