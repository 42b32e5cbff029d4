package cache

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/tree"
)

// A ghost is what the store has under a key although this machine has taken it
// away: removed it, renamed it or put something else over it. Nobody here sees
// it. What is put under its key derives from it; if nothing is, it is removed
// once nobody needs its bytes.
//
// INVARIANT: of every key that the store has and this machine knows of, either
// the file under that path has it as its base, or there is a ghost.
type ghost struct {
	key string // of a directory without the slash
	// st is what the store has: of directories and where it is not known
	// whether it has anything, nil.
	st *stored
	// maybe says that an attempt may have put another object there.
	maybe *maybe
	// late are attempts of which some had not when they were looked for. They still
	// may: who asked has gone, and the request has not.
	late *maybe
	// dir: a directory, of which the store may have a marker.
	dir bool
	// look: in which there may be a record that nobody knows.
	look bool
	// removing: it is being removed just now.
	removing bool
	refused  bool // by somebody else's newer content
	job      *job
}

// maybe is an attempt of this machine that nobody waits for any more, and whose
// outcome is not known.
type maybe struct {
	Op string `json:"op"`
	// Earlier are others that may have been the last to take effect.
	Earlier []string `json:"earlier,omitempty"`
	Size    int64    `json:"s"`
	Layer   string   `json:"layer,omitempty"` // its bytes, for stores that know no operations
	// running: it is under way in this process.
	running *sending
}

// all returns the attempts' operations, none of a nil maybe.
func (m *maybe) all() []string {
	if m == nil {
		return nil
	}
	return append([]string{m.Op}, m.Earlier...)
}

// after returns m with one that was made before it, and may have been the last to take
// effect as well.
func (m *maybe) after(older *maybe) *maybe {
	n := *m
	n.Earlier = slices.Clone(m.Earlier)
	for _, op := range older.all() {
		if op != n.Op && !slices.Contains(n.Earlier, op) {
			n.Earlier = append(n.Earlier, op)
		}
	}
	return &n
}

// addGhost makes key a ghost, in the place of one that there is already: what that may
// be, g knows. c.ns is held.
func (c *FS) addGhost(b *batch, g *ghost) *ghost {
	old := c.ghosts[g.id()]
	if old != nil {
		g.job = old.job
		g.job.g = g
	} else {
		g.job = c.q.newJob(jobGhost, func(j *job) { j.g = g })
	}
	c.ghosts[g.id()] = g
	c.ghostsMade++
	if old != nil {
		g.late = old.late
		if old.maybe != nil && (g.maybe == nil || g.maybe.Layer != old.maybe.Layer) {
			c.dropMaybe(b, old.maybe)
		}
	}
	b.undo = append(b.undo, func() {
		if c.ghosts[g.id()] != g {
			return
		}
		if old != nil {
			c.ghosts[g.id()], old.job.g = old, old
		} else {
			delete(c.ghosts, g.id())
			c.q.drop(g.job)
		}
	})
	c.recordGhost(b, g)
	return g
}

// addGhosts makes key a ghost, and the directories above that are nowhere in
// the tree: the store may have made them with it. c.ns is held.
func (c *FS) addGhosts(b *batch, g *ghost) {
	c.q.touch(c.addGhost(b, g).job)
	c.ghostDirs(b, path.Dir(g.key))
}

// ghostDirs makes ghosts of p and the directories above that are nowhere in
// the tree. Those that are, another directory now, may have a marker. c.ns is
// held.
func (c *FS) ghostDirs(b *batch, p string) {
	for ; p != "."; p = path.Dir(p) {
		if n := c.dirAt(p); n != nil {
			dirOf(n).maybe = true
		} else if c.ghosts[p+"/"] == nil {
			c.q.touch(c.addGhost(b, &ghost{key: p, dir: true}).job)
		}
	}
}

// dropMaybe lets the bytes of an attempt go whose outcome is known. c.ns is held.
func (c *FS) dropMaybe(b *batch, m *maybe) {
	if m != nil && m.Layer != "" {
		b.after = append(b.after, func() { c.room.removeLayer(m.Layer) })
	}
}

// inherits says that d has the place of a ghost, with what is left there. c.ns is
// held.
func (d *dir) inherits(g *ghost) {
	d.maybe = true
	if g.look {
		d.records.loaded, d.records.unsure = time.Time{}, time.Now()
	}
}

func (c *FS) recordGhost(b *batch, g *ghost) {
	r := ghostRecord{Dir: g.dir, Look: g.look, Maybe: g.sent()}
	if g.st != nil {
		r.Version, r.Size = g.st.version, g.st.size
	}
	c.scratch = r.encode(c.scratch[:0])
	b.Put("g/"+g.id(), c.scratch)
}

// sent returns all attempts that are known, nil for none.
func (g *ghost) sent() *maybe {
	switch {
	case g.maybe == nil:
		return g.late
	case g.late == nil:
		return g.maybe
	}
	return g.maybe.after(g.late)
}

// id is the ghost's place among the others: a key may have both, a file and a
// directory's marker.
func (g *ghost) id() string {
	if g.dir {
		return g.key + "/"
	}
	return g.key
}

// holder returns one of the files that need the ghost's bytes.
func (g *ghost) holder() *file {
	if g.st != nil {
		for f := range g.st.held {
			return f
		}
	}
	return nil
}

// lay ends the ghost of that id: it is gone from the store, or somebody else's by now, or
// the base of a file again. c.ns is held.
func (c *FS) lay(b *batch, id string) {
	g := c.ghosts[id]
	if g == nil {
		return
	}
	delete(c.ghosts, id)
	b.Delete("g/" + id)
	c.dropMaybe(b, g.maybe)
	c.dropMaybe(b, g.late)
	c.q.drop(g.job)
	b.undo = append(b.undo, func() {
		if c.ghosts[id] == nil {
			g.job = c.q.newJob(jobGhost, func(j *job) { j.g = g })
			c.ghosts[id] = g
			c.q.touch(g.job)
		}
	})
	if len(c.ghosts) > 0 {
		c.q.kick() // a directory may be empty now
	}
}

// haunts reports whether e, which the store has, is a ghost, or may become one. c.ns is held.
func (c *FS) haunts(e backends.Entry) bool {
	if e.IsDir() {
		return c.ghosts[e.Name+"/"] != nil || c.straggled(e)
	}
	g := c.ghosts[e.Name]
	switch {
	case g == nil:
		return c.straggled(e)
	case g.maybe != nil, g.late != nil:
		return true // whose it is, will be found out
	}
	return g.st != nil && g.st.version == e.Version || c.straggled(e)
}

// inTheWay returns what has to be gone before anything is put under key: a
// ghost that is being removed or looked at, a directory of that name, a file in
// the place of a directory above, an attempt of another shape; fetch is a file
// that needs the bytes of one of these, and has to get them first: it may be
// waiting for this very key. c.ns is held.
func (c *FS) inTheWay(key string) (wait *job, fetch *file) {
	for k, s := range c.active {
		if k == key || !under(k, key) && !under(key, k) {
			continue
		}
		if s.f.job != nil {
			return s.f.job, nil
		}
		if g := c.ghosts[k]; g != nil {
			return g.job, nil // the file has no name any more
		}
	}
	if len(c.ghosts) == 0 {
		return nil, nil
	}
	if g := c.ghosts[key+"/"]; g != nil {
		for _, below := range c.ghosts {
			if under(below.key, key) && below.key != key {
				if wait, f := c.heldBy(below); f != nil || wait != below.job {
					return wait, f
				}
			}
		}
		return g.job, nil
	}
	if g := c.ghosts[key]; g != nil && (g.maybe != nil || g.removing) {
		return g.job, nil
	}
	for k := path.Dir(key); k != "."; k = path.Dir(k) {
		if g := c.ghosts[k]; g != nil {
			return c.heldBy(g)
		}
	}
	return nil, nil
}

// heldBy returns what a ghost waits for to go: fetch needs its bytes, and has to get them
// first, unless it is being sent just now, which ends by itself. c.ns is held.
func (c *FS) heldBy(g *ghost) (wait *job, fetch *file) {
	f := g.holder()
	if f != nil {
		if j := c.sendingJob(f); j != nil {
			return j, nil
		}
	}
	return g.job, f
}

// sendingJob returns the job that ends when what is on its way of f has arrived, nil if
// nothing is. Until then what is sent needs its sources, whatever f itself has. c.ns is
// held.
func (c *FS) sendingJob(f *file) *job {
	switch s := f.sending; {
	case s == nil:
		return nil
	case f.job != nil:
		return f.job
	default:
		if g := c.ghosts[s.key]; g != nil {
			return g.job // it has no name any more
		}
		return nil
	}
}

// hold makes f one of those that need s. c.ns is held.
func (f *file) hold(s *stored) {
	if s == nil {
		return
	}
	if s.held == nil {
		s.held = map[*file]struct{}{}
	}
	if _, ok := s.held[f]; !ok {
		s.held[f] = struct{}{}
		f.holds = append(f.holds, s)
	}
}

// rehold makes f hold just what it needs: its base if that lies elsewhere than
// it does, and the objects that its content refers to. c.ns is held.
func (f *file) rehold() {
	for _, s := range f.holds {
		delete(s.held, f)
		if len(s.held) == 0 {
			f.fs.q.kick()
		}
	}
	f.holds = f.holds[:0]
	f.mu.Lock()
	base, content, open := f.base, f.c, f.handles > 0
	f.mu.Unlock()
	there, ok := f.at(base)
	if !ok && !open {
		return
	}
	if ok && !there {
		f.hold(base)
	}
	if content != nil {
		for _, s := range content.sources() {
			if s != base || !ok {
				f.hold(s)
			}
		}
	}
}

// letGo is called when a file without a name has been closed for the last
// time.
func (c *FS) letGo(f *file) {
	c.ns.Lock()
	defer c.ns.Unlock()
	f.rehold()
}

// freeBytes makes the bytes of s independent of it, but for those of the file
// except, as far as that is nobody else's business already: it returns the job
// that has to end first, or a file whose content has to be fetched. c.ns is
// held.
func (c *FS) freeBytes(s *stored, except *file, j *job) (wait *job, fetch *file) {
	if s == nil {
		return nil, nil
	}
	for f := range s.held {
		if f == except {
			continue
		}
		if sends := c.sendingJob(f); sends != nil && sends != j && !c.q.wouldCircle(sends, j) {
			return sends, nil
		}
		f.mu.Lock()
		waits := f.job != nil && (f.writing == 0 || f.sealed != nil)
		fj := f.job
		f.mu.Unlock()
		if waits && !c.q.wouldCircle(fj, j) {
			return fj, nil
		}
		return nil, f
	}
	return nil, nil
}

// fetchHeld makes f's content independent of the store. What can't be fetched
// because there is no room is given up, with a word in the log, if f has no
// name any more: a file that is too large to keep must not be one that nobody
// can remove.
func (c *FS) fetchHeld(ctx context.Context, f *file) error {
	f.mu.Lock()
	content := f.content()
	content.use()
	f.mu.Unlock()
	defer content.done()
	err := content.fetchAll(ctx)
	c.rest(f) // it may be that nobody opens it
	c.ns.Lock()
	defer c.ns.Unlock()
	at, named := c.tree.Path(f.node)
	if err != nil && !named && (errors.Is(err, backends.ErrNoSpace) || errors.Is(err, backends.ErrChanged)) {
		c.log.Warn("removed while it is open, and it can't be kept for those who read it", "size", content.size(), "err", err)
		for _, s := range f.holds {
			delete(s.held, f)
		}
		f.holds = f.holds[:0]
		return nil
	}
	if err != nil {
		return err
	}
	var b batch
	f.mu.Lock()
	f.freeSealLocked()
	f.mu.Unlock()
	var moved bool
	if named {
		f.mu.Lock()
		if f.base != nil && f.base.key != at {
			// It was to be copied; now it is put.
			if f.change == f.sent {
				f.change++
			}
			f.base = nil
			moved = true
			content.mu.Lock()
			content.differs()
			content.mu.Unlock()
		}
		pending := f.job != nil
		f.mu.Unlock()
		if moved {
			c.await(f)
		}
		if moved || pending { // else it was stored meanwhile
			c.record(&b, f.node, nil, "")
		}
	}
	if err := c.commit(&b); err != nil {
		return err // the journal still needs what f holds
	}
	if moved {
		c.q.follow(f.job)
	}
	f.rehold()
	return nil
}

// freeSealLocked takes a seal that needs the store's bytes from f, whose content is all
// here: two files that have copied from each other would wait for each other for ever. The
// same state is sealed anew; if there is a writer again, who has made another of it, that is
// sealed at its end. f.mu is held.
func (f *file) freeSealLocked() {
	s := f.sealed
	if s == nil || len(s.sources()) == 0 {
		return
	}
	s.release()
	f.sealed = nil
	if s.change == f.change {
		f.sealed = f.c.seal(f.change)
	}
}

// nodeAt returns the node that has the path now, nil if none has. c.ns is
// held.
func (c *FS) nodeAt(p string) *tree.Node {
	n := c.tree.Root()
	if p == "." {
		return n
	}
	for seg := range strings.SplitSeq(p, "/") {
		child, err := c.tree.Lookup(n, seg)
		if err != nil {
			return nil
		}
		n = child
	}
	return n
}

// dirAt returns the directory that has the path now.
func (c *FS) dirAt(p string) *tree.Node {
	if n := c.nodeAt(p); n != nil && n.IsDir() {
		return n
	}
	return nil
}

// mark says that this machine is changing what the store has under key, until
// the function that it returns is called: what the store says of it meanwhile
// doesn't count. c.ns is held now, and then.
func (c *FS) mark(key string) (unmark func()) {
	n := c.dirAt(path.Dir(key))
	if n == nil {
		return func() {}
	}
	d := dirOf(n)
	d.begin(path.Base(key))
	return func() { d.end(path.Base(key)) }
}

// settleMaybe finds out what an attempt has left under a ghost's key that
// nobody waited for. It returns the version to remove, or that there is nothing
// of ours. g is a copy, because the store is asked without a lock.
func (c *FS) settleMaybe(ctx context.Context, g ghost) (s *stored, ours bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	e, err := c.store.Stat(ctx, g.key)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, false, nil
	case err != nil:
		return nil, false, err
	case e.IsDir():
		return nil, false, nil
	}
	found := &stored{key: g.key, version: e.Version, size: e.Size}
	if g.st != nil && e.Version == g.st.version {
		return found, true, nil
	}
	if e.Operation != "" && (e.Operation == g.maybe.Op || slices.Contains(g.maybe.Earlier, e.Operation)) {
		return found, true, nil
	}
	if e.Operation == "" && e.Size == 0 && g.maybe.Size == 0 {
		return found, true, nil
	}
	if e.Operation == "" && e.Size == g.maybe.Size && g.maybe.Layer != "" {
		same, err := c.sameAsLayer(ctx, found, g.maybe.Layer)
		return found, same, err
	}
	return nil, false, nil
}

// forgetStored makes the next look at key ask the store. c.ns is held.
func (c *FS) forgetStored(key string) {
	if p := c.dirAt(path.Dir(key)); p != nil {
		c.forgetName(p, path.Base(key))
		c.changed(p, path.Base(key))
	}
}

// forgetName makes the next lookup of name ask the store.
func (c *FS) forgetName(p *tree.Node, name string) {
	d := dirOf(p)
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.absent, name)
	d.listed = time.Time{}
	if n, err := c.tree.Lookup(p, name); err == nil {
		if f, ok := n.Data.(*file); ok {
			f.mu.Lock()
			f.seen = time.Time{}
			f.mu.Unlock()
		}
	}
}
