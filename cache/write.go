package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/agentfs/agentfs/backends"
)

// errFull is why a writer is refused.
var errFull = fmt.Errorf("cache budget is used up by what waits to be uploaded and what is open: %w", backends.ErrNoSpace)

// reserve counts what [off, end) needs more of the budget. While there is no
// room but uploads make some, the writer waits. c.mu is held, and let go.
func (c *content) reserve(ctx context.Context, off, end int64) error {
	for {
		grow := end - off - c.ext.localBytes(off, end)
		if !c.charge(grow) {
			c.enter()
			c.mu.Unlock()
			more := c.fs.makeRoom(ctx, grow)
			c.mu.Lock()
			c.leave()
			if more {
				continue
			}
			return errFull
		}
		// charge let the lock go: a fetch may have made local what we have
		// just counted, or somebody have cut the file.
		over := grow - (end - off - c.ext.localBytes(off, end))
		if over >= 0 {
			c.fs.room.release(over)
			c.charged -= over
			return nil
		}
		c.recount()
	}
}

// writeAt writes p at off. It may have changed the content although it fails:
// what is not in the journal is not written, but it is there.
func (c *content) writeAt(ctx context.Context, p []byte, off int64) (n int, changed bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if off < 0 || off > maxSize-int64(len(p)) {
		return 0, false, backends.ErrTooLarge
	}
	if c.freed {
		return 0, false, backends.ErrChanged
	}
	c.checked()
	end := off + int64(len(p))
	for again := true; again; {
		if err = c.reserve(ctx, off, end); err != nil {
			return 0, false, err
		}
		switch again = c.landing(off, end); {
		case again:
			c.landed(off, end)
		case c.freed:
			err = backends.ErrChanged
		default:
			if again, err = c.apart(); again || err != nil {
				break
			}
			if err = c.lie(max(end, c.length)); err == nil {
				again, err = c.makeWay(ctx, off, end)
			}
		}
		if again {
			c.recount() // what has come meanwhile was counted twice
		}
	}
	var f localFile
	if err == nil {
		f, err = c.open()
	}
	if err != nil {
		c.recount()
		return 0, false, err
	}
	c.differs()
	n, err = f.WriteAt(p, off)
	if n > 0 {
		c.ext = c.ext.local(off, off+int64(n))
		c.length = max(c.length, off+int64(n))
		if jerr := c.journalRow(row{Off: off, End: off + int64(n), Len: c.length}); jerr != nil {
			return 0, true, jerr
		}
	}
	if err != nil {
		c.recount()
	}
	return n, n > 0, diskError(err)
}

// truncate changes the size; what is added is a hole. after is to be called
// once the change is in the journal.
func (c *content) truncate(size int64) (after func(), err error) {
	after = func() {}
	switch {
	case size < 0:
		return after, fs.ErrInvalid
	case size > maxSize:
		return after, backends.ErrTooLarge
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	anew, behind := false, true
	for again := true; again; {
		if behind && c.named && c.kept == notJournaled {
			// The store has it since a moment ago, and the journal still has it as a
			// change, perhaps with a map: what that says is there must be there.
			behind = false
			c.mu.Unlock()
			err := c.fs.catchUpNow()
			c.mu.Lock()
			if err != nil {
				return after, err
			}
		}
		c.landed(size, maxSize)
		if c.freed {
			return after, backends.ErrChanged
		}
		c.checked()
		anew = size == 0 && c.layer != nil && (c.kept == asMap || len(c.seals) > 0 || c.layer.frozen)
		if anew {
			break
		}
		if again, err = c.apart(); err != nil {
			return after, err
		}
		if !again && size < c.length {
			if again, err = c.makeWay(context.Background(), size, c.length); err != nil {
				return after, err
			}
		}
	}
	c.differs()
	switch {
	case anew:
		// A new file: the journal or a seal still needs the old one.
		old := c.layer
		old.users -= c.users
		old.rest()
		c.layer = nil
		c.fs.descriptors.left(c)
		after = func() {
			c.mu.Lock()
			old.drop()
			c.mu.Unlock()
		}
		c.ext, c.length = nil, 0
		c.overwritten(0, maxSize)
		c.recount()
		c.kept = notJournaled // to be written anew, under the name of another file
		return after, nil
	case size < c.length:
		// Of a content with a map the journal comes first: what it says is
		// there must be there.
		was, length := c.ext, c.length
		c.ext = cloneExtents(c.ext).cut(size, c.length)
		c.length = size
		if err := c.journalRow(row{Off: size, End: length, Hole: true, Len: size}); err != nil {
			c.ext, c.length = was, length
			return after, err
		}
		if c.layer != nil {
			if err := c.layer.truncate(size); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return after, err
			}
		}
		c.recount()
	default:
		return after, c.lengthen(size)
	}
	return after, nil
}

// lengthen makes the content size long, which is no less than it is. c.mu is
// held.
func (c *content) lengthen(size int64) error {
	if c.kept == asFile {
		if c.layer == nil {
			c.kept = notJournaled // under the name of another file
		}
		if err := c.lie(size); err != nil {
			return err
		}
		if err := c.layer.truncate(size); err != nil {
			return err
		}
	}
	c.length = size
	return c.journalRow(row{Len: size})
}

// grow makes the content at least size long, and reports whether it was
// shorter.
func (c *content) grow(size int64) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for again := true; again; {
		if c.freed {
			return false, backends.ErrChanged
		}
		if size <= c.length {
			return false, nil
		}
		c.checked()
		var err error
		if again, err = c.apart(); err != nil {
			return false, err
		}
	}
	c.differs()
	return true, c.lengthen(size)
}

// punch makes [off, end) zeros.
func (c *content) punch(off, end int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for again := true; again; {
		c.landed(off, end)
		if c.freed {
			return backends.ErrChanged
		}
		end = min(end, c.length)
		if off >= end {
			return nil
		}
		c.checked()
		var err error
		if again, err = c.apart(); err != nil {
			return err
		}
		if again {
			continue
		}
		if again, err = c.makeWay(context.Background(), off, end); err != nil {
			return err
		}
	}
	c.differs()
	c.ext = c.ext.cut(off, end)
	if err := c.journalRow(row{Off: off, End: end, Hole: true, Len: c.length}); err != nil {
		return err
	}
	// Also where nothing was local: a fetch may have written there and failed.
	if c.layer != nil {
		c.enter()
		defer c.leave()
		if err := c.zero(off, end); err != nil {
			return err
		}
	}
	c.recount()
	return nil
}
