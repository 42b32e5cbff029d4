package main

import (
	"context"
	"time"
)

// traffic is what passed the proxy.
type traffic struct {
	requests counts
	sent     int64 // bytes of requests' bodies
	received int64 // bytes of answers' bodies
}

func newTraffic() traffic { return traffic{requests: counts{}} }

// of returns how many requests were of these operations.
func (t traffic) of(ops ...string) int {
	n := 0
	for _, op := range ops {
		n += t.requests[op]
	}
	return n
}

// pulse says whether anything passes the proxy.
type pulse struct {
	under   int       // requests under way
	last    time.Time // when one last began or ended
	changed time.Time // when one that can change the store last ended
}

func (p *proxy) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pulse.under++
	p.pulse.last = time.Now()
}

func (p *proxy) end(changes bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pulse.under--
	p.pulse.last = time.Now()
	if changes {
		p.pulse.changed = p.pulse.last
	}
}

func (p *proxy) countSent(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.traffic.sent += int64(n)
}

func (p *proxy) countReceived(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.traffic.received += int64(n)
}

// takeTraffic returns what passed since it was last called.
func (p *proxy) takeTraffic() traffic {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.traffic
	p.traffic = newTraffic()
	return t
}

// lastChange returns when a request that can change the store last ended.
func (p *proxy) lastChange() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pulse.changed
}

// waitQuiet waits until nothing has passed for this long.
func (p *proxy) waitQuiet(ctx context.Context, gap time.Duration) error {
	for {
		p.mu.Lock()
		since := time.Since(p.pulse.last)
		if p.pulse.under > 0 {
			since = 0
		}
		p.mu.Unlock()
		if since >= gap {
			return nil
		}
		if err := sleepUntil(ctx, time.Now().Add(max(gap-since, 10*time.Millisecond))); err != nil {
			return err
		}
	}
}
