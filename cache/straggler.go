package cache

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"github.com/agentfs/agentfs/backends"
)

// A straggler is an upload of this machine of which nobody knows what became of it, that
// had left nothing in the store when somebody looked, and whose file has another name, or
// none, by now. Who sent it was killed or gave up; the server may have it still, and carry
// it out later. For stragglerTime nobody sees what appears under its key, and if it is
// that upload's, it goes again: else a name would come back that was removed here.
type straggler struct {
	ops   []string
	until time.Time
	look  bool // something is there, and is to be looked at now
}

// stragglers are those of a cache. FS.ns is held by whoever has to do with them.
type stragglers struct {
	by    map[string]*straggler // their keys
	time  time.Duration         // stragglerTime
	timer *time.Timer           // has the sweep look at them
}

const (
	// stragglerTime is how long a server may take to carry out what it was sent. In
	// S3 that is part of a second, for what is put whole.
	stragglerTime = 10 * time.Second
	// maxStragglers bounds how many are remembered.
	maxStragglers = 10_000
)

// stragglerRecord is a straggler in the journal.
type stragglerRecord struct {
	Ops []string `json:"ops"`
}

// straggles says that m, which has left nothing under key, may still do. c.ns is held.
func (c *FS) straggles(b *batch, key string, m *maybe) {
	if len(c.stragglers.by) >= maxStragglers {
		return
	}
	ops := append([]string{m.Op}, m.Earlier...)
	if old := c.stragglers.by[key]; old != nil {
		ops = append(ops, old.ops...)
	}
	c.stragglers.add(key, ops)
	b.Put("t/"+key, mustJSON(stragglerRecord{ops}))
}

// add remembers a straggler from now on.
func (x *stragglers) add(key string, ops []string) {
	s := &straggler{ops: ops}
	x.by[key] = s
	x.wait(s)
}

// wait has s looked at later.
func (x *stragglers) wait(s *straggler) {
	s.until, s.look = time.Now().Add(x.time), false
	x.timer.Reset(x.time)
}

// arrivedOrNot ends the straggler of key, if there is one. c.ns is held.
func (c *FS) arrivedOrNot(b *batch, key string) {
	if c.stragglers.by[key] != nil {
		delete(c.stragglers.by, key)
		b.Delete("t/" + key)
	}
}

// straggled reports whether e, which the store has, may be a straggler, and has it looked
// at. c.ns is held.
func (c *FS) straggled(e backends.Entry) bool {
	s := c.stragglers.by[e.Name]
	if s == nil || c.cfg.ReadOnly || e.IsDir() || e.Operation != "" && !slices.Contains(s.ops, e.Operation) {
		return false
	}
	if n := c.nodeAt(e.Name); n != nil && !n.IsDir() {
		return false // it can't come where something is
	}
	if !s.look {
		s.look = true
		c.q.kick()
	}
	return true
}

// settleStragglers looks at what has appeared, and for the last time where nothing has.
func (c *FS) settleStragglers(ctx context.Context) {
	c.ns.Lock()
	now := time.Now()
	var due []string
	next := time.Time{}
	for key, s := range c.stragglers.by {
		if s.look || !s.until.After(now) {
			due = append(due, key)
		} else if next.IsZero() || s.until.Before(next) {
			next = s.until
		}
	}
	if !next.IsZero() {
		c.stragglers.timer.Reset(next.Sub(now))
	}
	c.ns.Unlock()
	for _, key := range due {
		c.settleStraggler(ctx, key)
	}
}

func (c *FS) settleStraggler(ctx context.Context, key string) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	e, err := c.store.Stat(ctx, key)
	c.ns.Lock()
	defer c.ns.Unlock()
	s := c.stragglers.by[key]
	if s == nil {
		return
	}
	var b batch
	n := c.nodeAt(key)
	none := errors.Is(err, fs.ErrNotExist) || err == nil && e.IsDir()
	switch over := !s.until.After(time.Now()); {
	case err != nil && !none:
		c.stragglers.wait(s)
		return
	case none && !over:
		s.look = false
		return
	case none:
	case !slices.Contains(s.ops, e.Operation):
		c.forgetStored(key) // it was hidden
	case n != nil && !n.IsDir() || c.ghosts[key] != nil:
		c.stragglers.wait(s) // what is put there knows of it
		return
	default:
		c.log.Info("an upload has arrived late, and is removed again", "name", key)
		c.addGhosts(&b, &ghost{key: key, st: &stored{key: key, version: e.Version, size: e.Size}})
	}
	c.arrivedOrNot(&b, key)
	c.commitLate(&b)
}
