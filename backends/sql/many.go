package sql

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/agentfs/agentfs/backends"
)

// maxRemovals is how many removals one transaction makes.
const maxRemovals = 500

// RemoveMany implements [backends.ManyRemover]. What is below a directory comes
// before it in the reverse order of the names, which is that in which rows are
// locked, so that two of these don't wait for each other.
func (s *Store) RemoveMany(ctx context.Context, rs []backends.Removal) []error {
	errs := make([]error, len(rs))
	var order []int
	for i, r := range rs {
		errs[i] = checkName("remove", r.Name)
		if r.Name == "." {
			errs[i] = backends.WrapPath("remove", r.Name, backends.ErrBusy)
		}
		if errs[i] == nil {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return strings.Compare(rs[b].Name, rs[a].Name) })
	for batch := range slices.Chunk(order, maxRemovals) {
		// The transaction may be made again, and says everything anew then.
		err := s.change(ctx, "remove", rs[batch[0]].Name, func(t *tx) error { return s.removeBatch(ctx, t, rs, batch, errs) })
		for _, i := range batch {
			if err != nil {
				errs[i] = backends.WrapPath("remove", rs[i].Name, errors.Unwrap(err))
			} else {
				errs[i] = backends.WrapPath("remove", rs[i].Name, errs[i])
			}
		}
	}
	return errs
}

// removeBatch makes the removals of these numbers. Its own error is that of the
// transaction.
func (s *Store) removeBatch(ctx context.Context, t *tx, rs []backends.Removal, batch []int, errs []error) error {
	nodes, err := s.lockBatch(ctx, t, rs, batch)
	if err != nil {
		return err
	}
	// Files first, in one statement each; then directories, the deepest before
	// what they are in.
	var files []*node
	for _, i := range batch {
		r, n := rs[i], nodes[rs[i].Name]
		errs[i] = nil
		switch {
		case n == nil:
			errs[i] = fs.ErrNotExist
		case n.isDir():
		default:
			cond := r.If
			if r.Dir {
				cond = backends.If{}
			}
			if errs[i] = removable(n, cond, r.Earlier); errs[i] == nil {
				files = append(files, n)
			}
		}
		if n != nil && !n.isDir() {
			delete(nodes, r.Name) // twice in a batch, it is gone at the second time
		}
	}
	if err := s.delete(ctx, t, files...); err != nil {
		return err
	}
	for _, i := range batch {
		n := nodes[rs[i].Name]
		if n == nil {
			continue
		}
		cond := rs[i].If
		if rs[i].Dir {
			cond = backends.If{}
		}
		switch errs[i] = s.removeDir(ctx, t, n, cond); errs[i] {
		case nil:
			delete(nodes, n.path)
		case backends.ErrChanged, backends.ErrNotEmpty:
		default:
			return errs[i]
		}
	}
	return nil
}

// lockBatch returns the rows of a batch, locked, by their paths.
func (s *Store) lockBatch(ctx context.Context, t *tx, rs []backends.Removal, batch []int) (map[string]*node, error) {
	var paths []any
	for _, i := range batch {
		paths = append(paths, []byte(rs[i].Name))
	}
	rows, err := t.QueryContext(ctx, s.sql("SELECT "+columns+" FROM nodes WHERE path IN ("+holes(len(paths))+") ORDER BY path DESC"+s.forUpdate), paths...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	nodes := map[string]*node{}
	for rows.Next() {
		n := &node{}
		if err := n.scan(rows); err != nil {
			return nil, err
		}
		nodes[n.path] = n
	}
	return nodes, rows.Err()
}
