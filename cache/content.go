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
	wanted   bool     // somebody needs its room, or did a moment ago
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
