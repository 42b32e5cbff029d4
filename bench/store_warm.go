package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// warmRuns is how often a warm workload is repeated in a round: once takes no
// longer than a process does to start.
const warmRuns = 5

// warmRows are workloads over what the mount has read before.
func (d *storeData) warmRows() []storeRow {
	n := len(d.small)
	grep := func(ctx context.Context, w *onMount) error {
		out, err := tool(ctx, "grep", "-r", "-l", needle, w.dir)
		return errors.Join(err, wantCount("files with the needle", strings.Count(out, "\n"), (n+9)/10))
	}
	find := func(ctx context.Context, w *onMount) error {
		out, err := tool(ctx, "find", w.dir)
		return errors.Join(err, wantCount("names", strings.Count(out, ".txt\n"), n))
	}
	var rows []storeRow
	for _, work := range []struct {
		name string
		do   func(context.Context, *onMount) error
		aim  float64
	}{
		{fmt.Sprintf("grep -r, %d x 4 KiB", n), grep, 0.8},
		{fmt.Sprintf("find, %d files", n), find, 0.5},
	} {
		within := storeRow{
			name: work.name + ", warm, within the ttl", from: seedSmall, loopback: true, kernel: true,
			local: d.unpack,
			warm: func(ctx context.Context, w *onMount) error {
				// The first may have taken longer than the ttl.
				return errors.Join(work.do(ctx, w), work.do(ctx, w))
			},
			mount: func(ctx context.Context, w *onMount) error {
				for range warmRuns {
					if err := w.lap(func() error { return work.do(ctx, w) }); err != nil {
						return err
					}
				}
				return nil
			},
			targets: []target{lapsWithin(work.aim)},
		}
		after := within
		after.name = work.name + ", warm, after the ttl"
		after.warm = func(ctx context.Context, w *onMount) error {
			err := within.warm(ctx, w)
			time.Sleep(defaultTTL + time.Second)
			return err
		}
		after.mount = func(ctx context.Context, w *onMount) error {
			return w.lap(func() error { return work.do(ctx, w) })
		}
		rows = append(rows, within, after)
	}
	return rows
}

// defaultTTL is that of a route: for so long a store's answer is believed.
const defaultTTL = 5 * time.Second

// unpack puts the small files where a loopback mount has them.
func (d *storeData) unpack(ctx context.Context, w *onMount) error {
	_, err := tool(ctx, "tar", "-x", "--no-same-owner", "-f", d.tar, "-C", w.dir)
	return err
}
