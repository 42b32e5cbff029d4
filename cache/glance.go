package cache

import (
	"cmp"
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
// what is below it, too. Beside it m.dir is asked for what it begins with.
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
	beside := make(chan beginning, 1)
	go func() { beside <- m.beginning(ctx, trust) }()
	e, p, err := backends.StatWalk(ctx, c.store, key)
	found := &e
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, backends.ErrNotDir) {
		found, err = nil, nil
	}
	b := <-beside
	switch {
	case err != nil && b.whole:
		return cmp.Or(m.all(ctx, b.entries), err)
	case err != nil:
		return err
	case found != nil && b.err != nil:
		return b.err
	case b.whole:
		err = m.all(ctx, b.with(name, found))
	default:
		err = m.one(ctx, name, found)
	}
	if err != nil || found == nil || !e.IsDir() {
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

// beginning is what the first names of a directory say.
type beginning struct {
	entries []backends.Entry
	whole   bool // these are all
	err     error
}

// with returns the entries with another answer about name, nil for its absence: of two that
// were asked for at the same time that one counts which was meant for it.
func (b beginning) with(name string, found *backends.Entry) []backends.Entry {
	all := slices.DeleteFunc(b.entries, func(e backends.Entry) bool { return e.Base() == name })
	if found != nil {
		all = append(all, *found)
		slices.SortFunc(all, func(a, b backends.Entry) int { return cmp.Compare(a.Key(), b.Key()) })
	}
	return all
}

// beginning makes the records of m.dir known, unless they were asked for within ttl: by a
// listing from its beginning, which has them among the first of its names. If that is all
// there is, as of most directories, it is returned, and m.dir is known with it.
func (m merging) beginning(ctx context.Context, ttl time.Duration) beginning {
	c, d := m.c, dirOf(m.dir)
	c.ns.Lock()
	asked := time.Since(d.records.loaded) < ttl
	c.ns.Unlock()
	d.mu.Lock()
	big := d.big
	d.mu.Unlock()
	if asked || big || c.cfg.NoAttributes {
		return beginning{err: c.loadRecords(ctx, m.dir, ttl)}
	}
	var first []backends.Entry
	// A few more, because some names wait for what follows them.
	for e, err := range c.store.List(backends.ExpectEntries(ctx, fewNames*5/4), m.key, "") {
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, backends.ErrNotDir):
			return beginning{err: m.recorded(ctx, nil)}
		case err != nil:
			return beginning{err: err}
		case len(first) == fewNames && beyondRecords(first):
			return beginning{err: m.recorded(ctx, first)}
		case len(first) == fewNames:
			return beginning{err: c.loadRecords(ctx, m.dir, ttl)}
		}
		first = append(first, e)
	}
	return beginning{entries: first, whole: true}
}

// merge merges what a page has, and keeps where it was cut off.
func (m merging) merge(ctx context.Context, l flatPage) error {
	if l.whole {
		return m.known(ctx, l)
	}
	m.c.cut.Store(&cutPage{l, m})
	// Without all records nobody knows what the files are.
	if !beyondRecords(l.direct) {
		return nil
	}
	if err := m.some(ctx, l.direct); err != nil {
		return err
	}
	_, err := m.c.mergeFlat(ctx, l.below, nil)
	return err
}
