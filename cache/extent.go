package cache

import "slices"

// extent is a range [off, end) of a content that has bytes somewhere. What
// lies between extents is a hole.
type extent struct {
	off, end int64
	// remote: the bytes are those of the stored version at the same offset.
	// Otherwise they are in the local file at the same offset.
	remote bool
}

// extents is a content's map: sorted, not overlapping, not empty, neighbours
// of one kind merged.
type extents []extent

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
		e = x[i]
		e.off, e.end = off, min(e.end, limit)
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
			keep = append(keep, extent{x[j].off, off, x[j].remote})
		}
		if x[j].end > end {
			keep = append(keep, extent{end, x[j].end, x[j].remote})
		}
		j++
	}
	return slices.Replace(x, i, j, keep...)
}

// set makes [off, end) an extent of the given kind.
func (x extents) set(off, end int64, remote bool) extents {
	if off >= end {
		return x
	}
	x = x.cut(off, end)
	i := x.find(off)
	n := extent{off, end, remote}
	from, to := i, i
	if i > 0 && x[i-1].end == off && x[i-1].remote == remote {
		n.off = x[i-1].off
		from--
	}
	if i < len(x) && x[i].off == end && x[i].remote == remote {
		n.end = x[i].end
		to++
	}
	return slices.Replace(x, from, to, n)
}

// local returns the number of local bytes.
func (x extents) local() (sum int64) {
	for _, e := range x {
		if !e.remote {
			sum += e.end - e.off
		}
	}
	return sum
}

// complete reports whether no byte has to be fetched.
func (x extents) complete() bool {
	return !slices.ContainsFunc(x, func(e extent) bool { return e.remote })
}

// remotes returns the parts of [off, end) that have to be fetched.
func (x extents) remotes(off, end int64) (parts []extent) {
	for i := x.find(off); i < len(x) && x[i].off < end; i++ {
		if x[i].remote {
			parts = append(parts, extent{max(off, x[i].off), min(end, x[i].end), true})
		}
	}
	return parts
}
