package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
)

// content is the bytes of one file: an extent map over a sparse local file and
// the stored version that it began as.
type content struct {
	room *room
	path string // of the local file, which exists once something is in it
	// fetch reads [off, off+len(p)) of the stored version into p.
	fetch func(ctx context.Context, p []byte, off int64) error

	mu       sync.Mutex
	file     *os.File // open while users > 0 and something is local
	users    int      // handles, uploads and fetches
	length   int64
	ext      extents
	charged  int64         // local bytes counted in the room
	thaw     chan struct{} // not nil while frozen: closed at the end of it
	inflight []*fetching
	next     int64 // where a sequential reader would read next
	edge     int64 // the end of the last fetch
	window   int64 // how much is fetched at once for it
	freed    bool
	dirty    bool // not the stored version any more
	pinned   int  // somebody needs all of it here: nothing is recycled
}

const (
	// blockSize aligns fetches: what a single random read asks for.
	blockSize = 128 << 10
	// maxWindow is the most that one fetch asks for.
	maxWindow = 8 << 20
	// maxSize is the largest content: what S3 holds in one object is less.
	maxSize = 48 << 40
	// wholeMax is the size up to which a file is fetched at once.
	wholeMax = 1 << 20
)

// newContent returns the content of a stored version of that size, or an empty
// one if size is 0.
func newContent(r *room, id uint64, size int64, fetch func(context.Context, []byte, int64) error) *content {
	c := &content{room: r, path: r.contentPath(id), length: size, fetch: fetch}
	c.ext = c.ext.set(0, size, true)
	return c
}

// use keeps the local file open until done.
func (c *content) use() {
	c.mu.Lock()
	c.users++
	c.mu.Unlock()
}

func (c *content) done() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.users--
	if c.users == 0 && c.file != nil {
		c.file.Close()
		c.file = nil
	}
}

// local returns the open local file. c.mu is held and the content in use.
func (c *content) local() (*os.File, error) {
	if c.file == nil {
		f, err := os.OpenFile(c.path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, diskError(err)
		}
		c.file = f
	}
	return c.file, nil
}

// diskError gives the host's refusals the contract's names.
func diskError(err error) error {
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("cache: %w", backends.ErrNoSpace)
	case errors.Is(err, unix.EFBIG):
		return backends.ErrTooLarge
	}
	return fmt.Errorf("cache: %w", err)
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
func (c *content) readAt(ctx context.Context, p []byte, off int64) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if off >= c.length {
		return 0, nil
	}
	p = p[:min(int64(len(p)), c.length-off)]
	for n := 0; n < len(p); {
		at := off + int64(n)
		if at >= c.length { // truncated while we waited
			return n, nil
		}
		e, ok := c.ext.at(at, min(off+int64(len(p)), c.length))
		part := p[n : n+int(e.end-e.off)]
		switch {
		case !ok:
			clear(part)
		case e.remote:
			if err := c.fill(ctx, at, e.end); err != nil {
				return n, err
			}
			continue
		default:
			f, err := c.local()
			if err != nil {
				return n, err
			}
			// The lock is held over a read of the local file, which is in the
			// page cache as a rule; a writer that cut it short can't be in
			// between.
			if _, err := f.ReadAt(part, at); err != nil {
				return n, c.damaged(err)
			}
		}
		n += len(part)
	}
	c.next = off + int64(len(p))
	return len(p), nil
}

// damaged explains a local file that lacks bytes which the map says it has.
func (c *content) damaged(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("cache: %s is shorter than it was written: %w", c.path, io.ErrUnexpectedEOF)
	}
	return diskError(err)
}

// awaitThaw waits until no snapshot is being sent. c.mu is held.
func (c *content) awaitThaw(ctx context.Context) error {
	for c.thaw != nil {
		thaw := c.thaw
		c.mu.Unlock()
		var err error
		select {
		case <-thaw:
		case <-ctx.Done():
			err = ctx.Err()
		}
		c.mu.Lock()
		if err != nil {
			return err
		}
	}
	if c.freed {
		return backends.ErrChanged
	}
	return nil
}

// writeAt writes p at off.
func (c *content) writeAt(ctx context.Context, p []byte, off int64) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if off < 0 || off > maxSize-int64(len(p)) {
		return 0, backends.ErrTooLarge
	}
	end := off + int64(len(p))
	for {
		if err := c.awaitThaw(ctx); err != nil {
			return 0, err
		}
		grow := int64(len(p)) - c.localIn(off, end)
		if !c.charge(grow) {
			return 0, fmt.Errorf("cache budget is used up by what waits to be uploaded and what is open: %w", backends.ErrNoSpace)
		}
		// charge let the lock go: a snapshot may have begun, and a fetch may
		// have made local what we have just counted.
		over := grow - (int64(len(p)) - c.localIn(off, end))
		c.room.release(over)
		c.charged -= over
		if c.thaw == nil && !c.freed {
			break
		}
		c.recount()
	}
	f, err := c.local()
	if err != nil {
		c.recount()
		return 0, err
	}
	c.dirty = true
	n, err := f.WriteAt(p, off)
	if n > 0 {
		c.ext = c.ext.set(off, off+int64(n), false)
		c.length = max(c.length, off+int64(n))
	}
	if err != nil {
		c.recount()
		return n, diskError(err)
	}
	return n, nil
}

// localIn returns how many bytes of [off, end) are local.
func (c *content) localIn(off, end int64) (sum int64) {
	for i := c.ext.find(off); i < len(c.ext) && c.ext[i].off < end; i++ {
		if e := c.ext[i]; !e.remote {
			sum += min(end, e.end) - max(off, e.off)
		}
	}
	return sum
}

// charge counts n more local bytes in the room and reports whether they fit.
// The room may evict others for them, so c.mu is let go meanwhile.
func (c *content) charge(n int64) bool {
	if n == 0 {
		return true
	}
	c.users++ // nobody evicts this one
	c.mu.Unlock()
	ok := c.room.reserve(n)
	c.mu.Lock()
	c.users--
	if ok {
		c.charged += n
	}
	return ok
}

// recount settles what is charged with what is there.
func (c *content) recount() {
	now := c.ext.local()
	c.room.release(c.charged - now)
	c.charged = now
}

// truncate changes the size; what is added is a hole.
func (c *content) truncate(ctx context.Context, size int64) error {
	switch {
	case size < 0:
		return fs.ErrInvalid
	case size > maxSize:
		return backends.ErrTooLarge
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.awaitThaw(ctx); err != nil {
		return err
	}
	c.dirty = true
	if size < c.length {
		if len(c.ext) > 0 && c.file != nil || c.charged > 0 {
			if err := os.Truncate(c.path, size); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return diskError(err)
			}
		}
		c.ext = c.ext.cut(size, c.length)
		c.recount()
	}
	c.length = size
	return nil
}

// grow makes the content at least size long, and reports whether it was
// shorter.
func (c *content) grow(ctx context.Context, size int64) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.awaitThaw(ctx); err != nil {
		return false, err
	}
	if size <= c.length {
		return false, nil
	}
	c.dirty = true
	c.length = size
	return true, nil
}

// punch makes [off, end) zeros.
func (c *content) punch(ctx context.Context, off, end int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.awaitThaw(ctx); err != nil {
		return err
	}
	end = min(end, c.length)
	if off >= end {
		return nil
	}
	c.dirty = true
	c.ext = c.ext.cut(off, end)
	if c.charged > 0 {
		f, err := c.local()
		if err != nil {
			return err
		}
		// Only to give the space back: the map says already that it is a hole.
		_ = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, end-off)
	}
	c.recount()
	return nil
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

// freeze makes writers wait until the function it returns is called, so that
// what is sent to the store is a content that the file really had.
func (c *content) freeze() (thaw func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch := make(chan struct{})
	c.thaw = ch
	return func() {
		c.mu.Lock()
		c.thaw = nil
		c.mu.Unlock()
		close(ch)
	}
}

// settle says that the stored version now holds what is here, so that nothing
// has to be fetched from an older one; clean says that nothing has changed
// since it was sent.
func (c *content) settle(fetch func(context.Context, []byte, int64) error, clean bool) {
	c.mu.Lock()
	c.fetch = fetch
	c.dirty = c.dirty && !clean
	c.mu.Unlock()
}

// fetchAll makes everything local.
func (c *content) fetchAll(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pinned++
	defer func() { c.pinned-- }()
	for {
		parts := c.ext.remotes(0, c.length)
		if len(parts) == 0 {
			return nil
		}
		c.window = maxWindow
		c.next = parts[0].off
		if err := c.fill(ctx, parts[0].off, parts[0].end); err != nil {
			return err
		}
	}
}

// evictClean frees the local bytes of a content that can be fetched again and
// returns how many; again says that it is in use and may be asked later.
func (c *content) evictClean() (freed int64, again bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.freed || c.users == 0 && c.charged == 0 {
		return 0, false
	}
	if c.users > 0 {
		return 0, true
	}
	if err := os.Remove(c.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, true
	}
	freed = c.charged
	// A clean content is the stored version, holes and all.
	c.ext = extents(nil).set(0, c.length, true)
	c.recount()
	return freed, false
}

// recycle makes room for a reader of a content that is larger than the budget:
// of a clean content all that is here can be fetched again. c.mu is held. It
// reports whether there was something.
func (c *content) recycle() bool {
	if c.dirty || c.pinned > 0 || c.freed || c.charged == 0 || c.file == nil {
		return false
	}
	if err := c.file.Truncate(0); err != nil {
		return false
	}
	c.ext = extents(nil).set(0, c.length, true)
	c.recount()
	return true
}

// free gives everything back. Whoever reads or writes after that gets
// ErrChanged.
func (c *content) free() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.freed {
		return
	}
	c.freed = true
	_ = os.Remove(c.path)
	c.ext, c.length = nil, 0
	c.recount()
}

// bytesOf is a content as an io.ReaderAt.
type bytesOf struct {
	ctx context.Context
	c   *content
}

// ReadAt implements io.ReaderAt.
func (b bytesOf) ReadAt(p []byte, off int64) (int, error) {
	n, err := b.c.readAt(b.ctx, p, off)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

// materialize makes the local file as long as the content, so that it can be
// read by anybody. Of a content that is not complete it returns which parts
// are here, holes included.
func (c *content) materialize() (parts [][2]int64, err error) {
	c.use()
	defer c.done()
	c.mu.Lock()
	defer c.mu.Unlock()
	f, err := c.local()
	if err != nil {
		return nil, err
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
	return parts, f.Truncate(c.length)
}
