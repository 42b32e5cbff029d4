package protocol

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"

	"github.com/agentfs/agentfs/backends"
)

// search is a pattern at work below a directory.
type search struct {
	tree   *Tree
	root   string // the directory that the pattern is relative to
	pat    pattern
	hidden bool
}

// area is a part of the tree in which matches can be: what lies in dir and
// begins with prefix.
type area struct {
	dir, prefix string
	pat         pattern // those of the alternatives that are about it
}

type entries = iter.Seq2[backends.Entry, error]

// find yields what matches, in the order of paths. It goes on after yielding the
// error of a part of the tree; that of the root itself is a rootError.
func (s search) find(ctx context.Context) entries {
	return func(yield func(backends.Entry, error) bool) {
		for _, a := range s.areas() {
			in := s
			in.pat = a.pat
			for e, err := range in.area(ctx, a) {
				switch {
				case err != nil && missing(err) && about(err, a.dir):
					if a.dir != s.root {
						continue // nothing is there that could match
					}
					yield(e, rootError{err})
					return
				case err == nil && s.pat.dirs && !e.IsDir():
					continue
				}
				if !yield(e, err) {
					return
				}
			}
		}
	}
}

// rootError means that the directory to search in is not there.
type rootError struct{ error }

func (e rootError) Unwrap() error { return e.error }

// missing reports whether err says that a directory isn't there, or something
// else is in its place.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, backends.ErrNotDir)
}

// about reports whether err is about name itself.
func about(err error, name string) bool {
	var pe *fs.PathError
	return errors.As(err, &pe) && pe.Path == name
}

// areas returns where matches can be, by what is fixed in the alternatives, in
// the order of paths and without overlaps.
func (s search) areas() []area {
	var all []area
	for _, a := range s.pat.alts {
		dir, prefix := path.Split(a.fixed)
		in := area{dir: path.Join(s.root, path.Clean("/" + dir)[1:]), prefix: prefix, pat: s.pat}
		in.pat.alts = []alternative{a}
		all = append(all, in)
	}
	slices.SortStableFunc(all, func(a, b area) int { return cmp.Compare(walkKey(a.dir), walkKey(b.dir)) })
	merged := all[:1]
	for _, a := range all[1:] {
		last := &merged[len(merged)-1]
		if last.dir != "." && a.dir != last.dir && !strings.HasPrefix(a.dir, last.dir+"/") {
			merged = append(merged, a)
			continue
		}
		if a.dir != last.dir {
			first, _, _ := strings.Cut(relative(last.dir, a.dir), "/")
			a.prefix = first + "/"
		}
		last.prefix = common(last.prefix, a.prefix)
		last.pat.alts = append(last.pat.alts, a.pat.alts...)
	}
	return merged
}

// walkKey is what sorts a directory in a walk.
func walkKey(dir string) string {
	if dir == "." {
		return ""
	}
	return dir + "/"
}

// common returns what a and b both begin with.
func common(a, b string) string {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return a[:n]
}

// area yields the matches in an area.
func (s search) area(ctx context.Context, a area) entries {
	if depth := s.pat.depth(); depth > 0 {
		return s.levels(ctx, a, depth)
	}
	return func(yield func(backends.Entry, error) bool) {
		prefix := a.prefix
		if a.dir != "." {
			prefix = a.dir + "/" + prefix
		}
		for e, err := range s.tree.walk(ctx, a.dir, before(prefix)) {
			switch {
			case err != nil:
			case !strings.HasPrefix(e.Name, prefix):
				if orderKey(e) > prefix {
					return
				}
				continue
			case !s.pat.match(relative(s.root, e.Name), s.hidden):
				continue
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// before returns a name that sorts before everything that begins with prefix
// and after nearly everything else that does: where a listing is to begin.
func before(prefix string) string {
	if prefix == "" {
		return ""
	}
	last := prefix[len(prefix)-1]
	if last <= ' '+1 || last > '~' || last == '/' {
		// Not worth a bound of its own, or no character that can be stepped
		// down by one.
		i := strings.LastIndexByte(prefix[:len(prefix)-1], '/')
		return prefix[:i+1]
	}
	if last--; last == '/' {
		last-- // a slash would be another directory
	}
	return prefix[:len(prefix)-1] + string(rune(last)) + "\U0010FFFD"
}

// listed is what one directory has to offer.
type listed struct {
	matches []backends.Entry
	dirs    []string
	err     error
}

// levels lists directory after directory, those of a level side by side, and
// goes on only below what the pattern leads to, so that a pattern of known depth
// costs nothing where it can't match.
func (s search) levels(ctx context.Context, a area, depth int) entries {
	return func(yield func(backends.Entry, error) bool) {
		// Matches of different depths come in another order than that of paths.
		mixed := slices.ContainsFunc(s.pat.alts, func(b alternative) bool { return len(b.segs) != depth })
		var kept []backends.Entry
		dirs := []string{a.dir}
		for prefix := a.prefix; len(dirs) > 0; prefix = "" {
			if len(dirs) == 1 {
				var next []string
				for e, err := range s.list(ctx, dirs[0], prefix, &next) {
					switch {
					case err == nil && mixed:
						kept = append(kept, e)
						continue
					case err != nil && missing(err) && dirs[0] != a.dir:
						continue // removed since it was listed
					}
					if !yield(e, err) {
						return
					}
				}
				dirs = next
				continue
			}
			var next []string
			for l := range inOrder(ctx, s.tree.parallel(), slices.Values(dirs), func(ctx context.Context, dir string) (l listed) {
				for e, err := range s.list(ctx, dir, "", &l.dirs) {
					if err != nil {
						l.err = err
						continue
					}
					l.matches = append(l.matches, e)
				}
				return l
			}) {
				if l.err != nil && !missing(l.err) && !yield(backends.Entry{}, l.err) {
					return
				}
				next = append(next, l.dirs...)
				if mixed {
					kept = append(kept, l.matches...)
					continue
				}
				for _, e := range l.matches {
					if !yield(e, nil) {
						return
					}
				}
			}
			dirs = next
		}
		slices.SortFunc(kept, func(a, b backends.Entry) int { return cmp.Compare(orderKey(a), orderKey(b)) })
		for _, e := range kept {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// orderKey is what sorts e in a walk.
func orderKey(e backends.Entry) string {
	if e.IsDir() {
		return e.Name + "/"
	}
	return e.Name
}

// list yields what matches in one directory, of those names that begin with
// prefix, and appends the directories to go on in.
func (s search) list(ctx context.Context, dir, prefix string, dirs *[]string) entries {
	return func(yield func(backends.Entry, error) bool) {
		for e, err := range s.tree.Store.List(ctx, dir, before(prefix)) {
			if err != nil {
				yield(e, err)
				return
			}
			if !strings.HasPrefix(e.Key(), prefix) {
				if e.Key() > prefix {
					return
				}
				continue
			}
			rel := relative(s.root, e.Name)
			if e.IsDir() && s.pat.leads(rel) && (s.hidden || s.mayShow(rel)) {
				*dirs = append(*dirs, e.Name)
			}
			if s.pat.match(rel, s.hidden) && !yield(e, nil) {
				return
			}
		}
	}
}

// mayShow reports whether a directory's name is one that the pattern asks for.
func (s search) mayShow(dir string) bool {
	return slices.ContainsFunc(s.pat.alts, func(a alternative) bool { return a.shows(dir) })
}
