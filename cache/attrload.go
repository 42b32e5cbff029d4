package cache

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/tree"
	"github.com/agentfs/agentfs/backends/unixmode"
	"github.com/agentfs/agentfs/cache/attrs"
)

// split returns the names of a listing that are shown, and the records among
// the others.
func split(entries []backends.Entry) (shown, records []backends.Entry) {
	for i, e := range entries {
		if reserved(e.Base()) {
			shown = append(make([]backends.Entry, 0, len(entries)), entries[:i]...)
			for _, e := range entries[i:] {
				switch base := e.Base(); {
				case !reserved(base):
					shown = append(shown, e)
				case attrs.IsRecord(base) && !e.IsDir():
					records = append(records, e)
				}
			}
			return shown, records
		}
	}
	return entries, nil
}

// load reads the records that a listing of m.dir has. No lock is held.
func (m *merging) load(ctx context.Context, records []backends.Entry) error {
	c, k := m.c, &dirOf(m.dir).records
	c.ns.Lock()
	prev := k.known
	live := make([]backends.Entry, 0, len(records))
	for _, e := range records {
		if g := c.ghosts[e.Name]; g == nil {
			live = append(live, e)
		}
	}
	c.ns.Unlock()
	m.records = records
	if c.cfg.NoAttributes || len(live) == 0 {
		return nil
	}
	var err error
	m.attrs, err = attrs.Load(ctx, c.store, m.key, live, m.asked, prev)
	return err
}

// loaded puts what was read where the next one finds it. c.ns is held.
func (m *merging) loaded() {
	k := &dirOf(m.dir).records
	if k.saved.After(m.asked) {
		return // that is not in it
	}
	k.known, k.records, k.loaded = m.attrs, m.records, m.asked
	if m.asked.After(k.unsure) {
		k.unsure = time.Time{}
	}
	if m.asked.After(k.behind) {
		k.behind = time.Time{}
	}
	if m.dir == m.c.tree.Root() {
		a, _ := m.attrs.Lookup(".", "")
		m.c.applyAttrs(m.dir, backends.Entry{Name: ".", Mode: fs.ModeDir}, a)
	}
}

// fewNames is how many names a listing is for that wants the first of a directory, or its
// records, which are few: a page of a large directory takes both sides longer than all
// the rest of the request.
const fewNames = 50

// loadRecords makes the records of p known, unless they were asked for within
// ttl.
func (c *FS) loadRecords(ctx context.Context, p *tree.Node, ttl time.Duration) error {
	m, ok := c.merging(p)
	if !ok || c.cfg.NoAttributes {
		c.ns.Lock()
		k := &dirOf(p).records
		if k.loaded.IsZero() {
			k.loaded = time.Now() // all that is in it is here
		}
		k.behind = time.Time{}
		c.ns.Unlock()
		return nil
	}
	c.ns.Lock()
	fresh := time.Since(dirOf(p).records.loaded) < ttl
	c.ns.Unlock()
	if fresh {
		return nil
	}
	var records []backends.Entry
	for e, err := range c.store.List(backends.ExpectEntries(ctx, fewNames), m.key, backends.RecordPrefix) {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, backends.ErrNotDir) {
			break
		}
		if err != nil {
			return err
		}
		if !strings.HasPrefix(e.Base(), backends.RecordPrefix) {
			break
		}
		records = append(records, e)
	}
	return m.recorded(ctx, records)
}

// recorded makes the records known that are among entries, which are all of m.dir.
func (m merging) recorded(ctx context.Context, entries []backends.Entry) error {
	_, records := split(entries)
	if err := m.load(ctx, records); err != nil {
		return err
	}
	end, err := m.begin()
	if err != nil {
		return err
	}
	defer end()
	m.loaded()
	return nil
}

// beyondRecords reports whether entries, in their order, have gone past all records.
func beyondRecords(entries []backends.Entry) bool {
	n := len(entries)
	return n > 0 && entries[n-1].Base() >= backends.RecordPrefix+"~"
}

// described returns e as its attributes make it, and those. c.ns is held.
func (m merging) described(name string, e backends.Entry, target string) (backends.Entry, string, attrs.Attr) {
	v := e.Version
	if e.IsDir() {
		v = ""
	}
	a, _ := m.attrs.Lookup(name, v)
	if a.Symlink && e.Mode.IsRegular() {
		e.Mode = fs.ModeSymlink | 0o777
		target = a.Target
	}
	return e, target, a
}

// createAttr returns the attributes of a node for e, of which a is recorded.
func (c *FS) createAttr(e backends.Entry, a attrs.Attr) backends.CreateAttr {
	ca := backends.CreateAttr{Mode: e.Mode, UID: c.cfg.UID, GID: c.cfg.GID}
	def := c.cfg.FileMode
	if e.IsDir() {
		def = c.cfg.DirMode
	}
	if ca.Mode.Perm() == 0 || !c.cfg.NoAttributes {
		// Some stores show a mode, of which nobody says that it goes with this
		// content, and S3 only where it is asked for one name; the records know.
		ca.Mode = ca.Mode.Type() | def
	}
	if e.Mode.Type() == fs.ModeSymlink {
		ca.Mode = fs.ModeSymlink | 0o777
	} else if a.Mode != nil {
		ca.Mode = ca.Mode.Type() | unixmode.From(*a.Mode)
	}
	if a.UID != nil {
		ca.UID = *a.UID
	}
	if a.GID != nil {
		ca.GID = *a.GID
	}
	return ca
}

// applyAttrs gives n, which has the attributes of a listing and of an earlier
// record, those of e and a, and reports whether that changes any. What this
// machine has changed and not recorded yet stays. c.ns is held.
func (c *FS) applyAttrs(n *tree.Node, e backends.Entry, a attrs.Attr) (changed bool) {
	own := attrsOf(n)
	if c.cfg.NoAttributes || own.in != nil {
		return false
	}
	now, want := c.tree.Attr(n), c.createAttr(e, a)
	var ch backends.AttrChange
	if want.Mode != now.Mode && n.Type() != fs.ModeSymlink {
		ch.Set |= backends.SetMode
		ch.Mode = want.Mode &^ fs.ModeType
	}
	if want.UID != now.UID {
		ch.Set |= backends.SetUID
		ch.UID = want.UID
	}
	if want.GID != now.GID {
		ch.Set |= backends.SetGID
		ch.GID = want.GID
	}
	if ch.Set&(backends.SetUID|backends.SetGID) != 0 && n.Type() != fs.ModeSymlink {
		ch.Set |= backends.SetMode // or it would lose the set-id bits
		ch.Mode = want.Mode &^ fs.ModeType
	}
	own.mode = a.Mode != nil
	switch {
	case a.Mtime != nil:
		own.mtime.Store(true)
		if t := timeOf(*a.Mtime); !t.Equal(now.Mtime) {
			ch.Set |= backends.SetMtime
			ch.Mtime = t
		}
	case own.mtime.Swap(false) && !e.ModTime.IsZero():
		ch.Set |= backends.SetMtime
		ch.Mtime = e.ModTime
	}
	switch {
	case a.Atime != nil:
		own.atime.Store(true)
		if t := timeOf(*a.Atime); !t.Equal(now.Atime) {
			ch.Set |= backends.SetAtime
			ch.Atime = t
		}
	default:
		own.atime.Store(false)
	}
	have := c.xattrs(n)
	for name := range have {
		if _, ok := a.Xattrs[name]; !ok {
			_, _ = c.tree.RemoveXattr(n, name)
			changed = true
		}
	}
	for name, v := range a.Xattrs {
		if old, ok := have[name]; !ok || string(old) != string(v) {
			_, _ = c.tree.SetXattr(n, name, v, 0)
			changed = true
		}
	}
	if ch.Set != 0 {
		c.tree.SetAttr(n, ch)
		changed = true
	}
	return changed
}

// describe gives the new node n the attributes that are recorded of it, but
// for those that it was made with.
func (c *FS) describe(n *tree.Node, a attrs.Attr) {
	own := attrsOf(n)
	own.mode = a.Mode != nil
	for name, v := range a.Xattrs {
		_, _ = c.tree.SetXattr(n, name, v, 0)
	}
	if a.Mtime != nil {
		own.mtime.Store(true)
		n.SetModified(timeOf(*a.Mtime), c.tree.Attr(n).Ctime)
	}
	if a.Atime != nil {
		own.atime.Store(true)
		n.SetAccessed(timeOf(*a.Atime))
	}
}
