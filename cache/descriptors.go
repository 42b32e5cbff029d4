package cache

import (
	"container/list"
	"sync"
)

// DefaultOpenFiles is how many files of contents a cache keeps open by default.
const DefaultOpenFiles = 1024

// descriptors bound how many files of contents are open for those who have them
// open: beyond that one is closed that nobody has read or written lately, and
// opened again when somebody does. (A small content has no file of its own, and
// what is being sent or fetched is bounded by itself.)
//
// The order is that of a clock: who was used since the hand was last there is
// passed over once.
type descriptors struct {
	most int

	mu   sync.Mutex // after content.mu; a second content.mu is only tried
	open list.List  // of *content, the next one to be looked at first
}

// used says that the file of c is open and somebody uses it. c.mu is held.
func (d *descriptors) used(c *content) {
	if c.layer.slot != nil {
		return
	}
	c.lately = true
	if c.inOpen != nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c.inOpen = d.open.PushBack(c)
	// Twice around, and each may have been used or be busy.
	for looks := 2 * d.open.Len(); d.open.Len() > d.most && looks > 0; looks-- {
		d.look(c)
	}
}

// look closes the next file, or passes it over. d.mu and user.mu are held.
func (d *descriptors) look(user *content) {
	e := d.open.Front()
	d.open.MoveToBack(e)
	c := e.Value.(*content)
	if c == user || !c.mu.TryLock() {
		return
	}
	defer c.mu.Unlock()
	switch {
	case c.layer == nil || c.layer.file == nil: // somebody else has closed it
	case c.lately:
		c.lately = false
		return
	case c.layer.fixed > 0:
		return
	default:
		c.layer.shut()
	}
	d.open.Remove(e)
	c.inOpen = nil
}

// left takes c out if its file is closed. c.mu is held.
func (d *descriptors) left(c *content) {
	if c.inOpen == nil || c.layer != nil && c.layer.file != nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open.Remove(c.inOpen)
	c.inOpen = nil
}

// count returns how many are open.
func (d *descriptors) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.open.Len()
}
