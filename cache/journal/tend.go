package journal

import (
	"fmt"
	"sync"
	"time"
)

// vacuumStep is how many pages are given back to the file system between two
// commits.
const vacuumStep = 256

// tending is what is done beside the commits, in a goroutine of its own: the log
// is folded into the database when it is large, or not small and nothing has been
// committed for a while, and the database gives back the room of what was deleted.
// Commits wait for that, so it is done in steps, and the slow part of it, bringing
// the log to the disk, before it begins.
type tending struct {
	work  chan struct{} // something was committed
	grown chan struct{} // the log is too large
	// bundled: there is a bundle to be spread.
	bundled chan struct{}
	stop    chan struct{}
	once    sync.Once
	wg      sync.WaitGroup
}

func (j *Journal) startTending() {
	t := &j.tending
	t.work = make(chan struct{}, 1)
	t.grown = make(chan struct{}, 1)
	t.bundled = make(chan struct{}, 1)
	t.stop = make(chan struct{})
	if j.logSize() > 0 {
		t.committed(j.logSize() > j.foldAt)
	}
	t.wg.Go(j.tend)
}

// measure calls for tend if the log is too large, after each commit; it looks only
// when the log may have grown by some pages. Called with turn.
func (j *Journal) measure() {
	grown := false
	if j.unmeasured > 64 {
		j.unmeasured = 0
		size := j.logSize()
		grown = size > j.foldAt
		if size > 4*j.foldAt {
			// The disk can't keep up; so whoever commits waits for it.
			_, _ = j.fold()
		}
	}
	j.tending.committed(grown)
}

// committed says that there is something to do, and whether it is urgent.
func (t *tending) committed(grown bool) {
	offer(t.work)
	if grown {
		offer(t.grown)
	}
}

func offer(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// end ends the goroutine and waits for it.
func (t *tending) end() {
	t.once.Do(func() { close(t.stop) })
	t.wg.Wait()
}

func (j *Journal) tend() {
	t := &j.tending
	timer := time.NewTimer(0)
	timer.Stop()
	work := t.work // nil while the timer runs: a commit must not wake anybody
	var seen uint64
	for {
		select {
		case <-t.stop:
			return
		case <-t.bundled:
			j.spreadSoon()
			continue
		case <-work:
			work, seen = nil, j.done.Load()
			timer.Reset(j.opt.idle)
			continue
		case <-timer.C:
			if now := j.done.Load(); now != seen {
				seen = now
				timer.Reset(j.opt.idle)
				continue
			}
		case <-t.grown:
			timer.Stop()
		}
		work = t.work
		j.tendOnce()
	}
}

// tendOnce does what there is to do. Its errors are those that commits and syncs
// have, too, and are told there.
func (j *Journal) tendOnce() {
	j.turn.Lock()
	// A small log is left alone: it is read in a moment after a kill, and folding
	// it takes the disk some syncs.
	worth := !j.closed && (j.logSize() > j.opt.logLimit/8 || j.shrinkable())
	j.turn.Unlock()
	if worth {
		j.tidy()
	}
}

// tidy folds the log and shrinks the database.
func (j *Journal) tidy() {
	// Without the turn, commits go on meanwhile. After it, fold has little left
	// to sync.
	if j.Sync() != nil {
		return
	}
	for more := true; more; {
		select {
		case <-j.tending.stop:
			return
		default:
		}
		j.turn.Lock()
		more = false
		if !j.closed {
			whole, err := j.fold()
			if whole && err == nil {
				j.prime()
				more = j.shrinkable() && j.shrink() == nil
			}
		}
		j.turn.Unlock()
	}
}

// prime makes SQLite begin the log, which takes a sync, and more than one for a new
// file: now, lest the next commit waits for that. It changes nothing that matters
// and is no commit. Called with turn.
func (j *Journal) prime() {
	// If it fails, the next commit has what it takes, or the same error.
	_ = j.db.run("UPDATE meta SET primed = primed + 1")
}

// fold brings what is in the log into the database and empties the log. It
// reports whether it could do all of it: while somebody reads, what he reads
// stays. Called with turn.
func (j *Journal) fold() (whole bool, err error) {
	if j.logSize() == 0 {
		return true, nil
	}
	// The number is written when what it counts is in the log for good: it says
	// that a log that has less was damaged, and not cut short by a power loss.
	if err := j.syncLog(); err != nil {
		return false, err
	}
	// A failure costs no more than that damage might not be noticed.
	_ = j.ack.setFolded(j.held)

	// Whoever counts from outside must not mix what was before with what is after.
	defer j.ack.turnOver()
	j.ack.turnOver()
	// Commits would wait for a reader as long as this does.
	if err := j.db.run("PRAGMA busy_timeout=0"); err != nil {
		return false, err
	}
	row, err := j.db.row("PRAGMA wal_checkpoint(TRUNCATE)")
	if e := j.db.run("PRAGMA busy_timeout=5000"); err == nil {
		err = e
	}
	whole = err == nil && row[0] == int64(0)
	if whole {
		j.foldAt = j.opt.logLimit
	} else {
		j.foldAt = j.logSize() + j.opt.logLimit
	}
	return whole, err
}

// shrinkable reports whether many pages of the database are unused. Called with
// turn.
func (j *Journal) shrinkable() bool {
	if !j.booted {
		// Shrinking counts as a commit, after which Damage and Rebooted are not
		// said again: the first must be the user's.
		return false
	}
	free, err1 := j.db.number("PRAGMA freelist_count")
	all, err2 := j.db.number("PRAGMA page_count")
	return err1 == nil && err2 == nil && free >= vacuumStep/4 && free >= all/4
}

// shrink gives some of the unused pages back to the file system. Called with turn.
func (j *Journal) shrink() error {
	// It counts as a commit, so that a log that has lost it is found to be
	// older than the database.
	return j.transact(1, func(int64) (bool, error) {
		return false, j.db.run(fmt.Sprintf("PRAGMA incremental_vacuum(%d)", vacuumStep))
	})
}

// logSize returns the size of the log in bytes. SQLite writes it from the
// beginning after each fold, so that is also what is in use.
func (j *Journal) logSize() int64 {
	fi, err := j.log.Stat()
	if err != nil {
		return 0
	}
	return fi.Size()
}
