package cache

import "sync"

// DefaultBudget is the size of a Budget when none is given.
const DefaultBudget = 10 << 30

// Budget limits the bytes of contents on disk of all caches that share it.
// Over the limit clean contents that nobody has open are evicted, first those
// of the cache that needs the space. What waits to be uploaded never is:
// writers get ENOSPC instead.
type Budget struct {
	limit int64

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
	b.mu.Lock()
	rooms := append([]*room{r}, b.rooms...)
	b.mu.Unlock()
	for _, x := range rooms {
		b.mu.Lock()
		need := b.used + n - b.limit
		left := x.left
		b.mu.Unlock()
		if need > 0 && x.evict != nil && !left {
			x.evict(need)
		}
		if b.take(r, n) {
			return true
		}
	}
	return false
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
