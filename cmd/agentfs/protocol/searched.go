package protocol

import (
	"context"
	"io"
	"sync"

	"github.com/agentfs/agentfs/backends"
)

const (
	// ahead is how many files may be searched or waiting to be taken, for each
	// that is being read: one slow answer must not hold up the others.
	ahead = 16
	// batchBytes and batchLines bound what a search holds before it hands it
	// over; with batches of them may wait per file.
	batchBytes = 32 << 10
	batchLines = 256
	batches    = 2
)

// searched is the search in one file.
type searched struct {
	entry  backends.Entry
	failed error        // of the walk, not of this file
	found  chan []Match // in order; closed at the end
	// What the search ended with; found is closed by then.
	binary, gone bool
	err          error
}

// reader is an open file.
type reader struct {
	io.ReadCloser
	entry backends.Entry
}

// start begins to search. The files come through the queue in the order of the
// walk. Its capacity bounds how far the walk is ahead of who takes from it. A
// search blocks when what it found is not taken, but the one at the head of the
// queue is always being read from and was the first to get its turn, so that all
// get on. What was started has ended when ended.Wait returns.
func (g *grep) start(ctx context.Context) (queue <-chan *searched, ended *sync.WaitGroup) {
	ended = new(sync.WaitGroup)
	q := make(chan *searched, ahead*g.tree.parallel())
	turns := make(chan struct{}, g.tree.parallel())
	put := func(f *searched) bool {
		select {
		case q <- f:
			return true
		case <-ctx.Done():
			return false
		}
	}
	ended.Go(func() {
		defer close(q)
		for e, err := range g.files(ctx) {
			if err != nil {
				if !put(&searched{failed: err}) {
					return
				}
				continue
			}
			f := &searched{entry: e, found: make(chan []Match, batches)}
			select {
			case turns <- struct{}{}:
			case <-ctx.Done():
				return
			}
			ended.Go(func() {
				defer func() { <-turns }()
				f.run(ctx, g)
			})
			if !put(f) {
				return
			}
		}
	})
	return q, ended
}

// run reads the file and hands over what matches.
func (f *searched) run(ctx context.Context, g *grep) {
	defer close(f.found)
	octx, cancel := context.WithCancel(ctx) // ends the transfer when enough is known
	defer cancel()
	r, err := g.open(octx, f.entry)
	if err != nil {
		f.gone, f.err = gone(err), err
		return
	}
	defer r.Close()
	b := batch{ctx: ctx, to: f.found}
	count := int64(0)
	err = scan(r, g, func(m Match) bool {
		if g.Output == Counts {
			count++
			return true
		}
		if g.Output == Files {
			m.Line, m.Text = 0, ""
		}
		m.Path = Path(f.entry.Name, false)
		return b.add(m) && g.Output == Content
	})
	switch {
	case err == errNoText:
		f.binary, err = true, nil
	case count > 0:
		b.add(Match{Path: Path(f.entry.Name, false), Count: count})
	}
	b.flush()
	if err != nil && ctx.Err() == nil {
		f.err = backends.WrapPath("grep", f.entry.Name, err)
	}
}

// batch collects matches and hands them over, many at a time.
type batch struct {
	ctx   context.Context
	to    chan<- []Match
	held  []Match
	bytes int
}

func (b *batch) add(m Match) bool {
	b.held = append(b.held, m)
	if b.bytes += len(m.Text); b.bytes < batchBytes && len(b.held) < batchLines {
		return true
	}
	return b.flush()
}

func (b *batch) flush() bool {
	if len(b.held) == 0 {
		return true
	}
	select {
	case b.to <- b.held:
		b.held, b.bytes = nil, 0
		return true
	case <-b.ctx.Done():
		return false
	}
}
