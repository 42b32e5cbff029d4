package crash_test

import (
	"fmt"
	"sync"
	"time"
)

// watcher looks at a store again and again while somebody works on it, as
// another machine might.
type watcher struct {
	place place
	end   chan struct{}
	wg    sync.WaitGroup
	// seen has for each path the contents that were there, in order.
	seen map[string][]string
	err  error
}

// newWatcher begins to watch.
func newWatcher(p place) *watcher {
	w := &watcher{place: p, end: make(chan struct{}), seen: map[string][]string{}}
	w.wg.Go(w.watch)
	return w
}

func (w *watcher) watch() {
	pause := 20 * time.Millisecond
	if w.place.Server != nil {
		pause = 150 * time.Millisecond
	}
	for {
		all, err := w.place.look()
		if err != nil && w.err == nil {
			w.err = err
		}
		for path, e := range all {
			if e.dir {
				continue
			}
			s := sum(e.data)
			if l := w.seen[path]; len(l) == 0 || l[len(l)-1] != s {
				w.seen[path] = append(l, s)
			}
		}
		select {
		case <-w.end:
			return
		case <-time.After(pause):
		}
	}
}

func (w *watcher) stop() {
	close(w.end)
	w.wg.Wait()
}

// check compares what was seen with the contents that each name had at some
// close, fsync or rename: each is one of them, whole, and never an older one
// follows a newer one.
func (w *watcher) check(history map[string][]string) error {
	if w.err != nil {
		return fmt.Errorf("the store could not be read: %w", w.err)
	}
	for path, seen := range w.seen {
		at := 0
		for i, s := range seen {
			next := at
			for next < len(history[path]) && history[path][next] != s && history[path][next] != anything {
				next++
			}
			if next < len(history[path]) {
				at = next
				continue
			}
			for before := range at {
				if history[path][before] == s {
					return fmt.Errorf("%s went back in the store: sample %d is content %d of %d, after content %d", path, i, before, len(history[path]), at)
				}
			}
			return fmt.Errorf("%s held something in the store (sample %d) that it never had at a close, fsync or rename", path, i)
		}
	}
	return nil
}
