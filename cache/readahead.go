package cache

// Reading ahead within a file. Where readers are is guessed from what they ask
// for: the kernel passes on neither lseek(2) nor which of its requests belong
// together. It splits what a program reads into requests of at most 1 MiB and
// reads ahead itself, two requests at most, so what comes here is large and
// regular if a program reads in sequence, and exactly what was asked for if not.

const (
	// fetchAlign aligns what is fetched: the kernel's pages.
	fetchAlign = 4 << 10
	// blockSize is what a read of less than that fetches, aligned to it. With
	// 25 ms for a first byte and 90 MB/s after that it costs 3 % more time than
	// a page, and what is near is often read next.
	blockSize = 64 << 10
	// largeRead is the size from which on a read may be one of several that
	// the kernel has made of one.
	largeRead = 128 << 10
	// reorder is how far requests of one reader may overtake each other: the
	// kernel has two of 1 MiB under way.
	reorder = 2 << 20
	// aheadFactor is how much is read ahead for each byte that was read in
	// sequence. Twice is common; but the first megabytes decide how long a
	// file of a few hundred takes.
	aheadFactor = 4
	// minPart and maxPart bound what one of several requests side by side asks
	// for, aheadParts is how many of them make a window.
	minPart    = 1 << 20
	maxPart    = 8 << 20
	aheadParts = 16
	// headStream is what the first request asks for when a file is read from
	// its beginning in large pieces. It is read only as far as somebody wants.
	headStream = 2 << 20
	// rangeStream is the same somewhere in a file: a program that reads ranges
	// (a column of a Parquet file) gets each of up to that in one request.
	rangeStream = 8 << 20
	// maxTracks is how many readers of one file are told apart.
	maxTracks = 8

	// DefaultReadAhead is how far ahead of one reader is read by default.
	DefaultReadAhead = 64 << 20
	// DefaultFetches is how many requests for contents are under way by default.
	DefaultFetches = 64
)

// track is one reader of a content, as far as can be told: a place that moves
// forward. Guarded by content.mu.
type track struct {
	start, pos int64 // it has read [start, pos), or most of it
	read       int64 // bytes in sequence; 0 after a collapse
	reads      int
	ahead      int64  // what is before it was fetched, or is on its way
	used       uint64 // content.clock when it last read
}

// reader is one handle's view of a content. Guarded by content.mu.
type reader struct{ last *track }

// follow says that r reads [off, end), and returns the track that this belongs
// to. c.mu is held.
func (c *content) follow(r *reader, off, end int64) *track {
	c.clock++
	t := c.trackAt(off, end)
	if t == nil {
		t = c.newTrack(off)
		// r has gone elsewhere. Another handle may go on where it was, or
		// another thread: then it comes back, and this begins anew.
		if r.last != nil {
			c.collapse(r.last)
		}
	}
	t.used = c.clock
	t.reads++
	if end > t.pos {
		t.read += end - max(off, t.pos)
		t.pos = end
	} else if end == t.start {
		t.read += end - off
	}
	t.start = min(t.start, off)
	r.last = t
	return t
}

// trackAt returns the track that a read of [off, end) continues, nil if there
// is none. c.mu is held.
func (c *content) trackAt(off, end int64) (found *track) {
	for _, t := range c.tracks {
		slack := int64(0)
		if t.read >= minPart {
			slack = reorder
		}
		switch {
		case off == t.pos, end == t.start:
			return t
		case off >= max(t.start, t.pos-reorder) && off < t.pos+slack:
			found = t
		}
	}
	return found
}

// newTrack makes a track, in the place of the one that was used least recently
// if there are many. c.mu is held.
func (c *content) newTrack(off int64) *track {
	t := &track{start: off, pos: off, ahead: off}
	if len(c.tracks) < maxTracks {
		c.tracks = append(c.tracks, t)
		return t
	}
	oldest := 0
	for i, u := range c.tracks {
		if u.used < c.tracks[oldest].used {
			oldest = i
		}
	}
	c.collapse(c.tracks[oldest])
	c.tracks[oldest] = t
	return t
}

// collapse ends reading ahead for t, which begins anew if it reads on. A
// request that is only read as far as it is wanted may stay for a moment. c.mu
// is held.
func (c *content) collapse(t *track) {
	t.read, t.ahead = 0, t.pos
	for _, f := range c.inflight {
		if f.track == t && f.pos < f.limit {
			f.abandon()
		}
	}
}

// leaveReaders ends reading ahead for everybody: nobody has the file open. c.mu
// is held.
func (c *content) leaveReaders() {
	for _, f := range c.inflight {
		if f.track != nil && c.pinned == 0 {
			f.abandon()
		}
	}
	c.tracks = nil
}

// fromHead reports whether t reads the file from its beginning.
func (t *track) fromHead() bool { return t.start == 0 }

// window returns how far beyond t's place requests are made side by side; 0 if
// it has not shown yet that it reads on. Somewhere in a file one request that
// is read as far as it is wanted comes first, because what looks like a
// sequence may be one range.
func (c *content) window(t *track) int64 {
	if t.reads < 2 || t.read < minPart || !t.fromHead() && t.read < rangeStream-minPart {
		return 0
	}
	return min(aheadFactor*t.read, c.fs.cfg.ReadAhead)
}

// partOf returns how much one of the requests of a window asks for.
func partOf(window int64) int64 {
	return min(max(window/aheadParts, minPart), maxPart) / fetchAlign * fetchAlign
}

// readAhead begins what t will want soon. c.mu is held.
func (c *content) readAhead(t *track) {
	w := c.window(t)
	goal := min(t.pos+w, c.length)
	part := partOf(w)
	at := max(t.ahead, t.pos)
	for w > 0 && at < goal {
		e, ok := c.ext.at(at, c.length)
		if !ok || !e.remote() {
			at = e.end
			continue
		}
		if f := c.covering(at); f != nil {
			// The one request from before there was a window ends soon:
			// others are faster side by side.
			if cut := max(f.limit, f.pos+minPart); f.end-cut >= minPart {
				f.end = cut
			}
			f.allow(f.end)
			at = f.end
			continue
		}
		e = c.piece(at, at, min(at+part, e.end), nil)
		if e.end < c.length && e.end > goal && e.end-e.off == part {
			break // it is not time yet
		}
		if !c.fs.places.ahead() {
			break
		}
		c.begin(e, e.end, t, placed)
		at = e.end
	}
	t.ahead = at
}

// demand begins to fetch what t asks for, [off, end), with as much behind it as
// it is likely to want. c.mu is held.
func (c *content) demand(t *track, off, end int64) *fetching {
	lo, hi := off, end
	how := atOnce
	w := int64(0)
	if t != nil {
		w = c.window(t)
	}
	switch size := end - off; {
	case c.length <= wholeMax:
		lo, hi = 0, c.length
	case t == nil:
		hi = off + maxPart
	case w > 0:
		hi = max(end, off+partOf(w))
	case t.fromHead() && off == 0 && size < largeRead:
		hi = largeRead
	case t.fromHead() && (t.reads > 1 || off == 0):
		hi = max(end, off+headStream)
	case t.reads > 1 && t.read > size:
		hi = max(end, off+rangeStream)
	case size < blockSize:
		lo, hi = off/blockSize*blockSize, (end+blockSize-1)/blockSize*blockSize
	default:
		lo, hi = off/fetchAlign*fetchAlign, (end+fetchAlign-1)/fetchAlign*fetchAlign
		if size >= largeRead {
			how = gathering
		}
	}
	limit := min(hi, c.length)
	switch {
	case c.length <= wholeMax || t == nil || w > 0:
	case t.fromHead() && off == 0:
		limit = min(limit, max(aheadFactor*(end-off), largeRead))
	case t.reads > 1:
		limit = min(limit, max(end, t.pos))
	}
	return c.begin(c.piece(off, lo, min(hi, c.length), nil), limit, t, how)
}

// gathered makes [off, end) part of a request that is about to be sent, if
// there is one beside it: the kernel has made several reads of one large one.
// c.mu is held.
func (c *content) gathered(off, end int64) *fetching {
	for _, f := range c.inflight {
		if f.manner != gathering || f.sent || off != f.end && off != f.limit && end != f.off {
			continue
		}
		lo, hi := min(off, f.off), max(end, f.limit)
		e := c.piece(off, lo, min(lo+max(rangeStream, hi-lo), c.length), f)
		if e.src != f.src || e.off != lo || e.end < hi || e.at-e.off != f.at-f.off {
			continue
		}
		f.off, f.pos, f.end, f.at = lo, lo, e.end, e.at
		f.limit = hi
		return f
	}
	return nil
}
