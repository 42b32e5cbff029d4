package cache

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"github.com/agentfs/agentfs/backends"
)

// flatPage is what a page of a flat listing says of a directory.
type flatPage struct {
	whole  bool             // it is all that is below
	direct []backends.Entry // children, up to where it was cut off
	below  []flatDir        // directories below, of which all is known
}

// cutPage is a page that was cut off, kept for whoever lists its directory.
type cutPage struct {
	flatPage
	of merging
}

// answers reports whether the page is what m would ask for. An older one may not
// know of changes that this machine has forgotten (see prune).
func (cut *cutPage) answers(m merging) bool {
	return cut != nil && cut.of.dir == m.dir && cut.of.key == m.key && cut.of.moves == m.moves &&
		m.c.fresh(cut.of.asked) && time.Since(cut.of.asked) < storeTimeout
}

// sort makes of a page of what is below m.dir what it says of it.
func (m merging) sort(p backends.Page) flatPage {
	l := newFlat(m)
	for _, e := range p.Entries {
		l.add(e)
	}
	if p.More {
		d := dirOf(m.dir)
		d.mu.Lock()
		d.deep = true
		d.mu.Unlock()
	} else {
		l.enter(m.key)
	}
	return flatPage{whole: !p.More, direct: l.open[0].entries, below: l.take()}
}

// page asks for the first page of a flat listing of m.dir, unless it is known that
// it says little. The merging that it returns is that of the question.
func (m merging) page(ctx context.Context) (merging, flatPage, error) {
	c, d := m.c, dirOf(m.dir)
	if cut := c.cut.Load(); cut.answers(m) {
		l := cut.flatPage
		l.direct = slices.Clip(l.direct) // several may go on behind it
		return cut.of, l, nil
	}
	d.mu.Lock()
	deep := d.deep
	d.mu.Unlock()
	if deep || !c.paged() {
		return m, flatPage{}, nil
	}
	p, err := backends.WalkPage(ctx, c.store, m.key, "")
	if errors.Is(err, errors.ErrUnsupported) {
		c.noPages.Store(true)
		return m, flatPage{}, nil
	}
	if err != nil {
		return m, flatPage{}, err
	}
	return m, m.sort(p), nil
}

// paged reports whether flat listings are asked for: with a ttl of 0, nothing but
// the answer to the question would be believed.
func (c *FS) paged() bool { return c.cfg.TTL > 0 && !c.noPages.Load() }

// known merges all children of m.dir, and what else a page had.
func (m merging) known(ctx context.Context, l flatPage) error {
	if err := m.all(ctx, l.direct); err != nil {
		return err
	}
	_, err := m.c.mergeFlat(ctx, l.below, nil)
	return err
}

// glance asks about a name of which nothing is known: by a listing of it, which has
// what is below it, too. Beside it the records of m.dir are asked for.
// ErrUnsupported says that the name is to be asked for by itself.
func (m merging) glance(ctx context.Context, name, key string) error {
	c, d := m.c, dirOf(m.dir)
	d.mu.Lock()
	denied := d.denied
	d.mu.Unlock()
	if _, err := c.tree.Lookup(m.dir, name); err == nil || denied || !c.paged() {
		return errors.ErrUnsupported
	}
	c.ns.Lock()
	trust := c.recordsTrust(d)
	c.ns.Unlock()
	recorded := make(chan error, 1)
	go func() { recorded <- c.loadRecords(ctx, m.dir, trust) }()
	e, p, err := backends.StatWalk(ctx, c.store, key)
	failed := <-recorded
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, backends.ErrNotDir):
		return m.one(ctx, name, nil)
	case err != nil:
		return err
	case failed != nil:
		return failed
	}
	if err := m.one(ctx, name, &e); err != nil || !e.IsDir() {
		return err
	}
	n, err := c.tree.Lookup(m.dir, name)
	if err != nil || !n.IsDir() {
		return nil // changed here meanwhile
	}
	if len(p.Entries) >= pageEntries/2 {
		// A page of what is below m.dir would have the same once more.
		d.mu.Lock()
		d.deep = true
		d.mu.Unlock()
	}
	below, ok := c.merging(n)
	if !ok || below.key != key {
		return nil // the same
	}
	below.asked, below.moves = m.asked, m.moves
	if err := below.merge(ctx, below.sort(p)); !errors.Is(err, errMoved) {
		return err
	}
	return nil // the name was answered
}

// merge merges what a page has, and keeps where it was cut off.
func (m merging) merge(ctx context.Context, l flatPage) error {
	if l.whole {
		return m.known(ctx, l)
	}
	m.c.cut.Store(&cutPage{l, m})
	// Without all records nobody knows what the files are.
	if n := len(l.direct); n == 0 || l.direct[n-1].Base() < backends.RecordPrefix+"~" {
		return nil
	}
	if err := m.some(ctx, l.direct); err != nil {
		return err
	}
	_, err := m.c.mergeFlat(ctx, l.below, nil)
	return err
}
