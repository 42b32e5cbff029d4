package sql

import (
	"context"
	"io"
	"io/fs"
	"iter"
	"time"

	"github.com/agentfs/agentfs/backends"
)

// The queries of listings, each of one range of an index. What follows the key
// of the last parameter but one is wanted.
const (
	listQuery    = "SELECT " + columns + " FROM nodes WHERE parent = ? AND key > ? ORDER BY key LIMIT ?"
	walkQuery    = "SELECT " + columns + " FROM nodes WHERE key < ? AND key > ? ORDER BY key LIMIT ?"
	walkAllQuery = "SELECT " + columns + " FROM nodes WHERE key > ? ORDER BY key LIMIT ?"
)

// pageSize is how many rows of a listing are asked for at once.
const pageSize = 1000

// find returns the row of name, which is not the root.
func (s *Store) find(ctx context.Context, op, name string) (*node, error) {
	n, err := s.node(ctx, s.reads, pathOf(name), "")
	switch {
	case err != nil:
		err = s.known(ctx, err)
	case n == nil:
		err = fs.ErrNotExist
	}
	return n, backends.WrapPath(op, name, err)
}

// ready checks name and makes sure that the tables are there.
func (s *Store) ready(ctx context.Context, op, name string) error {
	if err := checkName(op, name); err != nil {
		return err
	}
	return backends.WrapPath(op, name, s.prepare(ctx))
}

// Stat implements [backends.Store].
func (s *Store) Stat(ctx context.Context, name string) (backends.Entry, error) {
	if err := s.ready(ctx, "stat", name); err != nil {
		return backends.Entry{}, err
	}
	if name == "." {
		return backends.Entry{Name: ".", Mode: fs.ModeDir, ModTime: time.Unix(0, 0)}, nil
	}
	n, err := s.find(ctx, "stat", name)
	if err != nil {
		return backends.Entry{}, err
	}
	return n.entry(), nil
}

// List implements [backends.Store].
func (s *Store) List(ctx context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	return s.pages(ctx, "list", dir, below(dir)+after, listQuery, []byte(pathOf(dir)))
}

// Walk implements [backends.Walker].
func (s *Store) Walk(ctx context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	prefix := below(dir)
	if prefix == "" {
		return s.pages(ctx, "walk", dir, after, walkAllQuery)
	}
	return s.pages(ctx, "walk", dir, max(after, prefix), walkQuery, []byte(beyond(prefix)))
}

// below returns what the paths of all that is in dir begin with.
func below(dir string) string {
	if dir == "." {
		return ""
	}
	return dir + "/"
}

// beyond returns the first key after all that begin with prefix, which ends with
// a slash.
func beyond(prefix string) string { return prefix[:len(prefix)-1] + "0" }

// pages yields the rows of a query whose last parameters are the key that they
// follow and their number.
func (s *Store) pages(ctx context.Context, op, dir, after, query string, args ...any) iter.Seq2[backends.Entry, error] {
	return func(yield func(backends.Entry, error) bool) {
		if err := s.ready(ctx, op, dir); err != nil {
			yield(backends.Entry{}, err)
			return
		}
		last := after
		for first := true; ; first = false {
			page, err := s.page(ctx, query, append(args[:len(args):len(args)], []byte(last), pageSize))
			if err == nil && first && len(page) == 0 {
				err = s.checkDir(ctx, op, dir)
			}
			if err != nil {
				yield(backends.Entry{}, backends.WrapPath(op, dir, err))
				return
			}
			for i := range page {
				if !yield(page[i].entry(), nil) {
					return
				}
			}
			if len(page) < pageSize {
				return
			}
			last = page[len(page)-1].key
		}
	}
}

func (s *Store) page(ctx context.Context, query string, args []any) ([]node, error) {
	rows, err := s.reads.QueryContext(ctx, s.sql(query), args...)
	if err != nil {
		return nil, s.known(ctx, err)
	}
	defer rows.Close()
	var page []node
	for rows.Next() {
		var n node
		if err := n.scan(rows); err != nil {
			return nil, s.known(ctx, err)
		}
		page = append(page, n)
	}
	return page, s.known(ctx, rows.Err())
}

// checkDir returns what is wrong with dir if it is no directory.
func (s *Store) checkDir(ctx context.Context, op, dir string) error {
	if dir == "." {
		return nil
	}
	n, err := s.find(ctx, op, dir)
	if err == nil && !n.isDir() {
		err = backends.ErrNotDir
	}
	return err
}

// Open implements [backends.Store].
func (s *Store) Open(ctx context.Context, name string, r backends.Range, cond backends.If) (io.ReadCloser, backends.Entry, error) {
	fail := func(err error) (io.ReadCloser, backends.Entry, error) {
		return nil, backends.Entry{}, backends.WrapPath("open", name, err)
	}
	if err := s.ready(ctx, "open", name); err != nil {
		return fail(err)
	}
	if name == "." {
		return fail(backends.ErrIsDir)
	}
	n, err := s.find(ctx, "open", name)
	switch {
	case err != nil:
		return fail(err)
	case n.isDir():
		return fail(backends.ErrIsDir)
	case cond.Match != "" && n.version != cond.Match:
		return fail(backends.ErrChanged)
	}
	rd := &reader{s: s, ctx: ctx, name: name, id: n.content.Int64, off: r.Off, end: n.size}
	if r.Len > 0 && r.Len < n.size-r.Off {
		rd.end = r.Off + r.Len
	}
	return rd, n.entry(), nil
}
