package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// localRun is a candidate that is mounted and has a worker in it.
type localRun struct {
	localCandidate
	mount  *mount
	worker *worker
	broken map[string]bool // rows that failed: they are not tried again
}

func (r *localRun) close() error {
	return errors.Join(r.worker.stop(), r.mount.close())
}

// cell is what was measured of one candidate in one row.
type cell struct {
	times    []time.Duration // one per round
	requests counts          // nil if not counted
}

// local runs part "local".
func (b *bench) local(ctx context.Context, out io.Writer) error {
	fio := b.useFio()
	if rows := b.localRows(fio); len(rows) > 0 {
		table, err := b.measureLocal(ctx, rows)
		if err != nil {
			return err
		}
		table.write(out, fio)
	}
	return b.memory(ctx, out)
}

func (b *bench) measureLocal(ctx context.Context, rows []localRow) (table localTable, err error) {
	var runs []*localRun
	defer func() {
		for _, r := range runs {
			err = errors.Join(err, r.close())
		}
	}()
	for i, c := range b.localCandidates() {
		m, err := c.start(ctx, filepath.Join(b.tmp, "local"+strconv.Itoa(i)), nil)
		if err != nil {
			b.fail(c.name, "start", err)
			continue
		}
		w, err := b.startWorker(m.dir)
		if err != nil {
			return table, errors.Join(err, m.close())
		}
		runs = append(runs, &localRun{localCandidate: c, mount: m, worker: w, broken: map[string]bool{}})
	}
	tracer, err := newFuseTracer(filepath.Join(b.tmp, "trace"))
	if err != nil {
		b.note("FUSE requests were not counted: %v", err)
	} else {
		defer func() { err = errors.Join(err, tracer.close()) }()
	}

	table = localTable{rows: rows, cells: map[string]map[string]*cell{}}
	for _, r := range runs {
		table.candidates = append(table.candidates, r.localCandidate)
		table.cells[r.name] = map[string]*cell{}
		for _, row := range rows {
			table.cells[r.name][row.name] = &cell{}
		}
	}
	// Round 0 warms up and counts requests, which costs time.
	for round := range b.rounds + 1 {
		for _, row := range rows {
			for i := range runs {
				// Each candidate comes first as often as the others.
				r := runs[(i+round)%len(runs)]
				if err := ctx.Err(); err != nil {
					return table, err
				}
				if r.broken[row.name] {
					continue
				}
				c := table.cells[r.name][row.name]
				if round == 0 {
					err = c.count(tracer, r, row)
				} else {
					err = c.measure(r, row)
				}
				if err != nil {
					r.broken[row.name] = true
					b.fail(r.name, row.name, err)
				}
			}
		}
		b.log.Printf("local: round %d of %d is done", round, b.rounds)
	}
	return table, nil
}

func (c *cell) measure(r *localRun, row localRow) error {
	if _, err := r.worker.do(row.before); err != nil {
		return fmt.Errorf("before: %w", err)
	}
	d, err := row.run(r.worker)
	if err != nil {
		return err
	}
	c.times = append(c.times, d)
	return nil
}

// count runs row once for its requests; what the time was does not count.
func (c *cell) count(t *fuseTracer, r *localRun, row localRow) error {
	if _, err := r.worker.do(row.before); err != nil {
		return fmt.Errorf("before: %w", err)
	}
	once := func() error {
		_, err := row.run(r.worker)
		return err
	}
	if t == nil || r.mount.pid == 0 {
		return once()
	}
	var err error
	c.requests, err = t.count(r.mount.dir, once)
	return err
}

// useFio reports whether data workloads are fio's.
func (b *bench) useFio() bool {
	if !b.fio {
		return false
	}
	if _, err := exec.LookPath("fio"); err != nil {
		b.note("fio is not installed; the built-in equal moved the data")
		return false
	}
	return true
}
