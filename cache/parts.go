package cache

import (
	"math"
	"slices"

	"github.com/agentfs/agentfs/backends"
)

// part is one part of a file that is made of parts: [off, end) of it, copied
// from at in src, or put if that is nil.
type part struct {
	off, end int64
	src      *stored
	at       int64
}

func (p part) size() int64 { return p.end - p.off }

// copyPart is the size above which a part that is copied is divided, so that
// the store copies several at once.
const copyPart = 256 << 20

// planParts divides a content of that map and length into parts such that few
// bytes are put: those that no object has, and where the parts would be smaller
// than the store takes, some beside them. It returns nil if that can't be.
func planParts(x extents, length int64, lim backends.PartLimits) []part {
	most := lim.MaxSize
	if most <= 0 {
		most = math.MaxInt64 / 4
	}
	good := min(max(lim.Good, lim.MinSize, 1), most)
	copied := min(max(good, copyPart), most)
	for least := max(lim.MinSize, 1); ; least *= 2 {
		parts := divide(pieces(x, length, least), least, min(max(good, least), most), min(max(copied, least), most))
		if len(parts) <= lim.MaxParts {
			return parts
		}
		if least > most/4 {
			return nil
		}
	}
}

// pieces returns what is copied and what is put, each in one piece of at least
// least but for the last.
func pieces(x extents, length, least int64) (ps []part) {
	for off := int64(0); off < length; {
		e, _ := x.at(off, length)
		p := part{off: off, end: e.end}
		if e.remote() && (p.size() >= least || p.end == length) {
			p.src, p.at = e.src, e.at
		}
		if n := len(ps); n > 0 && p.src == nil && ps[n-1].src == nil {
			ps[n-1].end = p.end
		} else {
			ps = append(ps, p)
		}
		off = e.end
	}
	for i := 0; i < len(ps)-1; {
		if p := ps[i]; p.src != nil || p.size() >= least {
			i++
			continue
		}
		ps, i = enlarge(ps, i, least)
	}
	return ps
}

// enlarge makes piece i, which is put and smaller than least, larger at the
// cost of those beside it, which are copied: i is not the last. It returns
// where to go on.
func enlarge(ps []part, i int, least int64) ([]part, int) {
	need := least - ps[i].size()
	right := ps[i+1].size() // what can be taken of it
	if i+2 < len(ps) {
		right -= least
	}
	left := int64(0)
	if i > 0 {
		left = ps[i-1].size() - least
	}
	r := min(need, right)
	l := min(need-r, left)
	if l+r < need && i+2 < len(ps) {
		// Not without one of them: the smaller.
		l, r = 0, ps[i+1].size()
		if i > 0 && ps[i-1].size() < r {
			l, r = ps[i-1].size(), 0
		}
	}
	ps[i].off -= l
	ps[i].end += r
	if l > 0 {
		ps[i-1].end -= l
	}
	ps[i+1].off += r
	ps[i+1].at += r
	if ps[i+1].size() == 0 {
		ps = slices.Delete(ps, i+1, i+2)
	}
	if i > 0 && ps[i-1].size() == 0 {
		ps = slices.Delete(ps, i-1, i)
		i--
	}
	for _, j := range []int{i, i - 1} { // two that are put became neighbours
		if j >= 0 && j+1 < len(ps) && ps[j].src == nil && ps[j+1].src == nil {
			ps[j].end = ps[j+1].end
			ps = slices.Delete(ps, j+1, j+2)
			i = j
		}
	}
	return ps, i
}

// divide cuts pieces into parts of about that size, which are no smaller than
// least.
func divide(ps []part, least, put, copied int64) (parts []part) {
	for _, p := range ps {
		size := put
		if p.src != nil {
			size = copied
		}
		n := p.size()
		k := max(1, min((n+size-1)/size, n/least))
		for j := range k {
			from, to := n/k*j+n%k*j/k, n/k*(j+1)+n%k*(j+1)/k
			q := part{off: p.off + from, end: p.off + to, src: p.src}
			if p.src != nil {
				q.at = p.at + from
			}
			parts = append(parts, q)
		}
	}
	return parts
}

// copiedOf returns how many bytes of parts are copied.
func copiedOf(parts []part) (sum int64) {
	for _, p := range parts {
		if p.src != nil {
			sum += p.size()
		}
	}
	return sum
}
