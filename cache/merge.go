package cache

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/tree"
)

// merging brings an answer of the store into the tree. What this machine has
// changed since the question was asked stays as it is, and so does what it
// has not uploaded yet. A question is asked by path: when directories have
// moved since, the answer may be about another one, and errMoved says to ask
// again.
type merging struct {
	c     *FS
	dir   *tree.Node
	asked time.Time
	moves uint64
}

// errMoved says that this machine moved directories, or changed the name,
// while the store was asked.
var errMoved = errors.New("changed here while the store was asked")

// merging returns what merges the answer to a question that is asked next
// about dir. The path to ask by has to be taken from the tree after this.
func (c *FS) merging(dir *tree.Node) merging {
	c.moving.RLock()
	defer c.moving.RUnlock()
	return merging{c: c, dir: dir, asked: time.Now(), moves: c.moves}
}

// begin keeps directories where they are until end is called, or says that
// they have moved.
func (m merging) begin() (end func(), err error) {
	m.c.moving.RLock()
	if m.c.moves != m.moves {
		m.c.moving.RUnlock()
		return nil, errMoved
	}
	return m.c.moving.RUnlock, nil
}

// one merges the answer about a single name; e is nil if it is not there.
func (m merging) one(ctx context.Context, name string, e *backends.Entry) error {
	var target string
	if e != nil && e.Mode.Type() == fs.ModeSymlink {
		var err error
		if target, err = backends.Readlink(ctx, m.c.store, e.Name); err != nil {
			return err
		}
	}
	end, err := m.begin()
	if err != nil {
		return err
	}
	defer end()
	d := dirOf(m.dir)
	d.mu.Lock()
	if e == nil {
		m.missing(d, name)
		if !d.oursSince(name, m.asked) {
			d.setAbsent(name, m.asked)
		}
		d.mu.Unlock()
		return nil
	}
	delete(d.absent, name)
	m.present(d, name, *e, target)
	d.mu.Unlock()
	m.seen()
	return nil
}

// all merges a complete listing.
func (m merging) all(ctx context.Context, entries []backends.Entry) error {
	targets := map[string]string{}
	there := make(map[string]struct{}, len(entries))
	for _, e := range entries {
		there[e.Base()] = struct{}{}
		if e.Mode.Type() == fs.ModeSymlink {
			t, err := backends.Readlink(ctx, m.c.store, e.Name)
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
				continue // gone or another thing by now; the next listing will tell
			}
			if err != nil {
				return err
			}
			targets[e.Name] = t
		}
	}
	end, err := m.begin()
	if err != nil {
		return err
	}
	defer end()
	d := dirOf(m.dir)
	d.mu.Lock()
	for _, e := range entries {
		m.present(d, e.Base(), e, targets[e.Name])
	}
	m.c.tree.Children(m.dir, func(name string, _ *tree.Node) {
		if _, ok := there[name]; !ok {
			m.missing(d, name)
		}
	})
	d.listed, d.seen = m.asked, m.asked
	d.big = len(entries) > smallDir
	clear(d.absent)
	d.mu.Unlock()
	m.seen()
	return nil
}

// seen records that the directories above are there as well. No lock is held.
func (m merging) seen() {
	for n := m.dir; ; {
		parent, _, ok := m.c.tree.Where(n)
		if !ok || parent == n {
			return
		}
		p := dirOf(parent)
		p.mu.Lock()
		if p.seen.Before(m.asked) {
			p.seen = m.asked
		}
		p.mu.Unlock()
		n = parent
	}
}

// present merges that the store has e under name. d.mu is held.
func (m merging) present(d *dir, name string, e backends.Entry, target string) {
	if d.oursSince(name, m.asked) || tree.CheckName(name) != nil {
		return
	}
	old, err := m.c.tree.Lookup(m.dir, name)
	if err == nil {
		switch x := old.Data.(type) {
		case *file:
			x.mu.Lock()
			local := x.localLocked()
			same := !local && e.Mode.IsRegular() && x.base.version == e.Version && x.base.size == e.Size
			if same {
				x.seen = m.asked
			}
			x.mu.Unlock()
			if local || same {
				return
			}
		case *dir:
			if e.IsDir() {
				x.mu.Lock()
				x.seen = m.asked
				x.mu.Unlock()
				return
			}
			if m.c.anyLocal(old) {
				return
			}
		default:
			if e.Mode.Type() == old.Type() {
				if t, err := m.c.tree.Readlink(old); err == nil && t == target {
					return
				}
			}
		}
	}
	n := m.c.newStored(e, target, m.asked)
	path, _ := m.c.path(m.dir, name)
	if replaced := m.c.tree.Adopt(m.dir, name, n); replaced != nil {
		m.c.strayed(replaced, path)
		m.c.changed(m.dir, name)
	}
}

// missing merges that the store has nothing under name. d.mu is held.
func (m merging) missing(d *dir, name string) {
	if d.oursSince(name, m.asked) {
		return
	}
	n, err := m.c.tree.Lookup(m.dir, name)
	if err != nil {
		return
	}
	if f, ok := n.Data.(*file); ok {
		f.mu.Lock()
		local := f.localLocked()
		f.mu.Unlock()
		if local {
			return
		}
	}
	if n.IsDir() && m.c.anyLocal(n) {
		return
	}
	m.drop(name, n)
}

// drop takes n, which the store has no more, out of the tree.
func (m merging) drop(name string, n *tree.Node) {
	if now, err := m.c.tree.Lookup(m.dir, name); err != nil || now != n {
		return
	}
	path, _ := m.c.path(m.dir, name)
	m.c.tree.Drop(m.dir, name)
	m.c.strayed(n, path)
	m.c.changed(m.dir, name)
}

// strayed ends what nodes no longer need whose names the store has taken away;
// path is where n was.
func (c *FS) strayed(n *tree.Node, path string) {
	switch x := n.Data.(type) {
	case *file:
		x.stray(path)
	case *dir:
		c.tree.Children(n, func(name string, child *tree.Node) { c.strayed(child, path+"/"+name) })
	}
}

// detached ends what nodes no longer need whose names this machine has taken
// away.
func (c *FS) detached(n *tree.Node) {
	switch x := n.Data.(type) {
	case *file:
		x.detach()
	case *dir:
		c.tree.Children(n, func(_ string, child *tree.Node) { c.detached(child) })
	}
}

// newStored returns a nameless node for what the store has.
func (c *FS) newStored(e backends.Entry, target string, asked time.Time) *tree.Node {
	a := backends.CreateAttr{Mode: e.Mode, UID: c.cfg.UID, GID: c.cfg.GID}
	def := c.cfg.FileMode
	if e.IsDir() {
		def = c.cfg.DirMode
	}
	if a.Mode.Perm() == 0 {
		a.Mode = a.Mode.Type() | def
	}
	var n *tree.Node
	switch {
	case e.IsDir():
		n = c.tree.NewNode(a, &dir{seen: asked})
	case e.Mode.Type() == fs.ModeSymlink:
		n = c.tree.NewSymlink(a, target, nil)
	default:
		f := &file{fs: c, seen: asked, base: &stored{version: e.Version, size: e.Size}}
		n = c.tree.NewNode(a, f)
		f.node = n
	}
	if !e.ModTime.IsZero() {
		n.SetModified(e.ModTime, e.ModTime)
		n.SetAccessed(e.ModTime)
	}
	return n
}
