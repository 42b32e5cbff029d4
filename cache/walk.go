package cache

import (
	"context"
	"os"
	"slices"
	"time"

	"github.com/agentfs/agentfs/backends/tree"
)

const (
	// firstWindow and maxWalkWindow are how many files a cursor may have fetched
	// that nobody has opened yet, at its beginning and at most. Who has read a
	// directory and opens its files one after another, as grep -r does, is
	// hardly going to stop: readWindow is his beginning.
	firstWindow, readWindow, maxWalkWindow = 8, 32, 512
	// windowBytes is what these files may have together, beyond as many bytes as
	// were used.
	windowBytes = 16 << 20
	// walkFetches is how many files that are fetched ahead may wait for their turn
	// among all requests (see places), or be on their way: who asks for another file
	// has no more than these before it.
	walkFetches = 64
	// maxCursors is how many places a group may be at.
	maxCursors = 4
	// maxMisses is after how many files in a row that nobody guessed a walk is
	// given up.
	maxMisses = 8
	// walkSteps bounds how far the next file to fetch is looked for at once.
	walkSteps = 512
)

// walk is how a group goes through files.
type walk struct {
	cursors []*cursor // the last used first
	misses  int       // since somebody opened what was guessed
	ahead   map[*file]*guess
	used    tally // of what was guessed and opened
	vain    tally // of what was guessed and not opened, ahead included
}

// tally counts files and their bytes.
type tally struct {
	files, bytes int64
}

func (t *tally) add(files, bytes int64) {
	t.files += files
	t.bytes += bytes
}

// cursor is a place that a walk has come to.
type cursor struct {
	dir    *tree.Node // of the file that was opened last
	name   string
	order  order
	sure   bool       // the order is known
	near   int        // files that were opened in the same directory, in another order
	beyond *traversal // the files after those that were guessed
	window int        // how many files may be ahead of it
	widest int        // the widest window that it had
	ahead  int        // how many are
}

// guess is a file that is fetched because a walk may come to it.
//
// INVARIANT: while walks.mu is free, a file has a guess exactly if it is in ahead of
// the guess's group, and a cursor's ahead counts those that have it. So whoever takes
// one away holds walks.mu.
type guess struct {
	group  *group
	cursor *cursor
	size   int64
}

// opened follows the caller's way through files: it has opened f. What it is
// likely to open next is fetched.
func (c *FS) opened(ctx context.Context, f *file, flags int) {
	if flags&(os.O_WRONLY|os.O_RDWR|os.O_TRUNC) != 0 {
		return
	}
	right := f.guess.Load()
	if right == nil && !f.cold() {
		return
	}
	dir, name, ok := c.tree.Where(f.node)
	if !ok {
		return
	}
	w := &c.walks
	w.mu.Lock()
	defer w.mu.Unlock()
	var g *group
	var cur *cursor
	now := time.Now()
	if right != nil && f.guess.CompareAndSwap(right, nil) {
		g, cur = right.group, right.cursor
		g.last = now
		g.walk.hit(c, f, right)
	} else {
		g = w.group(c, groupOf(ctx), now)
		cur = g.miss(c, f, dir, name)
	}
	g.step(c.tree, dir)
	cur.dir, cur.name = dir, name
	if cur.sure {
		c.readAhead(g, cur)
	}
}

// hit notes that f was opened, as guessed. walks.mu is held.
func (w *walk) hit(c *FS, f *file, right *guess) {
	w.drop(f, right)
	w.used.add(1, right.size)
	w.vain.add(-1, -right.size)
	c.stats.aheadUsed.Add(right.size)
	w.misses = 0
	right.cursor.widen(right.cursor.window + 1)
}

// miss finds out from where the group has come to f, dir's child name, that
// nobody guessed. walks.mu is held.
func (g *group) miss(c *FS, f *file, dir *tree.Node, name string) *cursor {
	w := &g.walk
	if w.misses++; w.misses > maxMisses {
		for _, cur := range w.cursors {
			cur.sure, cur.near, cur.window = false, 0, 0
		}
	}
	cur, begins := w.from(c, g, f, dir)
	if cur == nil {
		cur = &cursor{}
		w.cursors = append([]*cursor{cur}, w.cursors[:min(len(w.cursors), maxCursors-1)]...)
	}
	cur.window /= 2
	cur.widen(firstWindow)
	if begins && w.used.files == 0 && w.vain.files == 0 && g.goesOver(dir) {
		cur.widen(readWindow)
	}
	if cur.ahead >= cur.window {
		// It has gone elsewhere than was guessed, perhaps to a directory that was
		// not known then. Those files may still have their turn, but leave no room.
		now := *cur
		now.ahead = 0
		cur, w.cursors[0] = &now, &now
	}
	cur.beyond = cur.order.after(c.tree, dir, name, true, g.goesOver)
	return cur
}

// widen makes the window n files wide, if it is not wider.
func (cur *cursor) widen(n int) {
	cur.window = max(cur.window, min(n, maxWalkWindow))
	cur.widest = max(cur.widest, cur.window)
}

// from returns the cursor that has come to f, nil if none has, and whether it is now
// that its order is known. walks.mu is held.
func (w *walk) from(c *FS, g *group, f *file, dir *tree.Node) (cur *cursor, begins bool) {
	first := func(i int) *cursor {
		cur := w.cursors[i]
		w.cursors = slices.Insert(slices.Delete(w.cursors, i, i+1), 0, cur)
		return cur
	}
	for i, cur := range w.cursors {
		for _, o := range append([]order{cur.order}, orders...) {
			steps := walkSteps
			tr := o.after(c.tree, cur.dir, cur.name, false, g.goesOver)
			n := tr.file(&steps)
			for n != nil && n != f.node && !n.Data.(*file).cold() {
				n = tr.file(&steps)
			}
			if n == f.node {
				begins := !cur.sure
				cur.order, cur.sure = o, true
				return first(i), begins
			}
		}
	}
	for i, cur := range w.cursors {
		if cur.dir == dir {
			cur.near++
			begins := !cur.sure && cur.near > 1
			cur.sure = cur.sure || begins
			return first(i), begins
		}
	}
	return nil, false
}

// goesOver reports whether the group goes through the children of dir.
// walks.mu is held.
func (g *group) goesOver(dir *tree.Node) bool {
	_, ok := g.read[dir]
	return ok
}

// end gives up what was guessed. walks.mu is held.
func (w *walk) end(c *FS) {
	for f, gs := range w.ahead {
		f.guess.CompareAndSwap(gs, nil)
		w.wrong(c, f, gs)
	}
}

// wrong notes that f was fetched in vain. walks.mu is held.
func (w *walk) wrong(c *FS, f *file, gs *guess) {
	w.drop(f, gs)
	c.stats.aheadWasted.Add(gs.size)
}

// drop takes f from those that are ahead. walks.mu is held.
func (w *walk) drop(f *file, gs *guess) {
	delete(w.ahead, f)
	gs.cursor.ahead--
}

// mayFetch reports whether one more file may be fetched for cur: there is room
// in its window, and what the walk has fetched in vain so far, all that is ahead
// included, is not more than what it was right about and the windows that it had.
// walks.mu is held.
func (w *walk) mayFetch(cur *cursor) bool {
	if cur.ahead >= cur.window || w.vain.bytes >= w.used.bytes+windowBytes {
		return false
	}
	may := w.used.files
	for _, c := range w.cursors {
		may += int64(c.widest)
	}
	return w.vain.files < may
}

// readAhead fetches files beyond cur until the window is full. walks.mu is
// held.
func (c *FS) readAhead(g *group, cur *cursor) {
	w := &g.walk
	for steps := walkSteps; w.mayFetch(cur); {
		n := cur.beyond.file(&steps)
		if n == nil {
			return
		}
		f := n.Data.(*file)
		if !f.cold() {
			continue
		}
		f.mu.Lock()
		size := f.sizeLocked()
		f.mu.Unlock()
		gs := &guess{group: g, cursor: cur, size: size}
		if !f.guess.CompareAndSwap(nil, gs) {
			continue
		}
		if w.ahead == nil {
			w.ahead = map[*file]*guess{}
		}
		w.ahead[f] = gs
		w.vain.add(1, size)
		cur.ahead++
		c.stats.aheadBytes.Add(size)
		c.flushed.Go(func() { c.fetchAhead(f, gs) })
	}
}

// fetchAhead fetches f.
func (c *FS) fetchAhead(f *file, gs *guess) {
	select {
	case c.walks.fetches <- struct{}{}:
	case <-c.q.ctx.Done():
		return
	}
	err := f.prefetch(c.q.ctx)
	<-c.walks.fetches
	if err == nil {
		return
	}
	// No room, or no store: whoever asks will hear of it, nobody else has to ask.
	c.walks.mu.Lock()
	defer c.walks.mu.Unlock()
	if !f.guess.CompareAndSwap(gs, nil) {
		return // opened, or given up
	}
	gs.group.walk.wrong(c, f, gs)
	gs.cursor.sure, gs.cursor.near = false, 0
}

// cold reports whether f is a small file that the store has and this machine
// has not, and that is not on its way.
func (f *file) cold() bool {
	if f.guess.Load() != nil {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gone || f.localLocked() || f.base.size == 0 || f.base.size > wholeMax {
		return false
	}
	if f.c == nil {
		return true
	}
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	return len(f.c.inflight) == 0 && !f.c.ext.complete()
}

// prefetch makes f local, if it is small and not on its way, and waits for it.
func (f *file) prefetch(ctx context.Context) error {
	f.mu.Lock()
	if f.gone || f.localLocked() || f.base.size > wholeMax {
		f.mu.Unlock()
		return nil
	}
	c := f.content()
	c.use()
	f.mu.Unlock()
	c.mu.Lock()
	var err error
	if parts := c.ext.remotes(0, c.length); len(c.inflight) == 0 && len(parts) > 0 && !c.freed {
		_, err = c.fill(ctx, nil, nil, parts[0].off, parts[0].end)
	}
	c.leave()
	c.mu.Unlock()
	f.mu.Lock()
	idle := f.handles == 0 && !f.gone
	f.mu.Unlock()
	if idle {
		f.fs.rest(f) // so that it can be evicted
	}
	return err
}
