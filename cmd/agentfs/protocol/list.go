package protocol

import (
	"context"
	"io/fs"
	"iter"
	"path"
	"slices"

	"github.com/agentfs/agentfs/backends"
)

// List yields the direct children of the directory p, or p itself if it is no
// directory. It ends after yielding an error.
func List(ctx context.Context, s backends.Store, p string) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		name, err := Name(p)
		if err != nil {
			yield(Item{}, err)
			return
		}
		e, err := s.Stat(ctx, name)
		if err != nil {
			yield(Item{}, err)
			return
		}
		if !e.IsDir() {
			yield(itemOf(e), nil)
			return
		}
		for e, err := range s.List(ctx, name, "") {
			if err != nil {
				yield(Item{}, err)
				return
			}
			if !yield(itemOf(e), nil) {
				return
			}
		}
	}
}

// walk yields everything below the directory name in [backends.Walk]'s order,
// the directories included that the store's own walk may leave out because
// they are there only for what lies below them.
func walk(ctx context.Context, s backends.Store, name string) iter.Seq2[backends.Entry, error] {
	return func(yield func(backends.Entry, error) bool) {
		// open are the directories above the last entry, outermost first. In
		// this order everything below a directory comes in one run, so a
		// directory that has been left can't come again.
		var open []string
		for e, err := range backends.Walk(ctx, s, name, "") {
			if err != nil {
				yield(backends.Entry{}, err)
				return
			}
			var implied []string
			open, implied = enter(open, name, e)
			for _, d := range implied {
				if !yield(backends.Entry{Name: d, Mode: fs.ModeDir}, nil) {
					return
				}
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// enter returns the chain of directories that e lies in (e itself included, if
// it is one) and those of them above e that are not in open: the ones that the
// walk did not name.
func enter(open []string, root string, e backends.Entry) (chain, implied []string) {
	for d := path.Dir(e.Name); d != root && d != "."; d = path.Dir(d) {
		chain = append(chain, d)
	}
	slices.Reverse(chain)
	for _, d := range chain {
		if !slices.Contains(open, d) {
			implied = append(implied, d)
		}
	}
	if e.IsDir() {
		chain = append(chain, e.Name)
	}
	return chain, implied
}
