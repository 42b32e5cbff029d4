package cache

import "slices"

// extent is a range [off, end) of a content that has bytes somewhere. What
// lies between extents is a hole.
type extent struct {
	off, end int64
	// src is the object that has the bytes, from its offset at on. nil: they
	// are in the local file, at the same offset.
	src *stored
	at  int64
}

func (e extent) remote() bool { return e.src != nil }

// from returns the part of e from off on.
func (e extent) from(off int64) extent {
	if e.src != nil {
		e.at += off - e.off
	}
	e.off = off
	return e
}

// follows reports whether n goes on where e ends, in the same place.
func (e extent) follows(n extent) bool {
	return e.end == n.off && e.src == n.src && (e.src == nil || e.at+(e.end-e.off) == n.at)
}

// extents is a content's map: sorted, not overlapping, not empty, neighbours
// of one kind merged.
type extents []extent

// whole is the map of a content that is all of an object.
func whole(s *stored) extents {
	if s == nil || s.size == 0 {
		return nil
	}
	return extents{{off: 0, end: s.size, src: s}}
}

// find returns the index of the first extent that ends after off.
func (x extents) find(off int64) int {
	i, _ := slices.BinarySearchFunc(x, off, func(e extent, off int64) int {
		if e.end <= off {
			return -1
		}
		return 1
	})
	return i
}

// at returns what is at off: the part of it from off on, and whether it is an
// extent. A hole ends where the next extent begins, or at limit.
func (x extents) at(off, limit int64) (e extent, ok bool) {
	i := x.find(off)
	if i < len(x) && x[i].off <= off {
		e = x[i].from(off)
		e.end = min(e.end, limit)
		return e, true
	}
	e = extent{off: off, end: limit}
	if i < len(x) {
		e.end = min(limit, x[i].off)
	}
	return e, false
}

// cut makes [off, end) a hole.
func (x extents) cut(off, end int64) extents {
	if off >= end {
		return x
	}
	i := x.find(off)
	j := i
	var keep []extent
	for j < len(x) && x[j].off < end {
		if x[j].off < off {
			left := x[j]
			left.end = off
			keep = append(keep, left)
		}
		if x[j].end > end {
			keep = append(keep, x[j].from(end))
		}
		j++
	}
	return slices.Replace(x, i, j, keep...)
}

// set puts n in, over whatever is there.
func (x extents) set(n extent) extents {
	if n.off >= n.end {
		return x
	}
	x = x.cut(n.off, n.end)
	i := x.find(n.off)
	from, to := i, i
	if i > 0 && x[i-1].follows(n) {
		left := x[i-1]
		left.end = n.end
		n = left
		from--
	}
	if i < len(x) && n.follows(x[i]) {
		n.end = x[i].end
		to++
	}
	return slices.Replace(x, from, to, n)
}

// local makes [off, end) bytes of the local file.
func (x extents) local(off, end int64) extents { return x.set(extent{off: off, end: end}) }

// localBytes returns the number of local bytes in [off, end).
func (x extents) localBytes(off, end int64) (sum int64) {
	for i := x.find(off); i < len(x) && x[i].off < end; i++ {
		if !x[i].remote() {
			sum += min(end, x[i].end) - max(off, x[i].off)
		}
	}
	return sum
}

// complete reports whether no byte has to be fetched.
func (x extents) complete() bool { return !slices.ContainsFunc(x, extent.remote) }

// remotes returns the parts of [off, end) that have to be fetched.
func (x extents) remotes(off, end int64) (parts []extent) {
	for i := x.find(off); i < len(x) && x[i].off < end; i++ {
		if x[i].remote() {
			e := x[i].from(max(off, x[i].off))
			e.end = min(end, e.end)
			parts = append(parts, e)
		}
	}
	return parts
}

// sources returns the objects that bytes of x are in.
func (x extents) sources() (all []*stored) {
	for _, e := range x {
		if e.src != nil && !slices.Contains(all, e.src) {
			all = append(all, e.src)
		}
	}
	return all
}

// stored returns x when the object now has what was describes: remote bytes of
// x that are the same ones are taken from there.
func (x extents) stored(was extents, now *stored) (out extents) {
	for _, e := range x {
		for off := e.off; off < e.end; {
			part := e.from(off)
			w, ok := was.at(off, e.end)
			part.end, off = w.end, w.end
			if ok && part.remote() && w.src == part.src && w.at == part.at {
				part.src, part.at = now, part.off
			}
			out = out.set(part)
		}
	}
	return out
}

// but returns x without what lies in older objects in the place of now.
func (x extents) but(now *stored) (out extents) {
	for _, e := range x {
		if e.src == nil || e.src == now || e.src.key != now.key {
			out = append(out, e)
		}
	}
	return out
}

// of returns the parts of x that lie in an object.
func (x extents) of(s *stored) (out extents) {
	for _, e := range x {
		if e.src == s {
			out = append(out, e)
		}
	}
	return out
}
