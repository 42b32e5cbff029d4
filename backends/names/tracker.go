// Package names knows the paths of the nodes of a file system, which the
// contract's file depth does not say: for wrappers whose decisions or records
// go by path.
//
// [FileSystem] wraps a file system and learns from what passes: a node's names
// are those under which it was found or made, moved with every rename of it or
// of a directory above, for as long as the kernel knows it. So a path costs no
// call, and some 200 bytes a node.
package names

import (
	"slices"
	"strings"
	"sync"

	"github.com/agentfs/agentfs/backends"
)

// Tracker has the names of nodes. Its methods may be called by many goroutines
// at once.
type Tracker struct {
	mu    sync.RWMutex
	root  *entry
	nodes map[backends.Node]*entry
	names map[place]*entry
	busy  map[spot]struct{} // the names of which a change is under way
	ended sync.Cond         // with mu: one of them has ended
}

// place is a name in a directory.
type place struct {
	dir  *entry
	name string
}

// entry is one node.
//
// INVARIANT: names[p] == e exactly if e.at has p; p.dir.below counts them.
type entry struct {
	node  backends.Node
	at    []place // the one that was used last at the end
	last  place   // where it was when it lost its last name
	below int     // how many names there are in it
	made  uint64  // how often a name in it was made, moved or removed
	known bool    // not forgotten by the kernel
}

func newTracker(root backends.Node) *Tracker {
	t := &Tracker{nodes: map[backends.Node]*entry{}, names: map[place]*entry{}, busy: map[spot]struct{}{}}
	t.ended.L = &t.mu
	t.root = t.entry(root)
	return t
}

// entry returns the entry of n, which is made if needed.
func (t *Tracker) entry(n backends.Node) *entry {
	e := t.nodes[n]
	if e == nil {
		e = &entry{node: n}
		t.nodes[n] = e
	}
	e.known = true
	return e
}

// found says that a lookup has found n under name in dir, nil for nothing, and
// reports whether that may still be so: names in dir have not changed since
// settled said that there were so many changes, and no change of this one has
// begun. Otherwise it notes nothing.
func (t *Tracker) found(dir backends.Node, name string, n backends.Node, changes uint64) bool {
	t.mu.RLock()
	d := t.nodes[dir]
	e := t.names[place{d, name}]
	same := n == nil && e == nil || e != nil && e.node == n && e.known && e.at[len(e.at)-1] == place{d, name}
	t.mu.RUnlock()
	if same {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	d = t.entry(dir)
	switch {
	case d.made != changes || t.changing(spot{dir, name}):
		return false
	case n == nil:
		t.unlink(place{d, name})
	default:
		t.link(place{d, name}, t.entry(n))
	}
	return true
}

// add says that n was made as name in dir.
func (t *Tracker) add(dir backends.Node, name string, n backends.Node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.entry(dir)
	d.made++
	t.link(place{d, name}, t.entry(n))
}

func (t *Tracker) link(p place, e *entry) {
	if old := t.names[p]; old == e {
		i := slices.Index(e.at, p)
		e.at = append(slices.Delete(e.at, i, i+1), p)
		return
	} else if old != nil {
		t.unlink(p)
	}
	t.names[p] = e
	e.at = append(e.at, p)
	p.dir.below++
}

// unlink takes the name at p away and returns whose it was, or nil.
func (t *Tracker) unlink(p place) *entry {
	e := t.names[p]
	if e == nil {
		return nil
	}
	delete(t.names, p)
	i := slices.Index(e.at, p)
	e.at = slices.Delete(e.at, i, i+1)
	if len(e.at) == 0 {
		e.last = p
	}
	p.dir.below--
	t.drop(p.dir)
	return e
}

// drop lets go of an entry that nobody needs any more. One with names in it
// stays, because their paths go through it.
func (t *Tracker) drop(e *entry) {
	if e.known || e.below > 0 || t.nodes[e.node] != e {
		return
	}
	delete(t.nodes, e.node)
	for len(e.at) > 0 {
		t.unlink(e.at[0])
	}
}

func (t *Tracker) remove(dir backends.Node, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if d := t.nodes[dir]; d != nil {
		d.made++
		t.unlink(place{d, name})
	}
}

func (t *Tracker) rename(from backends.Node, oldName string, to backends.Node, newName string, exchange bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a, b := place{t.entry(from), oldName}, place{t.entry(to), newName}
	a.dir.made++
	b.dir.made++
	if a == b || t.names[a] != nil && t.names[a] == t.names[b] {
		return // rename(2) of one file's name to another of its names does nothing
	}
	moved := t.unlink(a)
	replaced := t.unlink(b)
	if moved != nil {
		t.link(b, moved)
	}
	if exchange && replaced != nil {
		t.link(a, replaced)
	}
}

func (t *Tracker) forget(n backends.Node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.nodes[n]; e != nil && e != t.root {
		e.known = false
		t.drop(e)
	}
}

// Path returns the path of n as a name of a [backends.Store]: of several names
// the one that was used last, of a file without a name its last one. ok is
// false for a node that is not known.
func (t *Tracker) Path(n backends.Node) (name string, ok bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	e := t.nodes[n]
	if e == nil {
		return "", false
	}
	return t.path(e)
}

// Paths returns the paths of all names of n that are known, the one that was
// used last at the end; none for a file that has no name any more.
func (t *Tracker) Paths(n backends.Node) []string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	e := t.nodes[n]
	if e == t.root {
		return []string{"."}
	}
	if e == nil {
		return nil
	}
	var all []string
	for _, p := range e.at {
		if dir, ok := t.path(p.dir); ok {
			all = append(all, Join(dir, p.name))
		}
	}
	return all
}

// Child returns the node called name in dir, if it is known.
func (t *Tracker) Child(dir backends.Node, name string) (backends.Node, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if d := t.nodes[dir]; d != nil {
		if e := t.names[place{d, name}]; e != nil {
			return e.node, true
		}
	}
	return nil, false
}

// maxDepth bounds how far a path goes up. A tree can't be deeper than paths are
// long; only names that others changed in the store meanwhile could make more
// of it, or a circle.
const maxDepth = 4096

func (t *Tracker) path(e *entry) (string, bool) {
	var segs []string
	for e != t.root {
		p := e.last
		if len(e.at) > 0 {
			p = e.at[len(e.at)-1]
		}
		if p.dir == nil || len(segs) == maxDepth {
			return "", false
		}
		segs = append(segs, p.name)
		e = p.dir
	}
	if len(segs) == 0 {
		return ".", true
	}
	slices.Reverse(segs)
	return strings.Join(segs, "/"), true
}

// Join returns the name of elem in the directory dir.
func Join(dir, elem string) string {
	if dir == "." {
		return elem
	}
	return dir + "/" + elem
}

// len returns how many nodes are known.
func (t *Tracker) len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.nodes)
}
