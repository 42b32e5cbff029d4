package cache

import (
	"slices"
)

// Where the local bytes of a content lie: in a slot or a file, which they may have to leave.

// local returns the open local file. c.mu is held and the content in use. A file
// that somebody else has written to while it was closed has nothing any more that
// an object has, too.
func (c *content) local() (localFile, error) {
	if err := c.lie(c.length); err != nil {
		return nil, err
	}
	f, err := c.open()
	if c.layer.changed && !c.dirty {
		c.layer.changed, c.unchecked = false, nil
		c.lose(0, c.length, nil)
	}
	return f, err
}

// open returns the open local file, which stays open as long as c.mu is held. The
// content is in use and has a layer.
func (c *content) open() (localFile, error) {
	f, err := c.layer.open()
	if err == nil {
		c.fs.descriptors.used(c)
	}
	return f, err
}

// zero makes a hole in the local file. c.mu is held and the content in use.
func (c *content) zero(off, end int64) error {
	err := c.layer.zero(off, end)
	if c.layer.file != nil {
		c.fs.descriptors.used(c)
	}
	return err
}

// lie sees to it that the content has a layer in which size bytes can lie. c.mu
// is held.
func (c *content) lie(size int64) error {
	switch {
	case c.layer == nil:
		c.layer = c.fs.newLayer(c.id, c.users, size)
	case c.layer.slot != nil && size > slotSize:
		return c.outgrow()
	}
	return nil
}

// apart sees to it that the local bytes are nobody else's, because they are about to
// be changed. It may have to let c.mu go: then again is true, nothing has happened
// yet, and the caller looks anew. c.mu is held.
func (c *content) apart() (again bool, err error) {
	if c.layer == nil || !c.layer.frozen {
		return false, nil
	}
	if c.landing(0, maxSize) {
		c.landed(0, maxSize) // in the file that is left
		return true, nil
	}
	return false, c.outgrow()
}

// outgrow moves the local bytes into another file, from a slot or one that somebody
// else has, too. What they leave is kept until the journal names the file, which it
// does with the change that the content is moved for. c.mu is held.
func (c *content) outgrow() error {
	old := c.layer
	l := c.fs.newFile(c.id)
	for _, e := range c.ext {
		if e.remote() {
			continue
		}
		if err := old.copyRange(l, e.off, e.end); err != nil {
			l.drop()
			old.rest()
			return err
		}
	}
	l.users = c.users
	l.rest()
	old.users -= c.users
	old.rest()
	c.layer = l
	c.fs.descriptors.left(c)
	if !c.named {
		old.drop()
		return nil
	}
	c.former = append(c.former, old)
	c.kept, c.recorded = notJournaled, false
	return nil
}

// dropFormer lets those of c.former go that the journal no longer names. c.mu
// is held.
func (c *content) dropFormer(named []*layer) {
	c.former = slices.DeleteFunc(c.former, func(l *layer) bool {
		gone := slices.Contains(named, l)
		if gone {
			l.drop()
		}
		return gone
	})
}

// newLayer returns a layer that nobody else has, with or without a file, for so
// many users and a content of that size.
func (c *FS) newLayer(id uint64, users int, size int64) *layer {
	var l *layer
	if size <= slotSize {
		l = c.room.slab.take()
	}
	if l == nil {
		l = c.newFile(id)
	}
	l.users = users
	l.rest()
	return l
}

// newFile returns a layer that is a file.
func (c *FS) newFile(id uint64) *layer {
	if l := c.room.spares.take(); l != nil {
		return l
	}
	return &layer{path: c.room.contentPath(id, c.layers.Add(1)), refs: 1}
}
