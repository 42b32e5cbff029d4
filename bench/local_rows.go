package main

import (
	"fmt"
	"time"
)

// localRow is one workload of part "local".
type localRow struct {
	name string
	unit string  // what work counts
	work float64 // done by one run
	// before brings the candidate into the state that the workload starts from;
	// it is not measured.
	before call
	run    func(w *worker) (time.Duration, error)
}

// localRows returns the workloads. To add one: an operation in client.do, a row
// here.
func (b *bench) localRows(fio bool) []localRow {
	rows := b.dataRows(fio)
	files := call{Op: "populate", Files: b.files, Size: smallSize}
	for _, r := range []struct {
		name   string
		before call
		run    call
	}{
		{"create, write 4 KiB, close", call{Op: "clear"}, call{Op: "create", Files: b.files, Size: smallSize}},
		{"stat", files, call{Op: "stat"}},
		{"stat of a missing name", files, call{Op: "stat missing", Files: b.files}},
		{"open, read 4 KiB, close", files, call{Op: "read"}},
		{"readdir", files, call{Op: "readdir"}},
		{"readdir with stat (ls -l)", files, call{Op: "ls -l"}},
		{"rename", files, call{Op: "rename"}},
		{"unlink", files, call{Op: "unlink"}},
	} {
		rows = append(rows, localRow{
			name: r.name, unit: "files/s", work: float64(b.files), before: r.before,
			run: func(w *worker) (time.Duration, error) { return w.do(r.run) },
		})
	}
	return b.matching(rows)
}

func (b *bench) dataRows(fio bool) []localRow {
	var rows []localRow
	for _, random := range []bool{false, true} {
		for _, write := range []bool{true, false} {
			for _, block := range []int{1 << 20, 64 << 10, 4 << 10} {
				rows = append(rows, b.dataRow(fio, write, random, block))
			}
		}
	}
	return rows
}

func (b *bench) dataRow(fio, write, random bool, block int) localRow {
	r := localRow{unit: "MiB/s", work: float64(b.size) / (1 << 20)}
	verb, order, op := "read", "sequential", " data"
	if write {
		verb = "write"
	}
	if random {
		order, op = "random", " data randomly"
	}
	r.name = fmt.Sprintf("%s %s, %s", order, verb, sizeName(block))
	// A sequential write makes the file; everything else finds it.
	r.before = call{Op: "fill", Size: b.size}
	if write && !random {
		r.before = call{Op: "remove data"}
	}
	r.run = func(w *worker) (time.Duration, error) {
		if fio {
			return fioTransfer(w.dir, write, random, b.size, block)
		}
		return w.do(call{Op: verb + op, Size: b.size, Block: block})
	}
	return r
}

// matching returns the rows that were asked for.
func (b *bench) matching(rows []localRow) []localRow {
	var wanted []localRow
	for _, r := range rows {
		if b.wantsRow(r.name) {
			wanted = append(wanted, r)
		}
	}
	return wanted
}

// sizeName writes a whole number of KiB or MiB.
func sizeName(n int) string {
	if n >= 1<<20 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d KiB", n>>10)
}
