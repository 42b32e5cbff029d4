package cache

import (
	"errors"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/agentfs/agentfs/cache/index"
)

// shelf is what the room has of contents that the store has as well, kept over
// the end of the mount. The index has a row for each; here is only what is on
// its way to it.
//
// A row belongs to the content that has adopted it, or that it was written for,
// or to none. Of those that belong to none the shelf has the file and what
// the budget counts for it. They are those that were last used before began,
// but for the ones in busy, and those that were given back since.
type shelf struct {
	fs    *FS
	ix    *index.Index
	began int64

	// pick is held while a row that belongs to none is looked for and taken.
	// Before mu.
	pick sync.Mutex

	// writing is held while the index is brought up to date. Before FS.ns.
	writing sync.Mutex

	mu    sync.Mutex
	left  int64              // rows that belong to none
	rows  int64              // all rows
	noted map[*file]struct{} // closed or stored since the index was written
	drop  []string           // files whose rows are to go
	touch map[string]int64   // when files were used whose rows stay as they are
	busy  map[string]bool    // adopted or dropped, which the index does not say yet
	wake  chan struct{}
	stop  chan struct{}
	done  sync.WaitGroup
}

const (
	// shelveAfter is how long the shelf waits for more before it writes.
	shelveAfter = 2 * time.Second
	// shelveAtOnce is how many rows it writes in one transaction: whoever looks
	// for a row meanwhile waits for it.
	shelveAtOnce = 256
	// touchAfter is how old the time in a row is before it is written anew.
	touchAfter = time.Minute
)

// openShelf opens the index of the room, removes what nobody knows from the
// room, and counts the rest. wanted are the files that the journal names: they
// are on no shelf.
func (c *FS) openShelf(wanted map[string]bool) error {
	ix, problem, err := index.Open(c.room.dir)
	if err != nil {
		return err
	}
	if problem != "" {
		c.log.Warn("the index of the cache could not be used; what was in the cache is fetched again", "reason", problem)
	}
	sh := &shelf{
		fs: c, ix: ix, began: c.room.since, noted: map[*file]struct{}{}, touch: map[string]int64{}, busy: map[string]bool{},
		wake: make(chan struct{}, 1), stop: make(chan struct{}),
	}
	if err := sh.sweep(wanted); err != nil {
		return errors.Join(err, ix.Close())
	}
	c.shelf = sh
	sh.done.Go(sh.run)
	return nil
}

// sweep brings files and rows together: each file has a row or is the
// journal's, each row has a file, or a slot.
func (sh *shelf) sweep(wanted map[string]bool) error {
	all, err := sh.ix.All()
	if err != nil {
		return err
	}
	room := sh.fs.room
	rows := make(map[string]int64, len(all))
	slots := maps.Clone(wanted)
	taken := slotsOf(wanted)
	var bytes int64
	found := func(name string, n int64) {
		delete(rows, name)
		bytes += n
		sh.left++
	}
	for _, e := range all {
		rows[e.File] = e.Bytes
		// The head is still this content's if the journal's has not written yet.
		if l, ok := room.slab.named(e.File); ok && l.slot.length > 0 && !taken[l.slot.n] {
			slots[e.File] = true
			found(e.File, e.Bytes)
		}
	}
	if err := sh.fs.rescue(wanted, rows, slots); err != nil {
		return err
	}
	if err := room.slab.keep(slots); err != nil {
		return err
	}
	err = room.eachContent(func(name string) {
		n, shelved := rows[name]
		switch {
		case wanted[name]:
		case shelved && sh.fit(name, n):
			found(name, n)
		default:
			room.removeLayer(name)
		}
	})
	if err != nil {
		return err
	}
	var c index.Change
	for name := range rows {
		c.Drop = append(c.Drop, name)
	}
	if _, err := sh.ix.Apply(c); err != nil {
		return err
	}
	sh.rows = sh.left
	room.force(bytes)
	return nil
}

// fit sees to it that a file takes no more space than its row says: a process
// that was killed may have fetched more. It reports whether that worked.
func (sh *shelf) fit(name string, bytes int64) bool {
	const slack = 64 << 10 // of the host's file system
	path := sh.fs.room.layerPath(name)
	st, err := os.Stat(path)
	if err != nil {
		return false
	}
	taken := allocated(st)
	if taken <= bytes+slack {
		return true
	}
	ranges, err := sh.ix.Ranges(name)
	if err != nil {
		return false
	}
	l := &layer{path: path}
	defer l.rest()
	at := int64(0)
	for _, r := range append(ranges, [2]int64{st.Size(), st.Size()}) {
		if r[0] > at && l.zero(at, r[0]) != nil {
			return false
		}
		at = r[1]
	}
	return true
}

// adopt gives c, a new content of s, what the room has of it.
func (sh *shelf) adopt(c *content, s *stored) {
	if sh == nil {
		return
	}
	e, ok := sh.find(s)
	if !ok {
		return
	}
	pieces := piecesOf(e.Ranges)
	c.layer = sh.fs.room.layerNamed(e.File)
	c.layer.shelf = sh
	// A process that was killed while it wrote may have left something behind the
	// end, which must not come back with a change of size.
	if len(pieces) != len(e.Sums) || e.Size != s.size || c.layer.shorten(s.size) != nil {
		c.layer.drop()
		c.layer = nil
		sh.fs.room.release(e.Bytes)
		return
	}
	for i := range pieces {
		pieces[i].sum = e.Sums[i]
	}
	c.unchecked = pieces
	if c.layer.slot != nil {
		c.summed = slices.Clone(pieces)
	}
	for _, r := range e.Ranges {
		c.ext = c.ext.local(r[0], r[1])
		c.twin = c.twin.set(extent{off: r[0], end: r[1], src: s, at: r[0]})
	}
	c.charged = e.Bytes
	c.recount() // the same, unless the row was wrong
	c.shelved = shelved{s, e.Bytes, e.Used}
	sh.fs.stats.adopted.Add(1)
}

// find looks for the row of s and takes it.
func (sh *shelf) find(s *stored) (e index.Entry, ok bool) {
	sh.pick.Lock()
	defer sh.pick.Unlock()
	sh.mu.Lock()
	none := sh.left == 0
	sh.mu.Unlock()
	if none {
		return e, false
	}
	e, ok, err := sh.ix.Find(s.key, string(s.version))
	if err != nil {
		sh.failed(err)
	}
	return e, err == nil && ok && sh.take(e, sh.inThisMount(time.Now().UnixNano()))
}

// inThisMount returns when a content of this mount was used that says t: nobody may
// have opened it, or somebody have set the clock back, but a row that was used
// before began is taken for one that belongs to none.
func (sh *shelf) inThisMount(t int64) int64 { return max(t, sh.began) }

// take takes a row that belongs to none; now is when it is used, 0 if it goes.
func (sh *shelf) take(e index.Entry, now int64) bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if e.Used >= sh.began || sh.busy[e.File] {
		return false
	}
	sh.busy[e.File] = true
	sh.left--
	if now == 0 {
		sh.drop = append(sh.drop, e.File)
	} else {
		sh.touch[e.File] = now
	}
	sh.kick()
	return true
}

// oldest returns when the row that belongs to none and was used longest ago was
// used; ok is false if there is none.
func (sh *shelf) oldest() (used int64, ok bool) {
	sh.pick.Lock()
	defer sh.pick.Unlock()
	free := sh.free(1)
	if len(free) == 0 {
		return 0, false
	}
	return free[0].Used, true
}

// free returns up to n rows that belong to none, oldest first. sh.pick is held.
func (sh *shelf) free(n int) []index.Entry {
	sh.mu.Lock()
	left, busy := sh.left, len(sh.busy)
	sh.mu.Unlock()
	if left == 0 {
		return nil
	}
	rows, err := sh.ix.Oldest(sh.began, n+busy)
	if err != nil {
		sh.failed(err)
		return nil
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	rows = slices.DeleteFunc(rows, func(e index.Entry) bool { return sh.busy[e.File] })
	return rows[:min(n, len(rows))]
}

// evict removes files of rows that belong to none, those first that were used
// longest ago and none that was used after until, and returns what it has freed.
func (sh *shelf) evict(need, until int64) (freed int64) {
	sh.pick.Lock()
	defer sh.pick.Unlock()
	for need > freed {
		rows := sh.free(64)
		for _, e := range rows {
			if freed >= need || e.Used > until {
				return freed
			}
			if sh.take(e, 0) {
				sh.fs.room.removeLayer(e.File)
				sh.fs.room.release(e.Bytes)
				freed += e.Bytes
			}
		}
		if len(rows) == 0 {
			break
		}
	}
	return freed
}

// note says that f was closed or stored, and may have something for the index.
func (sh *shelf) note(f *file) {
	if sh == nil {
		return
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.noted[f] = struct{}{}
	sh.kick()
}

// forget says that a file of the room is gone, or is no longer what its row says.
func (sh *shelf) forget(name string) {
	if sh == nil {
		return
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.busy[name] = true
	delete(sh.touch, name)
	sh.drop = append(sh.drop, name)
	sh.kick()
}

// noting reports whether f may still get a row, or another one.
func (sh *shelf) noting(f *file) bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	_, noted := sh.noted[f]
	return noted
}

// takeBack makes rows, whose contents have ended, belong to none: as if they had
// been used last just before this process began. writing is held.
func (sh *shelf) takeBack(rows []string) {
	if len(rows) == 0 {
		return
	}
	c := index.Change{Touch: make(map[string]int64, len(rows))}
	sh.mu.Lock()
	for _, name := range rows {
		c.Touch[name] = sh.began - 1
		delete(sh.touch, name)
		delete(sh.busy, name)
	}
	sh.mu.Unlock()
	if _, err := sh.ix.Apply(c); err != nil {
		sh.failed(err) // they go at the next start, or are found again then
		return
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.left += int64(len(rows))
}

func (sh *shelf) kick() {
	select {
	case sh.wake <- struct{}{}:
	default:
	}
}

// run writes the index, some time after there is something to write.
func (sh *shelf) run() {
	for {
		select {
		case <-sh.stop:
			return
		case <-sh.wake:
		}
		select {
		case <-sh.stop:
			return
		case <-time.After(shelveAfter):
		}
		sh.write(false)
	}
}

// write brings the index up to date; last says that it is for the last time.
func (sh *shelf) write(last bool) {
	sh.writing.Lock()
	defer sh.writing.Unlock()
	sh.mu.Lock()
	var files []*file
	for f := range sh.noted {
		files = append(files, f)
	}
	clear(sh.noted)
	sh.mu.Unlock()
	for part := range slices.Chunk(files, shelveAtOnce) {
		sh.apply(sh.changes(part, last))
	}
	sh.apply(nil, nil)
}

// changes returns what the index is to have of files, and what of that only
// for its time.
func (sh *shelf) changes(files []*file, last bool) (put []index.Entry, touch map[string]int64) {
	touch = map[string]int64{}
	for _, f := range files {
		e, what := f.shelve(last)
		switch what {
		case shelvePut:
			put = append(put, e)
		case shelveTouch:
			touch[e.File] = e.Used
		case shelveLater:
			if !last {
				sh.note(f)
			}
		}
	}
	return put, touch
}

// apply makes a change of the index, with what waits. The caller is run, or
// the last.
func (sh *shelf) apply(put []index.Entry, touch map[string]int64) {
	sh.mu.Lock()
	c := index.Change{Drop: sh.drop, Touch: sh.touch, Put: put}
	for name, t := range touch {
		c.Touch[name] = t
	}
	sh.drop, sh.touch = nil, map[string]int64{}
	if len(c.Drop)+len(c.Touch)+len(c.Put) == 0 {
		sh.mu.Unlock()
		return
	}
	sh.mu.Unlock()
	replaced, err := sh.ix.Apply(c)
	if err != nil {
		// The rows are as they were: those that should go name files that are
		// not there, or are found out by their sums.
		sh.failed(err)
		return
	}
	n, err := sh.ix.Count()
	if err != nil {
		sh.failed(err)
	}
	for _, e := range replaced {
		if sh.take(e, 0) {
			sh.fs.room.removeLayer(e.File)
			sh.fs.room.release(e.Bytes)
		}
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.rows = n
	for _, name := range c.Drop {
		delete(sh.busy, name)
	}
	for name := range c.Touch {
		delete(sh.busy, name)
	}
	for _, name := range sh.drop {
		sh.busy[name] = true // since then
	}
	for name := range sh.touch {
		sh.busy[name] = true
	}
}

// failed says that the index can't be read or written.
func (sh *shelf) failed(err error) {
	sh.fs.warn("index", "the index of the cache can't be used; what is not in it is fetched again after the next mount", "err", err)
}

// end writes the index for the last time. all are the files that nobody uses.
// Unless the journal still needs some, files without a row go.
func (sh *shelf) end(all []*file, alone bool) {
	close(sh.stop)
	sh.done.Wait()
	for _, f := range all {
		sh.note(f)
	}
	sh.write(true)
	if alone {
		if err := sh.clean(); err != nil {
			sh.failed(err)
		}
	}
	if err := sh.ix.Close(); err != nil {
		sh.failed(err)
	}
}

// clean removes what has no row, at the end.
func (sh *shelf) clean() error {
	rows, err := sh.ix.All()
	if err != nil {
		return err
	}
	known := make(map[string]bool, len(rows))
	for _, e := range rows {
		known[e.File] = true
	}
	room := sh.fs.room
	err = room.eachContent(func(name string) {
		if !known[name] {
			room.removeLayer(name)
		}
	})
	left := slab{dir: room.contentDir()}
	defer left.end()
	return errors.Join(err, left.keep(known))
}

// indexed returns the number of rows.
func (sh *shelf) indexed() int64 {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.rows
}
