package cache

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/tree"
	"github.com/agentfs/agentfs/cache/attrs"
)

// merging brings an answer of the store into the tree. What this machine has
// changed since the question was asked stays as it is, and so does what it
// has not uploaded yet. A question is asked by path: when the directory, or one
// above it, has moved since, or was forgotten and learned again, the answer may be
// about another one, and errMoved says to ask again.
type merging struct {
	c     *FS
	dir   *tree.Node
	key   string // by which the store is asked about dir
	asked time.Time
	moves uint64
	// What the records of dir say, and which these are; see load.
	attrs   *attrs.Dir
	records []backends.Entry
}

// errMoved says that this machine moved the directory, or changed the name,
// while the store was asked.
var errMoved = errors.New("changed here while the store was asked")

// merging returns what merges the answer to a question that is asked next
// about dir; ok is false if the store has no such directory.
func (c *FS) merging(dir *tree.Node) (m merging, ok bool) {
	c.ns.Lock()
	defer c.ns.Unlock()
	m = merging{c: c, dir: dir, asked: time.Now(), moves: c.moves}
	m.key, ok = c.tree.Path(dir)
	return m, ok && !dirOf(dir).local
}

// begin keeps names where they are until end is called, or says that dir or one
// above it has moved, or that dir is none any more.
func (m merging) begin() (end func(), err error) {
	m.c.ns.Lock()
	if !m.c.stood(m.dir, m.moves) {
		m.c.ns.Unlock()
		return nil, errMoved
	}
	return m.c.ns.Unlock, nil
}

// stood reports whether n is what it was when FS.moves was moves, and where it was.
// c.ns is held.
func (c *FS) stood(n *tree.Node, moves uint64) bool {
	for {
		parent, _, ok := c.tree.Where(n)
		switch {
		case !ok || dirOf(n).since > moves:
			return false
		case parent == n:
			return true
		}
		n = parent
	}
}

// one merges the answer about a single name; e is nil if it is not there.
func (m merging) one(ctx context.Context, name string, e *backends.Entry) error {
	var target string
	if reserved(name) {
		return nil
	}
	if e != nil && !m.c.cfg.NoAttributes {
		trust := m.c.cfg.TTL
		if old, err := m.c.tree.Lookup(m.dir, name); err == nil {
			if base := storedAt(old, e.Name); base != nil && base.version == e.Version {
				trust *= dirTrust
			}
		}
		if err := m.c.loadRecords(ctx, m.dir, trust); err != nil {
			return err
		}
	}
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
	m.attrs = d.records.known
	d.mu.Lock()
	if e == nil || m.c.haunts(*e) {
		m.missing(d, name)
		if !d.oursSince(name, m.asked) {
			m.c.setAbsent(d, name, m.asked)
		}
		d.mu.Unlock()
		return nil
	}
	delete(d.absent, name)
	m.present(d, name, *e, target)
	d.mu.Unlock()
	m.c.learned()
	m.seen()
	return nil
}

// all merges a complete listing.
func (m merging) all(ctx context.Context, entries []backends.Entry) error {
	entries, records := split(entries)
	if err := m.load(ctx, records); err != nil {
		return err
	}
	targets, err := m.c.targets(ctx, entries)
	if err != nil {
		return err
	}
	there := make(map[string]struct{}, len(entries))
	for _, e := range entries {
		there[e.Base()] = struct{}{}
	}
	d := dirOf(m.dir)
	d.merges(1) // what is merged stays until the rest is
	defer d.merges(-1)
	// With nothing in it once, for the records.
	for first := true; first || len(entries) > 0; first = false {
		n := min(mergeAtOnce, len(entries))
		if later, err := m.part(entries[:n], first, targets, there); later || err != nil {
			return err
		}
		entries = entries[n:]
	}
	if later, err := m.only(there); later || err != nil {
		return err
	}
	d.mu.Lock()
	if d.seen.Before(m.asked) {
		d.seen = m.asked
	}
	d.mu.Unlock()
	m.c.learned()
	m.seen()
	return nil
}

// nothing merges that the store has no such directory, and so nothing that is in it
// here. It is known then, but not confirmed.
func (m merging) nothing() error {
	there := map[string]struct{}{}
	if later, err := m.part(nil, true, nil, there); later || err != nil {
		return err
	}
	_, err := m.only(there)
	return err
}

// only merges that a listing has nothing but there, which is merged: m.dir is known by
// it. later says that a later answer is in.
func (m merging) only(there map[string]struct{}) (later bool, err error) {
	var gone []string
	for _, name := range m.c.tree.Names(m.dir) {
		if _, ok := there[name]; !ok {
			gone = append(gone, name)
		}
	}
	end, err := m.begin()
	if err != nil {
		return false, err
	}
	defer end()
	d := dirOf(m.dir)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.listed.After(m.asked) {
		return true, nil
	}
	for _, name := range gone {
		m.missing(d, name)
	}
	d.listed = m.asked
	m.c.tree.Restamp(m.dir)
	d.big, d.denied = len(there) >= smallDir, false
	clear(d.absent)
	return false, nil
}

// mergeAtOnce is how many entries are merged before others may go on.
const mergeAtOnce = 1000

// part merges some entries of a listing, and takes out of there what is not to be
// seen. later says that a later answer is in.
func (m *merging) part(entries []backends.Entry, first bool, targets map[string]string, there map[string]struct{}) (later bool, err error) {
	end, err := m.begin()
	if err != nil {
		return false, err
	}
	defer end()
	d := dirOf(m.dir)
	d.mu.Lock()
	later = d.listed.After(m.asked)
	d.mu.Unlock()
	if later {
		return true, nil
	}
	if first {
		m.loaded()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range entries {
		if m.c.haunts(e) {
			delete(there, e.Base())
			continue
		}
		m.present(d, e.Base(), e, targets[e.Name])
	}
	return false, nil
}

// some merges the beginning of a listing, all records of m.dir included.
func (m merging) some(ctx context.Context, entries []backends.Entry) error {
	entries, records := split(entries)
	if err := m.load(ctx, records); err != nil {
		return err
	}
	end, err := m.begin()
	if err != nil {
		return err
	}
	defer end()
	m.loaded()
	d := dirOf(m.dir)
	d.mu.Lock()
	for _, e := range entries {
		if !m.c.haunts(e) && e.Mode.Type() != fs.ModeSymlink { // what it points to was not asked for
			m.present(d, e.Base(), e, "")
		}
	}
	d.mu.Unlock()
	m.c.learned()
	m.seen()
	return nil
}

// targets asks the store where the symbolic links among entries lead.
func (c *FS) targets(ctx context.Context, entries []backends.Entry) (map[string]string, error) {
	targets := map[string]string{}
	for _, e := range entries {
		if e.Mode.Type() != fs.ModeSymlink {
			continue
		}
		t, err := backends.Readlink(ctx, c.store, e.Name)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
			continue // gone or another thing by now; the next listing will tell
		}
		if err != nil {
			return nil, err
		}
		targets[e.Name] = t
	}
	return targets, nil
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
	if d.oursSince(name, m.asked) || d.absent[name].After(m.asked) || tree.CheckName(name) != nil {
		return
	}
	if g := m.c.ghosts[e.Name]; g != nil && !e.IsDir() {
		// Somebody else has put something over what this machine has taken
		// away: it is not ours to remove any more.
		var b batch
		m.c.lay(&b, g.id())
		m.c.commitLate(&b)
	}
	e, target, a := m.described(name, e, target)
	old, err := m.c.tree.Lookup(m.dir, name)
	if err == nil {
		switch x := old.Data.(type) {
		case *file:
			x.mu.Lock()
			// What the store has elsewhere, the answer is not about.
			local := x.localLocked() || x.base.key != e.Name || x.seen.After(m.asked)
			same := !local && e.Mode.Type() == old.Type() && x.base.version == e.Version && x.base.size == e.Size
			if !local && !same && x.attrs.in != nil {
				// A link whose record is still to come.
				same = x.base.version == e.Version && x.base.size == e.Size
			}
			if same {
				x.seen = m.asked
			}
			x.mu.Unlock()
			if same && m.c.applyAttrs(old, e, a) {
				m.c.changed(m.dir, name)
			}
			if local || same {
				return
			}
		case *dir:
			if e.IsDir() {
				x.mu.Lock()
				if x.seen.Before(m.asked) {
					x.seen = m.asked
				}
				x.mu.Unlock()
				if x.job == nil && m.c.applyAttrs(old, e, a) {
					m.c.changed(m.dir, name)
				}
				return
			}
			if x.job != nil || m.c.anyLocal(old) {
				return
			}
		}
	}
	n := m.c.newDescribed(e, target, m.asked, a)
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
		local := f.localLocked() || f.base.key != join(m.key, name) || f.seen.After(m.asked)
		f.mu.Unlock()
		if local {
			return
		}
	}
	if n.IsDir() && (dirOf(n).hereSince(m.asked) || dirOf(n).job != nil || m.c.anyLocal(n)) {
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
// path is where n was. c.ns is held.
func (c *FS) strayed(n *tree.Node, path string) {
	var b batch
	c.forgetAttrs(&b, n)
	defer c.commitLate(&b)
	switch x := n.Data.(type) {
	case *file:
		x.mu.Lock()
		x.gone, x.astray = true, path
		x.dropLocked()
		x.mu.Unlock()
		x.rehold()
	case *dir:
		c.endDirJob(n)
		c.tree.Children(n, func(name string, child *tree.Node) { c.strayed(child, path+"/"+name) })
	}
}

// newStored returns a nameless node for what the store has. c.ns is held.
func (c *FS) newStored(e backends.Entry, target string, asked time.Time) *tree.Node {
	return c.newDescribed(e, target, asked, attrs.Attr{})
}

// newDescribed is newStored with what is recorded of it.
func (c *FS) newDescribed(e backends.Entry, target string, asked time.Time, described attrs.Attr) *tree.Node {
	a := c.createAttr(e, described)
	var n *tree.Node
	if e.IsDir() {
		n = c.tree.NewNode(a, &dir{seen: asked, since: c.moves})
	} else {
		f := &file{fs: c, seen: asked, base: &stored{key: e.Name, version: e.Version, size: e.Size}}
		if e.Mode.Type() == fs.ModeSymlink {
			n = c.tree.NewSymlink(a, target, f)
		} else {
			n = c.tree.NewNode(a, f)
		}
		f.node = n
	}
	if !e.ModTime.IsZero() {
		n.SetModified(e.ModTime, e.ModTime)
		n.SetAccessed(e.ModTime)
	}
	c.describe(n, described)
	return n
}
