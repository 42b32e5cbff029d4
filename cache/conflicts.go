package cache

import (
	"fmt"
	"slices"
	"time"
)

// Conflict is one case in which the store held another content than the one
// that a change of this machine derives from. It is shown until the name goes
// under which this machine's content is: whoever has read both removes or renames
// it.
type Conflict struct {
	Name string `json:"name"`
	// Ours is the name under which this machine's content is now; a path of
	// the cache directory if the old version was gone before all of it was here.
	Ours string    `json:"ours"`
	Time time.Time `json:"time"`
}

// maxConflicts is how many are shown; beyond that the oldest ones go. Their contents
// stay where they are.
const maxConflicts = 1000

func (x Conflict) key() string { return fmt.Sprintf("c/%020d", x.Time.UnixNano()) }

// remember keeps a conflict for people to see. c.ns is held.
func (c *FS) remember(b *batch, x Conflict) {
	c.stats.conflicts.Add(1)
	c.mu.Lock()
	c.conflicts = append(c.conflicts, x)
	var old []Conflict
	if n := len(c.conflicts) - maxConflicts; n > 0 {
		old, c.conflicts = c.conflicts[:n], slices.Clone(c.conflicts[n:])
	}
	c.mu.Unlock()
	for _, x := range old {
		b.Delete(x.key())
	}
	b.Put(x.key(), mustJSON(x))
}

// resolved ends the conflicts whose content of this machine is at a path that goes.
// c.ns is held.
func (c *FS) resolved(b *batch, path string) {
	is := func(x Conflict) bool { return x.Ours == path }
	c.mu.Lock()
	defer c.mu.Unlock()
	some := false
	for _, x := range c.conflicts {
		if is(x) {
			b.Delete(x.key())
			some = true
		}
	}
	if some {
		b.done = append(b.done, func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.conflicts = slices.DeleteFunc(c.conflicts, is)
		})
	}
}

// conflictsMoved makes the conflicts follow a directory. c.ns is held.
func (c *FS) conflictsMoved(b *batch, from, to string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	moved := map[string]Conflict{}
	for _, x := range c.conflicts {
		if !under(x.Ours, from) {
			continue
		}
		x.Ours = to + x.Ours[len(from):]
		if under(x.Name, from) {
			x.Name = to + x.Name[len(from):]
		}
		b.Put(x.key(), mustJSON(x))
		moved[x.key()] = x
	}
	if len(moved) > 0 {
		b.done = append(b.done, func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			for i, x := range c.conflicts {
				if now, ok := moved[x.key()]; ok {
					c.conflicts[i] = now
				}
			}
		})
	}
}
