package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// sdkAlone is the name of the candidate that others are compared with.
const sdkAlone = "SDK"

// storeRun is what part "store" works with.
type storeRun struct {
	*bench
	server *s3Server
	slow   *sdk // through the proxy
	direct *sdk // beside it: what it asks is not counted
	peers  []peer
	seq    int // numbers directories and prefixes
}

// store runs part "store".
func (b *bench) store(ctx context.Context, out io.Writer) (err error) {
	d := likeS3
	if b.quick {
		d = delays{}
	}
	server, err := b.startS3(ctx, filepath.Join(b.tmp, "versitygw"), d)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.close()) }()
	run := &storeRun{bench: b, server: server, slow: newSDK(server.slow.url), direct: newSDK(server.direct)}
	if run.peers, err = b.loadPeers(); err != nil {
		return err
	}
	data, err := b.newStoreData()
	if err != nil {
		return err
	}
	if err := run.direct.createBucket(ctx); err != nil {
		return err
	}
	if err := data.seed(ctx, run.direct); err != nil {
		return err
	}

	names := []string{}
	if b.wants(sdkAlone) {
		names = append(names, sdkAlone)
	}
	for _, p := range run.peers {
		names = append(names, p.Name)
	}
	rows := b.storeRows(data)
	if len(names) == 0 || len(rows) == 0 {
		return nil
	}
	table := storeTable{rows: rows, candidates: names, cells: map[string]map[string]*cell{}}
	for _, name := range names {
		table.cells[name] = map[string]*cell{}
		for _, r := range table.rows {
			table.cells[name][r.name] = &cell{}
		}
	}
	for round := range b.rounds {
		for _, row := range table.rows {
			for i := range names {
				name := names[(i+round)%len(names)]
				if err := ctx.Err(); err != nil {
					return err
				}
				c := table.cells[name][row.name]
				if len(c.times) < round {
					continue // it failed before, or takes too long
				}
				if round > 0 && c.times[0] > patience {
					b.note("measured once, because it takes so long: %s: %s", name, row.name)
					continue
				}
				fail := b.failPeer
				if name == sdkAlone || strings.HasPrefix(name, "agentfs") {
					fail = b.fail
				}
				if err := run.measure(ctx, c, name, row); err != nil {
					fail(name, row.name, err)
				}
			}
		}
		b.log.Printf("store: round %d of %d is done", round+1, b.rounds)
	}
	table.write(out, d)
	return nil
}

// measure runs row once for the candidate of this name. A workload that writes
// ends when the store has what was written.
func (r *storeRun) measure(ctx context.Context, c *cell, name string, row storeRow) error {
	r.seq++
	prefix := row.from
	if prefix == "" {
		prefix = fmt.Sprintf("run%04d", r.seq)
	}
	prefix += "/"
	work := func() error { return row.sdk(ctx, r.slow, prefix) }
	if name != sdkAlone {
		m, err := r.mountPeer(ctx, name)
		if err != nil {
			return err
		}
		dir := filepath.Join(m.dir, prefix)
		if row.from == "" {
			if err := os.Mkdir(dir, 0o755); err != nil {
				return errors.Join(err, m.close())
			}
		}
		work = func() error { return row.mount(ctx, dir) }
		return errors.Join(r.time(ctx, c, work, row, prefix), m.close())
	}
	return r.time(ctx, c, work, row, prefix)
}

func (r *storeRun) mountPeer(ctx context.Context, name string) (*mount, error) {
	for _, p := range r.peers {
		if p.Name == name {
			return p.start(ctx, r.bench, r.server.slow.url, filepath.Join(r.tmp, fmt.Sprintf("store%04d", r.seq)))
		}
	}
	return nil, fmt.Errorf("there is no candidate %s", name)
}

// patience is for how long a workload may take to be measured again.
const patience = 30 * time.Second

// settleTimeout is how long a mount may take to bring into the store what a
// finished workload has written.
const settleTimeout = 2 * time.Minute

func (r *storeRun) time(ctx context.Context, c *cell, work func() error, row storeRow, prefix string) error {
	r.server.slow.takeCounts()
	began := time.Now()
	if err := work(); err != nil {
		return err
	}
	returned := time.Now()
	took := returned.Sub(began)
	if row.stored != nil {
		// Most have it all when the workload returns; looking costs time that
		// must not count then.
		for err := row.stored(ctx, r.direct, prefix); err != nil; err = row.stored(ctx, r.direct, prefix) {
			if time.Since(returned) > settleTimeout || ctx.Err() != nil {
				return fmt.Errorf("the store has not got what was written: %w", err)
			}
			time.Sleep(10 * time.Millisecond)
			took = time.Since(began)
		}
	}
	c.times = append(c.times, took)
	c.requests = r.server.slow.takeCounts()
	return nil
}
