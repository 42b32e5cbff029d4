package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/tree"
)

// How the store comes to have directories. One that was made here is local: it
// is known to have what the tree says and nothing else, and nobody is asked. It
// has a job until the store has it: by a marker if it stays empty, else by what
// is in it. One that was renamed is like a new one, full of renamed files.

func join(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}

// under reports whether key is dir or lies below it.
func under(key, dir string) bool {
	return dir == "." || key == dir || strings.HasPrefix(key, dir) && len(key) > len(dir) && key[len(dir)] == '/'
}

// setLocal says whether d is local, and since when it is known what is in it.
func (d *dir) setLocal(local bool, listed time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.local, d.listed = local, listed
}

// listedAt returns since when it is known what is in d; zero if it is not.
func (d *dir) listedAt() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.listed
}

// haunted reports whether the store may have something under key, or below,
// that is a ghost. c.ns is held.
func (c *FS) haunted(key string) bool {
	for k := key; k != "."; k = path.Dir(k) {
		if c.ghosts[k+"/"] != nil {
			return true
		}
	}
	return false
}

// place makes a directory that the store has now one that the store is asked
// about once the ttl since it was made is over: others may have put something
// there before the store had it. Not yet while it may still have there what another one has left.
// c.ns is held.
func (c *FS) place(n *tree.Node) {
	d := dirOf(n)
	at, ok := c.tree.Path(n)
	switch {
	case !ok || !d.local || d.job != nil:
		delete(c.limbo, n)
	case c.haunted(at):
		c.limbo[n] = struct{}{}
	default:
		d.mu.Lock()
		d.local = false
		d.mu.Unlock()
		delete(c.limbo, n)
	}
}

// placeAll looks at all that wait for that again. c.ns is held.
func (c *FS) placeAll() {
	for n := range c.limbo {
		c.place(n)
	}
}

// awaitDir makes n one of the directories that the store has to be made to
// have. c.ns is held.
func (c *FS) awaitDir(n *tree.Node) {
	d := dirOf(n)
	if d.job == nil {
		c.newDirJob(n)
	}
	c.q.touch(d.job)
}

// newDirJob gives n a job. c.ns is held, or nobody else knows n.
func (c *FS) newDirJob(n *tree.Node) {
	d := dirOf(n)
	d.job = c.q.newJob(jobDir, func(j *job) { j.d = n })
	d.mu.Lock()
	d.mine = true
	d.mu.Unlock()
}

// endDirJob is the reverse. c.ns is held.
func (c *FS) endDirJob(n *tree.Node) {
	if d := dirOf(n); d.job != nil {
		c.q.drop(d.job)
		d.job = nil
		d.mu.Lock()
		d.mine = false
		d.mu.Unlock()
	}
}

// runDir makes the store have a directory.
func (c *FS) runDir(ctx context.Context, j *job) outcome {
	n := j.d
	c.ns.Lock()
	d := dirOf(n)
	at, ok := c.tree.Path(n)
	if !ok || d.job != j {
		c.ns.Unlock()
		return outcome{}
	}
	if stored := d.marker || c.anyStored(n, at); stored || c.tree.Len(n) > 0 && !d.keep {
		// What is in it makes it, once that is in the store.
		if stored {
			c.arrived(n)
		}
		c.ns.Unlock()
		return outcome{}
	}
	old := c.ghosts[at+"/"]
	{
		wait, fetch := c.inTheWay(at)
		if old != nil && !old.removing && wait == old.job {
			wait = nil // the marker that it has left will do
		}
		if fileGhost := c.ghosts[at]; fileGhost != nil && wait == nil && fetch == nil {
			wait, fetch = c.heldBy(fileGhost)
		}
		if fetch != nil {
			c.ns.Unlock()
			if err := c.fetchHeld(ctx, fetch); err != nil {
				return outcome{err: err}
			}
			return outcome{soon: true}
		}
		if wait != nil {
			c.ns.Unlock()
			return outcome{wait: wait}
		}
	}
	unmark := c.mark(at)
	end := c.makes(at)
	c.sendingBelow(n)
	c.ns.Unlock()
	err := c.makeDir(ctx, at)
	c.ns.Lock()
	defer c.ns.Unlock()
	unmark()
	end()
	if err != nil {
		return outcome{err: err}
	}
	var b batch
	if now, ok := c.tree.Path(n); ok && now == at {
		d.marker, d.keep = true, false
		if old != nil && c.ghosts[at+"/"] == old {
			c.lay(&b, at+"/")
			d.inherits(old)
			c.placeAll()
		}
		c.arrivedIn(&b, n)
	} else {
		// Renamed or removed while its marker was put.
		c.ghostDirs(&b, at)
	}
	c.commitLate(&b)
	return outcome{}
}

// makeDir makes the store have a directory that it may have already.
func (c *FS) makeDir(ctx context.Context, at string) error {
	err := c.store.Mkdir(ctx, at, backends.AttrChange{})
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	// A store with a directory and a file of one name has both; others may have the file.
	switch e, serr := c.store.Stat(ctx, at); {
	case errors.Is(serr, fs.ErrNotExist):
		return fmt.Errorf("%s: refused, although nothing is there: %v", at, err)
	case serr != nil:
		return serr
	case !e.IsDir():
		c.ns.Lock()
		c.lookBelow(at) // if it is one of them, the next attempt succeeds
		c.ns.Unlock()
		return fmt.Errorf("%s: a file has that name in the store: %v", at, err)
	}
	return nil
}

// makes says that a directory is being made at a key: until the function that
// it returns is called, no ghost of one there goes. c.ns is held now, and then.
func (c *FS) makes(key string) (end func()) {
	c.making[key]++
	return func() {
		if c.making[key]--; c.making[key] == 0 {
			delete(c.making, key)
		}
		c.q.kick() // a ghost may have waited for the end of it
	}
}

// anyStored reports whether the store has something below n, in its place.
// c.ns is held.
func (c *FS) anyStored(n *tree.Node, at string) bool {
	found := false
	c.tree.Children(n, func(name string, child *tree.Node) {
		if found {
			return
		}
		switch x := child.Data.(type) {
		case *file:
			x.mu.Lock()
			found = x.base != nil && x.base.key == join(at, name)
			x.mu.Unlock()
		case *dir:
			found = x.job == nil || x.marker
		}
	})
	return found
}

// arrived records that the store has n, and so has the directories above.
// c.ns is held.
func (c *FS) arrived(n *tree.Node) {
	var b batch
	c.arrivedIn(&b, n)
	c.commitLate(&b)
}

func (c *FS) arrivedIn(b *batch, n *tree.Node) {
	var way []*tree.Node
	for n != nil && n != c.tree.Root() {
		way = append(way, n)
		parent, _, ok := c.tree.Where(n)
		if !ok {
			return
		}
		n = parent
	}
	for _, n := range slices.Backward(way) {
		d := dirOf(n)
		d.mu.Lock()
		d.seen = time.Now() // an answer to an earlier question may not know of it
		d.mu.Unlock()
		if d.job == nil {
			continue
		}
		// What the name was before must not hide it after a kill: it goes from
		// the journal with the record of this one, or before it.
		at, _ := c.tree.Path(n)
		if g := c.ghosts[at+"/"]; g != nil {
			if g.removing {
				continue // swept looks at it again
			}
			c.lay(b, g.id())
			d.inherits(g)
		}
		c.endDirJob(n)
		c.place(n)
		if parent, name, ok := c.tree.Where(n); ok {
			dirOf(parent).change(name) // answers that don't know of it are old
		}
		if d.recorded {
			c.record(b, n, nil, "")
		}
		c.attrsArrived(n)
	}
}

// outlives returns the job that has to end before g goes, if the directory that
// it is in is in the store only because of it: something else in it is on its
// way, or it gets a marker. there has the directories that are known to have something
// else in the store: to look for that takes as long as the directory is large. c.ns is
// held.
func (c *FS) outlives(b *batch, g *ghost, there map[*tree.Node]bool) *job {
	at := path.Dir(g.key)
	n := c.dirAt(at)
	for ; n == nil; n = c.dirAt(at) {
		at = path.Dir(at)
	}
	d := dirOf(n)
	if n == c.tree.Root() || d.marker || there[n] {
		return nil
	}
	if c.anyStored(n, at) {
		there[n] = true
		return nil
	}
	if wait := c.arriving(n, g.job); wait != nil {
		return wait
	}
	d.keep = true
	c.awaitDir(n)
	c.record(b, n, nil, "")
	return d.job
}

// arriving returns a job that brings something below n to the store, and does not
// wait for other. c.ns is held.
func (c *FS) arriving(n *tree.Node, other *job) (j *job) {
	c.tree.Children(n, func(_ string, child *tree.Node) {
		if j != nil {
			return
		}
		switch x := child.Data.(type) {
		case *file:
			x.mu.Lock()
			if x.writing == 0 || x.sealed != nil {
				j = x.job
			}
			x.mu.Unlock()
		case *dir:
			if x.keep || c.tree.Len(child) == 0 {
				j = x.job
			} else {
				j = c.arriving(child, other) // its own job waits for that, too
			}
		}
		if j != nil && c.q.wouldCircle(j, other) {
			j = nil
		}
	})
	return j
}

// stored reports whether the store has, or may have, something of the directory
// n itself. c.ns is held.
func (c *FS) stored(d *dir) bool {
	return !d.local || d.marker || d.maybe || d.job == nil || c.q.begun(d.job)
}

// sendingBelow is called before n is sent: from then on the store may have the
// directories above. c.ns is held.
func (c *FS) sendingBelow(n *tree.Node) {
	for p, _, ok := c.tree.Where(n); ok && p != c.tree.Root(); p, _, ok = c.tree.Where(p) {
		dirOf(p).maybe = true
	}
}

// complete makes everything below n known, by one flat listing unless it is.
func (c *FS) complete(ctx context.Context, n *tree.Node) error {
	for range 20 {
		c.ns.Lock()
		at, ok := c.tree.Path(n)
		whole := !ok || c.listedBelow(n, time.Now().Add(-c.cfg.TTL))
		c.ns.Unlock()
		if whole {
			return nil
		}
		asked, err := c.walk(ctx, n, at)
		if errors.Is(err, errMoved) {
			continue
		}
		if err != nil {
			return err
		}
		c.ns.Lock()
		whole = c.listedBelow(n, asked)
		c.ns.Unlock()
		if whole {
			return nil
		}
	}
	return nil // as far as can be told, while others change it all the time
}

// listedBelow reports whether all directories below n, and n, are known
// completely by what was asked not before since. c.ns is held.
func (c *FS) listedBelow(n *tree.Node, since time.Time) bool {
	d := dirOf(n)
	d.mu.Lock()
	d.touch() // what is known now stays until the caller is through
	whole := d.local || !d.listed.IsZero() && !d.listed.Before(since)
	d.mu.Unlock()
	if !whole {
		return false
	}
	c.tree.Children(n, func(_ string, child *tree.Node) {
		if whole && child.IsDir() {
			whole = c.listedBelow(child, since)
		}
	})
	return whole
}

// walk lists everything below n, which is at at, and merges it.
func (c *FS) walk(ctx context.Context, n *tree.Node, at string) (asked time.Time, err error) {
	m, ok := c.merging(n)
	if !ok || m.key != at {
		return m.asked, errMoved
	}
	l := newFlat(m)
	some := false
	for e, err := range backends.Walk(ctx, c.store, at, "") {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, backends.ErrNotDir) {
			if some {
				return m.asked, errMoved // what is behind it is not known
			}
			break
		}
		if err != nil {
			return m.asked, err
		}
		some = true
		l.add(e)
	}
	l.end()
	_, err = c.mergeFlat(ctx, l.take(), nil)
	return m.asked, err
}
