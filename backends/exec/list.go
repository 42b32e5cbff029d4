package exec

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/agentfs/agentfs/backends"
)

// pageSize is how many entries of a listing are asked for at once.
const pageSize = 1000

// List implements [backends.Store].
func (s *Store) List(ctx context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	return s.pages(ctx, "list", dir, after, func(e backends.Entry) (string, bool) {
		parent, base := "", e.Name
		if i := strings.LastIndexByte(e.Name, '/'); i >= 0 {
			parent, base = e.Name[:i], e.Name[i+1:]
		}
		return e.Key(), base != "" && (parent == dir || parent == "" && dir == ".")
	})
}

// Walk implements [backends.Walker] for programs with that feature.
func (s *Store) Walk(ctx context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	return func(yield func(backends.Entry, error) bool) {
		if err := checkName("walk", dir); err != nil {
			yield(backends.Entry{}, err)
			return
		}
		if _, err := s.with(ctx, "walk", dir, featureWalk); err != nil {
			yield(backends.Entry{}, err)
			return
		}
		s.pages(ctx, "walk", dir, after, func(e backends.Entry) (string, bool) {
			key := e.Name
			if e.IsDir() {
				key += "/"
			}
			return key, dir == "." || strings.HasPrefix(e.Name, dir+"/")
		})(yield)
	}
}

// pages yields what the pages of a listing have. place says by which key an
// entry is sorted and whether it may be in the listing at all.
func (s *Store) pages(ctx context.Context, op, dir, after string, place func(backends.Entry) (key string, ok bool)) iter.Seq2[backends.Entry, error] {
	return func(yield func(backends.Entry, error) bool) {
		last := after
		for {
			a, err := s.ask(ctx, op, request{Op: op, Name: dir, After: last, Limit: pageSize})
			if err == nil && a.More && len(a.Entries) == 0 {
				err = wrap(op, dir, errors.New("the program answers with a page that is empty and not the last"))
			}
			for i := 0; err == nil && i < len(a.Entries); i++ {
				var e backends.Entry
				if e, last, err = nextEntry(a.Entries[i], last, place); err == nil && !yield(e, nil) {
					return
				}
				err = wrap(op, dir, err)
			}
			if err != nil {
				yield(backends.Entry{}, err)
				return
			}
			if !a.More {
				return
			}
		}
	}
}

// nextEntry checks an entry of a listing that follows the key last.
func nextEntry(raw entry, last string, place func(backends.Entry) (string, bool)) (e backends.Entry, key string, err error) {
	if e, err = raw.decode(); err != nil {
		return e, "", err
	}
	key, ok := place(e)
	switch {
	case !ok || checkName("list", e.Name) != nil:
		return e, "", fmt.Errorf("the program lists %.300q, which doesn't belong there", e.Name)
	case key <= last:
		return e, "", fmt.Errorf("the program lists %.300q after %.300q; the order is that of the bytes, with a slash after a directory's name", key, last)
	}
	return e, key, nil
}
