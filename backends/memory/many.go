package memory

import (
	"context"
	"slices"

	"github.com/agentfs/agentfs/backends"
)

// RemoveMany implements [backends.ManyRemover]: as without it, one after the
// other, but for what it knows of earlier operations.
func (s *Store) RemoveMany(ctx context.Context, rs []backends.Removal) []error {
	rs = slices.Clone(rs)
	for i, r := range rs {
		if r.If.Match == "" || len(r.Earlier) == 0 {
			continue
		}
		if _, version, op := s.written(r.Name); slices.Contains(r.Earlier, op) {
			rs[i].If.Match = version
		}
	}
	return backends.RemoveMany(ctx, struct{ backends.Store }{s}, rs)
}

// pageSize is how many entries a page of a walk has: as many as S3's.
const pageSize = 1000

// WalkPage implements [backends.PageWalker].
func (s *Store) WalkPage(ctx context.Context, dir, after string) (backends.Page, error) {
	return backends.PageOf(backends.Walk(ctx, s, dir, after), pageSize)
}

// StatWalk implements [backends.StatWalker].
func (s *Store) StatWalk(ctx context.Context, name string) (backends.Entry, backends.Page, error) {
	e, err := s.Stat(ctx, name)
	if err != nil || !e.IsDir() {
		return e, backends.Page{}, err
	}
	p, err := s.WalkPage(ctx, name, "")
	return e, p, err
}
