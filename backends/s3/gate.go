package s3

import (
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

const (
	// gateRest is how long after it has lowered its limit a gate does not
	// lower it again: what comes refused then was sent before.
	gateRest = 100 * time.Millisecond
	// gateTop is the limit from which on a gate is no bound any more.
	gateTop = 1024
)

// gate bounds the requests that wait for their answer's head, once the server
// has said that they are too many (503, 429): S3 limits requests a second, and
// with a given time for each that is how many are under way. It is the
// additive increase and multiplicative decrease of TCP: half of what was under
// way, and then one more for every limit of them that is answered well.
type gate struct {
	mu     sync.Mutex
	limit  float64 // 0: none
	under  int
	queue  []chan struct{} // who waits, first come first
	lowest time.Time       // when the limit was lowered last
	slow   int64           // answers that asked to slow down
}

// enter waits for a place. done ends the wait.
func (g *gate) enter(done <-chan struct{}) bool {
	g.mu.Lock()
	if g.limit == 0 || float64(g.under) < g.limit && len(g.queue) == 0 {
		g.under++
		g.mu.Unlock()
		return true
	}
	turn := make(chan struct{})
	g.queue = append(g.queue, turn)
	g.mu.Unlock()
	select {
	case <-turn:
		return true
	case <-done:
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-turn: // meanwhile
		g.under--
		g.admit()
		return false
	default:
	}
	for i, t := range g.queue {
		if t == turn {
			g.queue = append(g.queue[:i:i], g.queue[i+1:]...)
			break
		}
	}
	return false
}

// leave gives the place back: slow says that the server asked for less, well
// that it did as it was told.
func (g *gate) leave(slow, well bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch now := time.Now(); {
	case slow:
		g.slow++
		if now.Sub(g.lowest) >= gateRest {
			g.lowest = now
			g.limit = max(float64(g.under)/2, 1)
		}
	case well && g.limit > 0:
		if g.limit += 1 / g.limit; g.limit > gateTop {
			g.limit = 0
		}
	}
	g.under--
	g.admit()
}

// admit lets in whom there is room for. g.mu is held.
func (g *gate) admit() {
	for len(g.queue) > 0 && (g.limit == 0 || float64(g.under) < g.limit) {
		g.under++
		close(g.queue[0])
		g.queue = g.queue[1:]
	}
}

// state returns the limit, 0 for none, and how often the server asked to slow
// down.
func (g *gate) state() (limit, slow int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return int64(g.limit), g.slow
}

// gated is an HTTP client whose requests go through a gate.
type gated struct {
	aws.HTTPClient
	gate *gate
}

// Do implements [aws.HTTPClient].
func (c gated) Do(r *http.Request) (*http.Response, error) {
	if !c.gate.enter(r.Context().Done()) {
		return nil, r.Context().Err()
	}
	resp, err := c.HTTPClient.Do(r)
	slow := err == nil && (resp.StatusCode == http.StatusServiceUnavailable || resp.StatusCode == http.StatusTooManyRequests)
	c.gate.leave(slow, err == nil && resp.StatusCode < http.StatusInternalServerError && !slow)
	return resp, err
}
