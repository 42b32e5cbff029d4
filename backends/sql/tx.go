package sql

import (
	"context"
	stdsql "database/sql"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"time"

	"github.com/agentfs/agentfs/backends"
)

// tx is a transaction.
type tx struct {
	*stdsql.Tx
	// unused are the contents that nothing refers to any more after it.
	unused []content
}

// retryTime is how long a transaction that others get in the way of is made
// again.
const retryTime = 30 * time.Second

// errCommit is in the error of a transaction of which nobody knows whether it
// took effect.
var errCommit = errors.New("the outcome of a change is not known")

// change makes one change of name, all or nothing.
func (s *Store) change(ctx context.Context, op, name string, f func(t *tx) error) error {
	err := s.prepare(ctx)
	if err == nil {
		err = s.transact(ctx, f)
	}
	return backends.WrapPath(op, name, err)
}

// transact runs f in a transaction, again if others got in the way.
func (s *Store) transact(ctx context.Context, f func(t *tx) error) error {
	for start, n := time.Now(), 0; ; n++ {
		t, err := s.try(ctx, f)
		switch {
		case err == nil:
			s.drop(t.unused)
			return nil
		case s.again(err) && time.Since(start) < retryTime && ctx.Err() == nil:
			// In no order, so that the same two don't meet again.
			pause := time.NewTimer(rand.N(time.Millisecond << min(n, 7)))
			select {
			case <-pause.C:
			case <-ctx.Done():
			}
			pause.Stop()
		default:
			return s.said(ctx, err)
		}
	}
}

// try runs f in a transaction once.
func (s *Store) try(ctx context.Context, f func(t *tx) error) (*tx, error) {
	raw, err := s.writes.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	t := &tx{Tx: raw}
	if err := f(t); err != nil {
		_ = raw.Rollback()
		return nil, err
	}
	if err := raw.Commit(); err != nil {
		return nil, fmt.Errorf("%w: %w", errCommit, err)
	}
	return t, nil
}

// said returns the error that a transaction ended with: what this package
// says as it is, and what the database says as callers may ask for it.
func (s *Store) said(ctx context.Context, err error) error {
	for _, ours := range []error{
		fs.ErrNotExist, fs.ErrExist, fs.ErrInvalid, backends.ErrChanged, backends.ErrIsDir, backends.ErrNotDir,
		backends.ErrNotEmpty, backends.ErrBusy, backends.ErrNameTooLong, errKind, errSwept,
	} {
		if err == ours {
			return err
		}
	}
	known := s.known(ctx, err)
	if errors.Is(err, errCommit) && s.kind(err) == nil {
		return fmt.Errorf("%w: %w", errCommit, known)
	}
	return known
}
