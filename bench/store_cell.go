package main

import (
	"slices"
	"time"
)

// storeCell is what was measured of one candidate in one row of part "store".
type storeCell struct {
	returned []time.Duration // until the tool returned, one per round
	stored   []time.Duration // until the store had everything
	laps     []time.Duration // of each step of a workload that has many, of all rounds
	traffic  traffic         // of the last round
	kernel   counts          // requests of the kernel to the mount; nil if not counted
	failure  string          // why there is no more
}

func (c *storeCell) add(returned, stored time.Duration, laps []time.Duration, t traffic) {
	c.returned = append(c.returned, returned)
	c.stored = append(c.stored, stored)
	c.laps = slices.Concat(c.laps, laps)
	c.traffic = t
}

// measured reports whether there is anything to show.
func (c *storeCell) measured() bool { return c != nil && len(c.stored) > 0 }

// ratioOf returns the median of the ratios within the rounds, so that what slowed
// the machine for a while slowed both.
func ratioOf(times, base []time.Duration) (ratio float64, ok bool) {
	var ratios []float64
	for i := range min(len(times), len(base)) {
		ratios = append(ratios, float64(times[i])/float64(max(base[i], 1)))
	}
	return median(ratios), len(ratios) > 0
}
