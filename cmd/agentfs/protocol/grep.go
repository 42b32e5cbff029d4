package protocol

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	"github.com/agentfs/agentfs/backends"
)

// What a Grep returns of the matches.
const (
	Content = "content" // the matching lines, and those around them
	Files   = "files"   // the paths of files with a match
	Counts  = "count"   // the number of matching lines of each file that has any
)

// GrepOptions modify a Grep.
type GrepOptions struct {
	IgnoreCase bool
	// Fixed takes the pattern as a text, not as a regular expression.
	Fixed bool
	// Glob, if not empty, names the files to look into, in the language of
	// [Tree.Glob], relative to where the search begins.
	Glob string
	// Before and After are the numbers of lines to return around a match.
	Before, After int
	// Output is Content, which "" is too, Files or Counts.
	Output string
	// Limit is how many matches to return at most, in all: matching lines, or
	// files where Output is not Content; 0 means all.
	Limit int64
	// MaxText is how many bytes of a line to return at most; of a longer one it
	// is a part around the match. 0 means all, as far as [Match.Text] says.
	MaxText int
	// MaxBytes is how many bytes of lines and paths to return at most, in all; 0
	// means any number. If there are more, the result is Truncated.
	MaxBytes int64
}

// Match is one line, or one file, that Grep returns.
type Match struct {
	Path string `json:"path"`
	// Line is the number of the line, from 1.
	Line int64 `json:"line,omitempty" jsonschema:"number of the line, from 1"`
	// Text is the line without its end; of a line longer than 1 MiB, 256 bytes
	// around the match.
	Text string `json:"text,omitempty" jsonschema:"the line"`
	// Cut reports that Text is a part of the line.
	Cut bool `json:"cut,omitempty" jsonschema:"the line is longer: this is the part around the match"`
	// Context marks a line that does not match but stands around one.
	Context bool `json:"context,omitempty" jsonschema:"the line does not match but stands around one that does"`
	// Count is how many lines of the file match, where Output is Counts.
	Count int64 `json:"count,omitempty" jsonschema:"how many lines of the file match"`
}

// GrepResult says what a Grep found.
type GrepResult struct {
	Files    int64 `json:"files" jsonschema:"files with a match"`
	Matches  int64 `json:"matches" jsonschema:"matching lines, as far as they were looked at"`
	Searched int64 `json:"searched" jsonschema:"files that were looked into"`
	Binary   int64 `json:"binary,omitempty" jsonschema:"of them those skipped because they are no text"`
	// Truncated reports that there are more matches than the limit, or more than
	// MaxBytes had room for.
	Truncated bool `json:"truncated,omitempty" jsonschema:"there are more than the limit, or the room for an answer, allowed; narrow the search"`
	Failures
}

// Grep calls emit for the lines that match the pattern (RE2,
// https://golang.org/s/re2syntax) in the files at and below p, file by file in
// the order of a walk. Files with a NUL byte near their beginning count as
// binary and are skipped, and so is what is no regular file. What can't be
// looked into is among the Failures of the result, and the search goes on.
// Grep ends with emit's first error.
//
// Files are read in parallel, as many as [Tree.Parallel] says, and streamed:
// memory does not grow with their size or number.
func (t *Tree) Grep(ctx context.Context, expr, p string, o GrepOptions, emit func(Match) error) (GrepResult, error) {
	var res GrepResult
	g, err := t.newGrep(expr, p, o)
	if err != nil {
		return res, err
	}
	ctx, cancel := context.WithCancel(ctx)
	queue, ended := g.start(ctx)
	defer ended.Wait()
	defer cancel()
	for f := range queue {
		more, err := g.collect(f, &res, emit)
		if err != nil || !more {
			res.Truncated = err == nil
			return res, err
		}
	}
	return res, ctx.Err()
}

// collect emits what was found in one file, and reports whether that was all
// right by the limit.
func (g *grep) collect(f *searched, res *GrepResult, emit func(Match) error) (more bool, err error) {
	var root rootError
	switch {
	case errors.As(f.failed, &root):
		return true, root.error
	case f.failed != nil:
		res.add(Path(g.below, true), f.failed)
		return true, nil
	}
	found := false
	for batch := range f.found {
		for _, m := range batch {
			if !m.Context {
				full := res.Matches
				if g.Output != Content {
					full = res.Files
				}
				if g.Limit > 0 && full == g.Limit {
					return false, nil
				}
				if !found {
					found = true
					res.Files++
				}
				res.Matches += max(m.Count, 1)
			}
			if size := int64(len(m.Path) + len(m.Text)); g.MaxBytes > 0 {
				if g.emitted+size > g.MaxBytes {
					return false, nil
				}
				g.emitted += size
			}
			if err := emit(m); err != nil {
				return false, err
			}
		}
	}
	// f.found is closed, so the rest of f is final.
	if f.gone {
		return true, nil
	}
	res.Searched++
	if f.binary {
		res.Binary++
	}
	if f.err != nil {
		res.add(Path(f.entry.Name, false), f.err)
	}
	return true, nil
}

// grep is what all searches of one Grep share.
type grep struct {
	GrepOptions
	search
	below string // what to look into; the glob may be relative to the root
	re    *regexp.Regexp

	emitted int64 // bytes of lines and paths, by collect
}

func (t *Tree) newGrep(expr, p string, o GrepOptions) (*grep, error) {
	glob := o.Glob
	if glob == "" {
		glob = "**"
	}
	s, err := t.newSearch(glob, p)
	if err != nil {
		return nil, err
	}
	below, err := Name(p)
	if err != nil {
		return nil, err
	}
	s.hidden = true
	switch {
	case o.Before < 0 || o.After < 0 || o.Limit < 0:
		return nil, invalid("lines of context and the limit are not negative")
	case o.Output == "":
		o.Output = Content
	case o.Output != Content && o.Output != Files && o.Output != Counts:
		return nil, invalid("%q is no output of a search; there are content, files and count", o.Output)
	}
	if o.Output != Content {
		o.Before, o.After = 0, 0
	}
	if o.Fixed {
		expr = regexp.QuoteMeta(expr)
	}
	if o.IgnoreCase {
		expr = "(?i:" + expr + ")"
	}
	re, err := regexp.Compile(expr)
	if err != nil {
		return nil, &PatternError{fmt.Sprintf("%v (the syntax is RE2: https://golang.org/s/re2syntax; fixed (-F) takes the pattern as a text)", err)}
	}
	return &grep{GrepOptions: o, search: s, below: below, re: re}, nil
}

// files yields the files to look into.
func (g *grep) files(ctx context.Context) entries {
	return func(yield func(backends.Entry, error) bool) {
		e, err := g.tree.Store.Stat(ctx, g.below)
		switch {
		case err != nil:
			yield(e, rootError{err})
			return
		case !e.IsDir():
			if err := g.tree.regular(ctx, "grep", e); err != nil {
				yield(e, rootError{err})
				return
			}
			yield(e, nil)
			return
		}
		for e, err := range g.find(ctx) {
			if err == nil && (!e.Mode.IsRegular() || e.Size == 0 || !g.inside(e.Name)) {
				continue
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// inside reports whether name lies in what is to be looked into.
func (g *grep) inside(name string) bool {
	return g.below == "." || strings.HasPrefix(name, g.below+"/")
}

// open opens a file that a walk has seen: the version that it saw, which asks
// the store no more than needed, or the one that is there by now.
func (g *grep) open(ctx context.Context, e backends.Entry) (*reader, error) {
	r, e, err := g.tree.Store.Open(ctx, e.Name, backends.Range{}, backends.If{Match: e.Version})
	if errors.Is(err, backends.ErrChanged) {
		r, e, err = g.tree.Store.Open(ctx, e.Name, backends.Range{}, backends.If{})
	}
	return &reader{r, e}, err
}

// gone reports whether a file that a walk saw is no file any more.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, backends.ErrIsDir) || errors.Is(err, backends.ErrNotDir)
}
