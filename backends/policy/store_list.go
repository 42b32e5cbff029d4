package policy

import (
	"context"
	"iter"
	"strings"

	"github.com/agentfs/agentfs/backends"
)

// List implements [backends.Store].
func (s *store) List(ctx context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	return func(yield func(backends.Entry, error) bool) {
		w, err := s.using(ctx, "list", dir, Read)
		if err != nil {
			yield(backends.Entry{}, err)
			return
		}
		hides := s.p.mayHideIn(w.v)
		for e, err := range s.s.List(ctx, dir, after) {
			if err == nil && hides && s.p.judge(w.v, w.v.path+"/"+e.Base()).hidden() {
				continue
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// Walk implements [backends.Walker]. A directory that may not be listed is
// yielded as an entry and once more as an error, and what is in it is left
// out; as after an error of a route, who goes on gets the rest.
func (s *store) Walk(ctx context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	return func(yield func(backends.Entry, error) bool) {
		w, err := s.using(ctx, "walk", dir, Read)
		if err != nil {
			yield(backends.Entry{}, err)
			return
		}
		t := &tour{s: s, w: w, above: []*verdict{w.v}}
		for e, err := range backends.Walk(ctx, s.s, dir, after) {
			if err != nil {
				if !yield(e, err) {
					return
				}
				continue
			}
			seen, refused := t.visit(e, after)
			if refused != nil && !yield(backends.Entry{}, refused) || seen && !yield(e, nil) {
				return
			}
			if seen && e.IsDir() && !t.enter(e, yield) {
				return
			}
		}
	}
}

// tour is a walk under way.
type tour struct {
	s *store
	w view
	// above are the verdicts on the directories in which the walk is.
	above []*verdict
	// skip is the path of a directory that is left out; "" if there is none.
	skip string
}

// visit reports whether e is to be seen, and the error of a directory above it
// that the store did not name.
func (t *tour) visit(e backends.Entry, after string) (seen bool, refused error) {
	path := toPath(e.Name)
	if t.skip != "" && within(path, t.skip) {
		return false, nil
	}
	t.skip = ""
	for len(t.above) > 1 && !within(path, t.above[len(t.above)-1].path) {
		t.above = t.above[:len(t.above)-1]
	}
	// The directories between, and then e itself.
	for {
		up := t.above[len(t.above)-1]
		rest := path[len(up.path)+1:]
		seg, _, more := strings.Cut(rest, "/")
		v := t.s.p.judge(up, up.path+"/"+seg)
		if v.hidden() {
			t.skip = v.path
			return false, nil
		}
		if !more {
			return true, nil
		}
		t.above = append(t.above, v)
		if v.access(t.w.class) < Read {
			t.skip = v.path
			if nameOf(v.path)+"/" > after {
				refused = t.s.p.deny("walk", v, t.w.class)
			}
			return false, refused
		}
	}
}

// enter goes into the directory e, which was seen.
func (t *tour) enter(e backends.Entry, yield func(backends.Entry, error) bool) bool {
	up := t.above[len(t.above)-1]
	v := t.s.p.judge(up, toPath(e.Name))
	t.above = append(t.above, v)
	if v.access(t.w.class) >= Read {
		return true
	}
	t.skip = v.path
	return yield(backends.Entry{}, t.s.p.deny("walk", v, t.w.class))
}
