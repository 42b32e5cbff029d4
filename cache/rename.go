package cache

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/tree"
)

// Rename implements [backends.FileSystem]: it takes effect here in one step,
// and the store follows, in an order in which no content is ever without a
// name.
func (c *FS) Rename(ctx context.Context, oldParent backends.Node, oldName string, newParent backends.Node, newName string, flags backends.RenameFlags) error {
	from, err := c.ownDir(oldParent)
	if err != nil {
		return err
	}
	to, err := c.ownDir(newParent)
	if err != nil {
		return err
	}
	if flags == backends.RenameExchange {
		return errors.ErrUnsupported // there is no moment in which both could change
	}
	n, err := c.lookup(ctx, from, oldName)
	if err != nil {
		return err
	}
	target, err := c.lookup(ctx, to, newName)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil && target.IsDir() {
		// What is replaced must be empty for the store, too.
		if err := c.refresh(ctx, target); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if n.IsDir() {
		if err := c.complete(ctx, n); err != nil {
			return err
		}
	}
	j, err := c.rename(from, oldName, to, newName, flags)
	if err != nil {
		return err
	}
	for _, j := range j {
		if err := c.followed(ctx, j); err != nil {
			return err
		}
	}
	return nil
}

// rename does it, and returns the jobs by which the store follows.
func (c *FS) rename(from *tree.Node, oldName string, to *tree.Node, newName string, flags backends.RenameFlags) (jobs []*job, err error) {
	c.ns.Lock()
	defer c.ns.Unlock()
	mv, err := c.tree.CheckRename(from, oldName, to, newName, flags)
	if err != nil || mv.Same {
		return nil, err
	}
	oldPath, err := c.path(from, oldName)
	if err != nil {
		return nil, err
	}
	newPath, err := c.checkNew(to, newName)
	if err != nil {
		return nil, err
	}
	var b batch
	var below *moving
	// What loses its name at the target.
	empty := time.Now()
	if mv.Target != nil {
		switch x := mv.Target.Data.(type) {
		case *file:
			c.leave(&b, x, newPath)
			c.resolved(&b, newPath)
		case *dir:
			c.leaveDir(&b, mv.Target, newPath)
			if !x.local {
				empty = x.listedAt() // others may have put something there since
			}
		}
		c.forgetRecord(&b, mv.Target)
	}
	// What the store has under the old name.
	switch x := mv.Node.Data.(type) {
	case *file:
		c.leave(&b, x, oldPath)
		c.resolved(&b, oldPath)
		c.returned(&b, x, newPath)
		c.await(x)
	case *dir:
		below = c.moving(mv.Node, oldPath, empty)
		c.moveAll(&b, below)
		c.conflictsMoved(&b, oldPath, newPath)
	}
	if from != to && c.tree.Len(from) == 1 {
		c.emptiedBut(&b, from)
	}
	c.noteAttrs(mv.Node, to, newName)
	c.record(&b, mv.Node, to, newName)
	if err := c.commit(&b); err != nil {
		return nil, err
	}
	if _, err := c.tree.Rename(from, oldName, to, newName, flags, nil); err != nil {
		return nil, err
	}
	c.gone(from, oldName)
	dirOf(to).change(newName)
	c.dirTouched(from)
	c.dirTouched(to)
	if mv.Target != nil {
		delete(c.limbo, mv.Target)
		if t, ok := mv.Target.Data.(*file); ok {
			t.mu.Lock()
			t.replaced = true
			t.mu.Unlock()
		}
		c.detached(mv.Target)
		if t, ok := mv.Target.Data.(*file); ok {
			t.rehold()
		}
	}
	switch x := mv.Node.Data.(type) {
	case *file:
		delete(c.limbo, mv.Node)
		x.dropStream()
		x.rehold()
		x.mu.Lock()
		open := x.writing > 0 && x.base == nil && x.sealed == nil
		j := x.job
		x.mu.Unlock()
		if !open {
			c.q.touch(j)
			jobs = append(jobs, j)
		}
		if g := c.ghosts[oldPath]; g != nil {
			c.q.touch(g.job)
			jobs = append(jobs, g.job)
		}
	case *dir:
		c.moves++
		x.since = c.moves
		if j := x.job; j != nil {
			c.q.touch(j)
			jobs = append(jobs, j)
		}
		if g := c.ghosts[oldPath+"/"]; g != nil {
			jobs = append(jobs, g.job)
		}
		c.moved(below)
	}
	return jobs, nil
}

// returned is called when f gets the path at: if that is where the store has
// it, there is no ghost any more. c.ns is held.
func (c *FS) returned(b *batch, f *file, at string) {
	f.mu.Lock()
	back := f.base != nil && f.base.key == at
	f.mu.Unlock()
	if g := c.ghosts[at]; back && g != nil && g.st == f.base && g.maybe == nil && !g.removing {
		c.lay(b, at)
	}
}
