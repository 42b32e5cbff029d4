package cache

import (
	"path"
	"slices"
	"sync"
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
type forgetting struct {
	most int64
	wake chan struct{}

	mu     sync.Mutex
	holder backends.NodeHolder
}

// forgetPause and maxForgetPause are how long is waited before the next attempt,
// when the last one was of use and when many were not; and always so long that to
// look through the tree takes one part in forgetShare of the time.
const (
	forgetPause    = 20 * time.Millisecond
	maxForgetPause = 500 * time.Millisecond
	forgetShare    = 20
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
	if c.tree.Nodes() <= c.forgetting.most {
		return
	}
	select {
	case c.forgetting.wake <- struct{}{}:
	default:
	}
}

// runForget forgets as long as there is too much.
func (c *FS) runForget() {
	wait := func(d time.Duration) bool {
		select {
		case <-c.q.ctx.Done():
			return false
		case <-time.After(d):
			return true
		}
	}
	for {
		select {
		case <-c.q.ctx.Done():
			return
		case <-c.forgetting.wake:
		}
		for pause := forgetPause; c.tree.Nodes() > c.forgetting.most; pause = min(2*pause, maxForgetPause) {
			n, looked := c.forgetSome()
			if n > 0 {
				pause = forgetPause
			}
			if !wait(max(pause, forgetShare*looked)) {
				return
			}
		}
	}
}

// touch is called by each operation in a directory, before it takes a node of it
// in hand. d.mu is held.
func (d *dir) touch() {
	d.leaving = false
	d.touched = time.Now()
}

// candidate is a directory of which entries may be forgotten.
type candidate struct {
	n       *tree.Node
	touched time.Time // when it, or what is below it, was last used
}

// forgetSome forgets the entries of directories, those first that were used
// longest ago, until there is some room, and returns how many, and for how long it
// has looked for them. What only the kernel keeps it is asked to let go, for the
// next time.
func (c *FS) forgetSome() (forgotten int, looked time.Duration) {
	c.forgetting.mu.Lock()
	holder := c.forgetting.holder
	c.forgetting.mu.Unlock()
	began := time.Now()
	var all []candidate
	c.candidates(c.tree.Root(), &all)
	slices.SortStableFunc(all, func(a, b candidate) int { return a.touched.Compare(b.touched) })
	looked = time.Since(began)
	room := c.forgetting.most - c.forgetting.most/8
	over := int(c.tree.Nodes() - room)
	// As many as have to go, as far as they can.
	for enough := 0; len(all) > 0 && forgotten < over; {
		batch, expect := 0, 0
		for ; batch < len(all) && expect < over-forgotten; batch++ {
			expect += c.tree.Len(all[batch].n)
			d := dirOf(all[batch].n)
			d.mu.Lock()
			d.leaving = true
			d.mu.Unlock()
		}
		if !c.quiet(holder) {
			return forgotten, looked
		}
		ghosts := c.ghostDirsNow()
		for _, x := range all[:batch] {
			n, held := c.forgetIn(x.n, holder, ghosts)
			forgotten += n
			if held > 0 && enough < over {
				holder.Release(x.n)
				enough += held
			}
		}
		all = all[batch:]
	}
	return forgotten, looked
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
// it takes long.
func (c *FS) quiet(h backends.NodeHolder) bool {
	over := h.Quiet()
	for range 100 {
		if over() {
			return true
		}
		select {
		case <-c.q.ctx.Done():
			return false
		case <-time.After(5 * time.Millisecond):
		}
	}
	return false
}

// ghostDirsNow returns the directories in which, or below which, there are
// ghosts.
func (c *FS) ghostDirsNow() map[string]bool {
	c.ns.Lock()
	defer c.ns.Unlock()
	dirs := map[string]bool{}
	for _, g := range c.ghosts {
		for at := path.Dir(g.key); !dirs[at]; at = path.Dir(at) {
			dirs[at] = true
		}
	}
	return dirs
}

// forgetIn forgets the entries of n that it can, and returns how many, and how
// many more could go if the kernel let them.
func (c *FS) forgetIn(n *tree.Node, holder backends.NodeHolder, ghosts map[string]bool) (forgotten, held int) {
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
	if !ok || ghosts[at] || !d.settled() || !d.leaving {
		return 0, 0
	}
	lately := len(d.changed) > 0
	kept := holder.Holds(n)
	var names []string
	var b batch
	c.tree.Children(n, func(name string, child *tree.Node) {
		if kept(name) {
			held++
			return
		}
		switch x := child.Data.(type) {
		case *file:
			row, ok := c.forgetFile(x, join(at, name))
			if !ok {
				return
			}
			if row != "" {
				rows = append(rows, row)
			}
		case *dir:
			known, ok := c.forgetsDir(child, x)
			if !ok {
				return
			}
			lately = lately || known
			c.forgetRecord(&b, child) // of the way to something that differed
		}
		names = append(names, name)
	})
	if len(names) == 0 {
		return 0, held
	}
	c.tree.Forget(n, names)
	c.commitLate(&b)
	if lately {
		// Nobody knows any more that answers to questions from before these changes
		// are old: none counts.
		c.moves++
	}
	d.listed, d.absent, d.ahead = time.Time{}, nil, nil
	if k := &d.records; k.job == nil && len(k.dirty) == 0 {
		k.known, k.records, k.loaded = nil, nil, time.Time{}
	}
	return len(names), held
}

// settled reports whether the store has the directory, and no change of a name in
// it is on its way. d.mu and FS.ns are held.
func (d *dir) settled() bool {
	return !d.local && !d.mine && d.job == nil && !d.keep && len(d.changing) == 0
}

// forgetsDir reports whether the directory n can be forgotten: nothing in it is
// known any more, and the store has it; lately says that this machine has changed
// something in it. c.ns is held.
func (c *FS) forgetsDir(n *tree.Node, x *dir) (lately, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	_, limbo := c.limbo[n]
	return len(x.changed) > 0, c.tree.Len(n) == 0 && x.settled() && !limbo &&
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
