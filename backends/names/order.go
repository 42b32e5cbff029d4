package names

import (
	"context"

	"github.com/agentfs/agentfs/backends"
)

// The tracker has to hear of changes in the order in which they took effect,
// and the file system, which orders them, doesn't say how: of two that run at
// once the later one may be the first to return. So of the changes of one name
// only one is under way at a time, from before the file system is asked until
// the tracker knows. And no answer of a lookup counts that was found while its
// name was changed: it may be what the tracker is about to hear.

// spot is a name in a directory, known or not.
type spot struct {
	dir  backends.Node
	name string
}

// across is among the spots of a rename between directories, so that there is
// one at a time. Such a rename may put a directory below one that has just left
// it, and a tracker that heard of that first would have a circle. Linux holds
// a lock of the file system for the same reason (s_vfs_rename_mutex). Renames
// within a directory leave the form of the tree as it is.
var across spot

// begin waits until no change of any of these names is under way, and begins
// one of all of them. The caller makes it, tells the tracker of it, and calls
// end with the same names. All are taken at once, so that nobody who waits
// keeps others waiting. If ctx ends first it returns its error, and nothing has
// begun: what others wait for a change that hangs is bounded by their own deadlines.
func (t *Tracker) begin(ctx context.Context, all ...spot) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.wait(ctx, all...); err != nil {
		return err
	}
	for _, s := range all {
		t.busy[s] = struct{}{}
	}
	return nil
}

// wait waits until no change of one of these names is under way, or for the end of
// ctx. The caller holds t.mu, which is let go meanwhile.
func (t *Tracker) wait(ctx context.Context, all ...spot) error {
	if !t.changing(all...) {
		return nil
	}
	defer context.AfterFunc(ctx, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.ended.Broadcast()
	})()
	for t.changing(all...) {
		if err := ctx.Err(); err != nil {
			return err
		}
		t.ended.Wait()
	}
	return nil
}

// end ends what begin began.
func (t *Tracker) end(all ...spot) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range all {
		delete(t.busy, s)
	}
	t.ended.Broadcast()
}

// changing reports whether a change of one of these names is under way. The
// caller holds t.mu.
func (t *Tracker) changing(all ...spot) bool {
	for _, s := range all {
		if _, ok := t.busy[s]; ok {
			return true
		}
	}
	return false
}

// settled waits until no change of this name is under way, and returns how
// often a name in dir was made, moved or removed. Any number of lookups may
// go on from there, and hold up no change: what one of them finds is judged by
// [Tracker.found]. Who only looks waits no longer than ctx: a change takes as
// long as a store does.
func (t *Tracker) settled(ctx context.Context, dir backends.Node, name string) (uint64, error) {
	s := spot{dir, name}
	t.mu.RLock()
	busy, changes := t.changing(s), t.changes(dir)
	t.mu.RUnlock()
	if !busy {
		return changes, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.wait(ctx, s); err != nil {
		return 0, err
	}
	return t.changes(dir), nil
}

// changes returns how often a name in dir was made, moved or removed. The
// caller holds t.mu.
func (t *Tracker) changes(dir backends.Node) uint64 {
	if d := t.nodes[dir]; d != nil {
		return d.made
	}
	return 0
}
