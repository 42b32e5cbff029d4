package protocol

import (
	"context"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/agentfs/agentfs/backends"
)

// PatternError means that a pattern of Glob or Grep has a mistake. It is an
// [fs.ErrInvalid].
type PatternError struct {
	// Text says in one line what is wrong, and what the pattern may be.
	Text string
}

// Error implements error.
func (e *PatternError) Error() string { return e.Text }

// Unwrap returns fs.ErrInvalid.
func (e *PatternError) Unwrap() error { return fs.ErrInvalid }

// pattern is a glob in the language of doublestar: * ? [a-z] {a,b} and **,
// which stands for any number of directories.
type pattern struct {
	glob string
	base bool // matches the last element only, at any depth
	dirs bool // matches directories only
}

func parsePattern(p string) (pattern, error) {
	if p == "" || !doublestar.ValidatePattern(p) {
		return pattern{}, &PatternError{fmt.Sprintf("%q is not a pattern (it knows * ? [a-z] {a,b} and ** for any number of directories)", p)}
	}
	glob, dirs := strings.CutSuffix(p, "/")
	return pattern{glob: glob, base: !strings.Contains(p, "/"), dirs: dirs}, nil
}

// match reports whether p matches name, which is relative to where it counts
// from.
func (p pattern) match(name string) bool {
	if p.base {
		name = path.Base(name)
	}
	ok, _ := doublestar.Match(p.glob, name) // the pattern is known to be valid
	return ok
}

// depth returns how many elements a match has, or 0 for any number.
func (p pattern) depth() int {
	if p.base || strings.Contains(p.glob, "**") || strings.ContainsAny(p.glob, `{\[`) {
		return 0
	}
	return strings.Count(p.glob, "/") + 1
}

// Glob yields what matches the pattern in the tree below the directory dir, in
// the order of a walk. A pattern without a slash is compared with the last
// element of a path, at any depth; one with a slash with the path relative
// to dir; one that begins with a slash with the path from the root, whatever
// dir is. One that ends in a slash matches directories only. It ends after yielding an error.
func Glob(ctx context.Context, s backends.Store, glob, dir string) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		if strings.HasPrefix(glob, "/") {
			dir = "/"
			if glob = strings.TrimLeft(glob, "/"); !strings.Contains(glob, "/") {
				glob = "./" + glob // a slash was there: not a pattern for any depth
			}
		}
		root, err := Name(dir)
		if err != nil {
			yield(Item{}, err)
			return
		}
		pat, err := parsePattern(glob)
		if err != nil {
			yield(Item{}, err)
			return
		}
		// The elements before the first special character need no search.
		fixed := "."
		if !pat.base {
			fixed, pat.glob = doublestar.SplitPattern(strings.TrimPrefix(pat.glob, "./"))
		}
		start := path.Join(root, path.Clean("/" + fixed)[1:])
		e, err := s.Stat(ctx, start)
		if err != nil {
			if fixed == "." || !isAbsent(err) {
				yield(Item{}, err)
			}
			return
		}
		if !e.IsDir() {
			if fixed == "." {
				yield(Item{}, &fs.PathError{Op: "glob", Path: start, Err: backends.ErrNotDir})
			}
			return
		}
		for e, err := range find(ctx, s, start, pat) {
			if err != nil {
				yield(Item{}, err)
				return
			}
			if pat.dirs && !e.IsDir() {
				continue
			}
			if !yield(itemOf(e), nil) {
				return
			}
		}
	}
}

// find yields what lies below start and matches pat.
func find(ctx context.Context, s backends.Store, start string, pat pattern) iter.Seq2[backends.Entry, error] {
	return func(yield func(backends.Entry, error) bool) {
		if d := pat.depth(); d > 0 {
			segs := strings.Split(pat.glob, "/")
			findLevel(ctx, s, start, segs[:d], yield)
			return
		}
		for e, err := range walk(ctx, s, start) {
			if err != nil {
				yield(e, err)
				return
			}
			if pat.match(relative(start, e.Name)) && !yield(e, nil) {
				return
			}
		}
	}
}

// findLevel lists dir and goes on below what matches the first of segs, so
// that a pattern of known depth costs nothing where it can't match.
func findLevel(ctx context.Context, s backends.Store, dir string, segs []string, yield func(backends.Entry, error) bool) bool {
	for e, err := range s.List(ctx, dir, "") {
		if err != nil {
			return yield(e, err) && false
		}
		if ok, _ := doublestar.Match(segs[0], e.Base()); !ok {
			continue
		}
		switch {
		case len(segs) == 1:
			if !yield(e, nil) {
				return false
			}
		case e.IsDir():
			if !findLevel(ctx, s, e.Name, segs[1:], yield) {
				return false
			}
		}
	}
	return true
}

// relative returns name, which lies below dir, as seen from dir.
func relative(dir, name string) string {
	if dir == "." {
		return name
	}
	return strings.TrimPrefix(name, dir+"/")
}
