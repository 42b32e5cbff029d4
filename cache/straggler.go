package cache

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/tree"
)

// Stragglers are uploads of this machine of which nobody knows what became of them, under a
// key that has nothing of theirs: when somebody looked there was nothing, or another attempt
// has put there what it has now. Who sent them was killed or gave up; the server may have
// them still, and carry them out when nothing is under the key. For stragglerTime nobody
// sees what appears there, and if it is one of them, it goes again: else a name would come
// back that was removed here.
type straggler struct {
	ops     []string
	version backends.Version // that this machine has put there, which is none; "" is nothing
	until   time.Time
	look    bool // something else is there, and is to be looked at now
}

// stragglers are those of a cache. FS.ns is held by whoever has to do with them.
type stragglers struct {
	by    map[string]*straggler // their keys
	time  time.Duration         // stragglerTime
	timer *time.Timer           // has the sweep look at them
	next  time.Time             // when it does
}

const (
	// stragglerTime is how long a server may take to carry out what it was sent. In
	// S3 that is part of a second, for what is put whole.
	stragglerTime = 10 * time.Second
	// maxStragglers bounds how many keys are remembered.
	maxStragglers = 10_000
	// stragglersAtOnce is how many are looked at side by side, and lookAtMost in one
	// sweep, for which others wait.
	stragglersAtOnce = 32
	lookAtMost       = 1000
)

// stragglerRecord is a straggler in the journal.
type stragglerRecord struct {
	Ops     []string         `json:"ops"`
	Version backends.Version `json:"v,omitempty"`
}

// straggle says that under key there is version now, "" for nothing, and that the attempts
// ops may still put something there, beside those that are known. c.ns is held.
func (c *FS) straggle(b *batch, key string, ops []string, version backends.Version) {
	if old := c.stragglers.by[key]; old != nil {
		ops = slices.Concat(ops, old.ops)
		slices.Sort(ops)
		ops = slices.Compact(ops)
	}
	if len(ops) > 0 && len(c.stragglers.by) < maxStragglers {
		c.stragglers.add(key, stragglerRecord{ops, version})
		b.Put("t/"+key, mustJSON(stragglerRecord{ops, version}))
	}
}

// add remembers a straggler from now on.
func (x *stragglers) add(key string, r stragglerRecord) {
	s := &straggler{ops: r.Ops, version: r.Version}
	x.by[key] = s
	x.wait(s)
}

// wait has s looked at later.
func (x *stragglers) wait(s *straggler) {
	s.until, s.look = time.Now().Add(x.time), false
	x.wake(s.until)
}

// wake has the sweep look at t, if it doesn't before.
func (x *stragglers) wake(t time.Time) {
	if now := time.Now(); x.next.Before(now) || t.Before(x.next) {
		x.next = t
		x.timer.Reset(t.Sub(now))
	}
}

// straggled reports whether e, which the store has, may be a straggler, and has it looked
// at. A directory may be there only because of one, but there is no telling. c.ns is held.
func (c *FS) straggled(e backends.Entry) bool {
	if len(c.stragglers.by) == 0 {
		return false // as a rule, and this is asked of each entry of a listing
	}
	if e.IsDir() {
		if c.dirAt(e.Name) == nil {
			c.lookBelow(e.Name)
		}
		return false
	}
	s := c.stragglers.by[e.Name]
	if s == nil || c.cfg.ReadOnly || e.Version == s.version || e.Operation != "" && !slices.Contains(s.ops, e.Operation) {
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

// lookBelow has the stragglers looked at that may be dir, in it, or deeper. c.ns is held.
func (c *FS) lookBelow(dir string) {
	for key, s := range c.stragglers.by {
		if !s.look && s.version == "" && under(key, dir) {
			s.look = true
			c.q.kick()
		}
	}
}

// settleStragglers looks at what has appeared, and for the last time where nothing has.
func (c *FS) settleStragglers(ctx context.Context) {
	var g errgroup.Group
	g.SetLimit(stragglersAtOnce)
	for _, key := range c.dueStragglers() {
		g.Go(func() error {
			c.settleStraggler(ctx, key)
			return nil
		})
	}
	_ = g.Wait() // there are none
}

// dueStragglers returns some that are to be looked at now.
func (c *FS) dueStragglers() (due []string) {
	c.ns.Lock()
	defer c.ns.Unlock()
	now := time.Now()
	var b batch
	defer func() { c.commitLate(&b) }()
	for key, s := range c.stragglers.by {
		switch {
		case len(due) == lookAtMost:
			c.q.kick()
			return due
		case !s.look && s.until.After(now):
			c.stragglers.wake(s.until)
		case !s.look && c.hasStill(key, s.version): // after an outage that is so of all
			c.forgetStraggler(&b, key)
		default:
			due = append(due, key)
		}
	}
	return due
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
	none := errors.Is(err, fs.ErrNotExist) || err == nil && e.IsDir()
	known := none || err == nil && e.Version == s.version
	n := c.nodeAt(key)
	there := n != nil && !n.IsDir()
	var b batch
	switch {
	case err != nil && !none, c.ghosts[key] != nil, there && c.pending(n):
		c.stragglers.wait(s) // it is not decided yet what is to be there
		return
	case known && s.until.After(time.Now()):
		s.look = false
		return
	case known:
	case there, !slices.Contains(s.ops, e.Operation):
		c.forgetStored(key) // it was hidden
	default:
		c.log.Info("an upload has arrived late, and is removed again", "name", key)
		c.addGhosts(&b, &ghost{key: key, st: &stored{key: key, version: e.Version, size: e.Size}})
	}
	c.forgetStraggler(&b, key)
	c.commitLate(&b)
}

func (c *FS) forgetStraggler(b *batch, key string) {
	delete(c.stragglers.by, key)
	b.Delete("t/" + key)
}

// hasStill reports whether the file at key is the version that this machine has put there:
// nothing else has come then. c.ns is held.
func (c *FS) hasStill(key string, v backends.Version) bool {
	n := c.nodeAt(key)
	if n == nil || n.IsDir() {
		return false
	}
	f := n.Data.(*file)
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.pending && f.base != nil && f.base.key == key && f.base.version == v
}

// pending reports whether the store is to get something of the file n.
func (c *FS) pending(n *tree.Node) bool {
	f := n.Data.(*file)
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pending
}
