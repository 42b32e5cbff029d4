package main

import (
	"fmt"
	"io"
	"strconv"
)

// storeTable is the result of part "store".
type storeTable struct {
	rows       []storeRow
	candidates []string
	cells      map[string]map[string]*cell // candidate, row
}

func (t storeTable) write(out io.Writer, d delays) {
	fmt.Fprintf(out, "## S3 route\n\nversitygw behind a proxy: first byte after %v (GET, HEAD), %v (PUT, POST, DELETE), %v (LIST), lognormal, sigma %.1f; %.0f MB/s per answer. SDK: aws-sdk-go-v2 alone with %d workers. Every workload on a fresh mount with an empty cache; one that writes ends when the store has it all. Times are medians; in brackets the speed as a part of the SDK's.\n\n",
		d.get, d.put, d.list, d.sigma, d.bytesPerSecond/1e6, sdkWorkers)
	times := [][]string{append([]string{"workload"}, t.candidates...)}
	totals := [][]string{append([]string{"requests"}, t.candidates...)}
	for _, r := range t.rows {
		line, count := []string{r.name}, []string{r.name}
		for _, name := range t.candidates {
			c := t.cells[name][r.name]
			if len(c.times) == 0 {
				line, count = append(line, "failed"), append(count, "")
				continue
			}
			text := fmt.Sprintf("%.2f s", median(c.times).Seconds())
			if v, ok := c.speed(t.cells[sdkAlone][r.name]); ok && name != sdkAlone {
				text += fmt.Sprintf(" (%.2f)", v)
			}
			line = append(line, text)
			count = append(count, strconv.Itoa(c.requests.total())+": "+c.requests.String())
		}
		times, totals = append(times, line), append(totals, count)
	}
	writeTable(out, times)
	writeTable(out, totals)
}
