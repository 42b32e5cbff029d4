package cache

import "slices"

// How the local bytes of a content are given up, or kept for a person.

// evictClean frees the local bytes of a content that is base and can be
// fetched again, and returns how many; again says that it is in use and may
// be asked later.
func (c *content) evictClean(base *stored) (freed int64, again bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.freed || c.users == 0 && c.charged == 0:
		return 0, false
	case c.users > 0 || c.dirty || c.named || c.kept != notJournaled || len(c.seals) > 0:
		c.wanted = true
		return 0, true
	}
	if c.layer != nil {
		c.layer.drop()
		c.layer = nil
	}
	c.dropFormer(slices.Clone(c.former))
	freed = c.charged
	c.twin, c.unread, c.unchecked, c.summed, c.shelved = nil, nil, nil, nil, shelved{}
	c.ext = whole(base) // a clean content is the object, holes and all
	c.recount()
	return freed, false
}

// recycle makes room for a reader of a content that is larger than the budget:
// of a clean content all that is here can be fetched again. c.mu is held. It
// reports whether there was something.
func (c *content) recycle(base *stored) bool {
	if c.dirty || c.named || c.pinned > 0 || c.freed || c.charged == 0 || c.layer == nil || c.layer.frozen || len(c.seals) > 0 || base == nil {
		return false
	}
	c.enter()
	c.landed(0, maxSize)
	c.leave()
	if c.dirty || c.named || c.pinned > 0 || c.freed || c.layer == nil || c.layer.frozen || len(c.seals) > 0 || c.layer.truncate(0) != nil {
		return false
	}
	c.unshelve()
	c.ext, c.unchecked, c.unread = whole(base), nil, nil
	c.recount()
	return true
}

// free gives everything back. Whoever reads or writes after that gets
// ErrChanged. What the journal may still name stays until that says otherwise
// (unname): the next process would take an empty file for the content, or the slot
// of another one.
func (c *content) free() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.freed {
		return
	}
	c.freed = true
	if l := c.layer; l != nil {
		l.users -= c.users
		l.rest()
		c.former = append(c.former, l)
		c.layer = nil
		c.fs.descriptors.left(c)
	}
	if !c.named {
		c.dropFormer(slices.Clone(c.former))
	}
	c.ext, c.twin, c.unread, c.length, c.unchecked, c.summed, c.shelved = nil, nil, nil, 0, nil, nil, shelved{}
	c.leaveReaders()
	c.recount()
}

// keep puts what is here to the room's kept files: as a second name of the local
// file, which who has it open goes on with.
func (c *content) keep(k Kept) (Kept, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.enter()
	defer c.leave()
	var err error
	if k.Parts, err = c.materialize(); err == nil {
		k, err = c.fs.room.keep(c.layer, k)
	}
	return k, err
}

// materialize makes the local file as long as the content, so that it can be
// read by anybody. Of a content that is not complete it returns which parts are
// here, holes included. c.mu is held and the content in use.
func (c *content) materialize() (parts [][2]int64, err error) {
	c.verify(0, c.length)
	if _, err := c.local(); err != nil {
		return nil, err
	}
	if c.layer.slot != nil {
		if err := c.outgrow(); err != nil {
			return nil, err
		}
	}
	if !c.ext.complete() {
		at := int64(0)
		for _, e := range append(c.ext.remotes(0, c.length), extent{off: c.length, end: c.length}) {
			if e.off > at {
				parts = append(parts, [2]int64{at, e.off})
			}
			at = e.end
		}
	}
	return parts, c.layer.truncate(c.length)
}
