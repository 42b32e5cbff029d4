package router

import (
	"context"
	"iter"
	"strings"

	"github.com/agentfs/agentfs/backends"
)

var _ backends.Walker = (*Router)(nil)

type yieldEntry = func(backends.Entry, error) bool

// List implements [backends.Store]. The points in dir are merged into what the
// store lists; none of their own stores is asked.
func (rt *Router) List(ctx context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	return func(yield func(backends.Entry, error) bool) {
		if err := backends.CheckName("list", dir); err != nil {
			yield(backends.Entry{}, err)
			return
		}
		r, rest, p := rt.locate(dir)
		if p == nil {
			r.list(ctx, rest, after, yield)
			return
		}
		p.list(ctx, after, yield)
	}
}

// list lists a directory that has no points in it.
func (r *route) list(ctx context.Context, rest, after string, yield yieldEntry) {
	for e, err := range r.store.List(ctx, rest, after) {
		if err != nil {
			yield(backends.Entry{}, r.err("list", rest, err))
			return
		}
		if !yield(r.entry(e), nil) {
			return
		}
	}
}

// list lists a point.
func (p *point) list(ctx context.Context, after string, yield yieldEntry) {
	var todo []*point
	for _, c := range p.order {
		if c.base+"/" > after {
			todo = append(todo, c)
		}
	}
	// upTo yields the points whose turn comes before key.
	upTo := func(key string) bool {
		for len(todo) > 0 && todo[0].base+"/" < key {
			c := todo[0]
			todo = todo[1:]
			if !c.hidden && !yield(c.entry(), nil) {
				return false
			}
		}
		return true
	}
	for e, err := range p.r.store.List(ctx, p.rest, after) {
		if err != nil {
			if !p.mount && missing(err) {
				break
			}
			yield(backends.Entry{}, p.r.err("list", p.rest, err))
			return
		}
		c := p.children[e.Base()]
		if c != nil && (c.mount || !e.IsDir()) {
			continue
		}
		if !upTo(e.Key()) {
			return
		}
		if c != nil && len(todo) > 0 && todo[0] == c {
			todo = todo[1:] // e stands for it
		}
		if !yield(p.r.entry(e), nil) {
			return
		}
	}
	for _, c := range todo {
		if !c.hidden && !yield(c.entry(), nil) {
			return
		}
	}
}

// Walk implements [backends.Walker] and goes through the routes below dir at
// their places. The error of one of them does not end it: who goes on gets
// the others.
func (rt *Router) Walk(ctx context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	return func(yield func(backends.Entry, error) bool) {
		if err := backends.CheckName("walk", dir); err != nil {
			yield(backends.Entry{}, err)
			return
		}
		r, rest, p := rt.locate(dir)
		r.walk(ctx, rest, p, after, yield)
	}
}

// walk walks the directory rest of r, which is the point p or, if p is nil,
// has no points below it. It reports whether yield wants more.
func (r *route) walk(ctx context.Context, rest string, p *point, after string, yield yieldEntry) bool {
	todo := p.descend(nil)
	upTo := func(key string) bool {
		for len(todo) > 0 && todo[0].key() < key {
			c := todo[0]
			todo = todo[1:]
			if !c.walk(ctx, after, yield) {
				return false
			}
		}
		return true
	}
	if rel, some := r.after(after); some {
		for e, err := range backends.Walk(ctx, r.store, rest, rel) {
			if err != nil {
				if p != nil && !p.mount && missing(err) {
					break
				}
				if !yield(backends.Entry{}, r.err("walk", rest, err)) {
					return false
				}
				continue
			}
			e = r.entry(e)
			if p != nil {
				in, _, at := r.owner.locate(e.Name)
				if in != r || at != nil && !e.IsDir() {
					continue
				}
				key := e.Name
				if e.IsDir() {
					key += "/"
				}
				if !upTo(key) {
					return false
				}
				if at != nil && len(todo) > 0 && todo[0] == at {
					todo = todo[1:]
				}
			}
			if !yield(e, nil) {
				return false
			}
		}
	}
	for _, c := range todo {
		if !c.walk(ctx, after, yield) {
			return false
		}
	}
	return true
}

// walk yields p and, if it is a route's root, what is in the route.
func (p *point) walk(ctx context.Context, after string, yield yieldEntry) bool {
	if p.hidden {
		return true
	}
	if p.key() > after && !yield(p.entry(), nil) {
		return false
	}
	return !p.mount || p.r.walk(ctx, ".", p, after, yield)
}

// descend appends the points below p that lie in p's route or are the roots of
// routes in it, in the order of a walk.
func (p *point) descend(ps []*point) []*point {
	if p == nil {
		return ps
	}
	for _, c := range p.order {
		ps = append(ps, c)
		if !c.mount {
			ps = c.descend(ps)
		}
	}
	return ps
}

// after translates the start of a walk into one within r, and reports whether
// anything of r comes after it.
func (r *route) after(after string) (string, bool) {
	if r.path == "." || after == "" {
		return after, true
	}
	prefix := r.path + "/"
	if rel, ok := strings.CutPrefix(after, prefix); ok {
		return rel, true
	}
	return "", after < prefix
}
