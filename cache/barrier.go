package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/tree"
)

// syncFile returns when the store has f as it is now, under the name that it
// has now. A file without a name has nowhere to go, and is fine.
func (c *FS) syncFile(ctx context.Context, f *file) error {
	if c.cfg.ReadOnly {
		return nil
	}
	f.mu.Lock()
	j := f.job
	if j == nil {
		f.mu.Unlock()
		return nil
	}
	f.sealLocked()
	target := f.change
	f.syncing++
	f.wanted = target
	f.mu.Unlock()
	defer c.flushLate() // what is known to be stored is not to be sent again
	defer func() {
		f.mu.Lock()
		f.syncing--
		f.mu.Unlock()
	}()
	return c.q.await(ctx, j, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.syncedLocked(target)
	})
}

// syncedLocked reports whether the store has f as it was at a change. f.mu is
// held.
func (f *file) syncedLocked(target uint64) bool {
	return !f.pending || f.gone || f.sent >= target && f.base != nil && f.inPlaceLocked()
}

// inPlaceLocked reports whether the store has base under f's path. f.mu is
// held.
func (f *file) inPlaceLocked() bool {
	there, ok := f.at(f.base)
	return !ok || there
}

// at reports whether s lies where f is, and whether f is anywhere.
func (f *file) at(s *stored) (there, ok bool) {
	key := "" // which no file has
	if s != nil {
		key = s.key
	}
	return f.fs.tree.At(f.node, key)
}

// SyncDir implements [backends.DirSyncer]: it returns when the store has
// everything below dir as it is now.
func (c *FS) SyncDir(ctx context.Context, n backends.Node) error {
	top, err := c.ownDir(n)
	if err != nil {
		return err
	}
	return c.syncBelow(ctx, top)
}

// maxTold is how many failures a barrier tells one by one.
const maxTold = 8

func (c *FS) syncBelow(ctx context.Context, top *tree.Node) error {
	if c.cfg.ReadOnly {
		return nil
	}
	jobs := slices.DeleteFunc(c.jobsBelow(top), func(j *job) bool { return j.kind == jobAttrs })
	err := c.syncJobs(ctx, jobs)
	// They name the versions that there are now.
	return errors.Join(err, c.syncJobs(ctx, c.attrJobsBelow(top)))
}

func (c *FS) syncJobs(ctx context.Context, jobs []*job) error {
	c.q.hurrySorted(jobs)
	dirs := c.dirsOf(jobs)
	left := map[*tree.Node]int{}
	for _, d := range dirs {
		left[d]++
	}
	var failed []error
	count := 0
	for i, j := range jobs {
		name := c.nameOf(j)
		var err error
		if j.kind == jobFile {
			err = c.syncFile(ctx, j.f)
		} else {
			err = c.q.await(ctx, j, func() bool { return c.overtaken(j) })
		}
		if err == nil && j.kind == jobFile {
			err = j.f.othersHear()
		}
		if err != nil {
			count++
			if len(failed) < maxTold {
				failed = append(failed, fmt.Errorf("%s: %w", name, err))
			}
		}
		if ctx.Err() != nil {
			break
		}
		if left[dirs[i]]--; left[dirs[i]] == 0 {
			c.hurryRecords(dirs[i])
		}
	}
	if count > len(failed) {
		failed = append(failed, fmt.Errorf("and %d more", count-len(failed)))
	}
	return errors.Join(failed...)
}

// dirsOf returns for each job the directory with what it is about, nil for none.
func (c *FS) dirsOf(jobs []*job) []*tree.Node {
	c.ns.Lock()
	defer c.ns.Unlock()
	dirs := make([]*tree.Node, len(jobs))
	for i, j := range jobs {
		if n := j.node(); n != nil {
			dirs[i], _, _ = c.tree.Where(n)
		}
	}
	return dirs
}

// hurryRecords has the attributes saved of what is in n, nil for none, now that the store
// has that: while others are still on their way, so that the barrier waits less in the end.
func (c *FS) hurryRecords(n *tree.Node) {
	if n == nil {
		return
	}
	c.ns.Lock()
	defer c.ns.Unlock()
	if j := dirOf(n).records.job; j != nil {
		c.q.hurry(j)
	}
}

// jobsBelow returns what the store has still to follow in below top.
func (c *FS) jobsBelow(top *tree.Node) (jobs []*job) {
	c.ns.Lock()
	defer c.ns.Unlock()
	at, ok := c.tree.Path(top)
	if !ok {
		return nil
	}
	for _, j := range c.q.jobs() {
		if name := c.nameLocked(j); name != "" && under(name, at) {
			jobs = append(jobs, j)
		}
	}
	return jobs
}

// nameOf returns what a job is about.
func (c *FS) nameOf(j *job) string {
	c.ns.Lock()
	defer c.ns.Unlock()
	return c.nameLocked(j)
}

// nameLocked is nameOf with c.ns held.
func (c *FS) nameLocked(j *job) string {
	if j.kind == jobGhost {
		return j.g.key
	}
	n := j.node()
	if n == nil {
		return ""
	}
	name, _ := c.tree.Path(n)
	return name
}

// node returns the node that j is about, nil for none.
func (j *job) node() *tree.Node {
	switch j.kind {
	case jobFile:
		return j.f.node
	case jobDir, jobAttrs:
		return j.d
	}
	return nil
}

// Close implements [backends.FileSystem]: what is not in the store yet is
// brought there; what can't be until ctx ends stays in the journal, and the
// error says what and where.
func (c *FS) Close(ctx context.Context) error {
	var err error
	if !c.cfg.ReadOnly {
		err = c.drain(ctx)
	}
	c.q.stop()
	c.stopReads()
	c.flushed.Wait()
	c.fetches.Wait()
	c.lateTimer.Stop()
	c.stragglers.timer.Stop()
	c.flushLate()
	left := int64(c.q.len())
	if left > 0 && !c.cfg.ReadOnly {
		err = &NotStoredError{Room: c.room.dir, Store: c.ids, Count: left, Err: err}
	} else {
		err = nil // conflicts: both contents are in the store
	}
	if left == 0 {
		var b batch // what were the ways to it
		b.DeletePrefix("n/")
		b.DeletePrefix("x/")
		_ = c.put(&b.Batch) // the next mount looks in vain
	}
	if jerr := c.journal.Close(); jerr != nil && left > 0 {
		err = errors.Join(err, jerr)
	}
	c.room.spares.end()
	c.shelf.end(c.resting(), left == 0)
	c.room.close()
	return err
}

// resting returns the files with local bytes that nobody has open.
func (c *FS) resting() (all []*file) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for e := c.idle.Front(); e != nil; e = e.Next() {
		all = append(all, e.Value.(*file))
	}
	return all
}

// NotStoredError says that an ended cache holds changes that the store doesn't
// have. The next mount of the store from the same cache directory goes on with
// them, and so does agentfs recover.
type NotStoredError struct {
	Room, Store string
	Count       int64
	Err         error // why the first of them are not there
}

// Error implements error.
func (e *NotStoredError) Error() string {
	what := "1 change is"
	if e.Count != 1 {
		what = fmt.Sprintf("%d changes are", e.Count)
	}
	msg := fmt.Sprintf("%s not in %s; the bytes are in %s, and the next mount with this cache directory sends them (or: agentfs recover)", what, e.Store, e.Room)
	if e.Err != nil {
		msg += ": " + e.Err.Error()
	}
	return msg
}

// Unwrap returns why.
func (e *NotStoredError) Unwrap() error { return e.Err }

// drain brings everything to the store, again and again until ctx ends.
func (c *FS) drain(ctx context.Context) error {
	wait := 100 * time.Millisecond
	for {
		err := c.syncBelow(ctx, c.tree.Root())
		if ctx.Err() != nil {
			return err
		}
		if c.q.len() == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
			wait = min(2*wait, retryMax)
		}
	}
}

// roomPatience is how long a writer waits for the store to take something when the disk
// budget is used up, as long as it takes anything at all; roomMoment, for what somebody
// has in hand who lets it go by himself.
const (
	roomPatience = 30 * time.Second
	roomMoment   = 300 * time.Millisecond
)

// makeRoom lets a writer wait until something has been brought to the store,
// which can be evicted then, or there is room for need bytes. It returns false if
// nothing is on its way.
func (c *FS) makeRoom(ctx context.Context, need int64) bool {
	c.q.hurryAll()
	ends, busy := c.q.progress()
	c.flushLate() // what is in the store can be evicted once the journal says so
	for began := time.Now(); ; {
		patience := roomPatience
		if !busy {
			if c.room.reserve(need) {
				c.room.release(need)
				return true
			}
			patience = roomMoment
		}
		if time.Since(began) >= patience {
			return false
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(10 * time.Millisecond):
		}
		var now uint64
		if now, busy = c.q.progress(); now != ends {
			return true
		}
	}
}
