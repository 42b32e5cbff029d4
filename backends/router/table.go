package router

import (
	"cmp"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agentfs/agentfs/backends"
)

// Router is a composite of routes. It implements [backends.Store] with every
// capability, each passed on to the routes or replaced by its fallback there,
// and [backends.Filer].
type Router struct {
	root   *point
	routes []*route  // in the order of their paths, "/" first
	born   time.Time // what points without a directory of their own show as times

	filesOnce sync.Once
	files     *files // nil if a route has no file depth
}

// route is one route of the table.
type route struct {
	owner  *Router
	path   string // as a name: "." or "team/docs"
	store  backends.Store
	files  backends.FileSystem // nil if it has none
	base   uint64              // its number, above the 48 bits of an inner id
	point  *point              // its root
	inside []*point            // the points inside it that are no route's root
}

// point is the root of a route or an ancestor of one. The points form a trie
// of path segments that never changes. A point is also the file depth's node
// of that directory.
type point struct {
	owner    *Router
	r        *route // whose root this is, or which it lies in
	mount    bool   // whether it is r's root
	hidden   bool   // whether nothing but hidden routes is at or below it
	parent   *point // nil for the root
	base     string // the last segment
	path     string // as a name
	rest     string // path relative to r's root
	id       uint64 // inode number, unless mount
	children map[string]*point
	order    []*point // children by key
	visible  uint32   // how many of them are not hidden

	lastDir  atomic.Pointer[backends.Node] // what find found last, for changes from outside
	lastAttr atomic.Pointer[backends.Attr] // what its store answered last, for when it doesn't
}

const (
	idBits     = 48
	idMask     = 1<<idBits - 1
	pointRoute = 1<<16 - 1 // the route number of points that are no route's root
)

func newTable() *Router { return &Router{born: time.Now()} }

// build fills the table with routes whose paths have been checked.
func (rt *Router) build(names []string, routes map[string]Route) {
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(display(a), display(b)) })
	rt.root = &point{owner: rt, path: "."}
	for i, name := range names {
		in := routes[name]
		r := &route{owner: rt, path: name, store: in.Store, files: in.Files, base: uint64(i) << idBits}
		if r.files == nil {
			r.files = backends.FilesOf(in.Store)
		}
		p := rt.root
		if name != "." {
			for seg := range strings.SplitSeq(name, "/") {
				p = p.grow(seg)
			}
		}
		p.mount, p.r, p.hidden = true, r, in.Hidden
		r.point = p
		rt.routes = append(rt.routes, r)
	}
	next := uint64(pointRoute) << idBits
	rt.root.settle(rt.root.r, &next)
}

// grow returns p's child, made if needed.
func (p *point) grow(seg string) *point {
	c := p.children[seg]
	if c == nil {
		c = &point{owner: p.owner, parent: p, base: seg, path: join(p.path, seg)}
		if p.children == nil {
			p.children = map[string]*point{}
		}
		p.children[seg] = c
		p.order = append(p.order, c)
	}
	return c
}

// settle fills in what depends on the whole trie, from p downwards; in is the
// route around p.
func (p *point) settle(in *route, next *uint64) {
	if !p.mount {
		p.r = in
		p.hidden = true
		*next++
		p.id = *next
		in.inside = append(in.inside, p)
	}
	p.rest = p.r.rel(p.path)
	slices.SortFunc(p.order, func(a, b *point) int { return cmp.Compare(a.base+"/", b.base+"/") })
	for _, c := range p.order {
		c.settle(p.r, next)
		if c.hidden {
			continue
		}
		p.visible++
		if !p.mount {
			p.hidden = false
		}
	}
}

// key is what sorts p in a walk.
func (p *point) key() string { return p.path + "/" }

// entry is p in a listing, which asks no store for it.
func (p *point) entry() backends.Entry {
	return backends.Entry{Name: p.path, Mode: fs.ModeDir}
}

// locate returns the route that serves name, the name within it, and the point
// that name is, if it is one. name is valid.
func (rt *Router) locate(name string) (r *route, rest string, p *point) {
	p = rt.root
	r, rest = p.r, name
	if name == "." {
		return r, rest, p
	}
	for at := 0; at <= len(name); {
		seg := name[at:]
		if i := strings.IndexByte(seg, '/'); i >= 0 {
			seg = seg[:i]
		}
		if p = p.children[seg]; p == nil {
			return r, rest, nil
		}
		at += len(seg) + 1
		if p.mount {
			r, rest = p.r, "."
			if at <= len(name) {
				rest = name[at:]
			}
		}
	}
	return r, rest, p
}

// full returns the router's name for a name within r.
func (r *route) full(name string) string { return join(r.path, name) }

// rel returns the name within r of a router's name at or below r's path.
func (r *route) rel(name string) string {
	switch {
	case r.path == ".":
		return name
	case name == r.path:
		return "."
	}
	return name[len(r.path)+1:]
}

// join appends the name elem to the name dir.
func join(dir, elem string) string {
	switch {
	case dir == ".":
		return elem
	case elem == ".":
		return dir
	}
	return dir + "/" + elem
}
