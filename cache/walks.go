package cache

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/tree"
)

const (
	// walkIdle is after how long without a step a walk is over.
	walkIdle = 10 * time.Second
	// maxGroups and maxVisits bound what is remembered of programs.
	maxGroups, maxVisits = 256, 4096
)

// walks is what is known of the ways that programs take through the tree.
type walks struct {
	mu      sync.Mutex
	groups  map[int]*group
	fetches chan struct{} // has a place for each file that is fetched ahead
}

// group is the processes that work together, as far as can be told: a process
// group, that is a job of a shell. All threads of a program are in one, and
// what find or xargs start is in theirs.
type group struct {
	last time.Time
	at   map[*tree.Node]string   // the child of each directory that it was in last
	read map[*tree.Node]struct{} // directories that it has read, or of which it was in two children
	walk walk
}

// fork is where a program has gone from one child of a directory to another.
type fork struct {
	dir  *tree.Node
	name string // of the child that it has come to
	back bool   // against the order of names
}

// groupOf returns a number for the group of the caller; all callers that can't
// be seen, such as those of another pid name space, are one group.
func groupOf(ctx context.Context) int {
	caller, _ := backends.CallerFrom(ctx)
	if caller.PID == 0 {
		return 0
	}
	pgid, err := unix.Getpgid(int(caller.PID))
	if err != nil {
		return 0
	}
	return pgid
}

// group returns what is known of the group with number id. w.mu is held.
func (w *walks) group(c *FS, id int, now time.Time) *group {
	g := w.groups[id]
	if g == nil || now.Sub(g.last) > walkIdle {
		if g != nil {
			g.walk.end(c)
		}
		w.forget(c, now)
		g = &group{at: map[*tree.Node]string{}, read: map[*tree.Node]struct{}{}}
		w.groups[id] = g
	}
	if len(g.at) > maxVisits || len(g.read) > maxVisits {
		clear(g.at)
		clear(g.read)
	}
	g.last = now
	return g
}

// forget ends what is over, and makes room for another group. w.mu is held.
func (w *walks) forget(c *FS, now time.Time) {
	if w.groups == nil {
		w.groups = map[int]*group{}
	}
	for id, g := range w.groups {
		if now.Sub(g.last) > walkIdle || len(w.groups) >= maxGroups {
			g.walk.end(c)
			delete(w.groups, id)
		}
	}
}

// visit notes that the caller looks into p, and whether it reads it. It returns
// the directory nearest to p of which the caller was in another child before.
func (c *FS) visit(ctx context.Context, p *tree.Node, read bool) *fork {
	id := groupOf(ctx)
	w := &c.walks
	w.mu.Lock()
	defer w.mu.Unlock()
	g := w.group(c, id, time.Now())
	if read {
		g.read[p] = struct{}{}
	}
	return g.step(c.tree, p)
}

// step notes that the group is in p. walks.mu is held.
func (g *group) step(t *tree.Tree, p *tree.Node) (f *fork) {
	for n := p; ; {
		parent, name, ok := t.Where(n)
		if !ok || parent == n {
			return f
		}
		was, known := g.at[parent]
		if known && was != name && f == nil {
			f = &fork{dir: parent, name: name, back: dirKey(name) < dirKey(was)}
			g.read[parent] = struct{}{}
		}
		g.at[parent] = name
		n = parent
	}
}
