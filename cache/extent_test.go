package cache

import (
	"math/rand/v2"
	"testing"
)

// TestExtentsAgainstBytes compares the map with a byte per position.
func TestExtentsAgainstBytes(t *testing.T) {
	const size = 64
	object := &stored{key: "object"}
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		var x extents
		var model [size]byte // 0 hole, 1 local, 2 remote
		for step := range 60 {
			off := r.Int64N(size)
			end := off + r.Int64N(size-off+1)
			kind := byte(r.IntN(3))
			if kind == 0 {
				x = x.cut(off, end)
			} else {
				n := extent{off: off, end: end}
				if kind == 2 {
					n.src, n.at = object, off+1000
				}
				x = x.set(n)
			}
			for i := off; i < end; i++ {
				model[i] = kind
			}
			var got [size]byte
			for i, e := range x {
				if e.off >= e.end {
					t.Fatalf("seed %d step %d: empty extent in %v", seed, step, x)
				}
				if i > 0 && (x[i-1].end > e.off || x[i-1].end == e.off && x[i-1].follows(e)) {
					t.Fatalf("seed %d step %d: overlap or unmerged neighbours in %v", seed, step, x)
				}
				for p := e.off; p < e.end; p++ {
					got[p] = 1
					if e.remote() && e.at != e.off+1000 {
						t.Fatalf("seed %d step %d: %v refers to other bytes", seed, step, e)
					}
					if e.remote() {
						got[p] = 2
					}
				}
			}
			if got != model {
				t.Fatalf("seed %d step %d:\n got %v\nwant %v", seed, step, got, model)
			}
			for off := range int64(size) {
				e, ok := x.at(off, size)
				if ok != (model[off] != 0) || ok && e.remote() != (model[off] == 2) || e.off != off || e.end <= off {
					t.Fatalf("seed %d step %d: at(%d) = %v, %v in %v", seed, step, off, e, ok, x)
				}
				for p := e.off; p < e.end; p++ {
					if model[p] != model[off] {
						t.Fatalf("seed %d step %d: at(%d) = %v covers another kind in %v", seed, step, off, e, x)
					}
				}
			}
		}
	}
}
