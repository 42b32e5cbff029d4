package journal

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// format is the version of what a journal looks like on disk, kept as SQLite's
// user_version. An older agentfs refuses a newer format.
const format = 3 // 1 had no bundles, 2 no log of its own

// pageSize is that of the database in bytes. Nothing depends on it but speed.
const pageSize = 4096

// defaultLogLimit is how many bytes of log a journal has before they go into the
// table: enough for most of it to be overtaken until then, and for thousands of commits
// to share the syncs that it takes; little enough to be in memory, and to be read in a
// moment after a kill.
const defaultLogLimit = 4 << 20

// applicationID marks the database as a journal of agentfs: "agfs".
const applicationID = 0x61676673

const (
	dbName  = "journal.db"
	ackName = "journal.ack"
)

// Journal is an open journal. All methods are safe for concurrent use.
type Journal struct {
	dir      string
	opt      options
	damage   string
	lost     bool
	rebooted bool

	ack *ackFile
	wal *os.File // the database's own log, to sync and to measure it

	// Of the locks, turn comes first: who has it takes queue.mu, sync.mu or sync.table,
	// one at a time and for a moment, but for the latter two while the disk writes.

	// turn is held by whoever changes the log or the table: the leader of a group of
	// commits, or tend. It guards all in this block.
	turn    sync.Mutex
	db      *db
	stmts   statements
	seq     uint64 // number of the last commit, of this process or an earlier one
	held    uint64 // number of the last commit that is there: less than seq after a loss
	boot    string // of the machine at the last commit that is there
	table   uint64 // number of the last transaction of the table
	format  int64  // of the database
	closed  bool
	tight   bool  // there was no room, and the log has not gone into the table since then
	foldAt  int64 // bytes of log from which on tend is called for
	scratch []byte
	bundle  *overlay // of a journal of format 2, until there is a commit; nil if there is none

	// The log: what is going into the table and all before it, in the segments older;
	// and what is in current, which is nil before the next commit begins one.
	older   []*segment
	frozen  *frozen // nil if there is none
	current *segment
	recent  *overlay

	size atomic.Int64 // bytes of the log

	queue queue

	// done is seq as others may read it: all up to it is in the kernel.
	done atomic.Uint64
	sync syncState

	tending tending
}

// options are what tests change.
type options struct {
	bootID   string        // of the running kernel
	logLimit int64         // bytes of log from which on it is folded into the table
	idle     time.Duration // a log that has not grown for so long is folded, unless it is small
	slice    int           // changes that go into the table at once; 0 is the default
}

// VersionError is the error of [Open] for a journal that a newer agentfs has
// written.
type VersionError struct {
	File   string
	Format int64 // of the file
	Known  int64 // the newest that this program knows
}

// Error implements error.
func (e *VersionError) Error() string {
	return fmt.Sprintf("%s was written by a newer agentfs (format %d, this one knows %d); use that one to bring what it holds to the store, or another --cache-dir",
		e.File, e.Format, e.Known)
}

// Open opens the journal in the directory dir, which it makes if need be, or
// begins one there. Only one process at a time can have it open.
//
// A journal of a newer format is refused with a *[VersionError]. One that is
// damaged beyond repair, or a file that is no journal, is moved aside, an empty
// one is begun, and [Journal.Damage] says so.
func Open(dir string) (*Journal, error) {
	return open(dir, options{bootID: bootID(), logLimit: defaultLogLimit, idle: 2 * time.Second})
}

func open(dir string, opt options) (_ *Journal, err error) {
	// The name goes into an URI, where a relative one is not one.
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	opt.slice = cmp.Or(opt.slice, defaultSlice)
	j := &Journal{dir: dir, opt: opt, foldAt: opt.logLimit, recent: newOverlay()}
	if j.ack, err = openAck(filepath.Join(dir, ackName)); err != nil {
		return nil, err
	}
	if err := j.appear(); err != nil {
		j.abandon()
		return nil, err
	}
	j.turn.Lock() // against Count
	err = j.load()
	j.turn.Unlock()
	if err != nil {
		j.abandon()
		return nil, err
	}
	// The names must be there after a power loss for their contents to be.
	if err := syncDir(dir); err != nil {
		j.abandon()
		return nil, err
	}
	j.startTending()
	return j, nil
}

// abandon lets go of everything, whatever of it there is.
func (j *Journal) abandon() error {
	var errs []error
	defer j.disappear()
	if j.db != nil {
		errs = append(errs, j.stmts.close(), j.db.close())
	}
	if j.wal != nil {
		errs = append(errs, j.wal.Close())
	}
	errs = append(errs, j.sync.close())
	if j.ack != nil {
		errs = append(errs, j.ack.close())
	}
	return errors.Join(errs...)
}

// Damage says, in a sentence for people, what was found damaged by Open and
// what is lost by it, "" for nothing. The next Open need not say it again.
func (j *Journal) Damage() string { return j.damage }

// Lost reports whether nothing is left of what was acknowledged, since Open has begun an
// empty journal in the place of one that is damaged or gone, or since all of the log
// is: of what it named nothing is known. The next Open says the same if there is no
// commit until then.
func (j *Journal) Lost() bool { return j.lost }

// Rebooted reports whether the machine was booted anew between the last commit
// in the journal and Open, or whether that can't be told: what was not synced
// until then, here or in other files, may be lost. The next Open says the same if
// there is no commit until then.
func (j *Journal) Rebooted() bool { return j.rebooted }

// Size returns how many bytes the journal has on disk. What was moved aside is
// not part of it.
func (j *Journal) Size() int64 {
	n := j.size.Load()
	for _, name := range []string{dbName, dbName + "-wal", ackName} {
		// Only ever stat: closing any descriptor of the database would take
		// away the locks that SQLite holds on it.
		if fi, err := os.Stat(filepath.Join(j.dir, name)); err == nil {
			n += fi.Size()
		}
	}
	return n
}

// Close waits for commits that are under way, brings everything from the log into
// the table, and lets go of it. Whatever comes later is os.ErrClosed. After an
// error everything committed is in the log all the same, and on the disk unless the
// error says that it could not be brought there.
func (j *Journal) Close() error {
	j.tending.end()
	j.turn.Lock()
	defer j.turn.Unlock()
	if j.closed {
		return fs.ErrClosed
	}
	j.closed = true
	whole, err := j.fold()
	if err != nil {
		err = errors.Join(err, j.syncUpto(j.seq))
	}
	if whole && err == nil && j.current != nil { // without a record
		err = j.sync.remove(j.current)
	}
	return errors.Join(err, j.abandon())
}

// bootID returns the name of the running kernel's boot, "" if it has none.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
