package cache

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/tree"
)

// stored is a version of a file that the store has, or had.
type stored struct {
	version backends.Version
	size    int64
}

// file is what the cache knows of a regular file: its two states are base,
// what the store has, and c, what is here.
type file struct {
	fs   *FS
	node *tree.Node

	// up is held during an upload, a removal and a rename.
	up sync.Mutex

	mu sync.Mutex
	// base is what the store has under the file's name, nil while it has
	// nothing of this file.
	base *stored
	// replaces is the version that the file's name holds in the store although
	// it is of another file: this one was renamed over it and is still to be
	// uploaded.
	replaces backends.Version
	c        *content // nil until somebody opens or changes the file
	// change counts changes, sent is the change up to which the store has
	// them. They differ while there is something to upload.
	change, sent uint64
	handles      int
	// writing counts the handles whose close(2) is still to come, as far as
	// can be told: open for writing, and written since their last Flush if
	// there was one. RELEASE comes too late after close(2) to tell by.
	writing int
	seen    time.Time // when the store last confirmed base
	failed  error     // of the last upload
	tried   uint64    // the change that failed, and when
	triedAt time.Time
	noted   bool // a note of it lies beside the content
	gone    bool // no name leads here any more
	// astray is the path that a file had when the store took its name away:
	// somebody else removed or replaced it. What is written to such a file
	// is still the writer's, and goes beside the name.
	astray string

	// Guarded by FS.mu.
	idle    *list.Element // in FS.idle
	retired bool          // never to be in it again
}

// changedLocked reports whether there is something to upload. f.mu is held.
func (f *file) changedLocked() bool { return f.change != f.sent }

// localLocked reports whether the store's word about the name does not count:
// it is of this machine's making and not there yet. f.mu is held.
func (f *file) localLocked() bool { return f.base == nil || f.changedLocked() }

// content returns the file's content, made if need be. f.mu is held.
func (f *file) content() *content {
	if f.c == nil {
		var size int64
		if f.base != nil {
			size = f.base.size
		}
		f.c = newContent(f.fs.room, f.node.ID(), size, f.fetchFrom(f.base))
	}
	return f.c
}

// fetchFrom returns the function that reads ranges of version b.
//
// It takes no lock on names, since whoever holds one may be waiting for the
// bytes. Instead, a rename moves the name here after the new object is there
// and before the old one goes, so that a fetch which misses has only to look
// whether the name or the version is another one by now.
func (f *file) fetchFrom(b *stored) func(context.Context, []byte, int64) error {
	return func(ctx context.Context, p []byte, off int64) error {
		if b == nil {
			return backends.ErrChanged
		}
		ctx, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		name, version, err := f.where(b)
		for err == nil {
			err = f.fs.readRange(ctx, name, version, p, off)
			if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, backends.ErrChanged) {
				return err
			}
			nameNow, versionNow, gone := f.where(b)
			if gone == nil && nameNow == name && versionNow == version {
				return fmt.Errorf("%s: the version that was open is gone from the store: %w", name, backends.ErrChanged)
			}
			name, version, err = nameNow, versionNow, gone
		}
		return err
	}
}

// where returns the name and version under which the store has b.
func (f *file) where(b *stored) (string, backends.Version, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	name, ok := f.fs.tree.Path(f.node)
	if !ok {
		return "", "", fmt.Errorf("the version that was open is gone from the store: %w", backends.ErrChanged)
	}
	return name, b.version, nil
}

// readRange reads len(p) bytes of one version from the store.
func (c *FS) readRange(ctx context.Context, name string, version backends.Version, p []byte, off int64) error {
	r, _, err := c.store.Open(ctx, name, backends.Range{Off: off, Len: int64(len(p))}, backends.If{Match: version})
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.ReadFull(r, p)
	if errors.Is(err, io.EOF) {
		// Not the end of the file: the object is shorter than the store said.
		err = fmt.Errorf("%s: the store sent less than it announced: %w", name, io.ErrUnexpectedEOF)
	}
	return err
}

// touch records a change of content.
func (f *file) touch() {
	f.mu.Lock()
	f.change++
	if f.gone && f.astray == "" {
		f.sent = f.change // there is no name to upload it to
	} else {
		f.fs.await(f)
	}
	f.mu.Unlock()
	f.node.Touch(time.Now())
}

func (f *file) sizeLocked() int64 {
	switch {
	case f.c != nil:
		return f.c.size()
	case f.base != nil:
		return f.base.size
	}
	return 0
}

// open adds a handle.
func (f *file) open(ctx context.Context, flags int) (*handle, error) {
	f.mu.Lock()
	if f.gone && f.handles == 0 {
		f.mu.Unlock()
		return nil, backends.ErrChanged
	}
	c := f.content()
	f.handles++
	c.use()
	h := &handle{f: f, c: c, write: flags&(os.O_WRONLY|os.O_RDWR) != 0}
	h.setWriting(h.write)
	f.mu.Unlock()
	if flags&os.O_TRUNC != 0 {
		if err := f.truncate(ctx, 0); err != nil {
			_ = h.Close(ctx)
			return nil, err
		}
	}
	return h, nil
}

// truncate changes the size.
func (f *file) truncate(ctx context.Context, size int64) error {
	f.mu.Lock()
	if f.gone && f.handles == 0 {
		f.mu.Unlock()
		return backends.ErrChanged
	}
	c := f.content()
	same := c.size() == size
	c.use()
	f.mu.Unlock()
	defer c.done()
	if same {
		f.node.Touch(time.Now())
		return nil
	}
	if err := c.truncate(ctx, size); err != nil {
		return err
	}
	f.touch()
	return nil
}

// evict frees the local bytes if the store has them, and returns how many;
// again says that there may be some to free later.
func (f *file) evict() (freed int64, again bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.c == nil || f.gone {
		return 0, false
	}
	if f.handles > 0 {
		return 0, false // its close puts it back
	}
	if f.localLocked() {
		return 0, true
	}
	return f.c.evictClean()
}

// detach is called when this machine has taken the last name away: a content
// that nobody has open goes too.
func (f *file) detach() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gone, f.astray, f.failed = true, "", nil
	f.sent = f.change // there is no name to upload it to
	f.dropLocked()
}

// stray is called when the store turns out to have nothing, or something else,
// under the file's name, which was path.
func (f *file) stray(path string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gone, f.astray = true, path
	if f.changedLocked() && f.failed == nil {
		f.failed = backends.ErrChanged // so that the background takes care of it
	}
	f.dropLocked()
}

// dropLocked gives back what a file without a name no longer needs. f.mu is
// held.
func (f *file) dropLocked() {
	if !f.gone {
		return
	}
	f.fs.retire(f)
	if f.astray != "" && f.changedLocked() {
		return // somebody has to hear of it first
	}
	f.fs.settled(f)
	f.fs.unnote(f)
	if f.handles == 0 && f.c != nil {
		f.c.free()
	}
}

// handle is an open file.
type handle struct {
	f     *file
	c     *content
	write bool
	// created: this open made the file, which is a change to be uploaded.
	created bool
	// writing says that f.writing counts this handle; f.mu protects it.
	writing bool
}

var (
	_ backends.File       = (*handle)(nil)
	_ backends.Allocator  = (*handle)(nil)
	_ backends.Seeker     = (*handle)(nil)
	_ backends.PageCacher = (*handle)(nil)
)

// setWriting counts h in f.writing or not. f.mu is held.
func (h *handle) setWriting(on bool) {
	switch {
	case on && !h.writing:
		h.f.writing++
	case !on && h.writing:
		h.f.writing--
	}
	h.writing = on
}

// ReadAt implements [backends.File].
func (h *handle) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	return h.c.readAt(ctx, p, off)
}

// WriteAt implements [backends.File].
func (h *handle) WriteAt(ctx context.Context, p []byte, off int64) (int, error) {
	n, err := h.c.writeAt(ctx, p, off)
	if n > 0 {
		h.f.mu.Lock()
		h.setWriting(true)
		h.f.mu.Unlock()
		h.f.touch()
	}
	return n, err
}

// Flush implements [backends.File]: with durability=close the store has the
// content when close(2) returns.
func (h *handle) Flush(ctx context.Context) error {
	if !h.write && !h.created {
		return nil
	}
	h.f.mu.Lock()
	h.setWriting(false)
	h.f.mu.Unlock()
	return h.closing(ctx)
}

// failedLately is how long a failed upload answers for the next close of the
// same content: every process that inherited a descriptor closes it, and not
// each should wait for an endpoint that is down. The background goes on
// trying; fsync always tries.
const failedLately = 10 * time.Second

// closing uploads what close(2) has to bring to the store.
func (h *handle) closing(ctx context.Context) error {
	f := h.f
	f.mu.Lock()
	failed := f.failed
	again := failed == nil || f.tried != f.change || time.Since(f.triedAt) > failedLately
	f.mu.Unlock()
	if !again {
		return failed
	}
	return f.fs.upload(ctx, f)
}

// Sync implements [backends.File].
func (h *handle) Sync(ctx context.Context) error { return h.f.fs.upload(ctx, h.f) }

// Close implements [backends.File].
func (h *handle) Close(ctx context.Context) error {
	var err error
	if h.write || h.created {
		// Writes through a mapping may come after the last close(2).
		err = h.closing(ctx)
	}
	h.c.done()
	h.f.mu.Lock()
	h.setWriting(false)
	h.f.handles--
	h.f.dropLocked()
	idle := h.f.handles == 0 && !h.f.gone
	h.f.mu.Unlock()
	if idle {
		h.f.fs.rest(h.f)
	}
	return err
}

// Allocate implements [backends.Allocator]. Space can't be reserved in a
// store: what is promised is the size.
func (h *handle) Allocate(ctx context.Context, off, length int64, mode uint32) error {
	if off < 0 || length <= 0 {
		return fs.ErrInvalid
	}
	keep := mode&unix.FALLOC_FL_KEEP_SIZE != 0
	switch mode &^ unix.FALLOC_FL_KEEP_SIZE {
	case 0:
	case unix.FALLOC_FL_PUNCH_HOLE, unix.FALLOC_FL_ZERO_RANGE:
		if mode&unix.FALLOC_FL_PUNCH_HOLE != 0 && !keep {
			return errors.ErrUnsupported
		}
		if err := h.c.punch(ctx, off, off+min(length, maxSize)); err != nil {
			return err
		}
		h.f.touch()
	default:
		return errors.ErrUnsupported
	}
	if keep {
		return nil
	}
	if off > maxSize-length {
		return backends.ErrTooLarge
	}
	grown, err := h.c.grow(ctx, off+length)
	if grown {
		h.f.touch()
	}
	return err
}

// SeekData implements [backends.Seeker].
func (h *handle) SeekData(_ context.Context, off int64) (int64, error) { return h.c.seek(off, false) }

// SeekHole implements [backends.Seeker].
func (h *handle) SeekHole(_ context.Context, off int64) (int64, error) { return h.c.seek(off, true) }

// KeepPages implements [backends.PageCacher]: a node's content changes only
// through the kernel, because a version from elsewhere gets a new node.
func (h *handle) KeepPages() bool { return true }
