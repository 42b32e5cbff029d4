package journal

import (
	"fmt"
	"maps"
	"slices"
	"syscall"
)

// The table is an SQLite database. What is in the log goes into it some thousand
// commits at a time, and of each key only what it has become: most of what the cache
// notes is overtaken within seconds. Whoever commits waits for a slice of that at
// most.
//
// While the table is between two states, it and the log together are still right:
// the log is removed afterwards, and applying all of it again changes nothing.

// defaultSlice is how many changes go into the table at once, while commits wait.
const defaultSlice = 64

// tightSlice is the same on a full disk.
const tightSlice = 16

// frozen is the part of the log that is going into the table. Nothing is added to it
// any more.
type frozen struct {
	*overlay
	keys []string // of changes that are not in the table yet, in their order
	upto uint64   // number of its last commit
	boot string   // of the machine at that commit
	// begun: the table may have parts of it.
	begun bool
}

// freeze ends the segment, for what is in the log to go into the table, and reports
// whether there is anything to do. Called with turn.
func (j *Journal) freeze() bool {
	if j.frozen == nil && !j.recent.empty() {
		j.frozen = &frozen{overlay: j.recent, keys: slices.Sorted(maps.Keys(j.recent.changes)), upto: j.held, boot: j.boot}
		j.recent = newOverlay()
		if j.current != nil && j.current.mend() == nil {
			j.older = append(j.older, j.current)
			j.current = nil
		}
	}
	return j.frozen != nil
}

// spread puts a slice of what is frozen into the table. Called with turn.
func (j *Journal) spread() error {
	z := j.frozen
	if !z.begun {
		// After a power loss, the table must not have what the log has lost.
		if err := j.syncUpto(z.upto); err != nil {
			return err
		}
		if err := j.ack.setFolded(z.upto); err != nil {
			return err
		}
		z.begun = true
		// Whoever reads the files without a lock must have read the log after this, or
		// the table before.
		j.ack.turnOver()
	}
	some := z.keys[:min(j.opt.slice, len(z.keys))]
	last := len(some) == len(z.keys)
	err := j.transact(func() error {
		for prefix := range z.wiped {
			if err := j.stmts.wipe(prefix); err != nil {
				return err
			}
		}
		for _, key := range some {
			if err := j.stmts.set(key, z.changes[key]); err != nil {
				return err
			}
		}
		if last {
			return j.stmts.count.run(int64(z.upto), z.boot)
		}
		return nil
	})
	if err != nil {
		return err
	}
	clear(z.wiped) // only before the first of the changes
	if z.keys = z.keys[len(some):]; last {
		j.frozen = nil
		j.ack.turnOver()
	}
	return nil
}

// transact runs f in a transaction. Called with turn.
func (j *Journal) transact(f func() error) error {
	if err := j.stmts.begin.run(); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	err := f()
	if err == nil {
		err = j.stmts.number.run()
	}
	if err == nil {
		err = j.stmts.commit.run()
	}
	if err != nil {
		// SQLite may have rolled back by itself; then this fails, and all is well.
		_ = j.stmts.rollback.run()
		return fmt.Errorf("journal: %w", err)
	}
	j.table++
	return nil
}

// upgrade makes a journal of an older format one that its programs refuse, since
// they know nothing of the log, and brings that to the disk. Called with turn.
func (j *Journal) upgrade() error {
	err := j.transact(func() error {
		if j.bundle != nil {
			if err := j.stmts.remove.run([]byte(bundleKey)); err != nil {
				return err
			}
			for _, key := range slices.Sorted(maps.Keys(j.bundle.changes)) {
				if err := j.stmts.set(key, j.bundle.changes[key]); err != nil {
					return err
				}
			}
		}
		// Until now the number was that of the latest record, which may be replaced.
		if err := j.stmts.count.run(int64(j.held), j.boot); err != nil {
			return err
		}
		return j.db.run(fmt.Sprintf("PRAGMA user_version=%d", format))
	})
	if err != nil {
		return err
	}
	if err := j.syncTable(); err != nil {
		return err
	}
	j.bundle, j.format = nil, format
	return nil
}

// checkpoint brings what is in SQLite's log into the database, and empties that. It
// reports whether it could do all of it: while somebody reads, what he reads stays.
// Then the segments of which the table has everything go. Called with turn.
func (j *Journal) checkpoint() (whole bool, err error) {
	if fi, err := j.wal.Stat(); err != nil || fi.Size() > 0 {
		// The number is written when what it counts is there for good: it says that a log
		// of SQLite that has less was damaged, and not cut short by a power loss.
		if err := j.syncTable(); err != nil {
			return false, err
		}
		// A failure costs no more than that damage might not be noticed.
		_ = j.ack.setTable(j.table)
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
		if err != nil || row[0] != int64(0) {
			j.foldAt = j.size.Load() + j.opt.logLimit
			return false, err
		}
	}
	if j.frozen == nil {
		err = j.removeOlder()
	}
	j.foldAt = j.opt.logLimit
	return true, err
}

// removeOlder removes the segments that were ended, all of which the table has.
// Called with turn.
func (j *Journal) removeOlder() error {
	for len(j.older) > 0 {
		s := j.older[0]
		if err := j.sync.remove(s); err != nil {
			return err
		}
		j.older = j.older[1:]
		j.size.Add(-s.end)
	}
	return nil
}

// fold brings all of the log into the database proper. Called with turn, which
// nobody else gets meanwhile.
func (j *Journal) fold() (whole bool, err error) {
	for j.freeze() {
		if err := j.spread(); err != nil {
			return false, err
		}
	}
	return j.checkpoint()
}

// makeRoom makes room on a full disk, if it can, by bringing the log into the table with
// as little as possible. It reports whether there may be some. Called with turn.
func (j *Journal) makeRoom() bool {
	before := j.Size()
	// SQLite's log has a page as often as it was written; in the database it has its
	// place already.
	_, err := j.checkpoint()
	if err == nil && j.fits() {
		defer func(n int) { j.opt.slice = n }(j.opt.slice)
		j.opt.slice = tightSlice
		for err == nil && j.freeze() {
			err = j.spread()
			// Also after an error: what SQLite has begun to write is of no use.
			if _, e := j.checkpoint(); err == nil {
				err = e
			}
		}
	}
	j.tight = err != nil || j.size.Load() > 0
	return j.Size() < before
}

// fits reports whether the disk has room for the table to get what is in the log: four
// times that, since its pages are not full, and it has a log, too. Without, it would only take the room that commits could
// have. Called with turn.
func (j *Journal) fits() bool {
	need := j.recent.bytes
	if j.frozen != nil {
		need += j.frozen.bytes
	}
	var st syscall.Statfs_t
	return syscall.Statfs(j.dir, &st) == nil && int64(st.Bavail)*st.Bsize > 4*need
}
