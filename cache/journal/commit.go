package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"syscall"
)

// maxGroup is how many changes are committed together at most, so that those
// who come first don't wait for a great many others. A single batch may have more.
const maxGroup = 4096

// maxBatch is how many bytes of keys and values a batch has at most, for a record
// to have its length in 32 bits. maxScratch is how much memory is kept from one commit
// to the next.
const (
	maxBatch   = 1 << 30
	maxScratch = 1 << 20
)

// queue has the commits that wait, in the order in which they came. The first
// of them leads: it commits all that have come by then with one write, and
// hands the lead to the first of those that came meanwhile.
type queue struct {
	mu      sync.Mutex
	waiting []*request
	leading bool // somebody is, or has been told to
}

type request struct {
	b    *Batch
	err  error
	wake chan bool // true: lead; false: done
}

var requests = sync.Pool{New: func() any { return &request{wake: make(chan bool, 1)} }}

// enter queues r and reports whether it leads.
func (q *queue) enter(r *request) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, r)
	first := !q.leading
	q.leading = true
	return first
}

// take removes from the queue what is committed next.
func (q *queue) take() []*request {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, changes := 1, q.waiting[0].b.Len()
	for n < len(q.waiting) && changes+q.waiting[n].b.Len() <= maxGroup {
		changes += q.waiting[n].b.Len()
		n++
	}
	group := q.waiting[:n:n]
	if q.waiting = q.waiting[n:]; len(q.waiting) == 0 {
		q.waiting = nil
	}
	return group
}

// next returns who leads next, nil if nobody waits.
func (q *queue) next() *request {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		q.leading = false
		return nil
	}
	return q.waiting[0]
}

// Commit applies b, all of it or, if it returns an error, nothing. When it returns,
// the death of the process leaves b in place; a power loss may not, unless Sync
// follows. Batches are applied in the order in which Commit was called.
//
// Of an error Full says whether there is no room. The journal remains usable after any
// error, with all that was committed before; but once a sync of the table has failed, only
// until the log has no more room.
func (j *Journal) Commit(b *Batch) error {
	if b.Len() == 0 {
		return nil
	}
	r := requests.Get().(*request)
	r.b, r.err = b, nil
	if j.queue.enter(r) || <-r.wake {
		j.lead()
	}
	err := r.err
	r.b = nil
	requests.Put(r)
	return err
}

// Full reports whether err says that the disk, or the user's share of it, is full.
func Full(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// lead commits a group, the first of which is the caller's.
func (j *Journal) lead() {
	j.turn.Lock()
	group := j.queue.take()
	j.commit(group)
	next := j.queue.next()
	j.turn.Unlock()
	if next != nil {
		next.wake <- true
	}
	for _, r := range group[1:] {
		r.wake <- false
	}
}

// commit commits a group and sets the error of each. Called with turn.
func (j *Journal) commit(group []*request) {
	err := j.append(group)
	if Full(err) && j.makeRoom() {
		err = j.append(group)
	}
	if err == nil || len(group) == 1 {
		group[0].err = err
		return
	}
	// What one of them can't have, the others need not miss.
	for i := range group {
		group[i].err = j.append(group[i : i+1])
	}
}

// append puts the batches of a group at the end of the log. Called with turn.
func (j *Journal) append(group []*request) error {
	if j.closed {
		return fs.ErrClosed
	}
	switch size := j.size.Load(); {
	case j.tight:
		j.makeRoom() // before what somebody else has made is used up
	case size > 8*j.foldAt:
		// The table can't keep up; so whoever commits waits for it, or hears why not.
		if _, err := j.fold(); err != nil {
			return err
		}
	}
	if err := j.beginLog(); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	p, prev, seq := j.scratch[:0], j.held, j.seq
	for _, r := range group {
		if len(r.b.buf) > maxBatch {
			return fmt.Errorf("journal: a change of %d bytes: %w", len(r.b.buf), syscall.EFBIG)
		}
		seq++
		p = appendRecord(p, prev, seq, r.b)
		prev = seq
	}
	if err := j.current.append(p); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if cap(p) <= maxScratch {
		j.scratch = p
	}
	for _, r := range group {
		j.recent.apply(r.b)
	}
	j.seq, j.held, j.boot = seq, seq, j.opt.bootID
	// A failure means that less is claimed than is so, and the commit is there.
	_ = j.ack.setAcked(j.seq)
	j.done.Store(j.seq)
	j.measure(int64(len(p)))
	return nil
}

// beginLog makes the segment that commits are appended to, if there is none. Called
// with turn.
func (j *Journal) beginLog() error {
	if j.current != nil {
		return nil
	}
	if j.format < format {
		if err := j.upgrade(); err != nil {
			return err
		}
	}
	s, err := newSegment(j.dir, j.seq+1, j.opt.bootID)
	if err != nil {
		return err
	}
	j.current = s
	j.size.Add(s.end)
	j.sync.add(s)
	return nil
}
