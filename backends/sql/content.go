package sql

import (
	"context"
	stdsql "database/sql"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/agentfs/agentfs/backends"
)

// ChunkSize is the size in bytes of the pieces of a content but the last.
const ChunkSize = 256 << 10

const (
	// smallSize is the size up to which a content is written, and removed, in the
	// transaction that gives it its name or takes it.
	smallSize = 1 << 20
	// dropChunks is how many chunks one transaction removes.
	dropChunks = 64
	// abandoned is how long nothing has been written to a content that nothing
	// refers to, in seconds, until it is taken for left behind.
	abandoned = 3600
)

// content is a row of contents.
type content struct{ id, size int64 }

// unref takes a reference to each of these contents away; one may be there
// several times. What nothing refers to any more is removed: at once if it is
// small, else after the transaction.
func (s *Store) unref(ctx context.Context, t *tx, ids ...stdsql.NullInt64) error {
	for len(ids) > 0 {
		var once []any
		var again []stdsql.NullInt64
		for _, id := range ids {
			switch {
			case !id.Valid:
			case slices.Contains(once, any(id.Int64)):
				again = append(again, id)
			default:
				once = append(once, id.Int64)
			}
		}
		if err := s.unrefOnce(ctx, t, once); err != nil {
			return err
		}
		ids = again
	}
	return nil
}

func (s *Store) unrefOnce(ctx context.Context, t *tx, ids []any) error {
	if len(ids) == 0 {
		return nil
	}
	rows, err := t.QueryContext(ctx, s.sql("UPDATE contents SET refs = refs - 1, touched = "+s.now+
		" WHERE id IN ("+holes(len(ids))+") RETURNING id, refs, size"), ids...)
	if err != nil {
		return err
	}
	defer rows.Close()
	var small []any
	for rows.Next() {
		var c content
		var refs int64
		if err := rows.Scan(&c.id, &refs, &c.size); err != nil {
			return err
		}
		switch {
		case refs > 0:
		case c.size > smallSize:
			t.unused = append(t.unused, c)
		default:
			small = append(small, c.id)
		}
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil || len(small) == 0 {
		return err
	}
	if _, err := s.exec(ctx, t, "DELETE FROM chunks WHERE content IN ("+holes(len(small))+")", small...); err != nil {
		return err
	}
	_, err = s.exec(ctx, t, "DELETE FROM contents WHERE id IN ("+holes(len(small))+")", small...)
	return err
}

// ref adds a reference to a content that has some. It is ErrChanged if that has
// none any more.
func (s *Store) ref(ctx context.Context, t *tx, id stdsql.NullInt64) error {
	if !id.Valid {
		return nil
	}
	n, err := s.exec(ctx, t, "UPDATE contents SET refs = refs + 1 WHERE id = ? AND refs > 0", id.Int64)
	if err == nil && n == 0 {
		err = backends.ErrChanged
	}
	return err
}

// newContent makes a row of contents without chunks.
func (s *Store) newContent(ctx context.Context, t *tx, refs int, size int64) (stdsql.NullInt64, error) {
	id := stdsql.NullInt64{Valid: true}
	err := s.row(ctx, t, "INSERT INTO contents (refs, size, touched) VALUES (?, ?, "+s.now+") RETURNING id", refs, size).Scan(&id.Int64)
	return id, err
}

// write adds chunks to a content; b begins at the chunk n.
func (s *Store) write(ctx context.Context, t *tx, id stdsql.NullInt64, n int64, b []byte) error {
	for len(b) > 0 {
		piece := b[:min(len(b), ChunkSize)]
		if _, err := s.exec(ctx, t, "INSERT INTO chunks (content, n, data) VALUES (?, ?, ?)", id.Int64, n, piece); err != nil {
			return err
		}
		b = b[len(piece):]
		n++
	}
	return nil
}

// stage writes a large content that nothing refers to yet, in transactions of
// smallSize bytes.
func (s *Store) stage(ctx context.Context, body *io.SectionReader) (id stdsql.NullInt64, err error) {
	size := body.Size()
	defer func() {
		if err != nil && id.Valid {
			s.drop([]content{{id.Int64, size}})
		}
	}()
	buf := make([]byte, smallSize)
	for off := int64(0); off < size; off += smallSize {
		b := buf[:min(size-off, smallSize)]
		if n, err := body.ReadAt(b, off); n < len(b) {
			return id, err
		}
		err := s.transact(ctx, func(t *tx) error {
			at := id
			var err error
			if !at.Valid {
				at, err = s.newContent(ctx, t, 0, size)
			} else {
				err = s.touch(ctx, t, at)
			}
			if err == nil {
				err = s.write(ctx, t, at, off/ChunkSize, b)
			}
			id = at
			return err
		})
		if err != nil {
			return id, err
		}
	}
	return id, nil
}

var errSwept = errors.New("nothing was written for an hour, and what was there has been removed")

// touch says that somebody still writes a content that nothing refers to.
func (s *Store) touch(ctx context.Context, t *tx, id stdsql.NullInt64) error {
	n, err := s.exec(ctx, t, "UPDATE contents SET touched = "+s.now+" WHERE id = ? AND refs = 0", id.Int64)
	if err == nil && n == 0 {
		err = errSwept
	}
	return err
}

// adopt makes the first reference to a content that was staged.
func (s *Store) adopt(ctx context.Context, t *tx, id stdsql.NullInt64) (stdsql.NullInt64, error) {
	n, err := s.exec(ctx, t, "UPDATE contents SET refs = 1 WHERE id = ? AND refs = 0", id.Int64)
	if err == nil && n == 0 {
		err = errSwept
	}
	return id, err
}

// drop removes contents to which nothing refers, in the background.
func (s *Store) drop(cs []content) {
	if len(cs) == 0 {
		return
	}
	s.later(func(ctx context.Context) {
		for _, c := range cs {
			if err := s.remove(ctx, c); err != nil {
				s.log.Debug("removing a content that nothing needs any more is left to the next start", "content", c.id, "err", err)
			}
		}
	})
}

// remove removes a content to which nothing refers, bit by bit, so that it keeps
// nobody waiting.
func (s *Store) remove(ctx context.Context, c content) error {
	// From here on nobody can refer to it.
	err := s.transact(ctx, func(t *tx) error {
		n, err := s.exec(ctx, t, "UPDATE contents SET refs = -1 WHERE id = ? AND refs <= 0", c.id)
		if err == nil && n == 0 {
			err = backends.ErrChanged
		}
		return err
	})
	for end := (c.size + ChunkSize - 1) / ChunkSize; err == nil && end > 0; end -= dropChunks {
		err = s.transact(ctx, func(t *tx) error {
			_, err := s.exec(ctx, t, "DELETE FROM chunks WHERE content = ? AND n >= ? AND n < ?", c.id, end-dropChunks, end)
			return err
		})
	}
	if err != nil {
		return err
	}
	return s.transact(ctx, func(t *tx) error {
		_, err := s.exec(ctx, t, "DELETE FROM contents WHERE id = ?", c.id)
		return err
	})
}

// sweep removes what ended processes have left behind.
func (s *Store) sweep(ctx context.Context) {
	left, err := s.abandoned(ctx)
	if err != nil {
		s.log.Debug("what ended processes have left in the database can't be looked for", "err", err)
		return
	}
	if len(left) > 0 {
		s.log.Info("removing what ended processes have left in the database", "contents", len(left))
	}
	s.drop(left)
}

func (s *Store) abandoned(ctx context.Context) ([]content, error) {
	rows, err := s.reads.QueryContext(ctx, s.sql("SELECT id, size FROM contents WHERE refs <= 0 AND touched < "+s.now+" - ? LIMIT 10000"), abandoned)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []content
	for rows.Next() {
		var c content
		if err := rows.Scan(&c.id, &c.size); err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, rows.Err()
}

// reader reads one content, chunk by chunk.
type reader struct {
	s        *Store
	ctx      context.Context
	name     string
	id       int64
	left     []byte // of the last chunk
	off, end int64  // what was not asked for
	closed   bool
}

func (r *reader) Read(b []byte) (int, error) {
	if r.closed {
		return 0, errClosed
	}
	if len(b) == 0 {
		return 0, nil
	}
	if len(r.left) == 0 {
		if r.off >= r.end {
			return 0, io.EOF
		}
		if err := r.next(); err != nil {
			return 0, backends.WrapPath("read", r.name, err)
		}
	}
	n := copy(b, r.left)
	r.left = r.left[n:]
	return n, nil
}

// next gets what is wanted of the chunk at r.off.
func (r *reader) next() error {
	n, skip := r.off/ChunkSize, r.off%ChunkSize
	want := min(ChunkSize-skip, r.end-r.off)
	var b []byte
	err := r.s.row(r.ctx, r.s.reads, "SELECT substr(data, ?, ?) FROM chunks WHERE content = ? AND n = ?", int(skip)+1, int(want), r.id, n).Scan(&b)
	switch {
	case errors.Is(err, stdsql.ErrNoRows):
		return backends.ErrChanged // and removed meanwhile
	case err != nil:
		return r.s.known(r.ctx, err)
	case int64(len(b)) != want:
		return errDamaged
	}
	r.left = b
	r.off += want
	return nil
}

func (r *reader) Close() error {
	r.closed = true
	return nil
}

var (
	errClosed  = errors.New("the reader is closed")
	errDamaged = errors.New("the database has a chunk that is too short")
)

// now is the time of a change, as it is kept.
func now() int64 { return time.Now().UnixNano() }
