package cache

import (
	"math"
	"runtime"
	"time"
)

// Where processors are few, what goes to the store in the background takes them from
// whoever is changing things: tar then takes three times as long, and the store has it no
// earlier, because nothing is as slow as both at once. So while there are many changes,
// what is due gives way: until there are few again, for maxHold at most, and not if
// somebody waits for it.

const (
	// fewProcessors is how many are few. A thousand requests a second take one, and a
	// program that changes as many files takes two with the mount.
	fewProcessors = 3
	// busyRate is how many changes in busyTime are many, mostRate how many are counted.
	busyRate = 20
	mostRate = 2 * busyRate
	busyTime = 100 * time.Millisecond
	// maxHold is how long what is due gives way at most.
	maxHold = 2 * time.Second
	// holdStep is how often a queue looks whether there are still many changes.
	holdStep = 20 * time.Millisecond
)

// pressure counts the changes of the last moments.
type pressure struct {
	few   bool      // processors are few
	rate  float64   // changes, of which older ones count less
	at    time.Time // when that was so
	waits time.Time // until when somebody waits for all
}

// newPressure returns one for a queue. Who wants no grace wants nothing to wait.
func newPressure(grace time.Duration) pressure {
	return pressure{few: grace > 0 && runtime.GOMAXPROCS(0) <= fewProcessors}
}

// now returns the rate.
func (p *pressure) now(now time.Time) float64 {
	return p.rate * math.Exp(-float64(now.Sub(p.at))/float64(busyTime))
}

// change counts one. A great many are not more than many, lest they count for long after
// the last.
func (p *pressure) change(now time.Time) { p.rate, p.at = min(p.now(now)+1, mostRate), now }

// holds reports whether j, which is due, gives way.
func (p *pressure) holds(j *job, now time.Time) bool {
	return p.few && !j.hurry && now.After(p.waits) && now.Sub(j.due) < maxHold && p.now(now) > busyRate
}
