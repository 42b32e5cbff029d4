package protocol

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"regexp"
	"sync"

	"github.com/agentfs/agentfs/backends"
)

// GrepOptions modify a Grep.
type GrepOptions struct {
	IgnoreCase bool
	// Fixed takes the pattern as a text, not as a regular expression.
	Fixed bool
	// Glob, if not empty, names the files to look into, in the language of
	// [Glob], relative to where the search begins.
	Glob string
	// Before and After are the numbers of lines to return around a match.
	Before, After int
	// FirstOnly ends the search in a file at its first match.
	FirstOnly bool
	// Parallel is how many files are read at once; 0 means 16.
	Parallel int
}

// Line is one line of a file that Grep returns.
type Line struct {
	// Number counts from 1.
	Number int64 `json:"line"`
	// Text is the line without its end; of a line longer than 1 MiB, a part
	// around the match.
	Text string `json:"text"`
	// Context marks a line that does not match but stands around one.
	Context bool `json:"context,omitempty"`
}

// FileMatches are the matches of one file. Lines must be read to its end, or
// the iteration that yielded it be left.
type FileMatches struct {
	Path string
	// Lines yields the lines in order, matches and context. It ends after an
	// error that concerns this file alone.
	Lines iter.Seq2[Line, error]
}

// Grep yields the files at and below p that have lines matching the pattern
// (RE2, https://golang.org/s/re2syntax), in the order of a walk. Files with a
// NUL byte near their beginning count as binary and are skipped, and so
// is what is no regular file. A file that can't be read is yielded with Lines
// that carry the error; the iteration itself ends after yielding an error.
//
// Files are read in parallel and streamed: memory does not grow with their
// size or number.
func Grep(ctx context.Context, s backends.Store, pattern, p string, o GrepOptions) iter.Seq2[FileMatches, error] {
	return func(yield func(FileMatches, error) bool) {
		g, name, err := newGrep(s, pattern, p, o)
		if err != nil {
			yield(FileMatches{}, err)
			return
		}
		ctx, cancel := context.WithCancel(ctx)
		var running sync.WaitGroup
		defer running.Wait()
		defer cancel()
		// The walk puts searches into the queue in order and waits when it is
		// full: its capacity is the number of files in work. A search blocks
		// when its few buffered lines are not taken, but the one at the head of
		// the queue is always being read from, so that all get on.
		queue := make(chan *search, g.Parallel)
		running.Go(func() {
			defer close(queue)
			g.walk(ctx, name, func(sr *search) bool {
				running.Go(func() { sr.run(ctx, g) })
				select {
				case queue <- sr:
					return true
				case <-ctx.Done():
					return false
				}
			})
		})
		for sr := range queue {
			if sr.failed != nil {
				yield(FileMatches{}, sr.failed)
				return
			}
			first, ok := <-sr.lines
			if !ok {
				continue
			}
			if !yield(FileMatches{Path: Path(sr.entry.Name, false), Lines: sr.from(first)}, nil) {
				return
			}
			for range sr.lines { // what the caller left
			}
		}
		if err := ctx.Err(); err != nil {
			yield(FileMatches{}, err)
		}
	}
}

// grep is what all searches of one Grep share.
type grep struct {
	GrepOptions
	store backends.Store
	re    *regexp.Regexp
	glob  pattern
}

func newGrep(s backends.Store, expr, p string, o GrepOptions) (*grep, string, error) {
	name, err := Name(p)
	if err != nil {
		return nil, "", err
	}
	if o.Fixed {
		expr = regexp.QuoteMeta(expr)
	}
	if o.IgnoreCase {
		expr = "(?i:" + expr + ")"
	}
	re, err := regexp.Compile(expr)
	if err != nil {
		return nil, "", &PatternError{fmt.Sprintf("%v (the syntax is RE2: https://golang.org/s/re2syntax; -F takes the pattern as a text)", err)}
	}
	g := &grep{GrepOptions: o, store: s, re: re}
	if g.Parallel <= 0 {
		g.Parallel = 16
	}
	if o.Glob != "" {
		if g.glob, err = parsePattern(o.Glob); err != nil {
			return nil, "", err
		}
	}
	return g, name, nil
}

// walk calls visit with a search for every file to look into, until it
// returns false; an error of the walk comes as a search that failed.
func (g *grep) walk(ctx context.Context, name string, visit func(*search) bool) {
	fail := func(err error) { visit(&search{failed: err, lines: closedLines}) }
	e, err := g.store.Stat(ctx, name)
	if err != nil {
		fail(err)
		return
	}
	if !e.IsDir() {
		if err := regular(ctx, g.store, "grep", e); err != nil {
			fail(err)
			return
		}
		visit(newSearch(e))
		return
	}
	for e, err := range backends.Walk(ctx, g.store, name, "") {
		if err != nil {
			fail(err)
			return
		}
		if !e.Mode.IsRegular() || e.Size == 0 || g.Glob != "" && !g.glob.match(relative(name, e.Name)) {
			continue
		}
		if !visit(newSearch(e)) {
			return
		}
	}
}

// search is the search in one file.
type search struct {
	entry  backends.Entry
	failed error // of the walk, not of this file
	lines  chan lineOrError
}

type lineOrError struct {
	Line
	err error
}

var closedLines = func() chan lineOrError {
	c := make(chan lineOrError)
	close(c)
	return c
}()

func newSearch(e backends.Entry) *search {
	return &search{entry: e, lines: make(chan lineOrError, 64)}
}

// from yields first and then what comes through the channel.
func (sr *search) from(first lineOrError) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		for l, ok := first, true; ok; l, ok = <-sr.lines {
			if !yield(l.Line, l.err) || l.err != nil {
				return
			}
		}
	}
}

// run reads the file and sends what matches.
func (sr *search) run(ctx context.Context, g *grep) {
	if sr.failed != nil {
		return
	}
	defer close(sr.lines)
	send := func(l lineOrError) bool {
		select {
		case sr.lines <- l:
			return true
		case <-ctx.Done():
			return false
		}
	}
	octx, cancel := context.WithCancel(ctx) // ends the transfer when enough is known
	defer cancel()
	r, _, err := g.store.Open(octx, sr.entry.Name, backends.Range{}, backends.If{})
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) { // gone since the walk saw it
			send(lineOrError{err: err})
		}
		return
	}
	defer r.Close()
	if err := scan(r, g, func(l Line) bool { return send(lineOrError{Line: l}) }); err != nil && ctx.Err() == nil {
		send(lineOrError{err: backends.WrapPath("grep", path.Clean(sr.entry.Name), err)})
	}
}
