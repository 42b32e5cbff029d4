package cache

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/tree"
)

// Changes of names take effect here at once: checked, put into the journal,
// done in the tree, all under FS.ns. The store follows.

// absent makes sure that p has no child called name, as far as the ttl says.
func (c *FS) absent(ctx context.Context, p *tree.Node, name string) error {
	switch _, err := c.lookup(ctx, p, name); {
	case err == nil:
		return fs.ErrExist
	case errors.Is(err, fs.ErrNotExist):
		return nil
	default:
		return err
	}
}

// make gives the new node n a name, and records it. c.ns is held.
func (c *FS) make(p *tree.Node, name string, n *tree.Node) error {
	if _, err := c.checkNew(p, name); err != nil {
		return err
	}
	if err := c.tree.CheckInsert(p, name); err != nil {
		return err
	}
	var b batch
	c.noteAttrs(n, p, name)
	c.record(&b, n, p, name)
	err := c.commit(&b)
	if err == nil {
		err = c.tree.Insert(p, name, n)
	}
	if err != nil {
		c.unmarkAttrs(n)
		return err
	}
	dirOf(p).change(name)
	c.learned()
	c.dirTouched(p)
	if attrsOf(n).in == nil && c.noteAttrs(n, p, name) {
		// It has the group of a set-gid directory. The name is there, whatever becomes
		// of this.
		var b batch
		c.record(&b, n, p, name)
		c.commitLate(&b)
	}
	return nil
}

// Create implements [backends.FileSystem].
func (c *FS) Create(ctx context.Context, parent backends.Node, name string, flags int, a backends.CreateAttr) (backends.Node, backends.Attr, backends.File, error) {
	fail := func(err error) (backends.Node, backends.Attr, backends.File, error) {
		return nil, backends.Attr{}, nil, err
	}
	p, err := c.ownDir(parent)
	if err != nil {
		return fail(err)
	}
	for range 8 {
		n, err := c.create(ctx, p, name, a)
		created := err == nil
		if errors.Is(err, fs.ErrExist) && flags&os.O_EXCL == 0 {
			n, err = c.lookup(ctx, p, name)
			if errors.Is(err, fs.ErrNotExist) {
				continue // gone again in between
			}
		}
		if err != nil {
			return fail(err)
		}
		h, err := c.open(n, flags)
		if errors.Is(err, backends.ErrChanged) {
			continue // removed in between
		}
		if err != nil {
			return fail(err)
		}
		h.created = created
		return n, c.attr(n), h, nil
	}
	return fail(backends.ErrChanged)
}

func (c *FS) create(ctx context.Context, p *tree.Node, name string, a backends.CreateAttr) (*tree.Node, error) {
	if err := c.absent(ctx, p, name); err != nil {
		return nil, err
	}
	c.ns.Lock()
	defer c.ns.Unlock()
	a.Mode &^= fs.ModeType
	// A new file is a change that the store hasn't got.
	f := &file{fs: c, change: 1}
	n := c.tree.NewNode(a, f)
	f.node = n
	f.c = newContent(c, n.ID(), nil) // its local file is recorded with the name, so that writes need not be
	c.await(f)
	if err := c.make(p, name, n); err != nil {
		c.q.drop(f.job)
		f.c.free() // it has got a slot
		return nil, err
	}
	return n, nil
}

// Open implements [backends.FileSystem].
func (c *FS) Open(ctx context.Context, n backends.Node, flags int) (backends.File, error) {
	t, err := c.tree.Own(n)
	if err != nil {
		return nil, err
	}
	h, err := c.open(t, flags)
	if err != nil {
		return nil, err // not a nil *handle in an interface
	}
	c.opened(ctx, h.f, flags)
	return h, nil
}

func (c *FS) open(n *tree.Node, flags int) (*handle, error) {
	f, ok := n.Data.(*file)
	switch {
	case n.IsDir():
		return nil, backends.ErrIsDir
	case !ok || n.Type() != 0:
		return nil, fs.ErrInvalid
	}
	return f.open(flags)
}

// Mkdir implements [backends.FileSystem].
func (c *FS) Mkdir(ctx context.Context, parent backends.Node, name string, a backends.CreateAttr) (backends.Node, backends.Attr, error) {
	p, err := c.ownDir(parent)
	if err != nil {
		return nil, backends.Attr{}, err
	}
	if err := c.absent(ctx, p, name); err != nil {
		return nil, backends.Attr{}, err
	}
	a.Mode = a.Mode&^fs.ModeType | fs.ModeDir
	now := time.Now()
	d := &dir{local: true, listed: now, records: dirAttrs{loaded: now}}
	n := c.tree.NewNode(a, d)
	c.newDirJob(n)
	j := d.job
	c.ns.Lock()
	d.since = c.moves
	if err = c.make(p, name, n); err != nil {
		c.endDirJob(n)
	}
	c.ns.Unlock()
	if err != nil {
		return nil, backends.Attr{}, err
	}
	c.q.touch(j)
	if err := c.followed(ctx, j); err != nil {
		return nil, backends.Attr{}, err
	}
	return n, c.attr(n), nil
}

// Unlink implements [backends.FileSystem].
func (c *FS) Unlink(ctx context.Context, parent backends.Node, name string) error {
	p, err := c.ownDir(parent)
	if err != nil {
		return err
	}
	if _, err := c.lookup(ctx, p, name); err != nil {
		return err
	}
	j, err := c.unlink(p, name)
	if err != nil || j == nil {
		return err
	}
	return c.followed(ctx, j)
}

// unlink removes the name, and returns the job that removes it from the store,
// nil if there is nothing to remove.
func (c *FS) unlink(p *tree.Node, name string) (*job, error) {
	c.ns.Lock()
	defer c.ns.Unlock()
	n, err := c.tree.CheckUnlink(p, name)
	if err != nil {
		return nil, err
	}
	at, err := c.path(p, name)
	if err != nil {
		return nil, err
	}
	var b batch
	f := n.Data.(*file) // whatever is not a directory is one
	c.leave(&b, f, at)
	c.resolved(&b, at)
	c.forgetRecord(&b, n)
	if c.tree.Len(p) == 1 {
		c.emptiedBut(&b, p)
	}
	if err := c.commit(&b); err != nil {
		return nil, err
	}
	if _, _, err := c.tree.Unlink(p, name, n); err != nil {
		return nil, err
	}
	c.gone(p, name)
	c.dirTouched(p)
	delete(c.limbo, n)
	c.detached(n)
	f.rehold()
	f.mu.Lock()
	g := c.ghosts[at]
	if g == nil && f.base != nil {
		g = c.ghosts[f.base.key]
	}
	f.mu.Unlock()
	if g == nil {
		return nil, nil
	}
	c.q.touch(g.job)
	return g.job, nil
}

// emptiedBut sees to it that p outlives its last child, which is about to go:
// in an object store a directory may be there only because of what is in it.
// c.ns is held.
func (c *FS) emptiedBut(b *batch, p *tree.Node) {
	d := dirOf(p)
	if p == c.tree.Root() || d.marker {
		return
	}
	c.awaitDir(p)
	c.record(b, p, nil, "")
}

// leave makes ghosts of what the store has of f, and of what it has or may get
// under at, the path that f is about to lose. c.ns is held.
func (c *FS) leave(b *batch, f *file, at string) {
	f.mu.Lock()
	base := f.base
	f.mu.Unlock()
	g := c.ghosts[at]
	st := base
	if base == nil || base.key != at {
		st = nil
		if g != nil {
			st = g.st
		}
	}
	m := c.unknown(f, at)
	if m != nil && m.running != nil && m.running.from != nil {
		m.Size = m.running.from.size
	}
	if m != nil && m.running != nil && m.running.seal != nil {
		s := m.running.seal
		m.Size = s.length
		s.c.mu.Lock()
		if s.layer != nil && len(s.saved) == 0 { // else they lie in two files
			m.Layer = c.room.keepLayer(s.layer)
		}
		s.c.mu.Unlock()
	}
	if m != nil && g != nil && g.maybe != nil {
		// Nothing is sent to a name while it is not known what another one has left there,
		// so what f has sent is older, if it is not under way still.
		newer, older := g.maybe, m
		if m.running != nil {
			newer, older = m, g.maybe
		} else {
			c.dropMaybe(b, m)
		}
		m = newer.after(older)
	}
	switch {
	case m != nil:
		c.addGhost(b, &ghost{key: at, st: st, maybe: m})
	case st != nil && (g == nil || g.st != st):
		c.addGhost(b, &ghost{key: at, st: st})
	}
}

// unknown returns the attempt of f that may have put something under at, nil
// if there is none.
func (c *FS) unknown(f *file, at string) *maybe {
	var ops []string
	s := f.sending
	for _, a := range f.ops {
		if string(a.Key) == at && (s == nil || a.Op != s.op) {
			ops = append(ops, a.Op)
		}
	}
	if s != nil && s.key == at {
		return &maybe{Op: s.op, Earlier: ops, running: s}
	}
	if len(ops) == 0 {
		return nil
	}
	last := len(ops) - 1
	m := &maybe{Op: ops[last], Earlier: ops[:last], Size: f.sizeNow()}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.c != nil {
		f.c.mu.Lock()
		if f.c.layer != nil && f.c.ext.complete() {
			m.Layer = c.room.keepLayer(f.c.layer)
		}
		f.c.mu.Unlock()
	}
	return m
}

func (f *file) sizeNow() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sizeLocked()
}

// detached ends what nodes no longer need whose names this machine has taken
// away. c.ns is held.
func (c *FS) detached(n *tree.Node) {
	c.unmarkAttrs(n)
	switch x := n.Data.(type) {
	case *file:
		x.dropStream()
		x.mu.Lock()
		x.gone, x.astray, x.pending = true, "", false
		j := x.job
		x.job = nil
		x.sent = x.change // there is no name to upload it to
		x.dropLocked()
		x.mu.Unlock()
		if j != nil {
			if x.base == nil {
				c.stats.cancelled.Add(1)
			}
			c.q.drop(j)
		}
	case *dir:
		c.endDirJob(n)
		c.tree.Children(n, func(_ string, child *tree.Node) { c.detached(child) })
	}
}

// Rmdir implements [backends.FileSystem]. Whether the directory is empty the
// listing says, while the ttl lets it be believed; what somebody else puts into
// it meanwhile stays, and the directory with it.
func (c *FS) Rmdir(ctx context.Context, parent backends.Node, name string) error {
	p, err := c.ownDir(parent)
	if err != nil {
		return err
	}
	n, err := c.lookup(ctx, p, name)
	if err != nil {
		return err
	}
	if !n.IsDir() {
		return backends.ErrNotDir
	}
	if err := c.refresh(ctx, n); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	j, err := c.rmdir(p, name, n)
	if err != nil || j == nil {
		return err
	}
	return c.followed(ctx, j)
}

func (c *FS) rmdir(p *tree.Node, name string, n *tree.Node) (*job, error) {
	c.ns.Lock()
	defer c.ns.Unlock()
	now, err := c.tree.CheckRmdir(p, name)
	if err != nil {
		return nil, err
	}
	if now != n {
		return nil, backends.ErrChanged
	}
	at, err := c.path(p, name)
	if err != nil {
		return nil, err
	}
	var b batch
	g := c.leaveDir(&b, n, at)
	c.forgetRecord(&b, n)
	if c.tree.Len(p) == 1 {
		c.emptiedBut(&b, p)
	}
	if err := c.commit(&b); err != nil {
		return nil, err
	}
	if _, err := c.tree.Rmdir(p, name); err != nil {
		return nil, err
	}
	c.gone(p, name)
	c.dirTouched(p)
	c.unmarkAttrs(n)
	delete(c.limbo, n)
	c.endDirJob(n)
	if g == nil {
		return nil, nil
	}
	c.q.touch(g.job)
	return g.job, nil
}

// leaveDir makes a ghost of the directory n, which is empty and at at, as far
// as the store has it. c.ns is held.
func (c *FS) leaveDir(b *batch, n *tree.Node, at string) *ghost {
	if !c.stored(dirOf(n)) {
		return nil // it never got there
	}
	return c.leaveMarker(b, n, at)
}

// followed waits until the store has followed, where the route's durability is
// close. That it can't, now, is no error of a change that has been made here
// and is in the journal: the status shows it.
func (c *FS) followed(ctx context.Context, j *job) error {
	if !c.close || j == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	err := c.q.await(ctx, j, func() bool { return c.overtaken(j) })
	if j.kind == jobGhost {
		c.ns.Lock()
		defer c.ns.Unlock()
		if j.g.refused {
			return &unseenError{j.g.key}
		}
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return err
	}
	return nil
}

// overtaken reports whether there is nothing left to wait for in a job: what a
// ghost is to make room for is there again, and a directory that has got
// children comes into being with them.
func (c *FS) overtaken(j *job) bool {
	c.ns.Lock()
	defer c.ns.Unlock()
	switch j.kind {
	case jobGhost:
		return c.ghosts[j.g.id()] != j.g || c.nodeAt(j.g.key) != nil
	case jobDir:
		return dirOf(j.d).job != j || c.tree.Len(j.d) > 0
	case jobAttrs:
		return dirOf(j.d).records.job != j || !c.anyAttrs(j.d)
	case jobFile:
		f := j.f
		f.mu.Lock()
		defer f.mu.Unlock()
		// What its writer has not closed yet goes with the close.
		return f.job != j || f.writing > 0 && f.sealed == nil && f.changedLocked()
	}
	return false
}

// checkNew returns an error if the store can't hold dir's child name.
func (c *FS) checkNew(dir *tree.Node, name string) (string, error) {
	if err := tree.CheckName(name); err != nil {
		return "", err
	}
	if reserved(name) {
		return "", backends.ErrReserved
	}
	p, err := c.path(dir, name)
	if err != nil {
		return "", err
	}
	return p, backends.ValidName(c.store, p)
}
