package cache

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/agentfs/agentfs/backends"
)

// content is the bytes of one file: an extent map over a sparse local file and
// objects of the store.
//
// INVARIANT: what the map calls a hole is zeros in the local file, so that a
// content without remote extents is just that file, cut or grown to length.
type content struct {
	fs *FS
	id uint64 // of the node

	mu       sync.Mutex
	layer    *layer   // nil until something is local
	former   []*layer // that the journal may name instead; see outgrow and free
	users    int      // handles, uploads and fetches
	length   int64
	ext      extents
	twin     extents // what objects have of it, too, wherever its bytes are
	charged  int64   // local bytes counted in the room
	seals    []*seal
	inflight []*fetching
	down     sync.Cond // fetched bytes are in the local file
	coming   int64     // bytes of inflight that are charged and on their way into it
	unread   extents   // what was fetched and nobody has read
	tracks   []*track  // who reads it
	clock    uint64    // counts reads, for the tracks' order
	freed    bool
	dirty    bool   // not the stored version any more
	gen      uint64 // counts changes, for seals to know what they have seen
	pinned   int    // somebody needs all of it here: nothing is recycled
	kept     journaled
	// recorded says that kept is true of the journal already: whoever records
	// something sets kept first, and the writers that go by it must not be told
	// that all is well before the commit.
	recorded bool
	mapped   bool // the journal may have a map
	named    bool // the journal may name the local bytes
	// row is the number of the last range that was journaled, rowMap that of the
	// last one that is in the map. They only grow, so that writers can add rows
	// while a map is on its way to the journal.
	row, rowMap int64
	// stream is what is sent of it already while it grows; streamFrom is the
	// size before which no other one is begun.
	stream     *stream
	streamFrom int64
	// unchecked is what of the local file comes from an earlier mount and was not
	// compared with its sums yet. Nothing is changed while there is any.
	unchecked []piece
	shelved   shelved
	// summed are the pieces of a content in a slot as the index has them. Of a file
	// others' writes show by its times; in the slab everybody writes, so what lies
	// there is compared each time that it is opened.
	summed []piece
	// inOpen is the place in descriptors, nil while the file is closed; lately
	// says that somebody has used it since it was last looked at there.
	inOpen *list.Element
	lately bool
}

// journaled says how the journal has a content.
type journaled int

const (
	notJournaled journaled = iota // the store has it
	asFile                        // the local file is the content
	asMap                         // the map is in the journal
)

const (
	// maxSize is the largest content: what S3 holds in one object is less.
	maxSize = 48 << 40
	// wholeMax is the size up to which a file is fetched at once.
	wholeMax = 1 << 20
)

// newContent returns the content of an object, or an empty one for nil.
func newContent(c *FS, id uint64, s *stored) *content {
	n := &content{fs: c, id: id, ext: whole(s)}
	n.down.L = &n.mu
	if s != nil {
		n.length = s.size
		c.shelf.adopt(n, s)
	}
	return n
}

// use keeps the local file open until done.
func (c *content) use() {
	c.mu.Lock()
	c.enter()
	c.mu.Unlock()
}

// enter is use with c.mu held.
func (c *content) enter() {
	c.users++
	if c.layer != nil {
		c.layer.users++
	}
}

func (c *content) done() {
	c.mu.Lock()
	c.leave()
	c.mu.Unlock()
}

// leave is done with c.mu held.
func (c *content) leave() {
	c.users--
	if c.layer != nil {
		c.layer.users--
		c.layer.rest()
		c.fs.descriptors.left(c)
	}
	if c.users == 0 && len(c.summed) > 0 && len(c.unchecked) == 0 {
		c.unchecked = slices.Clone(c.summed)
	}
}

// local returns the open local file. c.mu is held and the content in use. A file
// that somebody else has written to while it was closed has nothing any more that
// an object has, too.
func (c *content) local() (localFile, error) {
	if err := c.lie(c.length); err != nil {
		return nil, err
	}
	f, err := c.open()
	if c.layer.changed && !c.dirty {
		c.layer.changed, c.unchecked = false, nil
		c.lose(0, c.length, nil)
	}
	return f, err
}

// open returns the open local file, which stays open as long as c.mu is held. The
// content is in use and has a layer.
func (c *content) open() (localFile, error) {
	f, err := c.layer.open()
	if err == nil {
		c.fs.descriptors.used(c)
	}
	return f, err
}

// zero makes a hole in the local file. c.mu is held and the content in use.
func (c *content) zero(off, end int64) error {
	err := c.layer.zero(off, end)
	if c.layer.file != nil {
		c.fs.descriptors.used(c)
	}
	return err
}

// lie sees to it that the content has a layer in which size bytes can lie. c.mu
// is held.
func (c *content) lie(size int64) error {
	switch {
	case c.layer == nil:
		c.layer = c.fs.newLayer(c.id, c.users, size)
	case c.layer.slot != nil && size > slotSize:
		return c.outgrow()
	}
	return nil
}

// apart sees to it that the local bytes are nobody else's, because they are about to
// be changed. It may have to let c.mu go: then again is true, nothing has happened
// yet, and the caller looks anew. c.mu is held.
func (c *content) apart() (again bool, err error) {
	if c.layer == nil || !c.layer.frozen {
		return false, nil
	}
	if c.landing(0, maxSize) {
		c.landed(0, maxSize) // in the file that is left
		return true, nil
	}
	return false, c.outgrow()
}

// outgrow moves the local bytes into another file, from a slot or one that somebody
// else has, too. What they leave is kept until the journal names the file, which it
// does with the change that the content is moved for. c.mu is held.
func (c *content) outgrow() error {
	old := c.layer
	l := c.fs.newFile(c.id)
	for _, e := range c.ext {
		if e.remote() {
			continue
		}
		if err := old.copyRange(l, e.off, e.end); err != nil {
			l.drop()
			old.rest()
			return err
		}
	}
	l.users = c.users
	l.rest()
	old.users -= c.users
	old.rest()
	c.layer = l
	c.fs.descriptors.left(c)
	if !c.named {
		old.drop()
		return nil
	}
	c.former = append(c.former, old)
	c.kept, c.recorded = notJournaled, false
	return nil
}

// dropFormer lets those of c.former go that the journal no longer names. c.mu
// is held.
func (c *content) dropFormer(named []*layer) {
	c.former = slices.DeleteFunc(c.former, func(l *layer) bool {
		gone := slices.Contains(named, l)
		if gone {
			l.drop()
		}
		return gone
	})
}

// newLayer returns a layer that nobody else has, with or without a file, for so
// many users and a content of that size.
func (c *FS) newLayer(id uint64, users int, size int64) *layer {
	var l *layer
	if size <= slotSize {
		l = c.room.slab.take()
	}
	if l == nil {
		l = c.newFile(id)
	}
	l.users = users
	l.rest()
	return l
}

// newFile returns a layer that is a file.
func (c *FS) newFile(id uint64) *layer {
	if l := c.room.spares.take(); l != nil {
		return l
	}
	return &layer{path: c.room.contentPath(id, c.layers.Add(1)), refs: 1}
}

func (c *content) size() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.length
}

// blocks returns the space that the content takes, in units of 512 bytes,
// here or in the store: all but the holes.
func (c *content) blocks() (sum int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.ext {
		sum += e.end - e.off
	}
	return (sum + 511) / 512
}

func (c *content) complete() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ext.complete()
}

// readAt fills p from off and returns less only at the end.
func (c *content) readAt(ctx context.Context, r *reader, p []byte, off int64) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if off >= c.length {
		return 0, nil
	}
	p = p[:min(int64(len(p)), c.length-off)]
	var t *track
	if c.length > wholeMax && !c.ext.complete() {
		t = c.follow(r, off, off+int64(len(p)))
		c.readAhead(t)
	}
	fetched, again := false, false
	for n := 0; n < len(p); {
		at := off + int64(n)
		if at >= c.length { // truncated while we waited
			return n, nil
		}
		if c.layer != nil {
			// Before the map is looked at: what is not right is lost.
			if _, err := c.local(); err != nil {
				return n, err
			}
			c.verify(at, off+int64(len(p)))
		}
		e, ok := c.ext.at(at, min(off+int64(len(p)), c.length))
		part := p[n : n+int(e.end-e.off)]
		switch {
		case !ok:
			clear(part)
		case e.remote():
			got, err := c.fill(ctx, t, part, at, e.end)
			if err != nil {
				return n, err
			}
			c.read(at, at+got)
			n += int(min(got, max(0, c.length-at)))
			fetched = true
			continue
		default:
			// The lock is held over a read of the local file, which is in the
			// page cache as a rule; a writer that cut it short can't be in
			// between.
			f, err := c.open()
			if err == nil {
				_, err = f.ReadAt(part, at)
			}
			if err != nil {
				if again = !again; again && c.lose(at, e.end, err) {
					continue // what is missing is with the store as well
				}
				return n, damaged(c.layer, err)
			}
			c.read(at, e.end)
		}
		n += len(part)
	}
	c.fs.stats.read(fetched)
	return len(p), nil
}

// read says that somebody has read [off, end), for the sum of what was fetched
// in vain. c.mu is held.
func (c *content) read(off, end int64) {
	if len(c.unread) == 0 {
		return
	}
	if n := c.unread.localBytes(off, end); n > 0 {
		c.fs.stats.fetchUsed.Add(n)
		c.unread = c.unread.cut(off, end)
	}
}

// damaged explains a local file that lacks bytes which the map says it has.
func damaged(l *layer, err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("cache: %s is shorter than it was written: %w", l.path, io.ErrUnexpectedEOF)
	}
	return diskError(err)
}

// charge counts n more local bytes in the room and reports whether they fit.
// The room may evict others for them, so c.mu is let go meanwhile.
func (c *content) charge(n int64) bool {
	if n == 0 {
		return true
	}
	c.enter() // nobody evicts this one
	c.mu.Unlock()
	ok := c.fs.room.reserve(n)
	c.mu.Lock()
	c.leave()
	if ok {
		c.charged += n
	}
	return ok
}

// recount settles what is charged with what is there.
func (c *content) recount() {
	now := c.ext.localBytes(0, c.length) + c.coming
	c.fs.room.release(c.charged - now)
	c.charged = now
}

// seek returns the first offset from off on that is (or is not) in a hole.
func (c *content) seek(off int64, hole bool) (int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	reached := off < c.length
	for off < c.length {
		e, ok := c.ext.at(off, c.length)
		if ok != hole {
			return off, nil
		}
		off = e.end
	}
	if hole && reached {
		return c.length, nil // the end of the file is a hole
	}
	return 0, backends.ErrNoData
}

// differs says that the content is about to be another than the stored one.
// c.mu is held.
func (c *content) differs() {
	c.unshelve()
	c.summed = nil
	c.dirty = true
	c.gen++
}

// settle says that the store now has, as now, what s sealed, so that nothing
// has to be fetched from older objects; clean says that nothing has changed
// since.
func (c *content) settle(now *stored, s *seal, clean bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// What was sealed since and waits for its turn refers to the same objects.
	was := s.lies()
	// What was here when it was sealed may have been lost since, and is taken from
	// an older object: the new one has it as well. lies does not always tell which one
	// that is: it knows of local bytes by their twin, a hint that goes when an earlier
	// attempt is found to have replaced the object (follow), while what was lost before
	// refers to what that has put.
	c.ext = c.ext.stored(was, now).taken(now, s.same)
	c.twin = c.twin.shared(now, s.same, c.length).but(now)
	later := false
	for _, t := range c.seals {
		if t == s {
			later = true
			continue
		}
		t.ext, t.twin = t.ext.stored(was, now), t.twin.stored(was, now)
		if later {
			t.ext = t.ext.taken(now, s.same)
			t.twin = t.twin.shared(now, s.same, t.length)
		}
		t.twin = t.twin.but(now)
	}
	// Who has changed it since may not have said so yet (file.touched).
	if clean && c.gen == s.gen {
		c.dirty = false
	}
	if clean {
		c.kept = notJournaled
		c.sumSlot()
	}
}

// shared returns x with now in the ranges of same, up to limit.
func (x extents) shared(now *stored, same extents, limit int64) extents {
	x = cloneExtents(x)
	for _, e := range same {
		x = x.set(extent{off: e.off, end: min(e.end, limit), src: now, at: e.off})
	}
	return x
}

// taken returns x with what is remote of the ranges of same taken from now.
func (x extents) taken(now *stored, same extents) extents {
	for _, r := range same {
		for _, e := range x.remotes(r.off, r.end) {
			x = x.set(extent{off: e.off, end: e.end, src: now, at: e.off})
		}
	}
	return x
}

// rebased returns x with now in the place of old.
func (x extents) rebased(old, now *stored) extents {
	x = cloneExtents(x)
	for i := range x {
		if x[i].src == old {
			x[i].src = now
		}
	}
	return x
}

// rebase makes what refers to old refer to now, a copy of it.
func (c *content) rebase(old, now *stored) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ext, c.twin = c.ext.rebased(old, now), c.twin.rebased(old, now)
	for _, s := range c.seals {
		s.ext, s.twin = s.ext.rebased(old, now), s.twin.rebased(old, now)
	}
}

// sources returns the objects that bytes of c are in, or of what is to be sent
// of it.
func (c *content) sources() []*stored {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.ext.sources()
	for _, s := range c.seals {
		for _, src := range s.ext.sources() {
			if !slices.Contains(all, src) {
				all = append(all, src)
			}
		}
	}
	return all
}

// fetchAll makes everything local.
func (c *content) fetchAll(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pinned++
	defer func() { c.pinned-- }()
	t := &track{reads: 2, read: c.fs.cfg.ReadAhead} // as one who has read long
	for {
		c.verify(0, c.length)
		parts := c.ext.remotes(0, c.length)
		if len(parts) == 0 {
			return nil
		}
		t.pos = parts[0].off
		c.readAhead(t)
		if _, err := c.fill(ctx, t, nil, parts[0].off, parts[0].end); err != nil {
			return err
		}
		t.ahead = 0
	}
}

// evictClean frees the local bytes of a content that is base and can be
// fetched again, and returns how many; again says that it is in use and may
// be asked later.
func (c *content) evictClean(base *stored) (freed int64, again bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.freed || c.users == 0 && c.charged == 0:
		return 0, false
	case c.users > 0 || c.dirty || c.named || c.kept != notJournaled || len(c.seals) > 0:
		return 0, true
	}
	if c.layer != nil {
		c.layer.drop()
		c.layer = nil
	}
	c.dropFormer(slices.Clone(c.former))
	freed = c.charged
	c.twin, c.unread, c.unchecked, c.summed, c.shelved = nil, nil, nil, nil, shelved{}
	c.ext = whole(base) // a clean content is the object, holes and all
	c.recount()
	return freed, false
}

// recycle makes room for a reader of a content that is larger than the budget:
// of a clean content all that is here can be fetched again. c.mu is held. It
// reports whether there was something.
func (c *content) recycle(base *stored) bool {
	if c.dirty || c.named || c.pinned > 0 || c.freed || c.charged == 0 || c.layer == nil || c.layer.frozen || len(c.seals) > 0 || base == nil {
		return false
	}
	c.enter()
	c.landed(0, maxSize)
	c.leave()
	if c.dirty || c.named || c.pinned > 0 || c.freed || c.layer == nil || c.layer.frozen || len(c.seals) > 0 || c.layer.truncate(0) != nil {
		return false
	}
	c.unshelve()
	c.ext, c.unchecked, c.unread = whole(base), nil, nil
	c.recount()
	return true
}

// free gives everything back. Whoever reads or writes after that gets
// ErrChanged. What the journal may still name stays until that says otherwise
// (unname): the next process would take an empty file for the content, or the slot
// of another one.
func (c *content) free() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.freed {
		return
	}
	c.freed = true
	if l := c.layer; l != nil {
		l.users -= c.users
		l.rest()
		c.former = append(c.former, l)
		c.layer = nil
		c.fs.descriptors.left(c)
	}
	if !c.named {
		c.dropFormer(slices.Clone(c.former))
	}
	c.ext, c.twin, c.unread, c.length, c.unchecked, c.summed, c.shelved = nil, nil, nil, 0, nil, nil, shelved{}
	c.leaveReaders()
	c.recount()
}

// keep puts what is here to the room's kept files: as a second name of the local
// file, which who has it open goes on with.
func (c *content) keep(k Kept) (Kept, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.enter()
	defer c.leave()
	var err error
	if k.Parts, err = c.materialize(); err == nil {
		k, err = c.fs.room.keep(c.layer, k)
	}
	return k, err
}

// materialize makes the local file as long as the content, so that it can be
// read by anybody. Of a content that is not complete it returns which parts are
// here, holes included. c.mu is held and the content in use.
func (c *content) materialize() (parts [][2]int64, err error) {
	c.verify(0, c.length)
	if _, err := c.local(); err != nil {
		return nil, err
	}
	if c.layer.slot != nil {
		if err := c.outgrow(); err != nil {
			return nil, err
		}
	}
	if !c.ext.complete() {
		at := int64(0)
		for _, e := range append(c.ext.remotes(0, c.length), extent{off: c.length, end: c.length}) {
			if e.off > at {
				parts = append(parts, [2]int64{at, e.off})
			}
			at = e.end
		}
	}
	return parts, c.layer.truncate(c.length)
}
