package sql

import (
	"context"
	stdsql "database/sql"
	"errors"
	"fmt"
)

// The formats of the tables, one after the other: each has the statements that
// make it of the one before. The table agentfs says which the database has.
var (
	sqliteFormats = [][]string{{
		`CREATE TABLE nodes (
			path BLOB NOT NULL PRIMARY KEY,
			parent BLOB NOT NULL,
			key BLOB NOT NULL UNIQUE,
			size INTEGER NOT NULL,
			mtime INTEGER NOT NULL,
			version TEXT NOT NULL,
			operation TEXT NOT NULL,
			content INTEGER)`,
		`CREATE INDEX nodes_children ON nodes (parent, key)`,
		`CREATE TABLE contents (
			id INTEGER PRIMARY KEY AUTOINCREMENT,
			refs INTEGER NOT NULL,
			size INTEGER NOT NULL,
			touched INTEGER NOT NULL)`,
		`CREATE INDEX contents_unused ON contents (touched) WHERE refs <= 0`,
		`CREATE TABLE chunks (
			content INTEGER NOT NULL,
			n INTEGER NOT NULL,
			data BLOB NOT NULL,
			PRIMARY KEY (content, n))`,
	}}
	postgresFormats = [][]string{{
		`CREATE TABLE nodes (
			path bytea NOT NULL PRIMARY KEY,
			parent bytea NOT NULL,
			key bytea NOT NULL UNIQUE,
			size bigint NOT NULL,
			mtime bigint NOT NULL,
			version text NOT NULL,
			operation text NOT NULL,
			content bigint)`,
		`CREATE INDEX nodes_children ON nodes (parent, key)`,
		`CREATE TABLE contents (
			id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
			refs bigint NOT NULL,
			size bigint NOT NULL,
			touched bigint NOT NULL)`,
		`CREATE INDEX contents_unused ON contents (touched) WHERE refs <= 0`,
		`CREATE TABLE chunks (
			content bigint NOT NULL,
			n bigint NOT NULL,
			data bytea NOT NULL,
			PRIMARY KEY (content, n))`,
		// Uncompressed, so that a range is cut out without reading the rest.
		`ALTER TABLE chunks ALTER COLUMN data SET STORAGE EXTERNAL`,
	}}
)

// prepare makes sure that the tables are there, in the format that this program
// knows. What has failed is tried again by the next call.
func (s *Store) prepare(ctx context.Context) error {
	if s.prepared.Load() {
		return nil
	}
	select {
	case s.preparing <- struct{}{}:
		defer func() { <-s.preparing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if s.prepared.Load() {
		return nil
	}
	if err := s.transact(ctx, func(t *tx) error { return s.migrate(ctx, t) }); err != nil {
		return err
	}
	s.prepared.Store(true)
	s.later(s.sweep)
	return nil
}

// migrate brings the tables to the format that this program knows.
func (s *Store) migrate(ctx context.Context, t *tx) error {
	have, err := s.format(ctx, t)
	if err != nil {
		return err
	}
	if have > len(s.formats) {
		return fmt.Errorf("the database has format %d and this agentfs knows %d; use a newer one", have, len(s.formats))
	}
	if have == len(s.formats) {
		return nil
	}
	var all []string
	if have == 0 {
		all = append(all, "CREATE TABLE agentfs (format bigint NOT NULL)", "INSERT INTO agentfs VALUES (0)")
	}
	for _, f := range s.formats[have:] {
		all = append(all, f...)
	}
	for _, stmt := range append(all, fmt.Sprintf("UPDATE agentfs SET format = %d", len(s.formats))) {
		if _, err := s.exec(ctx, t, stmt); err != nil {
			return err
		}
	}
	return nil
}

// migrateLock is the number of the advisory lock of PostgreSQL under which the
// tables are made.
const migrateLock = 0x6167656e746673 // "agentfs"

// format returns the format that the database has, 0 if it has none yet.
func (s *Store) format(ctx context.Context, t *tx) (int, error) {
	tables, ours := 0, 0
	if s.schema == "" {
		const count = "SELECT count(*), count(CASE WHEN name = 'agentfs' THEN 1 END) FROM sqlite_master WHERE type = 'table'"
		if err := s.row(ctx, t, count).Scan(&tables, &ours); err != nil {
			return 0, err
		}
	} else {
		const count = "SELECT count(*), count(CASE WHEN tablename = 'agentfs' THEN 1 END) FROM pg_tables WHERE schemaname = ?"
		if err := s.row(ctx, t, count, s.schema).Scan(&tables, &ours); err != nil {
			return 0, err
		}
		if ours == 0 {
			// Somebody else may be at it: look again when it is this one's turn.
			if _, err := s.exec(ctx, t, "SELECT pg_advisory_xact_lock(?)", int64(migrateLock)); err != nil {
				return 0, err
			}
			if err := s.row(ctx, t, count, s.schema).Scan(&tables, &ours); err != nil {
				return 0, err
			}
		}
		if err := s.makeSchema(ctx, t); err != nil {
			return 0, err
		}
	}
	switch {
	case ours == 1:
		var n int
		err := s.row(ctx, t, "SELECT format FROM agentfs").Scan(&n)
		return n, err
	case tables > 0:
		return 0, errors.New("the database has tables, but not those of agentfs; name another one, or another schema")
	}
	return 0, nil
}

// makeSchema makes the schema unless it is there. Who may not make any can use
// one that is.
func (s *Store) makeSchema(ctx context.Context, t *tx) error {
	var there int
	err := s.row(ctx, t, "SELECT 1 FROM pg_namespace WHERE nspname = ?", s.schema).Scan(&there)
	if errors.Is(err, stdsql.ErrNoRows) {
		_, err = s.exec(ctx, t, `CREATE SCHEMA "`+s.schema+`"`)
	}
	return err
}
