package cache

import (
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/tree"
)

// DefaultEntries is how many names a cache knows by default before it forgets
// some.
const DefaultEntries = 1_000_000

// forgetting bounds how many names are known: beyond that the entries of
// directories that were not used lately are forgotten, and learned again by a
// listing when somebody asks. What the store has not as it is here, what somebody
// has open and what the kernel knows stays. Without a holder nobody can say who
// has which node, and nothing is forgotten.
//
// A node is handed out by an operation in its directory. So a directory is marked
// first; then all operations that were under way have to end, after which the
// kernel's knowledge is complete but for those that began since, and they take
// the mark away.
//
// A directory may have more names than all others. So it is gone through in parts,
// between which others have their turn.
type forgetting struct {
	most int64
	wake chan struct{}
	// absent is how many names were found not to be there since those of them were
	// forgotten; see forgetAbsent.
	absent atomic.Int64
	hand   hand // of runForget

	mu     sync.Mutex
	holder backends.NodeHolder
}

const (
	// forgetPause and maxForgetPause are how long is waited before the next attempt,
	// when the last one was of use and when many were not. What was looked at in
	// vain, the way through the tree included, takes one part in forgetShare of the
	// time at most.
	forgetPause    = 20 * time.Millisecond
	maxForgetPause = 500 * time.Millisecond
	forgetShare    = 20
	// forgetRest is how long the kernel is left what somebody may be about to use:
	// who lists a directory looks at its files next.
	forgetRest = 2 * time.Second
	// forgetAtOnce is how many names are looked at before others may go on, and
	// forgetTurn after how long they have as long for themselves.
	forgetAtOnce = 1000
	forgetTurn   = time.Millisecond
)

// OnHold implements [backends.NodeReclaimer].
func (c *FS) OnHold(h backends.NodeHolder) {
	f := &c.forgetting
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.holder == nil {
		c.flushed.Go(c.runForget)
	}
	f.holder = h
}

// learned is called when there may be more names than before.
func (c *FS) learned() {
	if c.tree.Nodes() > c.forgetting.most {
		c.forgetting.wakes()
	}
}

func (f *forgetting) wakes() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// runForget forgets as long as there is too much.
func (c *FS) runForget() {
	for {
		select {
		case <-c.q.ctx.Done():
			return
		case <-c.forgetting.wake:
		}
		c.forgetAbsent()
		for pause := forgetPause; c.tree.Nodes() > c.forgetting.most; pause = min(2*pause, maxForgetPause) {
			n, vain := c.forgetSome()
			c.forgetAbsent()
			if n > 0 {
				pause = forgetPause
			}
			if !c.waits(max(pause, forgetShare*vain)) {
				return
			}
		}
		c.forgetting.hand = hand{}
	}
}

// waits waits; false says that the cache ends.
func (c *FS) waits(d time.Duration) bool {
	select {
	case <-c.q.ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// touch is called by each operation in a directory, before it takes a node of it
// in hand. d.mu is held.
func (d *dir) touch() {
	d.leaving = false
	d.touched = time.Now()
}

// leaves reports whether nobody has come to it since it was marked.
func (d *dir) leaves() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.leaving
}

// candidate is a directory of which entries may be forgotten.
type candidate struct {
	n       *tree.Node
	touched time.Time // when it, or what is below it, was last used
}

// forgetSome forgets the entries of directories, those first that were used
// longest ago, until there is some room, and returns how many, and how long it has
// looked at what can't go. What only the kernel keeps it is asked to let go.
func (c *FS) forgetSome() (forgotten int, vain time.Duration) {
	c.forgetting.mu.Lock()
	holder := c.forgetting.holder
	c.forgetting.mu.Unlock()
	began := time.Now()
	var all []candidate
	c.candidates(c.tree.Root(), &all)
	slices.SortStableFunc(all, func(a, b candidate) int { return a.touched.Compare(b.touched) })
	vain = time.Since(began)
	room := c.forgetting.most - c.forgetting.most/8
	// As many as have to go, as far as they can.
	for over := int(c.tree.Nodes() - room); len(all) > 0 && over > 0; {
		batch, expect := 0, 0
		for ; batch < len(all) && expect < over; batch++ {
			expect += c.tree.Len(all[batch].n)
			d := dirOf(all[batch].n)
			d.mu.Lock()
			d.leaving = true
			d.mu.Unlock()
		}
		if !c.quiet(holder) {
			return forgotten, vain
		}
		var ghosts ghostPlaces
		for _, x := range all[:batch] {
			n, looked := c.forgetIn(x.n, over, holder, &ghosts)
			forgotten += n
			over -= n
			vain += looked
		}
		all = all[batch:]
	}
	return forgotten, vain
}

// candidates appends the directories that have entries, those below first, and
// returns when n or something below it was last used.
func (c *FS) candidates(n *tree.Node, all *[]candidate) time.Time {
	d := dirOf(n)
	d.mu.Lock()
	touched := d.touched
	d.mu.Unlock()
	for _, child := range c.tree.Dirs(n) {
		if t := c.candidates(child, all); t.After(touched) {
			touched = t
		}
	}
	if c.tree.Len(n) > 0 {
		*all = append(*all, candidate{n, touched})
	}
	return touched
}

// quiet waits until the operations that are under way have ended; false says that
// the cache ends. What is used meanwhile has no mark any more.
func (c *FS) quiet(h backends.NodeHolder) bool {
	for over := h.Quiet(); !over(); {
		if !c.waits(5 * time.Millisecond) {
			return false
		}
	}
	return true
}

// ghostPlaces are the directories in which, or below which, there are ghosts, when
// so many had been made.
type ghostPlaces struct {
	made uint64
	in   map[string]bool
}

// ghostPlaces looks where there are ghosts unless g still says it. c.ns is held.
func (c *FS) ghostPlaces(g *ghostPlaces) map[string]bool {
	if g.in != nil && g.made == c.ghostsMade {
		return g.in
	}
	*g = ghostPlaces{c.ghostsMade, map[string]bool{}}
	for _, x := range c.ghosts {
		for at := path.Dir(x.key); !g.in[at]; at = path.Dir(at) {
			g.in[at] = true
		}
	}
	return g.in
}

// forgetIn forgets up to about over entries of n, and returns how many, and how
// long it has worked in vain. Those that the kernel keeps it is asked for; what it
// lets go is forgotten then.
func (c *FS) forgetIn(n *tree.Node, over int, holder backends.NodeHolder, ghosts *ghostPlaces) (forgotten int, vain time.Duration) {
	var asked []string // that the kernel keeps
	var worked time.Duration
	looked, owed, again := 0, time.Duration(0), false
	part := func(names []string) (looks, goes bool) {
		began := time.Now()
		gone, kept, ok := c.forgetPart(n, names, holder, ghosts)
		looked += len(names)
		forgotten += gone
		owed += time.Since(began)
		if len(kept) > 0 && !again && len(asked)+forgotten < over {
			holder.Release(n, kept)
			asked = append(asked, kept...)
		}
		worked += time.Since(began)
		if !ok || forgotten >= over {
			return ok, false
		}
		// As long as it has kept others from the locks they may have them now.
		goes = owed < forgetTurn || c.waits(owed)
		if owed >= forgetTurn {
			owed = 0
		}
		return true, goes
	}
	began := time.Now()
	if !dirOf(n).leaves() {
		return 0, 0 // somebody has come to it
	}
	h := c.forgetting.hand.over(c.tree, n)
	worked += time.Since(began)
	goes := true
	for len(h.names) > 0 && goes {
		var looks bool
		k := min(forgetAtOnce, len(h.names))
		if looks, goes = part(h.names[:k]); looks {
			h.names = h.names[k:]
		}
	}
	again = true
	for names := range slices.Chunk(asked, forgetAtOnce) {
		if !goes {
			break
		}
		_, goes = part(names)
	}
	if forgotten > 0 {
		c.tree.Shrink(n)
		holder.Release(n, nil)
	}
	if forgotten*forgetShare < looked {
		vain = worked
	}
	return forgotten, vain
}

// hand is how far a directory of many names was gone through, in the order of the
// names: the next attempt goes on from there. In their order, because who then goes
// through the directory learns names that follow each other in one question.
type hand struct {
	dir   *tree.Node
	names []string // that are left
}

// over returns the hand over n: where it was, or at the beginning.
func (h *hand) over(t *tree.Tree, n *tree.Node) *hand {
	if h.dir == n && len(h.names) > 0 {
		return h
	}
	names := t.Names(n)
	slices.Sort(names)
	if len(names) <= forgetAtOnce {
		return &hand{n, names}
	}
	*h = hand{n, names}
	return h
}

// forgetPart forgets those of names in n that it can, and returns how many, and
// those that could go if the kernel let them. ok is false if nothing in n can go
// now.
func (c *FS) forgetPart(n *tree.Node, all []string, holder backends.NodeHolder, ghosts *ghostPlaces) (forgotten int, kept []string, ok bool) {
	c.shelf.writing.Lock()
	defer c.shelf.writing.Unlock()
	var rows []string
	defer func() { c.shelf.takeBack(rows) }()
	c.ns.Lock()
	defer c.ns.Unlock()
	at, ok := c.tree.Path(n)
	d := dirOf(n)
	d.mu.Lock()
	defer d.mu.Unlock()
	// leaving last: who takes the mark away later finds nothing, and asks.
	if !ok || c.ghostPlaces(ghosts)[at] || !d.settled() || d.merging > 0 || !d.leaving {
		return 0, nil, false
	}
	changed := d.lastChange
	held := holder.Holds(n)
	lately := time.Now().Add(-forgetRest)
	var names []string
	var b batch
	for _, name := range all {
		child, err := c.tree.Lookup(n, name)
		if err != nil {
			continue
		}
		if held(name) {
			if !usedSince(child, lately) {
				kept = append(kept, name)
			}
			continue
		}
		switch x := child.Data.(type) {
		case *file:
			row, ok := c.forgetFile(x, join(at, name))
			if !ok {
				continue
			}
			if row != "" {
				rows = append(rows, row)
			}
		case *dir:
			last, ok := c.forgetsDir(child, x)
			if !ok {
				continue
			}
			if last.After(changed) {
				changed = last
			}
			c.forgetRecord(&b, child) // of the way to something that differed
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return 0, kept, true
	}
	c.tree.Forget(n, names)
	c.commitLate(&b)
	if changed.After(c.forgotten) {
		// Nobody knows any more that answers to questions from before these changes
		// are old: none counts for what is learned again.
		c.moves++
		c.forgotten = time.Now()
	}
	d.listed, d.absent, d.ahead = time.Time{}, nil, nil
	if k := &d.records; k.job == nil && len(k.dirty) == 0 {
		k.known, k.records, k.loaded = nil, nil, time.Time{}
	}
	return len(names), kept, true
}

// usedSince reports whether n was looked up, or something in it, after t.
func usedSince(n *tree.Node, t time.Time) bool {
	switch x := n.Data.(type) {
	case *file:
		x.mu.Lock()
		defer x.mu.Unlock()
		return int64(x.looked) > t.Unix()
	case *dir:
		x.mu.Lock()
		defer x.mu.Unlock()
		return x.touched.After(t)
	}
	return false
}

// settled reports whether the store has the directory, and no change of a name in
// it is on its way. d.mu and FS.ns are held.
func (d *dir) settled() bool {
	return !d.local && !d.mine && d.job == nil && !d.keep && len(d.changing) == 0
}

// forgetsDir reports whether the directory n can be forgotten: nothing in it is
// known any more, and the store has it; last is when this machine last changed
// something in it. c.ns is held.
func (c *FS) forgetsDir(n *tree.Node, x *dir) (last time.Time, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	_, limbo := c.limbo[n]
	return x.lastChange, c.tree.Len(n) == 0 && x.settled() && !limbo &&
		x.attrs.in == nil && x.records.job == nil && len(x.records.dirty) == 0 && !c.onlyHere(n)
}

// onlyHere reports whether n has attributes that nobody else knows. c.ns is held.
func (c *FS) onlyHere(n *tree.Node) bool {
	if !c.cfg.NoAttributes {
		return false // records have them
	}
	_, special := c.attrEntry(n)
	return special
}

// forgetFile ends f, which is called key, if nobody needs it: the store has all of
// it, and nobody has it open. What is here of its content goes back to the shelf,
// in the row that is returned, if it has one. c.ns is held.
func (c *FS) forgetFile(f *file, key string) (row string, ok bool) {
	if f.attrs.in != nil || f.recorded || f.sending != nil || len(f.ops) > 0 || len(f.holds) > 0 || f.guess.Load() != nil || c.onlyHere(f.node) {
		return "", false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.gone || f.lingers || f.localLocked() || f.base.key != key || len(f.base.held) > 0:
		return "", false
	case f.handles > 0 || f.writing > 0 || f.syncing > 0 || f.sealed != nil || f.report != nil || f.job != nil:
		return "", false
	}
	if f.c != nil {
		if c.shelf.noting(f) {
			return "", false // the index will have it soon
		}
		if row, ok = f.c.handBack(f.base); !ok {
			return "", false
		}
	}
	f.gone = true // for whoever holds it against all rules
	c.retire(f)
	return row, true
}

// handBack ends a content that nobody uses and the store has as base. If the
// index has a row of it, that takes its local bytes over. ok is false if it can't
// be ended now.
func (c *content) handBack(base *stored) (row string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.freed || c.users > 0 || c.dirty || c.named || c.kept != notJournaled || len(c.seals) > 0 || len(c.former) > 0 || len(c.inflight) > 0 || c.stream != nil {
		return "", false
	}
	if c.layer != nil {
		if c.shelved.of == base && c.shelved.bytes == c.charged && c.charged > 0 {
			row = c.layer.name()
			c.charged = 0 // the shelf's from now on
		} else {
			c.layer.drop()
		}
		c.layer = nil
	}
	c.freed = true
	c.ext, c.twin, c.unread, c.unchecked, c.summed, c.shelved = nil, nil, nil, nil, nil, shelved{}
	c.recount()
	return row, true
}
