package cache

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/tree"
	"github.com/agentfs/agentfs/backends/unixmode"
	"github.com/agentfs/agentfs/cache/attrs"
)

// Attributes that the store has no place for are in the records of the
// directory that a name is in (package attrs). What this machine changes is
// done in the tree and in the journal at once, and marked: the node stands in
// its directory's dirty until a record has it. Of a file that is when the store
// has its content, because an entry names the version that it describes.

// ownAttrs is what is to be remembered of a node's attributes beside those that
// it has in the tree. Guarded by FS.ns but for the times, which a write clears.
type ownAttrs struct {
	// mtime and atime: somebody has set that time, so that it is recorded.
	mtime, atime atomic.Bool
	// mode: somebody has changed the mode, so that it is recorded even if it
	// is what the route has by default; the store may show another.
	mode bool
	// unnoted: the journal could not take the last change, which the tree has.
	unnoted bool
	// in is the directory in whose dirty the node is, nil if records have it
	// as it is.
	in *tree.Node
}

// dirAttrs is what is known of the records of a directory. Guarded by FS.ns.
type dirAttrs struct {
	known *attrs.Dir
	// records are those that the last listing had: what has to go with the
	// directory.
	records []backends.Entry
	loaded  time.Time // when known was asked for, zero if never
	saved   time.Time // when this machine last saved
	series  time.Time // when it did so first, of the saves that followed each other
	// behind is when a name was last looked up beside what was known for longer than the
	// ttl; zero once the records were asked for again. See FS.recordsTrust.
	behind time.Time
	// saving: a record is on its way. unsure is when it was found that one may have
	// arrived although this machine has heard otherwise; zero once it was asked.
	saving bool
	unsure time.Time
	dirty  map[*tree.Node]struct{}
	job    *job // not nil while dirty has something
}

// rest returns until when what changes now waits for more: for as long after the last
// save as the saves have been going on. Where files are unpacked into many
// directories in turn, each save has more files than the one before it instead of
// one, and the number of records grows with the logarithm of the time, until they are
// maxAttrRest apart. FS.ns is held.
func (k *dirAttrs) rest() time.Time {
	return k.saved.Add(min(k.saved.Sub(k.series), maxAttrRest))
}

// hasSaved notes a save. FS.ns is held.
func (k *dirAttrs) hasSaved() {
	now := time.Now()
	if now.Sub(k.saved) > maxAttrRest {
		k.series = now
	}
	k.saved = now
}

// recordsTrust returns for how long the records of d are taken to be what they were
// when a name is asked for of which nothing is known. Where this machine is saving
// attributes such a name is mostly one that it is about to make: there, its entry will
// be the latest one, and a listing of records for each of them is in vain. What
// is found to exist, and a new file of which nothing is to be recorded, has the records
// asked for after all; for that, it is noted. c.ns is held.
func (c *FS) recordsTrust(d *dir) time.Duration {
	k := &d.records
	if time.Since(k.saved) >= dirTrust*c.cfg.TTL {
		return c.cfg.TTL
	}
	if time.Since(k.loaded) >= c.cfg.TTL {
		k.behind = time.Now()
	}
	return dirTrust * c.cfg.TTL
}

// asked reports whether what is known tells of a new name that nothing is recorded
// of it. FS.ns is held.
func (k *dirAttrs) asked() bool { return !k.loaded.IsZero() && k.behind.IsZero() }

// attrsOf returns what is remembered of n's attributes.
func attrsOf(n *tree.Node) *ownAttrs {
	switch x := n.Data.(type) {
	case *file:
		return &x.attrs
	case *dir:
		return &x.attrs
	}
	return &ownAttrs{}
}

// attrPlace returns the directory whose records have n's attributes, and the
// name there.
func (c *FS) attrPlace(n *tree.Node) (p *tree.Node, name string, ok bool) {
	if n == c.tree.Root() {
		return n, ".", true
	}
	return c.tree.Where(n)
}

// attrEntry returns what is to be recorded of n, but for the version; special
// is false if that is nothing.
func (c *FS) attrEntry(n *tree.Node) (a attrs.Attr, special bool) {
	now, own := c.tree.Attr(n), attrsOf(n)
	def := c.cfg.FileMode
	if n.IsDir() {
		def = c.cfg.DirMode
	}
	if n.Type() == fs.ModeSymlink {
		a.Symlink = true
		a.Target, _ = c.tree.Readlink(n)
	} else if own.mode || unixmode.Perm(now.Mode) != unixmode.Perm(def) {
		mode := unixmode.Perm(now.Mode)
		a.Mode = &mode
	}
	// Copies, so that what has nothing special needs no memory of its own.
	if now.UID != c.cfg.UID {
		uid := now.UID
		a.UID = &uid
	}
	if now.GID != c.cfg.GID {
		gid := now.GID
		a.GID = &gid
	}
	if own.mtime.Load() {
		t := now.Mtime.UnixNano()
		a.Mtime = &t
	}
	if own.atime.Load() {
		t := now.Atime.UnixNano()
		a.Atime = &t
	}
	a.Xattrs = c.xattrs(n)
	return a, a.Symlink || a.Mode != nil || a.UID != nil || a.GID != nil || a.Mtime != nil || a.Atime != nil || len(a.Xattrs) > 0
}

func (c *FS) xattrs(n *tree.Node) map[string][]byte {
	names := c.tree.ListXattr(n)
	if len(names) == 0 {
		return nil
	}
	x := make(map[string][]byte, len(names))
	for _, name := range names {
		if v, err := c.tree.GetXattr(n, name); err == nil {
			x[name] = v
		}
	}
	return x
}

// sameEntry reports whether a and b say the same of the same version.
func sameEntry(a, b attrs.Attr) bool {
	return a.Version == b.Version && samePtr(a.Mode, b.Mode) && samePtr(a.UID, b.UID) && samePtr(a.GID, b.GID) &&
		samePtr(a.Mtime, b.Mtime) && samePtr(a.Atime, b.Atime) && a.Symlink == b.Symlink && a.Target == b.Target &&
		a.Removed == b.Removed && maps.EqualFunc(a.Xattrs, b.Xattrs, slices.Equal[[]byte])
}

func samePtr[T comparable](a, b *T) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// attrVersion returns the version that an entry of n names; ok is false while
// the store does not have n where and as it is. c.ns is held.
func (c *FS) attrVersion(n *tree.Node) (v backends.Version, ok bool) {
	f, isFile := n.Data.(*file)
	if !isFile {
		return "", true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.localLocked() || !f.inPlaceLocked() {
		return "", false
	}
	return f.base.version, true
}

// markAttrs says that the records lack something of n, which is called name in p or
// is going to be. c.ns is held.
func (c *FS) markAttrs(n, p *tree.Node, name string) {
	if c.cfg.NoAttributes {
		return
	}
	own := attrsOf(n)
	if own.in != p {
		c.unmarkAttrs(n)
		own.in = p
		k := &dirOf(p).records
		if k.dirty == nil {
			k.dirty = map[*tree.Node]struct{}{}
		}
		k.dirty[n] = struct{}{}
		if k.job == nil {
			k.job = c.q.newJob(jobAttrs, func(j *job) { j.d = p })
		}
	}
	c.touchAttrs(p, c.eager(n, p, name))
}

// touchAttrs says that attributes in p have changed. Where saves follow each other
// they wait for more, but for those that are eager. c.ns is held.
func (c *FS) touchAttrs(p *tree.Node, eager bool) {
	k := &dirOf(p).records
	var rest time.Time
	if !eager {
		rest = k.rest()
	}
	c.q.touchAttrs(k.job, rest)
}

// eager reports whether the attributes of n, which is called name in p, are not to
// wait for those of others: until they are saved, other machines would see a link as
// a file, more than they may, or another file than the one that they know by that
// name. c.ns is held.
func (c *FS) eager(n, p *tree.Node, name string) bool {
	def := c.cfg.FileMode
	if n.IsDir() {
		def = c.cfg.DirMode
	}
	const others = 0o077
	return n.Type() == fs.ModeSymlink || def&others&^c.tree.Attr(n).Mode != 0 || dirOf(p).records.known.Has(name)
}

// unmarkAttrs is the reverse: records have it all, or n has no name any more.
// c.ns is held.
func (c *FS) unmarkAttrs(n *tree.Node) {
	own := attrsOf(n)
	if own.in == nil {
		return
	}
	k := &dirOf(own.in).records
	own.in = nil
	delete(k.dirty, n)
	if len(k.dirty) == 0 && k.job != nil {
		c.q.drop(k.job)
		k.job = nil
	}
}

// noteAttrs marks n, which is called name in p or is going to be, if what is
// recorded of it is not what there is to record, and reports whether it is
// marked. c.ns is held.
func (c *FS) noteAttrs(n, p *tree.Node, name string) bool {
	if c.cfg.NoAttributes {
		return false
	}
	want, special := c.attrEntry(n)
	v, there := c.attrVersion(n)
	switch {
	case there:
		want.Version = v
		k := &dirOf(p).records
		got, have := k.known.Lookup(name, v)
		// What had the name before may be recorded, and with the same version: a
		// directory's, or that of the same bytes in S3. Whoever saves finds out.
		if special && (!have || !sameEntry(want, got)) || !special && (have || !k.asked()) {
			c.markAttrs(n, p, name)
		}
	case special:
		c.markAttrs(n, p, name)
	}
	if attrsOf(n).in != nil {
		c.markAttrs(n, p, name) // perhaps it has moved
		return true
	}
	return false
}

// attrsArrived is called when the store has got p, or something in it: what is
// recorded of the names in it can go there. c.ns is held.
func (c *FS) attrsArrived(p *tree.Node) { c.touchAttrs(p, false) }

// leaveRecords makes ghosts of the records of the directory n, which is at at
// and about to leave, and reports whether there may be others. c.ns is held.
func (c *FS) leaveRecords(b *batch, n *tree.Node, at string) (look bool) {
	d := dirOf(n)
	es := append(d.records.known.Records(at), d.records.records...)
	for _, e := range es {
		key := join(at, e.Base())
		if c.ghosts[key] == nil {
			c.q.touch(c.addGhost(b, &ghost{key: key, st: &stored{key: key, version: e.Version, size: e.Size}}).job)
		}
	}
	known, records := d.records.known, d.records.records
	b.undo = append(b.undo, func() { d.records.known, d.records.records = known, records })
	d.records.known, d.records.records, d.records.loaded, d.records.behind = nil, nil, time.Now(), time.Time{}
	d.records.series = d.records.saved // where it goes, others have to see what it was
	return d.records.saving || !d.records.unsure.IsZero()
}

// leaveMarker makes a ghost of the directory n itself, which is at at and about
// to leave, and of its records. c.ns is held.
func (c *FS) leaveMarker(b *batch, n *tree.Node, at string) *ghost {
	look := c.leaveRecords(b, n, at)
	g := c.ghosts[at+"/"]
	if g == nil || look && !g.look {
		g = c.addGhost(b, &ghost{key: at, dir: true, look: look})
	}
	return g
}

// dirTouched is called when this machine has changed the names in p: that is a
// new mtime. c.ns is held.
func (c *FS) dirTouched(p *tree.Node) {
	own := attrsOf(p)
	if !own.mtime.Load() {
		return
	}
	own.mtime.Store(false)
	at, name, ok := c.attrPlace(p)
	if ok && c.noteAttrs(p, at, name) {
		var b batch
		c.record(&b, p, nil, "")
		c.commitLate(&b)
	}
}

// forgetAttrs ends the marks of n and all below: they are not in the tree any
// more. c.ns is held.
func (c *FS) forgetAttrs(b *batch, n *tree.Node) {
	if attrsOf(n).in != nil {
		c.unmarkAttrs(n)
		c.forgetRecord(b, n)
	}
	if n.IsDir() {
		c.tree.Children(n, func(_ string, child *tree.Node) { c.forgetAttrs(b, child) })
	}
}

// runAttrs saves what is marked in a directory, in one record.
func (c *FS) runAttrs(ctx context.Context, j *job) outcome { return c.saveAttrs(ctx, j, false) }

// saveAttrs is runAttrs; looked says that it has just asked for the records.
func (c *FS) saveAttrs(ctx context.Context, j *job, looked bool) outcome {
	n := j.d
	c.ns.Lock()
	d := dirOf(n)
	at, ok := c.tree.Path(n)
	if !ok || d.records.job != j || d.job != nil && n != c.tree.Root() {
		c.ns.Unlock()
		return outcome{} // once the store has the directory
	}
	if d.records.loaded.IsZero() || !looked && !d.records.behind.IsZero() && c.anyUntold(n) {
		c.ns.Unlock()
		if looked {
			return outcome{soon: true} // something has happened to it meanwhile
		}
		err := c.loadRecords(ctx, n, 0)
		if errors.Is(err, fs.ErrPermission) {
			// Who may not list sees no records; others see what is saved.
			c.ns.Lock()
			d.records.loaded, d.records.behind = time.Now(), time.Time{}
			c.ns.Unlock()
			err = nil
		}
		switch {
		case errors.Is(err, errMoved):
			return outcome{soon: true}
		case err != nil:
			return outcome{err: err}
		}
		return c.saveAttrs(ctx, j, true)
	}
	changes, nodes := c.attrChanges(n)
	prev := d.records.known
	var alive attrs.Alive
	d.mu.Lock()
	if d.local || time.Since(d.listed) < 30*time.Minute {
		alive = func(name string, v backends.Version) bool { return c.attrAlive(n, name, v) }
	}
	d.mu.Unlock()
	moves := c.moves
	end := c.makes(at) // a record brings a directory back that is gone
	d.records.saving = len(changes) > 0
	c.ns.Unlock()
	var err error
	now := prev
	if len(changes) > 0 {
		now, err = attrs.Save(ctx, c.store, at, prev, changes, alive, dirTrust*c.cfg.TTL)
	}
	c.ns.Lock()
	defer c.ns.Unlock()
	end()
	d.records.saving = false
	var b batch
	defer func() { c.commitLate(&b) }()
	if err != nil {
		d.records.loaded, d.records.unsure = time.Time{}, time.Now()
		return outcome{err: err}
	}
	if now.Unsure() {
		d.records.unsure = time.Now()
	}
	if p, ok := c.tree.Path(n); !ok || p != at || c.moves != moves && d.job != nil {
		// Removed or renamed while it was saved.
		for _, e := range now.Records(at) {
			if c.ghosts[e.Name] == nil && !slices.ContainsFunc(prev.Records(at), func(o backends.Entry) bool { return o.Name == e.Name }) {
				c.addGhosts(&b, &ghost{key: e.Name, st: &stored{key: e.Name, version: e.Version, size: e.Size}})
			}
		}
		return outcome{soon: true}
	}
	d.records.known = now
	if len(changes) > 0 {
		d.records.hasSaved()
	}
	for name, node := range nodes {
		if attrsOf(node).in != n {
			continue
		}
		if name != "." {
			d.change(name) // a listing asked for before doesn't know it
		}
		_, is, _ := c.attrPlace(node)
		want, special := c.attrEntry(node)
		v, there := c.attrVersion(node)
		want.Version = v
		got, have := now.Lookup(name, v)
		if is != name || !there || special != have || have && !sameEntry(want, got) {
			continue // changed meanwhile
		}
		c.unmarkAttrs(node)
		if f, ok := node.Data.(*file); ok && f.job == nil || node == c.tree.Root() {
			c.forgetRecord(&b, node)
		} else if recorded(node) {
			c.record(&b, node, nil, "")
		}
	}
	if d.records.job == nil {
		return outcome{}
	}
	if c.anyAttrs(n) {
		c.touchAttrs(n, false) // changed meanwhile
	}
	return outcome{}
}

// attrChanges returns what a save of n's marks would record, and for all names
// that are ready the nodes. c.ns is held.
func (c *FS) attrChanges(n *tree.Node) (changes map[string]attrs.Attr, nodes map[string]*tree.Node) {
	k := &dirOf(n).records
	changes, nodes = map[string]attrs.Attr{}, map[string]*tree.Node{}
	for node := range k.dirty {
		p, name, ok := c.attrPlace(node)
		v, there := c.attrVersion(node)
		if ok && p != n {
			c.markAttrs(node, p, name) // renamed, or that failed
			continue
		}
		if !ok || !there {
			continue
		}
		nodes[name] = node
		want, special := c.attrEntry(node)
		want.Version = v
		got, have := k.known.Lookup(name, v)
		switch {
		case special && (!have || !sameEntry(want, got)):
			changes[name] = want
		case !special && have:
			changes[name] = attrs.Attr{Version: v, Removed: true}
		}
	}
	return changes, nodes
}

// anyAttrs reports whether something that is marked in n can be saved now. c.ns
// is held.
func (c *FS) anyAttrs(n *tree.Node) bool {
	d := dirOf(n)
	if d.job != nil && n != c.tree.Root() {
		return false
	}
	for node := range d.records.dirty {
		if _, there := c.attrVersion(node); there {
			return true
		}
	}
	return false
}

// anyUntold reports whether there is something among what is marked in n that can be
// saved and of which nothing is to be recorded, nor is, as far as is known. c.ns
// is held.
func (c *FS) anyUntold(n *tree.Node) bool {
	k := &dirOf(n).records
	for node := range k.dirty {
		_, name, ok := c.attrPlace(node)
		v, there := c.attrVersion(node)
		if !ok || !there {
			continue
		}
		_, special := c.attrEntry(node)
		if _, have := k.known.Lookup(name, v); !special && !have {
			return true
		}
	}
	return false
}

// attrAlive reports whether n has a child called name of version v.
func (c *FS) attrAlive(n *tree.Node, name string, v backends.Version) bool {
	if name == "." {
		return true
	}
	c.ns.Lock()
	defer c.ns.Unlock()
	child, err := c.tree.Lookup(n, name)
	if err != nil {
		return false
	}
	f, ok := child.Data.(*file)
	if !ok {
		return v == ""
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.base == nil || f.base.version == v
}

// syncAttrs returns when records have what is marked of n and can be saved. c.ns
// is not held.
func (c *FS) syncAttrs(ctx context.Context, n *tree.Node) error {
	c.ns.Lock()
	p := attrsOf(n).in
	var j *job
	if p != nil {
		j = dirOf(p).records.job
	}
	c.ns.Unlock()
	if j == nil {
		return nil
	}
	return c.q.await(ctx, j, func() bool {
		c.ns.Lock()
		defer c.ns.Unlock()
		_, there := c.attrVersion(n)
		return attrsOf(n).in != p || !there || dirOf(p).job != nil && p != c.tree.Root()
	})
}

// attrJobsBelow returns the jobs of the marks below top, and of top's own. c.ns
// is not held.
func (c *FS) attrJobsBelow(top *tree.Node) []*job {
	jobs := slices.DeleteFunc(c.jobsBelow(top), func(j *job) bool { return j.kind != jobAttrs })
	c.ns.Lock()
	defer c.ns.Unlock()
	if p := attrsOf(top).in; p != nil {
		if j := dirOf(p).records.job; j != nil && !slices.Contains(jobs, j) {
			jobs = append(jobs, j)
		}
	}
	return jobs
}
