package protocol

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
)

// The orders of a Glob.
const (
	ByPath = "path" // the bytes of the path
	ByTime = "time" // the last changed first
)

// GlobOptions modify a Glob.
type GlobOptions struct {
	// Hidden lets names that begin with a dot be matched by any pattern;
	// otherwise only by a part of it that begins with a dot, too.
	Hidden bool
	// Sort is ByPath, which "" is too and which is streamed, or ByTime, for
	// which everything has to be found first.
	Sort string
	// Limit is how many matches to return at most; 0 means all.
	Limit int64
}

// GlobResult says what a Glob found.
type GlobResult struct {
	Matches int64 `json:"matches" jsonschema:"how many are returned"`
	// Truncated reports that there are more matches than the limit.
	Truncated bool `json:"truncated,omitempty" jsonschema:"there are more than the limit allowed; narrow the pattern or raise the limit"`
	Failures
}

// Glob calls emit for what matches the pattern glob in the tree below the
// directory dir. A pattern without a slash is compared with the last element of
// a path, at any depth; one with a slash with the path relative to dir; one that
// begins with a slash with the path from the root, whatever dir is. One that
// ends in a slash matches directories only. What is fixed at the beginning of a
// pattern is asked of the store and not searched.
//
// A part of the tree that can't be looked into is among the Failures of the
// result. Glob ends with emit's first error.
func (t *Tree) Glob(ctx context.Context, glob, dir string, o GlobOptions, emit func(Item) error) (GlobResult, error) {
	var res GlobResult
	s, err := t.newSearch(glob, dir)
	if err != nil {
		return res, err
	}
	if o.Sort != "" && o.Sort != ByPath && o.Sort != ByTime {
		return res, invalid("%q is no order; there are path and time", o.Sort)
	}
	s.hidden = o.Hidden
	var kept []Item // to be sorted by time
	keep := emit
	if o.Sort == ByTime {
		keep = func(it Item) error {
			kept = append(kept, it)
			if o.Limit > 0 && int64(len(kept)) >= 2*o.Limit+1000 {
				res.Truncated = true
				kept = latest(kept, o.Limit)
			}
			return nil
		}
	}
	for e, err := range s.find(ctx) {
		var root rootError
		switch {
		case errors.As(err, &root):
			return res, root.error
		case ctx.Err() != nil:
			return res, ctx.Err()
		case err != nil:
			res.add(Path(s.root, true), err)
			continue
		case o.Sort != ByTime && o.Limit > 0 && res.Matches == o.Limit:
			res.Truncated = true
			return res, nil
		}
		res.Matches++
		if err := keep(itemOf(e)); err != nil {
			return res, err
		}
	}
	if o.Sort == ByTime {
		res.Truncated = res.Truncated || o.Limit > 0 && res.Matches > o.Limit
		kept = latest(kept, o.Limit)
		res.Matches = int64(len(kept))
	}
	for _, it := range kept {
		if err := emit(it); err != nil {
			return res, err
		}
	}
	return res, ctx.Err()
}

// latest returns the limit items that changed last, in that order; 0 is all.
func latest(items []Item, limit int64) []Item {
	slices.SortStableFunc(items, func(a, b Item) int {
		return cmp.Or(b.ModTime.Compare(a.ModTime), cmp.Compare(a.Path, b.Path))
	})
	if limit > 0 && int64(len(items)) > limit {
		items = items[:limit]
	}
	return items
}

// newSearch returns a search for glob below dir.
func (t *Tree) newSearch(glob, dir string) (search, error) {
	if strings.HasPrefix(glob, "/") {
		dir = "/"
		if glob = strings.TrimLeft(glob, "/"); !strings.Contains(glob, "/") {
			glob = "./" + glob // a slash was there: not a pattern for any depth
		}
	}
	root, err := Name(dir)
	if err != nil {
		return search{}, err
	}
	pat, err := parsePattern(glob)
	if err != nil {
		return search{}, err
	}
	return search{tree: t, root: root, pat: pat}, nil
}
