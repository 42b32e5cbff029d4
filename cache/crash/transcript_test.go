package crash_test

import (
	"context"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync"

	"github.com/agentfs/agentfs/backends"
)

// transcript is what the processes of a test have reported and the store has been
// asked, one after the other. A failure keeps it: what was asked in between is mostly
// what there is to go on.
type transcript struct {
	mu    sync.Mutex
	lines []string
}

func (t *transcript) add(line string) {
	t.mu.Lock()
	t.lines = append(t.lines, line)
	t.mu.Unlock()
}

func (t *transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines, "\n")
}

// asked notes what came to the store, and returns what notes the answer.
func (t *transcript) asked(format string, args ...any) (answered func(e backends.Entry, err error)) {
	what := fmt.Sprintf(format, args...)
	t.add("store: " + what)
	return func(e backends.Entry, err error) {
		if err != nil {
			t.add(fmt.Sprintf("store: %s: %v", what, err))
			return
		}
		t.add(fmt.Sprintf("store: %s: version %q size %d op %q", what, e.Version, e.Size, e.Operation))
	}
}

// transcribed is a store of which a transcript is kept.
type transcribed struct {
	*remembering
	to *transcript
}

func (s transcribed) Stat(ctx context.Context, name string) (backends.Entry, error) {
	answered := s.to.asked("Stat %s", name)
	e, err := s.remembering.Stat(ctx, name)
	answered(e, err)
	return e, err
}

func (s transcribed) List(ctx context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	return func(yield func(backends.Entry, error) bool) {
		s.to.add(fmt.Sprintf("store: List %s after %q", dir, after))
		for e, err := range s.remembering.List(ctx, dir, after) {
			s.to.add(fmt.Sprintf("store: List %s: %s %q %v", dir, e.Key(), e.Version, err))
			if !yield(e, err) {
				return
			}
		}
	}
}

func (s transcribed) WalkPage(ctx context.Context, dir, after string) (backends.Page, error) {
	s.to.add(fmt.Sprintf("store: WalkPage %s after %q", dir, after))
	p, err := s.remembering.WalkPage(ctx, dir, after)
	var names []string
	for _, e := range p.Entries {
		names = append(names, fmt.Sprintf("%s %q", e.Key(), e.Version))
	}
	s.to.add(fmt.Sprintf("store: WalkPage %s after %q: %s, more %v, %v", dir, after, strings.Join(names, ", "), p.More, err))
	return p, err
}

func (s transcribed) Open(ctx context.Context, name string, r backends.Range, cond backends.If) (io.ReadCloser, backends.Entry, error) {
	answered := s.to.asked("Open %s %+v %+v", name, r, cond)
	body, e, err := s.remembering.Open(ctx, name, r, cond)
	answered(e, err)
	return body, e, err
}

func (s transcribed) Put(ctx context.Context, name string, body *io.SectionReader, opts backends.PutOptions) (backends.Entry, error) {
	answered := s.to.asked("Put %s %d bytes %+v op %q earlier %q", name, body.Size(), opts.If, opts.Operation, opts.Earlier)
	e, err := s.remembering.Put(ctx, name, body, opts)
	answered(e, err)
	return e, err
}

func (s transcribed) Mkdir(ctx context.Context, name string, a backends.AttrChange) error {
	answered := s.to.asked("Mkdir %s", name)
	err := s.remembering.Mkdir(ctx, name, a)
	answered(backends.Entry{}, err)
	return err
}

func (s transcribed) Remove(ctx context.Context, name string, cond backends.If) error {
	answered := s.to.asked("Remove %s %+v", name, cond)
	err := s.remembering.Remove(ctx, name, cond)
	answered(backends.Entry{}, err)
	return err
}
