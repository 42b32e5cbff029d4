package cache

import (
	"time"

	"github.com/agentfs/agentfs/backends/tree"
)

// What a directory takes along when it moves: all that is in it, which is known then.
// That may be a great deal, and whoever moves it waits, so the tree is gone through
// once, and what can be done for all together is.

// moving is a directory that moves, with what is in it.
type moving struct {
	dirs  []movingDir // each before those in it
	since time.Time   // where it goes there was nothing then: it is known from then on what is there
	files int
	bytes int // about as many are to be journaled
}

type movingDir struct {
	n     *tree.Node
	from  string // where it was
	files []movingFile
}

type movingFile struct {
	name string
	f    *file
}

// moving returns what moves with n, which is at from, to where there was nothing at since.
// c.ns is held.
func (c *FS) moving(n *tree.Node, from string, since time.Time) *moving {
	m := &moving{since: since}
	m.add(c.tree, n, from)
	return m
}

func (m *moving) add(t *tree.Tree, n *tree.Node, from string) {
	at := len(m.dirs)
	m.bytes += moveBytes + 2*len(from)
	m.dirs = append(m.dirs, movingDir{n: n, from: from})
	files := make([]movingFile, 0, t.Len(n))
	t.Children(n, func(name string, child *tree.Node) {
		switch x := child.Data.(type) {
		case *dir:
			m.add(t, child, join(from, name))
		case *file:
			files = append(files, movingFile{name, x})
			m.bytes += moveBytes + 2*(len(from)+len(name))
		}
	})
	m.dirs[at].files = files
	m.files += len(files)
}

// moveBytes is about what the journal takes for a name that moves, a record and a ghost,
// without its path, which both have.
const moveBytes = 320

// moveAll makes the store follow. c.ns is held, and the directory about to be renamed.
func (c *FS) moveAll(b *batch, m *moving) {
	b.grow(2*(m.files+len(m.dirs)), m.bytes)
	for i, d := range m.dirs {
		if i > 0 {
			if p, name, ok := c.tree.Where(d.n); ok {
				c.noteAttrs(d.n, p, name)
			}
		}
		c.moveDir(b, d.n, d.from, m.since)
		for _, x := range d.files {
			c.leave(b, x.f, join(d.from, x.name))
			c.noteAttrs(x.f.node, d.n, x.name)
			c.await(x.f)
			c.record(b, x.f.node, d.n, x.name)
		}
	}
}

// moveDir is moveAll for a directory without what is in it.
func (c *FS) moveDir(b *batch, n *tree.Node, from string, since time.Time) {
	d := dirOf(n)
	if c.stored(d) {
		c.q.touch(c.leaveMarker(b, n, from).job)
	} else {
		c.leaveRecords(b, n, from)
	}
	marker, maybe, local, listed := d.marker, d.maybe, d.local, d.listedAt()
	b.undo = append(b.undo, func() {
		d.marker, d.maybe = marker, maybe
		d.setLocal(local, listed)
	})
	d.marker, d.maybe = false, false
	d.setLocal(true, since)
	delete(c.limbo, n)
	c.endDirJob(n) // what waits for the old place need not
	c.awaitDir(n)
	c.record(b, n, nil, "")
}

// moved is called when the directory has moved: what is in it has another path. c.ns is
// held.
func (c *FS) moved(m *moving) {
	var b batch
	due := make([]*job, 0, m.files)
	for _, d := range m.dirs {
		for _, x := range d.files {
			f := x.f
			f.mu.Lock()
			base, j := f.base, f.job
			if j != nil && (f.writing == 0 || f.sealed != nil) {
				due = append(due, j)
			}
			f.mu.Unlock()
			if back, _ := f.at(base); back {
				c.returned(&b, f, base.key)
			}
			f.rehold()
		}
	}
	c.commitLate(&b)
	c.q.touchAll(due)
}
