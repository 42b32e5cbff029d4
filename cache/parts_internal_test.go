package cache

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
)

// checkParts says what is wrong with a plan, "" if nothing.
func checkParts(x extents, length int64, lim backends.PartLimits, parts []part) string {
	at, put := int64(0), int64(0)
	for i, p := range parts {
		switch {
		case p.off != at:
			return "a gap or an overlap"
		case p.size() <= 0 || p.size() > lim.MaxSize:
			return "a part that is empty or too large"
		case i < len(parts)-1 && p.size() < lim.MinSize:
			return "a part that is too small"
		}
		at = p.end
		if p.src == nil {
			put += p.size()
			continue
		}
		e, ok := x.at(p.off, length)
		if !ok || e.src != p.src || e.at != p.at || e.end < p.end {
			return "a copy of what is not there"
		}
	}
	if at != length || len(parts) > lim.MaxParts {
		return "not all, or too many"
	}
	must, borders := int64(0), int64(1)
	for off := int64(0); off < length; {
		e, _ := x.at(off, length)
		if !e.remote() {
			must += e.end - e.off
		}
		borders++
		off = e.end
	}
	if len(parts) < lim.MaxParts/2 && put > must+lim.MinSize*2*borders {
		return "more is put than need be"
	}
	return ""
}

// Plans cover the content exactly, keep the limits and send little more than
// what no object has.
func TestPlanParts(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 20_000 {
		lim := backends.PartLimits{MinSize: 1 + r.Int64N(50), MaxParts: 1 + r.IntN(200)}
		lim.Good = lim.MinSize + r.Int64N(100)
		lim.MaxSize = 2*lim.Good + r.Int64N(1000)
		length := 1 + r.Int64N(5000)
		var x extents
		srcs := []*stored{{key: "a", size: 5000}, {key: "b", size: 5000}, nil}
		for range r.IntN(12) {
			off := r.Int64N(length)
			e := extent{off: off, end: min(length, off+1+r.Int64N(1<<uint(r.IntN(13)))), src: srcs[r.IntN(3)]}
			if e.src != nil {
				e.at = r.Int64N(5000)
				if r.IntN(2) == 0 {
					e.at = off
				}
			}
			x = x.set(e)
		}
		parts := planParts(x, length, lim)
		if parts == nil {
			if int64(lim.MaxParts) > 8*(length/lim.MaxSize+1)+int64(2*len(x)) {
				t.Fatalf("no plan for %+v of %d, limits %+v", x, length, lim)
			}
			continue
		}
		if bad := checkParts(x, length, lim, parts); bad != "" {
			t.Fatalf("%s: %+v of %d, limits %+v: %+v", bad, x, length, lim, parts)
		}
	}
}

// An append is one copy and the rest; a change in the middle takes what a part
// needs from beside it.
func TestPlanPartsSends(t *testing.T) {
	const mib = 1 << 20
	lim := backends.PartLimits{MinSize: 5 * mib, Good: 8 * mib, MaxSize: 5 << 30, MaxParts: 10_000}
	base := &stored{size: 32 * mib}
	sent := func(parts []part) (n int64) {
		for _, p := range parts {
			if p.src == nil {
				n += p.size()
			}
		}
		return n
	}
	x := whole(base).local(32*mib, 32*mib+1024)
	if parts := planParts(x, 32*mib+1024, lim); len(parts) != 2 || sent(parts) != 1024 {
		t.Errorf("an append: %+v", parts)
	}
	x = whole(base).local(16*mib, 16*mib+10)
	if parts := planParts(x, 32*mib, lim); len(parts) != 3 || sent(parts) != 5*mib {
		t.Errorf("a change: %+v", parts)
	}
	x = whole(base).local(0, 10)
	if parts := planParts(x, 32*mib, lim); len(parts) != 2 || sent(parts) != 5*mib {
		t.Errorf("a change at the beginning: %+v", parts)
	}
}

// FuzzPlanParts is TestPlanParts with maps that a fuzzer makes.
func FuzzPlanParts(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6}, uint16(100), uint8(5), uint8(10))
	f.Fuzz(func(t *testing.T, m []byte, size uint16, least, most uint8) {
		lim := backends.PartLimits{MinSize: int64(least) + 1, Good: int64(least) + 1 + int64(most), MaxParts: int(most) + 1}
		lim.MaxSize = 2 * lim.Good
		length := int64(size) + 1
		var x extents
		src := &stored{size: 1 << 20}
		for ; len(m) >= 3; m = m[3:] {
			e := extent{off: min(length, int64(m[0])*int64(m[1])), at: int64(m[2])}
			e.end = min(length, e.off+int64(m[2])*8)
			if m[2]%3 != 0 {
				e.src = src
			} else {
				e.at = 0
			}
			x = x.set(e)
		}
		if parts := planParts(x, length, lim); parts != nil {
			if bad := checkParts(x, length, lim, parts); bad != "" {
				t.Fatalf("%s: %+v of %d, limits %+v: %+v", bad, x, length, lim, parts)
			}
		}
	})
}
