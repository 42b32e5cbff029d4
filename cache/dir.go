package cache

import (
	"errors"
	"sync"
	"time"

	"github.com/agentfs/agentfs/backends/tree"
)

// dir is what the cache knows of a directory beside its children.
type dir struct {
	// Guarded by FS.ns; local by mu as well, so that either will do to read.

	// local: the store has no such directory, or only what this machine has
	// put: nobody is to be asked about it.
	local bool
	// marker says that the store has the directory itself, not only what lies
	// in it.
	marker bool
	// maybe says that the store may have one, of a directory that had the name
	// before.
	maybe bool
	// keep says that it needs a marker although something is in it, because
	// that is not to be in the store soon.
	keep     bool
	job      *job // not nil while the store has to be made to have it
	recorded bool // the journal has a record of it
	attrs    ownAttrs
	records  dirAttrs
	// since is FS.moves when it was made, learned or moved: it was another one, or
	// elsewhere, before.
	since uint64

	mu sync.Mutex
	// mine says that the store's word about the directory does not count: it
	// has still to follow. True while there is a job.
	mine bool
	// listed is when a complete listing was asked for that has been merged, or when
	// the directory was made here or renamed; zero if neither was. big says that a
	// listing was given up because the directory is large.
	listed time.Time
	big    bool
	// denied says that this user may not list it.
	denied bool
	// asking is when the listing was asked for that is on its way, and merging how
	// many answers are being merged.
	asking  time.Time
	merging int
	// deep says that a flat listing of what is below needs more than a page.
	deep bool
	// ahead is the survey that has listed it before anybody asked, and how many
	// entries that brought.
	ahead        *survey
	aheadEntries int
	// seen is when the store last confirmed that the directory is there.
	seen time.Time
	// absent has names that the store said don't exist, and when it was asked.
	absent map[string]time.Time
	// changing has the names that the background is changing in the store now
	// (counted), and changed when that or an operation of this machine last
	// did: what the store answered to a question asked earlier doesn't count
	// for them.
	changing map[string]int
	changed  map[string]time.Time
	// lastChange is the latest of changed, also of those that are forgotten.
	lastChange time.Time
	pruned     time.Time // when changed was last gone through
	forgotten  time.Time // changes before that are
	// touched is when somebody last used it, and leaving says that nobody has since
	// it was chosen to be forgotten; see forgetting.
	touched time.Time
	leaving bool
	// lone is when a single name was last asked for: the second within a
	// second makes a listing worth while.
	lone time.Time
	// stretches are the places from which names were asked for in their order.
	stretches stretches
}

func dirOf(n *tree.Node) *dir { return n.Data.(*dir) }

// unknown reports whether a page of what is in it and below may tell a lot. d.mu is
// held.
func (d *dir) unknown() bool { return d.listed.IsZero() && !d.deep }

// begin says that name is going to be changed by this machine.
func (d *dir) begin(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.changing == nil {
		d.changing = map[string]int{}
	}
	d.changing[name]++
	delete(d.absent, name)
}

// change says that this machine changes name now.
func (d *dir) change(name string) {
	d.begin(name)
	d.end(name)
}

// end says that the change of name is over.
func (d *dir) end(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.changing[name]--; d.changing[name] <= 0 {
		delete(d.changing, name)
	}
	d.note(name)
}

// note says that what the store was asked before now says nothing about name. d.mu is
// held.
func (d *dir) note(name string) {
	now := time.Now()
	if d.changed == nil {
		d.changed = map[string]time.Time{}
	}
	d.changed[name], d.lastChange = now, now
	if len(d.changed) > 1024 && now.Sub(d.pruned) > storeTimeout/2 {
		d.pruned = now
		d.prune(now)
	}
}

// prune forgets changes that are older than any question still on its way. A
// listing that is older than that too says nothing about single names any more,
// because nobody knows which of them have changed since. The directory stays known
// by it: these changes are in the tree. d.mu is held.
func (d *dir) prune(now time.Time) {
	old := now.Add(-2 * storeTimeout)
	if !d.asking.IsZero() && d.asking.Before(old) {
		old = d.asking
	}
	if d.forgotten.Before(old) {
		d.forgotten = old
	}
	for k, t := range d.changed {
		if t.Before(old) {
			delete(d.changed, k)
		}
	}
}

// asks notes that a listing is asked for at t, until done is called.
func (d *dir) asks(t time.Time) (done func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.asking.IsZero() {
		return func() {} // another one is, for longer
	}
	d.asking = t
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.asking = time.Time{}
	}
}

// merges notes that n more answers, or fewer, are being merged.
func (d *dir) merges(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.merging += n
}

// listedFor returns when a listing was asked for that says something about
// name; zero if none was. d.mu is held.
func (d *dir) listedFor(name string) time.Time {
	if d.local {
		return time.Now() // all that is in it is here
	}
	if d.listed.Before(d.forgotten) || d.oursSince(name, d.listed) {
		return time.Time{}
	}
	return d.listed
}

// oursSince reports whether what the store was asked at t says nothing about
// name, because this machine has changed it since. d.mu is held.
func (d *dir) oursSince(name string, t time.Time) bool {
	return d.changing[name] > 0 || !d.changed[name].Before(t)
}

// hereSince reports whether it is this machine's own, or an answer to a question that
// was asked after t says that the directory is there.
func (d *dir) hereSince(t time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.local || d.seen.After(t)
}

// storeTimeout is after how long without an answer what the cache asks the store
// on its own account ends, such as a fetch that several readers wait for.
const storeTimeout = 2 * time.Minute

// errBig says that a listing was given up because the directory is large.
var errBig = errors.New("directory too large to list for a lookup")
