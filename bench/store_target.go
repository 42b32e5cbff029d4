package main

import (
	"fmt"
	"time"

	"github.com/dustin/go-humanize"
)

// target is what agentfs aims at in a workload. It is printed beside what was
// measured and never asserted: the machine may be shared.
type target struct {
	text string
	is   func(t *storeTable, row string) string
}

// storedWithin aims at a part of the time that the SDK alone takes.
func storedWithin(factor float64) target {
	return target{fmt.Sprintf("stored <= %.1f x SDK", factor), func(t *storeTable, row string) string {
		return times(ratioOf(t.cells[agentfs][row].stored, t.of(sdkAlone, row).stored))
	}}
}

// withinSDK aims at a part of the time that the SDK alone takes, in workloads that
// leave nothing.
func withinSDK(factor float64) target {
	return target{fmt.Sprintf("<= %.1f x SDK", factor), func(t *storeTable, row string) string {
		return times(ratioOf(t.cells[agentfs][row].returned, t.of(sdkAlone, row).returned))
	}}
}

// returnedWithin aims at a part of the time that a loopback mount takes.
func returnedWithin(factor float64) target {
	return target{fmt.Sprintf("returned <= %.0f x loopback", factor), func(t *storeTable, row string) string {
		return times(ratioOf(t.cells[agentfs][row].returned, t.of(loopback, row).returned))
	}}
}

// lapsWithin aims at a part of the time that each step takes on a loopback mount.
func lapsWithin(factor float64) target {
	return target{fmt.Sprintf("<= %.1f x loopback", factor), func(t *storeTable, row string) string {
		mine, other := t.cells[agentfs][row].laps, t.of(loopback, row).laps
		if len(mine) == 0 || len(other) == 0 {
			return times(0, false)
		}
		return times(float64(median(mine))/float64(max(median(other), 1)), true)
	}}
}

func times(ratio float64, ok bool) string {
	if !ok {
		return "not compared"
	}
	return fmt.Sprintf("%.2f x", ratio)
}

// returnedIn aims at a time.
func returnedIn(limit time.Duration) target {
	return target{fmt.Sprintf("returned <= %v", limit), func(t *storeTable, row string) string {
		return span(median(t.cells[agentfs][row].returned))
	}}
}

func storedIn(limit time.Duration) target {
	return target{fmt.Sprintf("stored <= %v", limit), func(t *storeTable, row string) string {
		return span(median(t.cells[agentfs][row].stored))
	}}
}

// eachIn aims at a time for every step.
func eachIn(limit time.Duration) target {
	return target{fmt.Sprintf("<= %v each", limit), func(t *storeTable, row string) string {
		return span(median(t.cells[agentfs][row].laps))
	}}
}

// requestsOf aims at a number of requests of these operations, in all.
func requestsOf(limit int, what string, ops ...string) target {
	return target{fmt.Sprintf("<= %d %s", limit, what), func(t *storeTable, row string) string {
		return fmt.Sprint(t.cells[agentfs][row].traffic.of(ops...))
	}}
}

// sentAtMost aims at a number of bytes on the way to the store.
func sentAtMost(limit uint64) target {
	return target{"<= " + humanize.IBytes(limit) + " sent", func(t *storeTable, row string) string {
		return humanize.IBytes(uint64(t.cells[agentfs][row].traffic.sent))
	}}
}

// The operations that bring content into the store, and those that remove.
var (
	uploadOps = []string{"Put", "CompleteMultipartUpload"}
	deleteOps = []string{"Delete", "DeleteObjects"}
)
