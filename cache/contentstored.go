package cache

import (
	"context"
	"slices"
)

// What of a content the store has, and under which object.

// settle says that the store now has, as now, what s sealed, so that nothing
// has to be fetched from older objects; clean says that nothing has changed
// since.
func (c *content) settle(now *stored, s *seal, clean bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// What was sealed since and waits for its turn refers to the same objects.
	was := s.lies()
	// What was here when it was sealed may have been lost since, and is taken from
	// an older object: the new one has it as well. lies does not always tell which one
	// that is: it knows of local bytes by their twin, a hint that goes when an earlier
	// attempt is found to have replaced the object (follow), while what was lost before
	// refers to what that has put.
	c.ext = c.ext.stored(was, now).taken(now, s.same)
	c.twin = c.twin.shared(now, s.same, c.length).but(now)
	later := false
	for _, t := range c.seals {
		if t == s {
			later = true
			continue
		}
		t.ext, t.twin = t.ext.stored(was, now), t.twin.stored(was, now)
		if later {
			t.ext = t.ext.taken(now, s.same)
			t.twin = t.twin.shared(now, s.same, t.length)
		}
		t.twin = t.twin.but(now)
	}
	// Who has changed it since may not have said so yet (file.touched).
	if clean && c.gen == s.gen {
		c.dirty = false
	}
	if clean {
		c.kept = notJournaled
		c.sumSlot()
	}
}

// shared returns x with now in the ranges of same, up to limit.
func (x extents) shared(now *stored, same extents, limit int64) extents {
	x = cloneExtents(x)
	for _, e := range same {
		x = x.set(extent{off: e.off, end: min(e.end, limit), src: now, at: e.off})
	}
	return x
}

// taken returns x with what is remote of the ranges of same taken from now.
func (x extents) taken(now *stored, same extents) extents {
	for _, r := range same {
		for _, e := range x.remotes(r.off, r.end) {
			x = x.set(extent{off: e.off, end: e.end, src: now, at: e.off})
		}
	}
	return x
}

// rebased returns x with now in the place of old.
func (x extents) rebased(old, now *stored) extents {
	x = cloneExtents(x)
	for i := range x {
		if x[i].src == old {
			x[i].src = now
		}
	}
	return x
}

// rebase makes what refers to old refer to now, a copy of it.
func (c *content) rebase(old, now *stored) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ext, c.twin = c.ext.rebased(old, now), c.twin.rebased(old, now)
	for _, s := range c.seals {
		s.ext, s.twin = s.ext.rebased(old, now), s.twin.rebased(old, now)
	}
}

// sources returns the objects that bytes of c are in, or of what is to be sent
// of it.
func (c *content) sources() []*stored {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.ext.sources()
	for _, s := range c.seals {
		for _, src := range s.ext.sources() {
			if !slices.Contains(all, src) {
				all = append(all, src)
			}
		}
	}
	return all
}

// fetchAll makes everything local.
func (c *content) fetchAll(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pinned++
	defer func() { c.pinned-- }()
	t := &track{reads: 2, read: c.fs.cfg.ReadAhead} // as one who has read long
	for {
		c.verify(0, c.length)
		parts := c.ext.remotes(0, c.length)
		if len(parts) == 0 {
			return nil
		}
		t.pos = parts[0].off
		c.readAhead(t)
		if _, err := c.fill(ctx, t, nil, parts[0].off, parts[0].end); err != nil {
			return err
		}
		t.ahead = 0
	}
}
