package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/tree"
)

// How long an answer is believed.
//
// A name is taken from the tree while the store confirmed it less than the ttl
// ago, by a listing of its directory or by itself. After that the store is
// asked: for the one name, or, when it is the second within a second, for more:
// the whole of a small directory, of a large one the names that follow (see
// inorder.go). A name of which nothing is known is asked for with what is below it
// (see glance). A directory on
// the way to a name is believed longer (dirTrust ttls): if a file below it is
// there, so is the directory, and if not, asking for the file says so as
// well. So are the records of a directory for a file whose version is still the
// one that they were read for: a lone question is then one request.
const dirTrust = 12

// smallDir is the number of entries from which on a lookup does not list the
// whole directory: a page of S3 has 1,000, of which some may lie deeper.
const smallDir = 900

// fresh reports whether what the store said at t is believed now.
func (c *FS) fresh(t time.Time) bool {
	return !t.IsZero() && time.Since(t) < c.cfg.TTL
}

// left returns how long what the store said at t may still be believed.
func (c *FS) left(t time.Time) time.Duration {
	return max(0, c.cfg.TTL-time.Since(t))
}

// trusted returns how long a directory that the store confirmed at t may still be
// believed to be there before it is asked about again here.
func (c *FS) trusted(t time.Time) time.Duration {
	return min(c.cfg.TTL, max(0, dirTrust*c.cfg.TTL-time.Since(t)))
}

// Lookup implements [backends.FileSystem].
func (c *FS) Lookup(ctx context.Context, parent backends.Node, name string) (backends.Node, backends.Attr, error) {
	p, err := c.ownDir(parent)
	if err != nil {
		return nil, backends.Attr{}, err
	}
	n, err := c.lookup(ctx, p, name)
	if err != nil {
		return nil, backends.Attr{}, err
	}
	return n, c.attr(n), nil
}

// lookup returns the child of p called name, asking the store if need be.
func (c *FS) lookup(ctx context.Context, p *tree.Node, name string) (*tree.Node, error) {
	if err := tree.CheckName(name); err != nil {
		return nil, err
	}
	if reserved(name) {
		return nil, fs.ErrNotExist
	}
	if n, err, known := c.known(p, name); known {
		return n, err
	}
	d := dirOf(p)
	oldest := time.Now().Add(-c.cfg.TTL)
	err := again(func() error {
		asked, err := c.ask(ctx, p, name)
		if err != nil {
			return err
		}
		if asked.Before(oldest) {
			return errMoved // somebody else's question, too old for the ttl
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.changing[name] == 0 && d.oursSince(name, asked) {
			// The answer is to a question that somebody asked before the name
			// was changed here.
			return errMoved
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	// What the answer said is in the tree now, whatever its age: with a ttl
	// of 0 it would be too old at once.
	return c.tree.Lookup(p, name)
}

// again asks until the answer is not overtaken by a change of this machine.
// That it doesn't end would take somebody who changes the same name or moves
// directories all the time, in less than the store takes to answer.
func again(ask func() error) (err error) {
	for range 100 {
		if err = ask(); !errors.Is(err, errMoved) {
			return err
		}
	}
	return err
}

// known returns what the tree says of name, if that can be believed.
func (c *FS) known(p *tree.Node, name string) (*tree.Node, error, bool) {
	d := dirOf(p)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.touch()
	n, err := c.tree.Lookup(p, name)
	if err == nil {
		return n, nil, d.changing[name] > 0 || c.confirmed(d, name, n)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err, true
	}
	if d.changing[name] > 0 {
		return nil, err, true
	}
	t := d.absent[name]
	if listed := d.listedFor(name); listed.After(t) {
		t = listed
	}
	return nil, err, c.fresh(t)
}

// confirmed reports whether n, the child called name of the directory of d,
// can be believed to be there as it is. d.mu is held.
func (c *FS) confirmed(d *dir, name string, n *tree.Node) bool {
	listed := d.listedFor(name)
	switch x := n.Data.(type) {
	case *file:
		x.mu.Lock()
		defer x.mu.Unlock()
		x.looked = uint32(d.touched.Unix())
		return x.localLocked() || c.fresh(x.seen) || c.fresh(listed)
	case *dir:
		x.mu.Lock()
		defer x.mu.Unlock()
		if x.local || x.mine {
			return true
		}
		t := x.seen
		if x.listed.After(t) {
			t = x.listed
		}
		if listed.After(t) {
			t = listed
		}
		return !t.IsZero() && time.Since(t) < dirTrust*c.cfg.TTL
	}
	return c.fresh(listed)
}

// ask asks the store about name in p and merges what it says. Several that
// ask the same share one question; asked is when it was asked.
func (c *FS) ask(ctx context.Context, p *tree.Node, name string) (asked time.Time, err error) {
	d := dirOf(p)
	d.mu.Lock()
	list := !d.big && !d.denied && c.cfg.TTL > 0
	first := list && d.unknown() && c.paged()
	soon := time.Since(d.lone) < time.Second
	second, inOrder := list && soon, d.big && !d.denied && c.cfg.TTL > 0 && soon
	d.lone = time.Now()
	d.mu.Unlock()
	if first || second {
		asked := time.Now()
		if c.surveyed(ctx, c.visit(ctx, p, false), p) {
			return asked, nil
		}
	}
	if second {
		asked, err := c.list(ctx, p, smallDir)
		if !d.unlistable(err) && !errors.Is(err, errBig) {
			if errors.Is(err, fs.ErrNotExist) {
				err = nil // the directory is gone: so is the name
			}
			return asked, err
		}
	}
	m, ok := c.merging(p)
	if !ok {
		return time.Now(), nil // removed, or all that is in it is here
	}
	if inOrder {
		d.mu.Lock()
		after, follows := d.stretches.follow(name)
		d.mu.Unlock()
		if follows {
			if asked, known, err := m.askStretch(ctx, name, after); known || err != nil {
				return asked, err
			}
			m.asked = time.Now()
		}
	}
	path := join(m.key, name)
	if err := backends.ValidName(c.store, path); err != nil && !errors.Is(err, backends.ErrReadOnly) {
		// The store can't have it. (One that takes no changes takes no name,
		// and may have it all the same.)
		return time.Time{}, fs.ErrNotExist
	}
	d.mu.Lock()
	if d.big {
		d.stretches.note(stretch{after: name, last: name})
	}
	d.mu.Unlock()
	return c.share(ctx, m.asked, fmt.Sprint("stat ", p.ID(), " ", name), func(ctx context.Context, _ func()) error {
		err := m.glance(ctx, name, path)
		if d.unlistable(err) || errors.Is(err, errors.ErrUnsupported) {
			err = m.stat(ctx, name, path)
		}
		return err
	})
}

// unlistable reports whether err says that this user may not list, and keeps that in
// mind: who may not list may still read.
func (d *dir) unlistable(err error) bool {
	if !errors.Is(err, fs.ErrPermission) {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.denied = true
	return true
}

// stat asks the store about name in m.dir, and nothing else.
func (m merging) stat(ctx context.Context, name, key string) error {
	e, err := m.c.statOf(ctx, m.dir, name, key)
	// Where this machine has a directory, the store may still have a file.
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, backends.ErrNotDir) {
		return err
	}
	var found *backends.Entry
	if err == nil {
		found = &e
	}
	return m.one(ctx, name, found)
}

// statOf asks the store about name in p, which it has under key. What was a file
// when it was last asked about is asked for as one.
func (c *FS) statOf(ctx context.Context, p *tree.Node, name, key string) (backends.Entry, error) {
	if old, err := c.tree.Lookup(p, name); err == nil && storedAt(old, key) != nil {
		return backends.StatFile(ctx, c.store, key)
	}
	return c.store.Stat(ctx, key)
}

// storedAt returns what the store had under key when it was last asked about the
// file n; nil for anything else than a file, or if that is elsewhere, or not all.
func storedAt(n *tree.Node, key string) *stored {
	f, ok := n.Data.(*file)
	if !ok {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.localLocked() || f.base.key != key {
		return nil
	}
	return f.base
}

// share runs f once for all that ask under the same key at the same time, and
// returns when the one of them asked that runs. f belongs to none of them: it
// goes on if one gives up waiting. It ends when the store has had storeTimeout
// since f last called more.
func (c *FS) share(ctx context.Context, now time.Time, key string, f func(ctx context.Context, more func()) error) (asked time.Time, err error) {
	done := c.asking.DoChan(key, func() (any, error) {
		ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
		defer cancel(nil)
		late := time.AfterFunc(storeTimeout, func() {
			cancel(fmt.Errorf("no answer of the store for %v: %w", storeTimeout, context.DeadlineExceeded))
		})
		defer late.Stop()
		err := f(ctx, func() { late.Reset(storeTimeout) })
		if err != nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return now, err
	})
	select {
	case r := <-done:
		return r.Val.(time.Time), r.Err
	case <-ctx.Done():
		return now, ctx.Err()
	}
}

// ReadDir implements [backends.FileSystem].
func (c *FS) ReadDir(ctx context.Context, n backends.Node) ([]backends.DirEntry, error) {
	p, err := c.ownDir(n)
	if err != nil {
		return nil, err
	}
	d := dirOf(p)
	d.mu.Lock()
	d.touch()
	d.mu.Unlock()
	fork := c.visit(ctx, p, true)
	if !c.listedNow(p) && !c.surveyed(ctx, fork, p) {
		if err := c.refresh(ctx, p); err != nil {
			return nil, err
		}
	}
	d.used()
	return c.tree.ReadDir(p)
}

// listedNow reports whether all that is known of p can be believed.
func (c *FS) listedNow(p *tree.Node) bool {
	d := dirOf(p)
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.local || c.fresh(d.listed)
}

// Listing implements [backends.Lister]: as long as the ttl leaves.
func (c *FS) Listing(n backends.Node) (stamp uint64, valid time.Duration) {
	p, err := c.ownDir(n)
	if err != nil {
		return 0, 0
	}
	stamp = c.tree.Stamp(p)
	d := dirOf(p)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.local || c.cfg.TTL == 0 {
		return 0, 0 // all of it is here, or each reader asks
	}
	return stamp, c.left(d.listed)
}

// refresh lists p unless what is known of it can be believed.
func (c *FS) refresh(ctx context.Context, p *tree.Node) error {
	if c.listedNow(p) {
		return nil
	}
	return again(func() error {
		_, err := c.list(ctx, p, 0)
		return err
	})
}

// list lists p and merges the listing. With a limit it gives up with errBig
// when there are more entries than that.
func (c *FS) list(ctx context.Context, p *tree.Node, limit int) (asked time.Time, err error) {
	m, ok := c.merging(p)
	if !ok {
		// All that is in it is here; or it was removed and is still open.
		return m.asked, nil
	}
	return c.share(ctx, m.asked, fmt.Sprint("list ", p.ID(), " ", limit), func(ctx context.Context, more func()) error {
		return m.listing(ctx, limit, more)
	})
}

// listing is list for one that asks: a page of a flat listing, which is enough
// for all that is below a small directory, and if that is cut off what follows
// in the directory itself.
func (m merging) listing(ctx context.Context, limit int, more func()) error {
	m, l, err := m.page(ctx)
	defer dirOf(m.dir).asks(m.asked)()
	if err != nil {
		return m.listFailed(err)
	}
	all := l.direct
	after := ""
	if len(all) > 0 {
		after = all[len(all)-1].Key()
	}
	tooMany := func() bool { return limit > 0 && len(all) >= limit }
	if !l.whole && !tooMany() {
		for e, err := range m.c.store.List(ctx, m.key, after) {
			if err != nil {
				return m.listFailed(err)
			}
			if all = append(all, e); tooMany() {
				break
			}
			if len(all)%pageEntries == 0 {
				more()
			}
		}
	}
	if !l.whole && tooMany() {
		d := dirOf(m.dir)
		d.mu.Lock()
		d.big = true
		d.mu.Unlock()
		return errBig
	}
	l.direct = all
	return m.known(ctx, l)
}

// listFailed sorts out what a failed listing means: a directory that exists
// only here so far is not missing, and it is known then what is in it: nothing else
// than what is here.
func (m merging) listFailed(err error) error {
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, backends.ErrNotDir) {
		return err
	}
	end, moved := m.begin()
	if moved != nil {
		return moved
	}
	c, n := m.c, m.dir
	if dirOf(n).job != nil {
		end()
		return m.nothing()
	}
	defer end()
	if c.anyLocal(n) {
		return nil
	}
	if n == c.tree.Root() {
		return err
	}
	if parent, name, ok := c.tree.Where(n); ok {
		d := dirOf(parent)
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.oursSince(name, m.asked) || dirOf(n).hereSince(m.asked) {
			return errMoved // it has got there meanwhile
		}
		m.dir = parent
		m.drop(name, n)
	}
	return fs.ErrNotExist
}

// anyLocal reports whether something below n is not in the store yet.
func (c *FS) anyLocal(n *tree.Node) bool {
	local := false
	c.tree.Children(n, func(_ string, child *tree.Node) {
		switch x := child.Data.(type) {
		case *file:
			x.mu.Lock()
			local = local || x.localLocked()
			x.mu.Unlock()
		case *dir:
			local = local || x.job != nil || x.local || c.anyLocal(child)
		}
	})
	return local
}
