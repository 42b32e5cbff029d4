package main

import (
	"cmp"
	"slices"
	"strconv"
	"time"
)

// median returns the middle of v, or the mean of the two in the middle.
func median[T time.Duration | float64](v []T) T {
	if len(v) == 0 {
		return 0
	}
	s := slices.SortedFunc(slices.Values(v), cmp.Compare[T])
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// speed returns how fast c was, as a part of how fast base was: the median
// of the ratios within the rounds, so that what slowed the machine for a
// while slowed both. ok is false if there is nothing to compare.
func (c *cell) speed(base *cell) (ratio float64, ok bool) {
	if c == nil || base == nil {
		return 0, false
	}
	var ratios []float64
	for i := range min(len(c.times), len(base.times)) {
		ratios = append(ratios, float64(base.times[i])/float64(max(c.times[i], 1)))
	}
	return median(ratios), len(ratios) > 0
}

// bytesOption writes a number of bytes as an option of a route.
func bytesOption(n int64) string { return strconv.FormatInt(n, 10) }
