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

// queue has the commits that wait, in the order in which they came. The first
// of them leads: it commits all that have come by then in one transaction, and
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

// take removes from the queue what is committed next. A batch that large is true
// of goes alone.
func (q *queue) take(large func(*Batch) bool) []*request {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, changes := 1, q.waiting[0].b.Len()
	alone := large(q.waiting[0].b)
	for n < len(q.waiting) && !alone && changes+q.waiting[n].b.Len() <= maxGroup && !large(q.waiting[n].b) {
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
// An error that is syscall.ENOSPC means that the disk is full. The journal remains
// usable after any error, with all that was committed before.
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

// lead commits a group, the first of which is the caller's.
func (j *Journal) lead() {
	j.turn.Lock()
	group := j.queue.take(j.bundles)
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
	err := j.tryCommit(group)
	if errors.Is(err, syscall.ENOSPC) {
		// The log has a page as often as it was written; in the database it has
		// its place already.
		if _, e := j.fold(); e == nil {
			err = j.tryCommit(group)
		}
	}
	if err == nil || len(group) == 1 {
		group[0].err = err
		return
	}
	// What one of them can't have, the others need not miss.
	for i := range group {
		group[i].err = j.tryCommit(group[i : i+1])
	}
}

func (j *Journal) tryCommit(group []*request) error {
	if err := j.spread(); err != nil {
		return err
	}
	if len(group) == 1 && j.bundles(group[0].b) {
		return j.commitBundle(group[0].b)
	}
	return j.transact(uint64(len(group)), func(seq int64) (bool, error) {
		numbered := false
		for _, r := range group {
			if err := j.applied(r.b, seq); err != nil {
				return false, err
			}
			numbered = r.b.ops[len(r.b.ops)-1].kind == opPut
		}
		return numbered, nil
	})
}

// applied makes the changes of a batch in a transaction, which has the number seq,
// and counts what the log grows by. Called with turn.
func (j *Journal) applied(b *Batch, seq int64) error {
	j.unmeasured += len(b.ops) + len(b.buf)/pageSize
	return j.stmts.apply(b, seq)
}

// transact runs f in a transaction that counts as n commits. The number of the
// last of them must be in the database with it: f says whether it has left a
// record with the number; if not, which costs a second page, it goes into meta.
// Called with turn.
func (j *Journal) transact(n uint64, f func(seq int64) (numbered bool, err error)) error {
	if j.closed {
		return fs.ErrClosed
	}
	if err := j.stmts.begin.run(); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	seq := int64(j.seq + n)
	numbered, err := f(seq)
	if err == nil && (!numbered || !j.booted) {
		err = j.stmts.count.run(seq, j.opt.bootID)
	}
	if err == nil {
		err = j.stmts.commit.run()
	}
	if err != nil {
		// SQLite may have rolled back by itself; then this fails, and all is well.
		_ = j.stmts.rollback.run()
		return fmt.Errorf("journal: %w", err)
	}
	j.seq += n
	j.held = j.seq
	j.booted = true
	// A failure means that less is claimed than is so, and the commit is there.
	_ = j.ack.setAcked(j.seq)
	j.done.Store(j.seq)
	j.measure()
	return nil
}

// statements are those that a commit needs, prepared.
type statements struct {
	begin, count, commit, rollback       *stmt
	put, remove, removeRange, removeFrom *stmt
}

func (s *statements) prepare(d *db) (err error) {
	for _, p := range []struct {
		to    **stmt
		query string
	}{
		{&s.begin, "BEGIN IMMEDIATE"},
		{&s.count, "UPDATE meta SET seq = ?, boot = ?"},
		{&s.commit, "COMMIT"},
		{&s.rollback, "ROLLBACK"},
		{&s.put, "INSERT OR REPLACE INTO kv (key, seq, value) VALUES (?, ?, ?)"},
		{&s.remove, "DELETE FROM kv WHERE key = ?"},
		{&s.removeRange, "DELETE FROM kv WHERE key >= ? AND key < ?"},
		{&s.removeFrom, "DELETE FROM kv WHERE key >= ?"},
	} {
		if *p.to, err = d.prepare(p.query); err != nil {
			return err
		}
	}
	return nil
}

func (s *statements) close() error {
	var errs []error
	for _, p := range []*stmt{s.begin, s.count, s.commit, s.rollback, s.put, s.remove, s.removeRange, s.removeFrom} {
		if p != nil {
			errs = append(errs, p.s.Close())
		}
	}
	return errors.Join(errs...)
}

// apply makes the changes of a batch, which has the number seq.
func (s *statements) apply(b *Batch, seq int64) error {
	for _, o := range b.ops {
		var err error
		switch key := b.key(o); o.kind {
		case opPut:
			err = s.put.run(key, seq, b.value(o))
		case opDelete:
			err = s.remove.run(key)
		case opDeletePrefix:
			if end := prefixEnd(key); end != nil {
				err = s.removeRange.run(key, end)
			} else {
				err = s.removeFrom.run(key)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}
