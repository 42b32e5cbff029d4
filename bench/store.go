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

// Candidates of part "store" beside the peers.
const (
	sdkAlone = "SDK"      // what others are compared with
	loopback = "loopback" // go-fuse's own, over tmpfs: what a mount costs without a store
)

// storeRun is what part "store" works with.
type storeRun struct {
	*bench
	server *s3Server
	slow   *sdk // through the proxy
	direct *sdk // beside it: what it asks is not counted
	peers  []peer
	tracer *fuseTracer // nil: the kernel's requests can't be counted
	seq    int         // numbers directories and prefixes
}

// store runs part "store".
func (b *bench) store(ctx context.Context, out io.Writer) error {
	return b.onStore(ctx, out, b.storeRows, nil)
}

// onStore starts a store, measures the rows and writes their table; then, if it is
// not nil, what after makes of it.
func (b *bench) onStore(ctx context.Context, out io.Writer, rows func(*storeData) []storeRow, after func(*storeTable)) (err error) {
	d := b.likeS3()
	server, err := b.startS3(ctx, filepath.Join(b.tmp, "versitygw"), d)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.close()) }()
	run := &storeRun{bench: b, server: server, slow: newSDK(server.slow.url), direct: newSDK(server.direct)}
	if run.tracer, err = newFuseTracer(filepath.Join(b.tmp, "trace")); err != nil {
		b.note("FUSE requests were not counted: %v", err)
		run.tracer = nil
	} else {
		defer func() { err = errors.Join(err, run.tracer.close()) }()
	}
	if run.peers, err = b.loadPeers(); err != nil {
		return err
	}
	if err := run.direct.createBucket(ctx); err != nil {
		return err
	}
	data, err := b.newStoreData(ctx)
	if err != nil {
		return err
	}
	if err := data.seed(ctx, run.direct); err != nil {
		return err
	}
	server.slow.setFaults(faults{b.storeFaults, allFaults})
	table := newStoreTable(rows(data), run.candidates())
	if err := fillOnce(ctx, run.direct, table.rows); err != nil {
		return err
	}
	if len(table.rows) > 0 && len(table.candidates) > 0 {
		if err := run.rounds(ctx, table); err != nil {
			return err
		}
		table.write(out, b, d)
		if after != nil {
			after(table)
		}
	}
	server.slow.setFaults(faults{})
	return run.storeMemory(ctx, out)
}

// candidates returns the names of those that take part.
func (r *storeRun) candidates() []string {
	var names []string
	for _, name := range []string{sdkAlone, loopback} {
		if r.wants(name) {
			names = append(names, name)
		}
	}
	for _, p := range r.peers {
		names = append(names, p.Name)
	}
	return names
}

// patience is for how long a workload may take to be measured again.
const patience = 20 * time.Second

// rounds measures every workload of every candidate, round by round.
func (r *storeRun) rounds(ctx context.Context, t *storeTable) error {
	for round := range r.bench.rounds {
		for _, row := range t.rows {
			for i := range t.candidates {
				name := t.candidates[(i+round)%len(t.candidates)]
				if err := ctx.Err(); err != nil {
					return err
				}
				c := t.cells[name][row.name]
				if !r.takesPart(name, row) || len(c.stored) < round {
					continue // or it failed before, or takes too long
				}
				if round > 0 && c.stored[0] > patience {
					r.note("measured once, because it takes so long: %s: %s", name, row.name)
					continue
				}
				if err := r.measure(ctx, c, name, row); err != nil {
					c.failure = failureText(err)
					fail := r.failPeer
					if name == sdkAlone || name == loopback || strings.HasPrefix(name, "agentfs") {
						fail = r.fail
					}
					fail(name, row.name, err)
				}
			}
		}
		r.log.Printf("store: round %d of %d is done", round+1, r.bench.rounds)
	}
	return nil
}

// takesPart reports whether a row says something about a candidate.
func (r *storeRun) takesPart(name string, row storeRow) bool {
	switch name {
	case sdkAlone:
		return row.sdk != nil
	case loopback:
		return row.loopback
	}
	if row.direct != nil {
		return name == agentfs
	}
	p, ok := r.peer(name)
	return ok && (row.options == "" || p.hasOptions())
}

func (r *storeRun) peer(name string) (peer, bool) {
	for _, p := range r.peers {
		if p.Name == name {
			return p, true
		}
	}
	return peer{}, false
}

// errTooLong ends a workload that has its time.
var errTooLong = errors.New("it takes too long")

func failureText(err error) string {
	for _, known := range []error{errTooLong, errNotStored} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return "failed"
}

// measure runs row once for the candidate of this name and removes what it left.
func (r *storeRun) measure(ctx context.Context, c *storeCell, name string, row storeRow) (err error) {
	r.seq++
	prefix := row.from
	if prefix == "" {
		prefix = fmt.Sprintf("run%04d", r.seq)
		defer func() { err = errors.Join(err, r.direct.removeAll(ctx, prefix+"/")) }()
	}
	prefix += "/"
	// What a workload is allowed to take is not what its cleaning up is.
	limited, cancel := context.WithTimeoutCause(ctx, r.storeLimit, fmt.Errorf("> %v: %w", r.storeLimit, errTooLong))
	defer cancel()
	defer func() {
		if err != nil && limited.Err() != nil && ctx.Err() == nil {
			err = fmt.Errorf("%w: %w", context.Cause(limited), err)
		}
	}()
	if row.seed != nil {
		if err := row.seed(limited, r.direct, prefix); err != nil {
			return fmt.Errorf("seed: %w", err)
		}
	}
	switch name {
	case sdkAlone:
		return r.measureSDK(limited, c, row, prefix)
	case loopback:
		return r.measureLoopback(limited, c, row, prefix)
	}
	if row.direct != nil {
		return r.measureDirect(limited, c, row)
	}
	return r.measurePeer(limited, c, name, row, prefix)
}

// begin begins the time and the traffic of one measurement: all candidates find
// the same.
func (r *storeRun) begin(row storeRow) (began time.Time, err error) {
	few := int64(touchFor)
	if r.quick {
		few = 1 << 20
	}
	if err := touchPages(few + touchEach*row.moves); err != nil {
		return began, err
	}
	r.server.slow.takeTraffic()
	return time.Now(), nil
}

func (r *storeRun) measureSDK(ctx context.Context, c *storeCell, row storeRow, prefix string) error {
	began, err := r.begin(row)
	if err != nil {
		return err
	}
	if err := row.sdk(ctx, r.slow, prefix); err != nil {
		return err
	}
	took := time.Since(began)
	c.add(took, took, nil, r.server.slow.takeTraffic())
	return row.verify(ctx, r.direct, prefix)
}

func (r *storeRun) measureLoopback(ctx context.Context, c *storeCell, row storeRow, prefix string) (err error) {
	m, err := r.startLoopback(ctx, filepath.Join(r.tmp, fmt.Sprintf("store%04d", r.seq)), nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	w := &onMount{bench: r.bench, root: m.dir, dir: filepath.Join(m.dir, prefix)}
	if err := os.Mkdir(w.dir, 0o755); err != nil {
		return err
	}
	if row.local != nil {
		if err := row.local(ctx, w); err != nil {
			return fmt.Errorf("before: %w", err)
		}
	}
	if row.warm != nil {
		if err := row.warm(ctx, w); err != nil {
			return fmt.Errorf("before: %w", err)
		}
	}
	began, err := r.begin(row)
	if err != nil {
		return err
	}
	if err := row.mount(ctx, w); err != nil {
		return err
	}
	took := time.Since(began)
	c.add(took, took, w.laps, traffic{})
	return r.countKernel(ctx, c, row, w)
}

// countKernel does a workload once more, for the kernel's requests: counting
// takes time.
func (r *storeRun) countKernel(ctx context.Context, c *storeCell, row storeRow, w *onMount) error {
	if !row.kernel || r.tracer == nil || c.kernel != nil {
		return nil
	}
	if err := row.warm(ctx, w); err != nil {
		return err
	}
	counted := *w
	var err error
	c.kernel, err = r.tracer.count(w.root, func() error { return row.mount(ctx, &counted) })
	return err
}

func (r *storeRun) measurePeer(ctx context.Context, c *storeCell, name string, row storeRow, prefix string) (err error) {
	p, ok := r.peer(name)
	if !ok {
		return fmt.Errorf("there is no candidate %s", name)
	}
	m, err := p.start(ctx, r.bench, r.server.slow.url, filepath.Join(r.tmp, fmt.Sprintf("store%04d", r.seq)), row.options)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	w := &onMount{bench: r.bench, root: m.dir, dir: filepath.Join(m.dir, prefix),
		sync: func(ctx context.Context) error { return p.sync(ctx, r.bench, m.dir) }}
	if err := r.prepare(ctx, row, w); err != nil {
		return fmt.Errorf("before: %w", err)
	}
	began, err := r.begin(row)
	if err != nil {
		return err
	}
	if err := row.mount(ctx, w); err != nil {
		return err
	}
	returned := time.Since(began)
	stored, err := r.settle(ctx, p, m, row, prefix, began)
	if err != nil {
		return err
	}
	c.add(returned, max(stored, returned), w.laps, r.server.slow.takeTraffic())
	return r.countKernel(ctx, c, row, w)
}

// prepare brings a mount that has just been made into the state that the
// workload begins with.
func (r *storeRun) prepare(ctx context.Context, row storeRow, w *onMount) error {
	if row.from != "" {
		if row.warm != nil {
			return row.warm(ctx, w)
		}
		return nil
	}
	if row.fresh {
		return nil
	}
	// What a mount asks a store once, at its first changes, is in a row of its own.
	if err := w.firstChanges(ctx, filepath.Join(w.root, fmt.Sprintf("first%04d", r.seq))); err != nil {
		return err
	}
	if row.seed == nil {
		if err := os.Mkdir(w.dir, 0o755); err != nil {
			return err
		}
		if err := w.sync(ctx); err != nil {
			return err
		}
	}
	if row.warm != nil {
		if err := row.warm(ctx, w); err != nil {
			return err
		}
	}
	return r.server.slow.waitQuiet(ctx, quiet)
}
