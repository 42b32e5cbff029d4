package sql

import (
	"context"
	"crypto/rand"
	stdsql "database/sql"
	"errors"
	"io"

	"github.com/agentfs/agentfs/backends"
)

// Put implements [backends.Store].
func (s *Store) Put(ctx context.Context, name string, body *io.SectionReader, opts backends.PutOptions) (backends.Entry, error) {
	if err := s.ready(ctx, "put", name); err != nil {
		return backends.Entry{}, err
	}
	if body.Size() > smallSize {
		return s.putLarge(ctx, name, body, opts)
	}
	b := make([]byte, body.Size())
	if n, err := body.ReadAt(b, 0); n < len(b) {
		return backends.Entry{}, backends.WrapPath("put", name, err)
	}
	return s.putAs(ctx, "put", name, int64(len(b)), opts, func(t *tx) (id stdsql.NullInt64, err error) {
		if len(b) == 0 {
			return id, nil
		}
		if id, err = s.newContent(ctx, t, 1, int64(len(b))); err == nil {
			err = s.write(ctx, t, id, 0, b)
		}
		return id, err
	})
}

// putLarge writes the content before the transaction that gives it its name.
func (s *Store) putLarge(ctx context.Context, name string, body *io.SectionReader, opts backends.PutOptions) (backends.Entry, error) {
	// Nothing is sent for a put that can't be.
	if name != "." {
		old, err := s.node(ctx, s.reads, name, "")
		if err == nil {
			_, err = met(old, opts)
		}
		if err != nil {
			return backends.Entry{}, backends.WrapPath("put", name, s.said(ctx, err))
		}
	}
	id, err := s.stage(ctx, body)
	if err != nil {
		return backends.Entry{}, backends.WrapPath("put", name, err)
	}
	e, err := s.putAs(ctx, "put", name, body.Size(), opts, func(t *tx) (stdsql.NullInt64, error) { return s.adopt(ctx, t, id) })
	if err != nil && !errors.Is(err, errCommit) {
		s.drop([]content{{id.Int64, body.Size()}})
	}
	return e, err
}

// putAs makes name a file of that size, whose content fill refers to.
func (s *Store) putAs(ctx context.Context, op, name string, size int64, opts backends.PutOptions, fill func(*tx) (stdsql.NullInt64, error)) (backends.Entry, error) {
	version := backends.Version(rand.Text())
	var placed *node
	err := s.change(ctx, op, name, func(t *tx) (err error) {
		if name == "." {
			return backends.ErrIsDir
		}
		n := &node{path: name, key: name, size: size, mtime: now(), version: version, operation: opts.Operation}
		placed, err = s.place(ctx, t, n, opts, func() (stdsql.NullInt64, error) { return fill(t) })
		return err
	})
	if errors.Is(err, errCommit) {
		// No other change has this version.
		if e, serr := s.Stat(ctx, name); serr == nil && e.Version == version {
			return e, nil
		}
	}
	if err != nil {
		return backends.Entry{}, err
	}
	return placed.entry(), nil
}

// Copy implements [backends.Copier]: the copy refers to the same content.
func (s *Store) Copy(ctx context.Context, from string, src backends.If, to string, opts backends.PutOptions) (backends.Entry, error) {
	if err := errors.Join(checkName("copy", from), checkName("copy", to)); err != nil {
		return backends.Entry{}, err
	}
	version := backends.Version(rand.Text())
	var placed *node
	err := s.change(ctx, "copy", from, func(t *tx) error {
		if from == "." || to == "." {
			return backends.ErrIsDir
		}
		n, err := s.source(ctx, t, from, src)
		if err != nil {
			return err
		}
		if n.isDir() {
			return backends.ErrIsDir
		}
		c := &node{path: to, key: to, size: n.size, mtime: now(), version: version, operation: opts.Operation}
		placed, err = s.place(ctx, t, c, opts, func() (stdsql.NullInt64, error) { return n.content, s.ref(ctx, t, n.content) })
		return err
	})
	if err != nil {
		return backends.Entry{}, err
	}
	return placed.entry(), nil
}
