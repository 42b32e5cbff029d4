package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// quiet is how long nothing must pass the proxy before the server is asked
	// whether it has everything: asking costs it time that would count. It is
	// longer than the pause a mount may make before it sends a change.
	quiet = 300 * time.Millisecond
	// settleTimeout is how long a mount may take to bring into the store what a
	// finished workload has written.
	settleTimeout = 3 * time.Minute
	// silence is after how long without a request nothing more is hoped for.
	silence = 15 * time.Second
)

// errNotStored: what was written is not in the store, or something else is.
var errNotStored = errors.New("the outcome is not in the store")

// settle waits until the store has the outcome of a workload that began then,
// and returns how long after the beginning that was. A mount that has a
// command for it is taken at its word, and the word is checked. Of the others
// it is the end of the last request that could change the store before the
// outcome was there and stayed.
func (r *storeRun) settle(ctx context.Context, p peer, m *mount, row storeRow, prefix string, began time.Time) (time.Duration, error) {
	if row.stored == nil {
		return 0, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, settleTimeout, errNotStored)
	defer cancel()
	if p.Sync != nil {
		if err := p.sync(ctx, r.bench, m.dir); err != nil {
			return 0, err
		}
		stored := time.Since(began)
		if err := row.stored(ctx, r.direct, prefix); err != nil {
			return 0, fmt.Errorf("%w, though %s said so: %w", errNotStored, p.Name, err)
		}
		// What it does afterwards counts as requests.
		return stored, r.server.slow.waitQuiet(ctx, quiet)
	}
	var missing error
	for pause := quiet; ; pause *= 2 {
		if err := r.server.slow.waitQuiet(ctx, pause); err != nil {
			return 0, errors.Join(context.Cause(ctx), missing)
		}
		stored := r.server.slow.lastChange().Sub(began)
		if missing = row.stored(ctx, r.direct, prefix); missing == nil {
			return stored, nil
		}
		if pause > silence {
			return 0, fmt.Errorf("%w, and it sends nothing more: %w", errNotStored, missing)
		}
	}
}
