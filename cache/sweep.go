package cache

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/tree"
	"github.com/agentfs/agentfs/cache/attrs"
)

// maxSweep is how many names one sweep removes: what S3 takes in one request.
const maxSweep = 1000

// runSweep removes the ghosts that can go, many in one request.
func (c *FS) runSweep(ctx context.Context, j *job) outcome {
	unsettled := c.settleMaybes(ctx)
	c.settleStragglers(ctx)
	gs, fetch, more, err := c.collect()
	if err != nil {
		return outcome{err: err}
	}
	var o outcome
	switch {
	case len(gs) > 0:
		o = c.swept(gs, c.removeAll(ctx, gs), more)
	case more:
		o = outcome{soon: true}
	case len(fetch) == 0:
		o = outcome{err: unsettled} // else it would look as if the store were there
	}
	// Afterwards: others wait for what goes, and a large file takes its time.
	for _, f := range fetch {
		err := c.fetchHeld(ctx, f)
		if errors.Is(err, backends.ErrChanged) {
			err = c.lostBytes(ctx, f, err).err
		}
		if err != nil {
			c.failHeld(f, err)
		} else {
			o.soon = true
		}
	}
	return o
}

// removeAll removes ghosts, and returns an error for each, nil for those that went.
func (c *FS) removeAll(ctx context.Context, gs []*ghost) []error {
	rs := make([]backends.Removal, len(gs))
	for i, g := range gs {
		rs[i] = backends.Removal{Name: g.key, Dir: g.dir}
		if g.st != nil {
			rs[i].If.Match = g.st.version
		}
	}
	errs := backends.RemoveMany(ctx, c.store, rs)
	for i, err := range errs {
		switch {
		case err == nil && gs[i].look:
			// A store that does not look has removed the marker alone.
			errs[i] = c.removeWithRecords(ctx, rs[i], nil)
		case errors.Is(err, backends.ErrChanged):
			errs[i] = c.removeLate(ctx, gs[i], rs[i], err)
		case rs[i].Dir && errors.Is(err, backends.ErrNotEmpty):
			errs[i] = c.removeWithRecords(ctx, rs[i], err)
		}
	}
	return errs
}

// removeLate finds out what a removal has met that was refused: nothing, which is
// what we want, or an attempt of our own that has arrived since it was looked for,
// which goes as well. Otherwise it returns why.
func (c *FS) removeLate(ctx context.Context, g *ghost, r backends.Removal, why error) error {
	c.ns.Lock()
	late := g.late
	if s := c.stragglers.by[g.key]; s != nil && late == nil {
		late = &maybe{Op: s.ops[0], Earlier: s.ops[1:]}
	}
	c.ns.Unlock()
	if late == nil {
		if _, err := c.store.Stat(ctx, r.Name); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return why
	}
	found, ours, err := c.settleMaybe(ctx, ghost{key: g.key, maybe: late})
	switch {
	case err != nil:
		return err
	case found == nil:
		return nil
	case !ours:
		return why
	}
	r.If.Match = found.version
	return backends.RemoveMany(ctx, c.store, []backends.Removal{r})[0]
}

// removeWithRecords removes a directory in which there is something if that is
// records alone, which describe nothing: what was saving them was killed before
// the journal heard of them, or the answer was lost. Otherwise it returns why.
func (c *FS) removeWithRecords(ctx context.Context, r backends.Removal, why error) error {
	var records []backends.Removal
	for e, err := range c.store.List(ctx, r.Name, "") {
		if err != nil {
			return err
		}
		if e.IsDir() || !attrs.IsRecord(e.Base()) {
			return why
		}
		records = append(records, backends.Removal{Name: e.Name, If: backends.If{Match: e.Version}})
	}
	for _, err := range backends.RemoveMany(ctx, c.store, records) {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return backends.RemoveMany(ctx, c.store, []backends.Removal{r})[0]
}

// collect returns the ghosts that can go now, files before the directories
// that they are in, and the files whose content has to be fetched before others
// can. more says that there are more than one sweep takes.
func (c *FS) collect() (gs []*ghost, fetch []*file, more bool, err error) {
	c.ns.Lock()
	defer c.ns.Unlock()
	if err := c.catchUp(); err != nil {
		return nil, nil, false, err
	}
	var b batch
	now := time.Now()
	var laid bool
	there := map[*tree.Node]bool{}
	for _, g := range c.ghosts {
		if g.maybe != nil || g.removing || c.making[g.key] > 0 || !c.q.due(g.job, now) {
			continue
		}
		if g.dir {
			if n := c.dirAt(g.key); n != nil {
				c.lay(&b, g.id()) // it is wanted again: the marker may stay
				dirOf(n).inherits(g)
				c.q.follow(dirOf(n).job) // which may have waited for a removal that failed
				laid = true
				continue
			}
			gs = append(gs, g)
			continue
		}
		if n := c.nodeAt(g.key); n != nil && !n.IsDir() {
			// What is put there will replace it. If that waits for this, it has
			// looked before the outcome of an attempt was known.
			c.q.release(g.job)
			continue
		}
		if g.st == nil {
			c.lay(&b, g.id())
			continue
		}
		wait, f := c.freeBytes(g.st, nil, g.job)
		if wait == nil && f == nil {
			if wait := c.outlives(&b, g, there); wait != nil {
				c.q.blockSoftly(g.job, wait)
				continue
			}
		}
		switch {
		case f != nil:
			if len(fetch) < 16 && !slices.Contains(fetch, f) {
				fetch = append(fetch, f)
			}
		case wait != nil:
			c.q.block(g.job, wait)
		default:
			gs = append(gs, g)
		}
	}
	if laid {
		c.placeAll()
	}
	c.commitLate(&b)
	// A directory goes with or after what is in it.
	slices.SortFunc(gs, func(a, b *ghost) int {
		if a.dir != b.dir {
			if a.dir {
				return 1
			}
			return -1
		}
		if a.dir { // the deepest first
			if d := strings.Count(b.key, "/") - strings.Count(a.key, "/"); d != 0 {
				return d
			}
		}
		return strings.Compare(a.key, b.key)
	})
	if i := slices.IndexFunc(gs, func(g *ghost) bool { return g.dir }); i >= 0 {
		keep := gs[:i:i]
		left := c.contents(gs) // a directory in which one is being made, too
		for _, g := range gs[i:] {
			if l := left[g.key]; l != nil {
				c.q.block(g.job, l.job)
				left.add(g)
			} else {
				keep = append(keep, g)
			}
		}
		gs = keep
	}
	if len(gs) > maxSweep {
		gs, more = gs[:maxSweep], true
	}
	for _, g := range gs {
		g.removing = true
	}
	return gs, fetch, more, nil
}

// swept records how the removals went.
func (c *FS) swept(gs []*ghost, errs []error, more bool) outcome {
	c.ns.Lock()
	defer c.ns.Unlock()
	var b batch
	var failed error
	var dirs bool
	var left contents
	for i, g := range gs {
		g.removing = false
		err := errs[i]
		if g.dir && left == nil {
			left = c.contents(gs[i:])
		}
		if l := left[g.key]; g.dir && l != nil {
			// What was to go before it could not, so it is still there, with or
			// without its marker.
			left.add(g)
			c.q.block(g.job, l.job)
			continue
		}
		switch {
		case err == nil, errors.Is(err, fs.ErrNotExist), !g.dir && errors.Is(err, backends.ErrNotDir):
			c.stats.removals.Add(1)
		case errors.Is(err, backends.ErrChanged):
			// Somebody else's newer content stays.
			c.log.Info("removed here, changed elsewhere meanwhile: what is there stays", "name", g.key)
			g.refused = true
			if c.ghosts[g.id()] == g {
				c.lay(&b, g.id())
			}
			c.forgetStored(g.key)
			continue
		case g.dir && (errors.Is(err, backends.ErrNotEmpty) || errors.Is(err, backends.ErrNotDir)):
			// Somebody else has put something into it.
		default:
			if left != nil {
				left.add(g)
			}
			failed = err
			c.q.fail(g.job, err)
			c.complain(g.key, "removal", err)
			c.stats.failures.Add(1)
			continue
		}
		if c.ghosts[g.id()] != g {
			continue
		}
		dirs = dirs || g.dir
		if !g.dir {
			c.straggle(&b, g.key, g.late.all(), "")
		}
		c.lay(&b, g.id())
		if n := c.dirAt(g.key); g.dir && n != nil {
			c.q.follow(dirOf(n).job) // it waits for that
		}
		switch p := c.dirAt(path.Dir(g.key)); {
		case p != nil && (!g.dir || err == nil || errors.Is(err, fs.ErrNotExist)):
			c.removed(p, path.Base(g.key))
		case p != nil:
			dirOf(p).change(path.Base(g.key))
			if errors.Is(err, backends.ErrNotEmpty) {
				c.forgetStored(g.key)
			}
		case !c.haunted(path.Dir(g.key)):
			// An earlier mount has removed it, and nobody has looked into that
			// directory since: an answer on its way may have it still, and there is
			// nobody to remember the change.
			c.moves++
		}
	}
	if dirs {
		c.placeAll()
	}
	c.commitLate(&b)
	return outcome{err: failed, soon: more}
}

// contents has, by directory, one of the ghosts in it.
type contents map[string]*ghost

// add puts g into the directories that it is in.
func (x contents) add(g *ghost) {
	for k := path.Dir(g.key); k != "."; k = path.Dir(k) {
		x[k] = g
	}
}

// contents returns the contents of all ghosts but those. c.ns is held.
func (c *FS) contents(but []*ghost) contents {
	out := make(map[*ghost]bool, len(but))
	for _, g := range but {
		out[g] = true
	}
	x := contents{}
	for _, g := range c.ghosts {
		if !out[g] {
			x.add(g)
		}
	}
	return x
}

// failHeld tells those who wait for the ghosts whose bytes f still needs why
// they can't go.
func (c *FS) failHeld(f *file, err error) {
	c.ns.Lock()
	defer c.ns.Unlock()
	for _, s := range f.holds {
		if g := c.ghosts[s.key]; g != nil {
			c.q.fail(g.job, err)
		}
	}
}

// settleMaybes looks at what attempts have left that nobody waits for. It returns an error of
// the store's.
func (c *FS) settleMaybes(ctx context.Context) (failed error) {
	c.ns.Lock()
	var all []*ghost
	for _, g := range c.ghosts {
		if g.maybe != nil && g.maybe.running == nil {
			all = append(all, g)
		}
	}
	c.ns.Unlock()
	for _, g := range all {
		c.ns.Lock()
		now := *g // others may find out meanwhile what is there
		c.ns.Unlock()
		s, ours, err := c.settleMaybe(ctx, now)
		c.ns.Lock()
		var b batch
		switch {
		case c.ghosts[g.id()] != g:
		case err != nil:
			failed = err
			c.q.fail(g.job, err)
			c.complain(g.key, "removal", err)
		case s != nil && ours:
			c.dropMaybe(&b, g.late)
			g.late = g.sent() // some of which has taken effect, perhaps
			if was := g.st; was == nil || was.version != s.version {
				g.st = s
				// Who waits for what was there before doesn't any more: it is gone.
				// Who derives from it finds its bytes in what he has put there
				// himself, and needs that.
				if was != nil {
					for f := range maps.Clone(was.held) {
						if f.derives(was) {
							c.moveBase(&b, f, s)
						}
					}
				}
			}
			g.maybe = nil
			c.recordGhost(&b, g)
			c.q.released(g.job)
		default:
			if s == nil {
				c.forgetStored(g.key)
				c.straggle(&b, g.key, g.sent().all(), "")
			}
			c.lay(&b, g.id())
		}
		c.commitLate(&b)
		c.ns.Unlock()
	}
	return failed
}
