package cache

import (
	"context"
	"errors"
	"slices"
	"time"
)

// How jobs wait for each other, and callers for jobs. A job that has to come
// after another one is not scheduled until that has ended; who hurries one
// hurries what it waits for.

// hurry makes j be done at once, and what has to come before it.
func (q *queue) hurry(j *job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.hurryLocked(j)
}

// hurrySorted hurries jobs, and sorts them by when they will be run.
func (q *queue) hurrySorted(jobs []*job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	slices.SortStableFunc(jobs, func(a, b *job) int { return a.due.Compare(b.due) })
	for _, j := range jobs {
		q.hurryLocked(j)
	}
}

// hurryLocked is hurry with q.mu held. What is due already keeps its place.
func (q *queue) hurryLocked(j *job) {
	for depth := 0; j != nil && depth < 1000; depth++ {
		if j.dropped {
			return
		}
		j.hurry = true
		if j.wait != nil {
			j = j.wait
			continue
		}
		if j.kind == jobGhost {
			j = q.sweep
			j.hurry = true
		}
		due := time.Now()
		if j.index >= 0 && j.due.Before(due) {
			due = j.due
		}
		q.schedule(j, due)
		return
	}
}

// finish lets go those who wait for j. If it has failed, so have they: whoever
// waits for them has to hear of it. q.mu is held.
func (q *queue) finish(j *job) {
	if j.ended != nil {
		close(j.ended)
		j.ended = nil
	}
	waiters := j.waiters
	j.waiters = nil
	now := time.Now()
	for _, w := range waiters {
		if w.wait != j || w.dropped {
			continue
		}
		w.wait = nil
		switch {
		case j.err != nil && !j.dropped:
			w.err, w.hurry = j.err, false
			w.begun++ // whoever waits for it has waited for this
			if w.kind == jobGhost {
				q.sweepBy(j.due)
			} else {
				q.schedule(w, j.due)
			}
			q.finish(w)
		case w.kind == jobGhost:
			q.schedule(q.sweep, now)
		default:
			q.schedule(w, now)
		}
	}
}

// await makes j be done until clean says that it is, and returns nil then. An
// attempt that began after the call and failed is the end of it, too.
func (q *queue) await(ctx context.Context, j *job, clean func() bool) error {
	q.mu.Lock()
	start := j.begun
	for {
		if j.dropped || q.stopped {
			q.mu.Unlock()
			if clean() {
				return nil
			}
			q.mu.Lock()
			if j.dropped {
				q.mu.Unlock()
				return nil
			}
			q.mu.Unlock()
			return errEnded
		}
		q.hurryLocked(j)
		if j.ended == nil {
			j.ended = make(chan struct{})
		}
		ended := j.ended
		q.mu.Unlock()
		if clean() {
			return nil
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return ctx.Err()
		}
		q.mu.Lock()
		if j.err != nil && j.begun > start && !j.running && !j.dropped {
			err := j.err
			q.mu.Unlock()
			return err
		}
	}
}

// errEnded is the error of a barrier that the end of the mount overtakes.
var errEnded = errors.New("the mount is ending")

// wouldCircle reports whether a waits, by way of others, for b.
func (q *queue) wouldCircle(a, b *job) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for depth := 0; a != nil && depth < 1000; depth++ {
		if a == b {
			return true
		}
		a = a.wait
	}
	return a != nil
}

// block makes j wait for the end of another one.
func (q *queue) block(j, on *job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.blockLocked(j, on)
}

// blockSoftly is block for a wait that whoever plans j can do without: it ends
// if it would be one in a circle.
func (q *queue) blockSoftly(j, on *job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.blockLocked(j, on)
	j.soft = j.wait != nil
}

func (q *queue) blockLocked(j, on *job) {
	if on == nil || on.dropped || on == j {
		return
	}
	q.uncircle(j, on)
	j.soft = false
	if j.wait != on {
		j.wait = on
		on.waiters = append(on.waiters, j)
	}
	if j.hurry {
		q.hurryLocked(on)
	} else if on.index < 0 && !on.running && on.wait == nil && on.failures == 0 {
		if on.kind == jobGhost {
			on = q.sweep
		}
		q.schedule(on, time.Now())
	}
}

// uncircle ends a soft wait by which on waits for j. q.mu is held.
func (q *queue) uncircle(j, on *job) {
	var soft *job
	for depth := 0; on != nil && depth < 1000; depth++ {
		if on == j {
			if soft != nil {
				soft.wait, soft.soft = nil, false
				q.schedule(q.sweep, time.Now()) // only ghosts wait softly
			}
			return
		}
		if on.soft && on.wait != nil {
			soft = on
		}
		on = on.wait
	}
}

// released lets go those who wait for a ghost of which more is known now.
func (q *queue) released(j *job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	j.err, j.failures = nil, 0
	q.finish(j)
}

// release lets go those who wait for j, which nothing will end before them.
func (q *queue) release(j *job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(j.waiters) > 0 {
		q.finish(j)
	}
}
