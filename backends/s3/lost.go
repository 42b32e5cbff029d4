package s3

import (
	"crypto/rand"
	"slices"
	"sync"
)

// newOperation returns the id of one change.
func newOperation() string { return rand.Text() }

// lost remembers the operation ids of writes whose outcome nobody knows: the
// endpoint went away before it answered. When the caller tries again and the
// condition fails, an object with such an id is our own. What earlier processes
// sent, the caller has to say: [backends.PutOptions.Earlier].
type lost struct {
	mu  sync.Mutex
	ops map[string][]string // by key
}

// maxLost bounds the keys remembered, maxLostOps the ids of each.
const (
	maxLost    = 4096
	maxLostOps = 16
)

func newLost() *lost { return &lost{ops: map[string][]string{}} }

func (l *lost) add(key, op string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ops, ok := l.ops[key]
	if slices.Contains(ops, op) {
		return
	}
	if !ok && len(l.ops) >= maxLost {
		for k := range l.ops {
			delete(l.ops, k)
			break
		}
	}
	if len(ops) >= maxLostOps {
		ops = ops[1:]
	}
	l.ops[key] = append(ops, op)
}

func (l *lost) any(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.ops[key]) > 0
}

func (l *lost) has(key, op string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Contains(l.ops[key], op)
}

func (l *lost) forget(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.ops, key)
}
