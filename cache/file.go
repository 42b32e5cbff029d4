package cache

import (
	"container/list"
	"context"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/tree"
)

// stored is one object of the store: a version under a key. It never changes;
// an object that was copied elsewhere is another one.
type stored struct {
	key     string
	version backends.Version
	size    int64
	// held has the files that need its bytes and are not the file under its
	// key: renamed ones, copies, open ones without a name. It is neither
	// replaced nor removed before they have them elsewhere. Guarded by FS.ns.
	held map[*file]struct{}
}

// versionOf returns the version of s, "" if there is nothing.
func (s *stored) versionOf() backends.Version {
	if s == nil {
		return ""
	}
	return s.version
}

// file is what the cache knows of a regular file: its two states are base,
// what the store has, and c, what is here.
type file struct {
	fs   *FS
	node *tree.Node

	mu sync.Mutex
	// base is what the store has of this file, nil while it has nothing. Its
	// key is not the file's path once the file was renamed.
	base *stored
	c    *content // nil until somebody opens or changes the file
	// change counts changes, sent is the change up to which the store has
	// them. They differ while there is something to upload.
	change, sent uint64
	handles      int
	// writing counts the handles whose close(2) is still to come, as far as
	// can be told: open for writing, and written since their last Flush if
	// there was one. RELEASE comes too late after close(2) to tell by.
	writing int
	sealed  *seal     // what the last close saw, if it is still to be sent
	syncing int       // how many wait in an fsync
	wanted  uint64    // up to which change the last of them
	seen    time.Time // when the store last confirmed base
	looked  uint32    // when it was last looked up, in s since 1970
	pending bool      // it differs from what the store has under its name
	report  *report   // of an upload that failed; nil if none did
	gone    bool      // no name leads here any more
	// replaced: by a rename; then it lingers for a moment, and can be opened.
	replaced, lingers bool
	// astray is the path that a file had when the store took its name away:
	// somebody else removed or replaced it. What is written to such a file
	// is still the writer's, and goes beside the name.
	astray string

	guess atomic.Pointer[guess] // of a walk that may come to it; changed under walks.mu

	job *job // not nil while pending; changed under FS.ns as well

	// Guarded by FS.ns.
	attrs    ownAttrs
	recorded bool      // the journal has a record of it
	sending  *sending  // an attempt under way
	ops      []attempt // whose outcome nobody knows
	holds    []*stored // whose held has this file

	// Guarded by FS.mu.
	used    int64         // when it was closed last, in ns since 1970
	idle    *list.Element // in FS.idle
	retired bool          // never to be in it again
}

// changedLocked reports whether the store lacks a content. f.mu is held.
func (f *file) changedLocked() bool { return f.change != f.sent }

// localLocked reports whether the store's word about the name does not count:
// it is of this machine's making and not there yet. f.mu is held.
func (f *file) localLocked() bool { return f.pending || f.base == nil || f.changedLocked() }

// content returns the file's content, made if need be. f.mu is held.
func (f *file) content() *content {
	if f.c == nil {
		f.c = newContent(f.fs, f.node.ID(), f.base)
	}
	return f.c
}

// touched records a change of content that has just been made.
func (f *file) touched() error {
	f.attrs.mtime.Store(false)
	f.node.Touch(time.Now())
	f.mu.Lock()
	f.change++
	c := f.content()
	if f.gone && f.astray == "" {
		f.sent = f.change // there is no name to upload it to
		f.mu.Unlock()
		return nil
	}
	known := f.pending && c.inJournal()
	f.mu.Unlock()
	if known {
		return nil
	}
	return f.fs.dirtied(f)
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
func (f *file) open(flags int) (*handle, error) {
	f.mu.Lock()
	if f.gone && f.handles == 0 && !f.lingers {
		f.mu.Unlock()
		return nil, backends.ErrChanged
	}
	c := f.content()
	f.handles++
	c.use()
	h := &handle{f: f, c: c, write: flags&(os.O_WRONLY|os.O_RDWR) != 0, heard: f.openedLocked()}
	h.setWriting(h.write)
	f.mu.Unlock()
	if flags&os.O_TRUNC != 0 {
		if err := f.truncate(0); err != nil {
			_ = h.Close(context.Background())
			return nil, err
		}
	}
	return h, nil
}

// truncate changes the size.
func (f *file) truncate(size int64) error {
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
	after, err := c.truncate(size)
	if err == nil {
		err = f.touched()
	}
	if err == nil {
		after() // else the journal still names what it would remove
	}
	return err
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
	return f.c.evictClean(f.base)
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
	f.sealed.release()
	f.sealed = nil
	if f.handles > 0 || f.c == nil {
		return
	}
	if !f.replaced || f.lingers || f.c.size() > lingerSize || !f.c.complete() {
		f.lingers = false
		f.c.free()
		return
	}
	f.lingers = true
	time.AfterFunc(linger, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.lingers = false
		if f.handles == 0 {
			f.c.free()
		}
	})
}

// A file that was just replaced can be opened for as long as linger: the kernel
// has looked up its name, and the open itself is still to come. It asks once
// more, but a name that is replaced again and again would fail that, too. What
// is larger than lingerSize is not replaced so often.
const (
	linger     = time.Second
	lingerSize = 1 << 20
)
