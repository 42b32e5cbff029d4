package cache

import (
	"io"
	"os"
	"slices"
	"syscall"

	"github.com/agentfs/agentfs/cache/index"
)

// shelved is what the index has of a content, as far as it has been told.
type shelved struct {
	of    *stored // nil: nothing
	bytes int64
	used  int64
}

// What is to be done for a file's row.
type shelving int

const (
	shelveNothing shelving = iota
	shelvePut              // it is another one
	shelveTouch            // only its time is another one
	shelveLater            // it can't be told yet
)

// shelve returns what the index is to have of f. Files that somebody uses come
// again when they are closed; last says that there is no later.
func (f *file) shelve(last bool) (e index.Entry, what shelving) {
	f.mu.Lock()
	c, base := f.c, f.base
	clean := c != nil && !f.gone && !f.localLocked()
	f.mu.Unlock()
	f.fs.mu.Lock()
	used := f.fs.shelf.inThisMount(f.used)
	f.fs.mu.Unlock()
	if !clean {
		return e, shelveNothing // noted again when it is
	}
	return c.shelve(base, used, last)
}

func (c *content) shelve(base *stored, used int64, last bool) (e index.Entry, what shelving) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.users > 0 && c.users == len(c.inflight):
		return e, shelveLater // only what was read ahead is still on its way
	case c.freed || c.layer == nil || c.dirty || c.charged == 0 || c.users > 0:
		return e, shelveNothing
	case c.named || c.kept != notJournaled || len(c.seals) > 0:
		return e, shelveLater
	case c.wanted && !last:
		c.wanted = false // by then it has gone, or nobody needs its room any more
		return e, shelveLater
	}
	c.wanted = false
	e = index.Entry{File: c.layer.name(), Key: base.key, Version: string(base.version), Size: base.size, Used: used}
	if c.shelved.of == base && c.shelved.bytes == c.charged {
		if used-c.shelved.used < int64(touchAfter) && !last || used <= c.shelved.used {
			return e, shelveNothing
		}
		c.shelved.used = used
		return e, shelveTouch
	}
	if !c.verify(0, c.length) {
		return e, shelveLater
	}
	for _, x := range c.twin {
		if x.src != base || x.at != x.off {
			continue
		}
		for off := x.off; off < x.end; {
			p, ok := c.ext.at(off, x.end)
			if ok && !p.remote() {
				e.Ranges = append(e.Ranges, [2]int64{p.off, p.end})
				e.Bytes += p.end - p.off
			}
			off = p.end
		}
	}
	if len(e.Ranges) == 0 || e.Bytes != c.charged {
		return e, shelveNothing // it has bytes of other objects
	}
	pieces := c.sum(piecesOf(e.Ranges))
	if pieces == nil {
		return e, shelveLater
	}
	for _, p := range pieces {
		e.Sums = append(e.Sums, p.sum)
	}
	if c.layer.slot != nil {
		c.summed, c.unchecked = pieces, slices.Clone(pieces)
	}
	c.shelved = shelved{base, e.Bytes, used}
	c.layer.shelf = c.fs.shelf
	return e, shelvePut
}

// sum returns pieces with the sums that the file has, nil if it has been changed
// meanwhile or is not what it was, or somebody needs its room. The lock is let go for
// each piece.
func (c *content) sum(pieces []piece) []piece {
	l, gen := c.layer, c.gen
	c.enter()
	defer c.leave()
	f, err := c.local()
	if err != nil {
		return nil
	}
	l.fixed++
	defer func() { l.fixed-- }()
	buf := sumBuffers.Get().(*[]byte)
	defer sumBuffers.Put(buf)
	for i, p := range pieces {
		if c.wanted || c.layer != l || c.gen != gen || c.freed || c.ext.localBytes(p.off, p.end) != p.end-p.off {
			return nil
		}
		c.mu.Unlock()
		s, err := sumOf(f, p, *buf)
		c.mu.Lock()
		if err != nil {
			return nil // the next reader finds out
		}
		pieces[i].sum = s
	}
	if c.layer != l || c.gen != gen || c.freed {
		return nil
	}
	return pieces
}

// sumSlot remembers the sum of a content that has just come to be all in a slot,
// and what the store has. c.mu is held.
func (c *content) sumSlot() {
	if c.layer == nil || c.layer.slot == nil || c.dirty || c.length == 0 || len(c.unchecked) > 0 || c.ext.localBytes(0, c.length) != c.length {
		return
	}
	buf := sumBuffers.Get().(*[]byte)
	defer sumBuffers.Put(buf)
	p := piece{off: 0, end: c.length}
	var err error
	if p.sum, err = sumOf(c.layer.slot, p, *buf); err == nil {
		c.summed = []piece{p}
	}
}

// verify compares what of [off, end) comes from an earlier mount with its sums.
// What is not right any more is to be fetched again: then it returns false, and
// the map is another one. c.mu is held, and the content in use or the file
// opened for a moment.
func (c *content) verify(off, end int64) bool {
	if len(c.unchecked) == 0 {
		return true
	}
	c.enter()
	defer c.leave()
	f, err := c.local()
	if err != nil {
		return c.lose(off, end, err)
	}
	buf := sumBuffers.Get().(*[]byte)
	defer sumBuffers.Put(buf)
	right := true
	rest := c.unchecked[:0]
	for _, p := range c.unchecked {
		if p.end <= off || p.off >= end {
			rest = append(rest, p)
			continue
		}
		s, err := sumOf(f, p, *buf)
		if err != nil || s != p.sum {
			c.lose(p.off, p.end, err)
			right = false
		}
	}
	c.unchecked = rest
	return right
}

// checked makes sure that all that is local is right, before it is changed or
// sent. What is large is rather taken from the store again if somebody needs it.
// c.mu is held.
func (c *content) checked() {
	if len(c.unchecked) == 0 {
		return
	}
	if c.charged <= wholeMax {
		c.verify(0, c.length)
		return
	}
	for _, p := range c.unchecked {
		c.lost(p.off, p.end)
	}
	c.unchecked = nil
	c.unshelve()
	c.recount()
}

// unshelve says that the file is no longer what its row says. c.mu is held.
func (c *content) unshelve() {
	if c.shelved.of != nil {
		c.shelved, c.summed = shelved{}, nil
		c.fs.shelf.forget(c.layer.name())
	}
}

// lose says that the local file does not have [off, end) any more, or not
// right; err is what was found, nil for a wrong sum. What an object has is
// fetched from there again; it returns false if that is not all. c.mu is held.
func (c *content) lose(off, end int64, err error) bool {
	all := c.lost(off, end)
	c.summed = nil
	c.unshelve()
	c.recount()
	c.fs.stats.damaged.Add(1)
	c.fs.warn("cache file", "a file of the cache is damaged; what it should have is fetched again", "file", c.layer.path, "from", off, "to", end, "err", err)
	return all
}

// shortened finds out whether somebody has cut the file: what is written behind
// its end would make what it has lost look like zeros. c.mu is held.
func (c *content) shortened() {
	if c.layer.file == nil {
		return // a slot finds out by itself
	}
	end := int64(0)
	for _, e := range c.ext {
		if !e.remote() {
			end = e.end
		}
	}
	if st, err := c.layer.file.Stat(); err == nil && st.Size() < end {
		c.lose(st.Size(), end, io.ErrUnexpectedEOF)
	}
}

// lost is the map's part of lose.
func (c *content) lost(off, end int64) bool {
	all := true
	for off < end {
		e, ok := c.ext.at(off, end)
		if !ok || e.remote() {
			off = e.end
			continue
		}
		t, known := c.twin.at(off, e.end)
		if known {
			c.ext = c.ext.set(t)
		}
		all = all && known
		off = t.end
	}
	return all
}

// stamp is what a file of the room looked like when it was closed last.
type stamp struct {
	size  int64
	mtime int64
}

func stampOf(st os.FileInfo) stamp { return stamp{st.Size(), st.ModTime().UnixNano()} }

// allocated returns how many bytes of the disk a file takes.
func allocated(st os.FileInfo) int64 {
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		return s.Blocks * 512
	}
	return st.Size()
}
