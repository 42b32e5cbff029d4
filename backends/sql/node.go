package sql

import (
	"context"
	stdsql "database/sql"
	"errors"
	"io/fs"
	"strings"
	"time"

	"github.com/agentfs/agentfs/backends"
)

// node is a row of nodes.
type node struct {
	path      string
	key       string // path, and a slash if it is a directory
	size      int64
	mtime     int64 // nanoseconds since 1970
	version   backends.Version
	operation string
	content   stdsql.NullInt64 // none of an empty file
}

const columns = "path, key, size, mtime, version, operation, content"

func (n *node) scan(row interface{ Scan(...any) error }) error {
	// Both databases have bytes there.
	var path, key []byte
	err := row.Scan(&path, &key, &n.size, &n.mtime, &n.version, &n.operation, &n.content)
	n.path, n.key = string(path), string(key)
	return err
}

func (n *node) isDir() bool { return strings.HasSuffix(n.key, "/") }

func (n *node) entry() backends.Entry {
	e := backends.Entry{Name: n.path, ModTime: time.Unix(0, n.mtime)}
	if n.isDir() {
		e.Mode = fs.ModeDir
		return e
	}
	e.Size, e.Version, e.Operation = n.size, n.version, n.operation
	return e
}

// node returns the row of a path, nil if there is none. lock is one of the
// dialect's suffixes, or "".
func (s *Store) node(ctx context.Context, q querier, path, lock string) (*node, error) {
	n := &node{}
	err := n.scan(s.row(ctx, q, "SELECT "+columns+" FROM nodes WHERE path = ?"+lock, []byte(path)))
	if errors.Is(err, stdsql.ErrNoRows) {
		return nil, nil
	}
	return n, err
}

// insert makes a row, unless there is one of its path.
func (s *Store) insert(ctx context.Context, t *tx, n *node) (bool, error) {
	rows, err := s.exec(ctx, t, "INSERT INTO nodes (parent, "+columns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
		[]byte(parentOf(n.path)), []byte(n.path), []byte(n.key), n.size, n.mtime, string(n.version), n.operation, n.content)
	return rows == 1, err
}

// delete removes rows, which are locked, and what they referred to.
func (s *Store) delete(ctx context.Context, t *tx, nodes ...*node) error {
	if len(nodes) == 0 {
		return nil
	}
	var paths []any
	var ids []stdsql.NullInt64
	for _, n := range nodes {
		paths = append(paths, []byte(n.path))
		ids = append(ids, n.content)
	}
	if _, err := s.exec(ctx, t, "DELETE FROM nodes WHERE path IN ("+holes(len(paths))+")", paths...); err != nil {
		return err
	}
	return s.unref(ctx, t, ids...)
}

// newDir is the row of a directory that is made now.
func newDir(path string) *node {
	return &node{path: path, key: path + "/", mtime: time.Now().UnixNano()}
}

// directory makes sure that the directory at path is there, making it and its
// parents if need be, and stays until the end of the transaction.
func (s *Store) directory(ctx context.Context, t *tx, path string) error {
	for path != "" {
		n, err := s.node(ctx, t, path, s.forKeyShare)
		switch {
		case err != nil:
			return err
		case n != nil && !n.isDir():
			return backends.ErrNotDir
		case n != nil:
			return nil
		}
		if err := s.directory(ctx, t, parentOf(path)); err != nil {
			return err
		}
		// If somebody else makes it, this waits until that is over and looks again.
		if made, err := s.insert(ctx, t, newDir(path)); made || err != nil {
			return err
		}
	}
	return nil
}

// hasChildren reports whether something is in the directory at path, which is
// locked.
func (s *Store) hasChildren(ctx context.Context, q querier, path string) (bool, error) {
	var one int
	err := s.row(ctx, q, "SELECT 1 FROM nodes WHERE parent = ? LIMIT 1", []byte(path)).Scan(&one)
	if errors.Is(err, stdsql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// met checks the precondition of a change that puts something at the place of
// old, nil if there is nothing. done is that of [backends.PutOptions.Check].
func met(old *node, opts backends.PutOptions) (done bool, err error) {
	if old == nil {
		return opts.Check(nil)
	}
	e := old.entry()
	return opts.Check(&e)
}

// place gives a path to the file n, whose content fill says and refers to, if
// the precondition holds. It returns the row that has the path then.
func (s *Store) place(ctx context.Context, t *tx, n *node, opts backends.PutOptions, fill func() (stdsql.NullInt64, error)) (*node, error) {
	filled := false
	for {
		old, err := s.node(ctx, t, n.path, s.forUpdate)
		if err != nil {
			return nil, err
		}
		if done, err := met(old, opts); done || err != nil {
			return old, err
		}
		if old == nil {
			if err := s.directory(ctx, t, parentOf(n.path)); err != nil {
				return nil, err
			}
		}
		if !filled {
			if n.content, err = fill(); err != nil {
				return nil, err
			}
			filled = true
		}
		if old == nil {
			made, err := s.insert(ctx, t, n)
			if err != nil {
				return nil, err
			}
			if made {
				return n, nil
			}
			continue // somebody else was at this name
		}
		_, err = s.exec(ctx, t, "UPDATE nodes SET size = ?, mtime = ?, version = ?, operation = ?, content = ? WHERE path = ?",
			n.size, n.mtime, string(n.version), n.operation, n.content, []byte(n.path))
		if err != nil {
			return nil, err
		}
		return n, s.unref(ctx, t, old.content)
	}
}
