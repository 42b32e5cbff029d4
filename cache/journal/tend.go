package journal

import (
	"fmt"
	"sync"
	"time"
)

// vacuumStep is how many pages are given back to the file system between two
// commits.
const vacuumStep = 256

// manySegments is how many segments are folded however small they are: each process
// that is killed leaves one, and each takes a descriptor.
const manySegments = 8

// tending is what is done beside the commits, in a goroutine of its own: the log
// is folded into the table when it is large, or not small and nothing has been
// committed for a while, and the database gives back the room of what was deleted.
// Commits wait for that, so it is done in steps, and the slow parts of it, bringing
// both logs to the disk, without the turn.
type tending struct {
	work  chan struct{} // something was committed
	grown chan struct{} // the log is too large
	stop  chan struct{}
	once  sync.Once
	wg    sync.WaitGroup
}

func (j *Journal) startTending() {
	t := &j.tending
	t.work = make(chan struct{}, 1)
	t.grown = make(chan struct{}, 1)
	t.stop = make(chan struct{})
	if size := j.size.Load(); size > 0 {
		t.committed(size > j.foldAt)
	}
	t.wg.Go(j.tend)
}

// measure calls for tend if the log, which has grown by n bytes, is too large. Called
// with turn.
func (j *Journal) measure(n int64) { j.tending.committed(j.size.Add(n) > j.foldAt) }

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

// tendOnce does what there is to do. Its errors are told by commits when the log is
// much too large, by syncs, and by Close.
func (j *Journal) tendOnce() {
	// A small log is left alone: it is read in a moment after a kill, and folding
	// it takes the disk some syncs.
	worth := j.size.Load() > j.opt.logLimit/8
	if !worth {
		j.turn.Lock()
		worth = !j.closed && (len(j.older) > manySegments || j.shrinkable())
		j.turn.Unlock()
	}
	if worth {
		j.tidy()
	}
}

// tidy folds the log, in steps, and shrinks the database.
func (j *Journal) tidy() {
	// step runs f with the turn, and reports whether it has gone well.
	step := func(f func() error) bool {
		select {
		case <-j.tending.stop:
			return false
		default:
		}
		j.turn.Lock()
		defer j.turn.Unlock()
		return !j.closed && f() == nil
	}
	some, upto := false, uint64(0)
	freeze := func() error {
		if some = j.freeze(); some {
			upto = j.frozen.upto
		}
		return nil
	}
	if !step(freeze) || some && j.syncUpto(upto) != nil {
		return
	}
	for some {
		spread := func() (err error) {
			if j.frozen != nil { // else who commits has done it
				err = j.spread()
			}
			some = j.frozen != nil
			return err
		}
		if !step(spread) {
			// On a full disk, what SQLite has begun to write takes room to no use.
			step(func() error { _, err := j.checkpoint(); return err })
			return
		}
	}
	for more := true; more; {
		if j.syncTable() != nil { // so that checkpoint has little left to sync
			return
		}
		more = false
		step(func() error {
			whole, err := j.checkpoint()
			if whole && err == nil {
				more = j.shrinkable() && j.shrink() == nil
			}
			return nil
		})
	}
}

// shrinkable reports whether many pages of the database are unused. Called with
// turn.
func (j *Journal) shrinkable() bool {
	free, err1 := j.db.number("PRAGMA freelist_count")
	all, err2 := j.db.number("PRAGMA page_count")
	return err1 == nil && err2 == nil && free >= vacuumStep/4 && free >= all/4
}

// shrink gives some of the unused pages back to the file system. Called with turn.
func (j *Journal) shrink() error {
	return j.transact(func() error { return j.db.run(fmt.Sprintf("PRAGMA incremental_vacuum(%d)", vacuumStep)) })
}
