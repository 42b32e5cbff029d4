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
	mu     sync.Mutex
	groups map[int]*group
}

// group is the processes that work together, as far as can be told: a process
// group, that is a job of a shell. All threads of a program are in one, and
// what find or xargs start is in theirs.
type group struct {
	last time.Time
	at   map[*tree.Node]string   // the child of each directory that it was in last
	read map[*tree.Node]struct{} // directories that it has read
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
func (w *walks) group(id int, now time.Time) *group {
	g := w.groups[id]
	if g == nil || now.Sub(g.last) > walkIdle {
		if g != nil {
			g.walk.end()
		}
		w.forget(now)
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

// forget makes room for another group. w.mu is held.
func (w *walks) forget(now time.Time) {
	if w.groups == nil {
		w.groups = map[int]*group{}
	}
	if len(w.groups) < maxGroups {
		return
	}
	for id, g := range w.groups {
		if now.Sub(g.last) > walkIdle {
			g.walk.end()
			delete(w.groups, id)
		}
	}
	for id, g := range w.groups {
		if len(w.groups) < maxGroups {
			break
		}
		g.walk.end()
		delete(w.groups, id)
	}
}

// visit notes that the caller looks into p, and whether it reads it. It returns
// the directory nearest to p of which the caller was in another child before.
func (w *walks) visit(ctx context.Context, t *tree.Tree, p *tree.Node, read bool) (f *fork) {
	id := groupOf(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	g := w.group(id, time.Now())
	if read {
		g.read[p] = struct{}{}
	}
	for n := p; ; {
		parent, name, ok := t.Where(n)
		if !ok || parent == n {
			return f
		}
		was, known := g.at[parent]
		if known && was != name && f == nil {
			f = &fork{dir: parent, name: name, back: dirKey(name) < dirKey(was)}
		}
		g.at[parent] = name
		n = parent
	}
}
