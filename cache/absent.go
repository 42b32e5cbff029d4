package cache

import (
	"errors"
	"io/fs"
	"maps"
	"time"

	"github.com/agentfs/agentfs/backends/tree"
)

const (
	// maxAbsent is how many names that are not there are remembered of one directory.
	maxAbsent = 4096
	// absentShare: beside the names that are there, one part in so many of
	// [Config.Entries] may be names that are not, and those of the last ttl.
	absentShare = 8
)

// gone says that nothing is under name in p, because this machine has just removed
// it.
func (c *FS) gone(p *tree.Node, name string) {
	d := dirOf(p)
	d.change(name)
	d.mu.Lock()
	defer d.mu.Unlock()
	c.setAbsent(d, name, time.Now())
}

// removed says that the store has removed what was under name in p, and is a ghost no
// more. Answers that are older say nothing of the name. That it is not there was known
// all the time, and is for no longer than it was. c.ns is held.
func (c *FS) removed(p *tree.Node, name string) {
	d := dirOf(p)
	d.mu.Lock()
	defer d.mu.Unlock()
	known := d.absent[name]
	if listed := d.listedFor(name); listed.After(known) {
		known = listed // it is an earlier mount's ghost
	}
	d.note(name)
	if _, err := c.tree.Lookup(p, name); errors.Is(err, fs.ErrNotExist) && !known.IsZero() {
		c.setAbsent(d, name, known)
	}
}

// setAbsent records that the store had nothing under name in d at t. d.mu is held.
func (c *FS) setAbsent(d *dir, name string, t time.Time) {
	if d.absent == nil || len(d.absent) > maxAbsent {
		d.absent = map[string]time.Time{}
	}
	if _, known := d.absent[name]; !known && c.forgetting.absent.Add(1) > c.forgetting.mostAbsent() {
		c.forgetting.wakes()
	}
	d.absent[name] = t
}

func (f *forgetting) mostAbsent() int64 { return max(f.most/absentShare, 1) }

// forgetAbsent forgets names that are not there once many were asked for, in whichever
// directories: those that are believed no longer are of no use to anybody.
func (c *FS) forgetAbsent() {
	if c.forgetting.absent.Load() <= c.forgetting.mostAbsent() {
		return
	}
	c.forgetting.absent.Store(0)
	c.forgetAbsentBelow(c.tree.Root())
}

func (c *FS) forgetAbsentBelow(n *tree.Node) {
	d := dirOf(n)
	d.mu.Lock()
	maps.DeleteFunc(d.absent, func(_ string, t time.Time) bool { return !c.fresh(t) })
	if len(d.absent) == 0 {
		d.absent = nil // a map does not become smaller
	}
	d.mu.Unlock()
	for _, child := range c.tree.Dirs(n) {
		c.forgetAbsentBelow(child)
	}
}
