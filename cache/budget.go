package cache

import (
	"math"
	"slices"
	"sync"
)

// DefaultBudget is the size of a Budget when none is given.
const DefaultBudget = 10 << 30

// Budget limits the bytes of contents on disk of all caches that share it.
// Over the limit clean contents that nobody has open are evicted, of all caches
// first what was used longest ago. What waits to be uploaded never is: writers
// get ENOSPC instead.
type Budget struct {
	limit int64

	// evicting is held by who makes room, and taken before mu: what one has
	// just taken out of a list to evict it, another one would miss there.
	evicting sync.Mutex

	mu    sync.Mutex
	used  int64
	rooms []*room
}

// NewBudget returns a budget of that many bytes; 0 or less is DefaultBudget.
func NewBudget(bytes int64) *Budget {
	if bytes <= 0 {
		bytes = DefaultBudget
	}
	return &Budget{limit: bytes}
}

func (b *Budget) join(r *room) {
	b.mu.Lock()
	b.rooms = append(b.rooms, r)
	b.mu.Unlock()
}

// leave takes r and all that it used out; what it says from then on doesn't
// count.
func (b *Budget) leave(r *room) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= r.used
	r.used, r.left = 0, true
	for i, x := range b.rooms {
		if x == r {
			b.rooms = append(b.rooms[:i:i], b.rooms[i+1:]...)
			return
		}
	}
}

// reserve counts n more bytes of r and reports whether they fit.
func (b *Budget) reserve(r *room, n int64) bool {
	if b.take(r, n) {
		return true
	}
	b.evicting.Lock()
	defer b.evicting.Unlock()
	return b.take(r, n) || b.free(n) && b.take(r, n)
}

// fit evicts what is too much.
func (b *Budget) fit() {
	b.evicting.Lock()
	defer b.evicting.Unlock()
	b.free(0)
}

// free evicts until n more bytes fit, and reports whether they do: of all
// rooms, what was used longest ago. b.evicting is held.
func (b *Budget) free(n int64) bool {
	b.mu.Lock()
	rooms := slices.Clone(b.rooms)
	b.mu.Unlock()
	for {
		b.mu.Lock()
		need := b.used + n - b.limit
		b.mu.Unlock()
		if need <= 0 {
			return true
		}
		// As long as the room that has the oldest is also older than the next.
		var first *room
		oldest, next := int64(math.MaxInt64), int64(math.MaxInt64)
		for _, x := range rooms {
			t, ok := b.oldest(x)
			switch {
			case !ok:
			case first == nil || t < oldest:
				first, oldest, next = x, t, oldest
			default:
				next = min(next, t)
			}
		}
		if first == nil {
			return false
		}
		if first.evict(need, next) == 0 {
			// What it has is in use, or waits for the store.
			rooms = slices.DeleteFunc(rooms, func(x *room) bool { return x == first })
		}
	}
}

// oldest asks a room, unless its cache has ended.
func (b *Budget) oldest(r *room) (used int64, ok bool) {
	b.mu.Lock()
	left := r.left
	b.mu.Unlock()
	if left || r.oldest == nil {
		return 0, false
	}
	return r.oldest()
}

func (b *Budget) take(r *room, n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.left {
		return n <= 0
	}
	if n > 0 && b.used+n > b.limit {
		return false
	}
	b.used += n
	r.used += n
	return true
}
