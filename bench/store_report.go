package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// agentfs is the candidate that targets are about.
const agentfs = "agentfs"

// storeTable is the result of part "store".
type storeTable struct {
	rows       []storeRow
	candidates []string
	cells      map[string]map[string]*storeCell // candidate, row
}

func newStoreTable(rows []storeRow, candidates []string) *storeTable {
	t := &storeTable{rows: rows, candidates: candidates, cells: map[string]map[string]*storeCell{}}
	for _, name := range candidates {
		t.cells[name] = map[string]*storeCell{}
		for _, r := range rows {
			t.cells[name][r.name] = &storeCell{}
		}
	}
	return t
}

// of returns a cell; an empty one, if the candidate did not take part.
func (t *storeTable) of(candidate, row string) *storeCell {
	if c := t.cells[candidate][row]; c != nil {
		return c
	}
	return &storeCell{}
}

func (t *storeTable) write(out io.Writer, b *bench, d delays) {
	fmt.Fprintf(out, "## S3 route\n\nversitygw behind a proxy: %s.", d)
	if b.storeFaults > 0 {
		fmt.Fprintf(out, " **Of the requests, %.1f %% fail in one of these ways: %v.**", 100*b.storeFaults, allFaults)
	}
	fmt.Fprintf(out, ` SDK: aws-sdk-go-v2 alone with %d workers, doing the same. Loopback: go-fuse's own file system over tmpfs.

Every workload has a fresh mount with an empty cache: *cold* ones have seen nothing of what they work on, *listed* ones had a find -ls over it, *read* ones read it just before, *warm* ones have done the same before, and are counted by their median step. What exists before was put there beside the mount. What a mount asks the store once, at its first changes, is in the first row and in no other. Two times: until the tool returns, and until the store has everything (by the mount's own word where it has one, which is checked; else the end of the last request that changed the store before everything was there), and where a workload has many steps, their median. Times are medians of the rounds, requests and bytes those of the last one. The server's contents were compared byte for byte each time.

`, sdkWorkers)
	lines := [][]string{append(append([]string{"workload"}, t.candidates...), "target: agentfs now")}
	for _, r := range t.rows {
		line := []string{r.name}
		for _, name := range t.candidates {
			line = append(line, t.cells[name][r.name].text(name))
		}
		lines = append(lines, append(line, t.targets(r)))
	}
	writeTable(out, lines)
	fmt.Fprintf(out, "Load at the end: %s.\n\n", loadAverage())
}

// text is a cell as the report shows it.
func (c *storeCell) text(candidate string) string {
	if !c.measured() {
		return c.failure
	}
	lines := []string{span(median(c.returned))}
	if len(c.laps) > 0 {
		lines[0] += " (" + span(median(c.laps)) + " each)"
	}
	if candidate != sdkAlone && candidate != loopback {
		lines[0] += ", stored " + span(median(c.stored))
	}
	if candidate != loopback {
		lines = append(lines, fmt.Sprintf("%d: %s", c.traffic.requests.total(), c.traffic.requests),
			fmt.Sprintf("%s sent, %s received", humanize.IBytes(uint64(c.traffic.sent)), humanize.IBytes(uint64(c.traffic.received))))
	}
	if c.kernel != nil {
		lines = append(lines, "FUSE: "+c.kernel.String())
	}
	if c.failure != "" {
		lines = append(lines, "a later round: "+c.failure)
	}
	return strings.Join(lines, "<br>")
}

// targets says what agentfs aims at and where it is.
func (t *storeTable) targets(r storeRow) string {
	if !t.of(agentfs, r.name).measured() {
		return ""
	}
	var lines []string
	for _, target := range r.targets {
		lines = append(lines, target.text+": **"+target.is(t, r.name)+"**")
	}
	return strings.Join(lines, "<br>")
}

// span writes a time with as many digits as say something.
func span(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", d.Microseconds())
	case d < 100*time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}
