package sql

import (
	"context"
	stdsql "database/sql"
	"errors"
	"fmt"
)

// DB is the database, for tests that look into it.
func (s *Store) DB() *stdsql.DB { return s.writes }

// SQL returns a statement in the database's form.
func (s *Store) SQL(query string) string { return s.sql(query) }

// Stage writes a content that nothing refers to and that was touched so many
// seconds ago.
func (s *Store) Stage(ctx context.Context, size, age int64) (int64, error) {
	if err := s.prepare(ctx); err != nil {
		return 0, err
	}
	var id int64
	err := s.transact(ctx, func(t *tx) error {
		c, err := s.newContent(ctx, t, 0, size)
		if err == nil {
			err = s.write(ctx, t, c, 0, make([]byte, size))
		}
		if err == nil {
			_, err = s.exec(ctx, t, "UPDATE contents SET touched = touched - ? WHERE id = ?", age, c.Int64)
		}
		id = c.Int64
		return err
	})
	return id, err
}

// Wait waits until nothing is done in the background.
func (s *Store) Wait() { s.background.Wait() }

// CheckIntegrity returns what is wrong with the tables: names without a
// directory, contents without the right number of references or of chunks.
func (s *Store) CheckIntegrity(ctx context.Context) error {
	var errs []error
	for what, query := range map[string]string{
		"a name has no directory":           "SELECT count(*) FROM nodes n WHERE parent <> ? AND NOT EXISTS (SELECT 1 FROM nodes d WHERE d.path = n.parent AND d.path <> d.key)",
		"a file has a directory's key":      "SELECT count(*) FROM nodes WHERE (version = '') = (path = key) AND path <> ?",
		"a content has wrong references":    "SELECT count(*) FROM contents c WHERE refs <> (SELECT count(*) FROM nodes n WHERE n.content = c.id AND n.path <> ?)",
		"a file has no content":             "SELECT count(*) FROM nodes n WHERE content IS NOT NULL AND path <> ? AND NOT EXISTS (SELECT 1 FROM contents c WHERE c.id = n.content AND c.size = n.size)",
		"a content has wrong chunks":        "SELECT count(*) FROM contents c WHERE size <> (SELECT coalesce(sum(length(data)), 0) FROM chunks WHERE content = c.id AND data <> ?)",
		"a chunk is of no content":          "SELECT count(*) FROM chunks k WHERE data <> ? AND NOT EXISTS (SELECT 1 FROM contents c WHERE c.id = k.content)",
		"a content is there without a name": "SELECT count(*) FROM contents c WHERE NOT EXISTS (SELECT 1 FROM nodes n WHERE n.content = c.id AND n.path <> ?)",
	} {
		var n int
		if err := s.row(ctx, s.reads, query, []byte{}).Scan(&n); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		} else if n > 0 {
			errs = append(errs, fmt.Errorf("%s: %d", what, n))
		}
	}
	return errors.Join(errs...)
}

// The queries of a listing and a walk, for tests that ask how they are done.
const (
	ListQuery = listQuery
	WalkQuery = walkQuery
)
