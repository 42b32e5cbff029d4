package cache

import (
	"context"
	"sync"
)

// places bound the requests for contents that are under way in a cache. Who
// reads ahead takes three quarters of them at most, so that a reader who needs
// something now finds one.
type places struct{ all, forAhead chan struct{} }

func newPlaces(n int) places {
	return places{all: make(chan struct{}, n), forAhead: make(chan struct{}, max(3*n/4, 1))}
}

// wait takes a place.
func (p places) wait(ctx context.Context) error {
	select {
	case p.all <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ahead takes a place for reading ahead if there is one.
func (p places) ahead() bool {
	select {
	case p.forAhead <- struct{}{}:
	default:
		return false
	}
	select {
	case p.all <- struct{}{}:
		return true
	default:
		<-p.forAhead
		return false
	}
}

// leave gives a place back, ahead says of which kind.
func (p places) leave(ahead bool) {
	<-p.all
	if ahead {
		<-p.forAhead
	}
}

// blocks are the buffers of the requests that are under way.
type blocks struct{ pool sync.Pool }

func (b *blocks) take() []byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return *p
	}
	return make([]byte, fetchBlock)
}

func (b *blocks) give(p []byte) { b.pool.Put(&p) }
