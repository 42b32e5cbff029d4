package tree

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agentfs/agentfs/backends"
)

// Tree is a name space. All methods may be called by several goroutines.
//
// Lock order: mu is a leaf. Owners may hold their own locks when they call
// in; the tree calls nobody while it holds mu.
type Tree struct {
	mu     sync.RWMutex
	root   *Node
	lastID atomic.Uint64
	nodes  atomic.Int64
	stamps uint64 // the last one given; guarded by mu
}

// New returns a tree with an empty root directory.
func New(a backends.CreateAttr, data any) *Tree {
	t := &Tree{}
	a.Mode = a.Mode&^fs.ModeType | fs.ModeDir
	t.root = t.NewNode(a, data)
	t.root.nlink = 2
	t.root.parent = t.root
	t.nodes.Store(1)
	return t
}

// Root returns the root directory.
func (t *Tree) Root() *Node { return t.root }

// Own returns n as a node of t; any other is [errors.ErrUnsupported], which is
// what a file system answers to nodes of others.
func (t *Tree) Own(n backends.Node) (*Node, error) {
	if own, ok := n.(*Node); ok && own.tree == t {
		return own, nil
	}
	return nil, errors.ErrUnsupported
}

// Nodes returns the number of nodes that have a name.
func (t *Tree) Nodes() int64 { return t.nodes.Load() }

// NewNode returns a node without a name. Its type is in a.Mode.
func (t *Tree) NewNode(a backends.CreateAttr, data any) *Node {
	return t.NewNodeID(t.lastID.Add(1), a, data)
}

// SetIDs makes the ids of nodes made from now on higher than id.
func (t *Tree) SetIDs(id uint64) {
	for {
		last := t.lastID.Load()
		if last >= id || t.lastID.CompareAndSwap(last, id) {
			return
		}
	}
}

// NewNodeID is NewNode for an owner that has kept the id which the node had in
// an earlier tree; see SetIDs.
func (t *Tree) NewNodeID(id uint64, a backends.CreateAttr, data any) *Node {
	n := &Node{
		Data: data,
		tree: t,
		id:   id,
		kind: a.Mode & fs.ModeType,
		perm: a.Mode &^ fs.ModeType,
		uid:  a.UID, gid: a.GID, rdev: a.Rdev,
	}
	now := time.Now().UnixNano()
	n.atime.Store(now)
	n.mtime.Store(now)
	n.ctime.Store(now)
	if n.IsDir() {
		n.dir = &directory{}
	}
	return n
}

// NewSymlink returns a symbolic link without a name.
func (t *Tree) NewSymlink(a backends.CreateAttr, target string, data any) *Node {
	// The permissions of a link are never looked at; Linux shows 0777.
	a.Mode = fs.ModeSymlink | 0o777
	n := t.NewNode(a, data)
	n.extra = &extra{target: target}
	return n
}

// SetTarget makes n, a symbolic link that nobody has seen yet, lead to target.
func (t *Tree) SetTarget(n *Node, target string) {
	n.perm = 0o777
	n.extra = &extra{target: target}
}

// CheckName returns an error unless name can be the name of a new or existing
// child: [fs.ErrInvalid] for an impossible one, [backends.ErrNameTooLong].
func CheckName(name string) error {
	switch {
	case name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00"):
		return fs.ErrInvalid
	case len(name) > backends.MaxNameLen:
		return backends.ErrNameTooLong
	}
	return nil
}

// Lookup returns the child of dir called name.
func (t *Tree) Lookup(dir *Node, name string) (*Node, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return dir.child(name)
}

// child returns the child called name. Tree.mu is held.
func (n *Node) child(name string) (*Node, error) {
	if n.dir == nil {
		return nil, backends.ErrNotDir
	}
	if c, ok := n.dir.children[name]; ok {
		return c, nil
	}
	if len(name) > backends.MaxNameLen {
		return nil, backends.ErrNameTooLong
	}
	return nil, fs.ErrNotExist
}

// ReadDir returns the children of dir in the order of their names' bytes.
// The slice is shared: nobody changes it.
func (t *Tree) ReadDir(dir *Node) ([]backends.DirEntry, error) {
	t.mu.RLock()
	if dir.dir == nil {
		t.mu.RUnlock()
		return nil, backends.ErrNotDir
	}
	list, stamp := dir.dir.listing, dir.dir.stamp
	if list != nil {
		t.mu.RUnlock()
		return list, nil
	}
	nodes := make([]*Node, 0, len(dir.dir.children))
	list = make([]backends.DirEntry, 0, len(dir.dir.children))
	for name, c := range dir.dir.children {
		nodes, list = append(nodes, c), append(list, backends.DirEntry{Name: name})
	}
	t.mu.RUnlock()
	// Of a million names this takes a second, in which nobody has to wait.
	for i, c := range nodes {
		list[i].ID, list[i].Mode = c.id, c.kind
	}
	slices.SortFunc(list, func(a, b backends.DirEntry) int { return strings.Compare(a.Name, b.Name) })
	t.mu.Lock()
	defer t.mu.Unlock()
	if dir.dir.stamp == stamp && dir.dir.listing == nil {
		dir.dir.listing = list
	}
	return list, nil
}

// Listed returns what ReadDir would if that takes no time: the listing that somebody
// has read, while it stands, or one of up to so many names.
func (t *Tree) Listed(dir *Node, most int) (list []backends.DirEntry, ok bool) {
	t.mu.RLock()
	small := dir.dir != nil && len(dir.dir.children) <= most
	if dir.dir != nil {
		list = dir.dir.listing
	}
	t.mu.RUnlock()
	if list != nil {
		return list, true
	}
	if !small {
		return nil, false
	}
	list, err := t.ReadDir(dir)
	return list, err == nil
}

// Names returns the names in dir, in no order.
func (t *Tree) Names(dir *Node) []string {
	t.mu.RLock()
	if dir.dir == nil {
		t.mu.RUnlock()
		return nil
	}
	list := dir.dir.listing
	names := make([]string, 0, len(dir.dir.children))
	if list == nil {
		for name := range dir.dir.children {
			names = append(names, name)
		}
	}
	t.mu.RUnlock()
	for i := range list {
		names = append(names, list[i].Name)
	}
	return names
}

// renamed says that the names in dir have changed. mu is held.
func (t *Tree) renamed(dir *Node) {
	t.stamps++
	dir.dir.listing, dir.dir.stamp = nil, t.stamps
}

// Restamp gives dir another stamp although its names are the same.
func (t *Tree) Restamp(dir *Node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stamps++
	dir.dir.stamp = t.stamps
}

// Stamp returns a number, not 0, that dir has had only with the names that it has
// now.
func (t *Tree) Stamp(dir *Node) uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return dir.dir.stamp + 1
}

// Len returns the number of children of dir.
func (t *Tree) Len(dir *Node) int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if dir.dir == nil {
		return 0
	}
	return len(dir.dir.children)
}

// Dirs returns the directories in dir, in no order.
func (t *Tree) Dirs(dir *Node) (all []*Node) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if dir.dir == nil || dir.nlink == 2 {
		return nil
	}
	for _, n := range dir.dir.children {
		if n.IsDir() {
			all = append(all, n)
		}
	}
	return all
}

// Children calls f for each child of dir, in no order, on a copy made at one
// moment.
func (t *Tree) Children(dir *Node, f func(name string, n *Node)) {
	t.mu.RLock()
	type child struct {
		name string
		n    *Node
	}
	var all []child
	if dir.dir != nil {
		all = make([]child, 0, len(dir.dir.children))
		for name, n := range dir.dir.children {
			all = append(all, child{name, n})
		}
	}
	t.mu.RUnlock()
	for _, c := range all {
		f(c.name, c.n)
	}
}

// Where returns the directory and the name that n was last given; ok is false
// if it has none any more. Of a node with several names it is one of them
// while that one stands.
func (t *Tree) Where(n *Node) (dir *Node, name string, ok bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return n.parent, n.name, n.parent != nil
}

// Path returns the slash-separated path of n from the root, "." for the root;
// ok is false if n can't be reached from the root any more.
func (t *Tree) Path(n *Node) (name string, ok bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var segs []string
	for n != t.root {
		if n.parent == nil {
			return "", false
		}
		segs = append(segs, n.name)
		n = n.parent
	}
	if len(segs) == 0 {
		return ".", true
	}
	slices.Reverse(segs)
	return strings.Join(segs, "/"), true
}

// At reports whether p is n's path and, as Path does, whether n has one. It makes no
// string.
func (t *Tree) At(n *Node, p string) (is, ok bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if n == t.root {
		return p == ".", true
	}
	is = true
	for ; n != t.root; n = n.parent {
		if n.parent == nil {
			return false, false
		}
		rest, named := strings.CutSuffix(p, n.name)
		if n.parent == t.root {
			is = is && named && rest == ""
			continue
		}
		dir, deeper := strings.CutSuffix(rest, "/")
		p, is = dir, is && named && deeper
	}
	return is, true
}

// Attr returns n's attributes but for size, blocks, version and validity,
// which are the owner's. A directory's size is 4096 by custom.
func (t *Tree) Attr(n *Node) backends.Attr {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return n.attr()
}

func (n *Node) attr() backends.Attr {
	a := backends.Attr{
		ID: n.id, Mode: n.kind | n.perm, UID: n.uid, GID: n.gid, Nlink: n.nlink, Rdev: n.rdev,
		Atime: fromNano(n.atime.Load()), Mtime: fromNano(n.mtime.Load()), Ctime: fromNano(n.ctime.Load()),
	}
	switch {
	case n.kind.IsDir():
		a.Size = 4096
	case n.kind == fs.ModeSymlink:
		a.Size = int64(len(n.extra.target))
	}
	return a
}

// Readlink returns the target of a symbolic link, else [fs.ErrInvalid].
func (t *Tree) Readlink(n *Node) (string, error) {
	if n.kind != fs.ModeSymlink {
		return "", fs.ErrInvalid
	}
	return n.extra.target, nil
}
