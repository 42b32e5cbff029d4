package tree

import (
	"io/fs"
	"maps"
	"time"

	"github.com/agentfs/agentfs/backends"
)

// CheckInsert returns the error that Insert would.
func (t *Tree) CheckInsert(dir *Node, name string) error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return dir.checkInsert(name)
}

func (n *Node) checkInsert(name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	switch {
	case n.dir == nil:
		return backends.ErrNotDir
	case n.dir.children[name] != nil:
		return fs.ErrExist
	case n.nlink == 0:
		// A removed directory that somebody still has open: nothing can be
		// made in it (POSIX open(), ENOENT).
		return fs.ErrNotExist
	}
	return nil
}

// Insert gives the new node n its first name. In a set-gid directory n gets
// the directory's group, and a directory the set-gid bit (inode(7)).
func (t *Tree) Insert(dir *Node, name string, n *Node) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := dir.checkInsert(name); err != nil {
		return err
	}
	if dir.perm&fs.ModeSetgid != 0 {
		n.gid = dir.gid
		if n.IsDir() {
			n.perm |= fs.ModeSetgid
		}
	}
	t.attach(dir, name, n)
	dir.Touch(time.Now())
	return nil
}

// Adopt gives n a name without any of the effects that an operation of this
// machine would have on the parent: the owner has learnt that it is there.
// Whatever had the name loses it, and is returned.
func (t *Tree) Adopt(dir *Node, name string, n *Node) *Node {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := dir.dir.children[name]
	if old != nil {
		t.detach(dir, name, old)
	}
	t.attach(dir, name, n)
	return old
}

// Drop takes name out of dir without the effects of an operation of this
// machine: the owner has learnt that it is gone. A directory's children go
// with it. It returns what had the name, or nil.
func (t *Tree) Drop(dir *Node, name string) *Node {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := dir.dir.children[name]
	if old != nil {
		t.detach(dir, name, old)
	}
	return old
}

// Forget takes names out of dir as Drop does: the owner forgets them. See Shrink.
func (t *Tree) Forget(dir *Node, names []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, name := range names {
		if n := dir.dir.children[name]; n != nil {
			t.detach(dir, name, n)
		}
	}
}

// Shrink gives back what dir takes in memory for names that were forgotten, if
// that is most of it.
func (t *Tree) Shrink(dir *Node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	// A map does not shrink by itself. With this part of it at most, to copy it
	// keeps nobody waiting for long.
	if d := dir.dir; d != nil && len(d.children) <= d.most/4 {
		left := make(map[string]*Node, len(d.children))
		maps.Copy(left, d.children)
		d.children, d.most = left, len(left)
	}
}

// Replace puts the new node n under name if old has it now (nil: if nobody
// has), and reports whether it did. It is what an atomic put of a content
// needs: others see the old node or the new. gone says that old has no name
// any more.
func (t *Tree) Replace(dir *Node, name string, old, n *Node) (done, gone bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := CheckName(name); err != nil {
		return false, false, err
	}
	if dir.dir == nil {
		return false, false, backends.ErrNotDir
	}
	if dir.nlink == 0 {
		return false, false, fs.ErrNotExist
	}
	if dir.dir.children[name] != old {
		return false, false, nil
	}
	now := time.Now()
	if old != nil {
		t.detach(dir, name, old)
		old.ctime.Store(now.UnixNano())
		gone = old.nlink == 0
	}
	t.attach(dir, name, n)
	dir.Touch(now)
	return true, gone, nil
}

// attach puts n under a free name. Tree.mu is held.
func (t *Tree) attach(dir *Node, name string, n *Node) {
	if dir.dir.children == nil {
		dir.dir.children = make(map[string]*Node)
	}
	dir.dir.children[name] = n
	dir.dir.most = max(dir.dir.most, len(dir.dir.children))
	t.renamed(dir)
	n.parent, n.name = dir, name
	if n.IsDir() {
		n.nlink = 2 + n.subdirs()
		dir.nlink++
	} else {
		n.nlink++
	}
	t.nodes.Add(1)
}

// detach takes n's name away. Tree.mu is held.
func (t *Tree) detach(dir *Node, name string, n *Node) {
	delete(dir.dir.children, name)
	t.renamed(dir)
	if n.parent == dir && n.name == name {
		n.parent, n.name = nil, ""
	}
	if n.IsDir() {
		n.nlink = 0
		dir.nlink--
	} else {
		n.nlink--
	}
	t.nodes.Add(-n.named())
}

// named counts n and all below it.
func (n *Node) named() int64 {
	sum := int64(1)
	if n.dir != nil {
		for _, c := range n.dir.children {
			sum += c.named()
		}
	}
	return sum
}

// move is detach and attach without a moment in which n has no name.
func (t *Tree) move(oldDir *Node, oldName string, dir *Node, name string, n *Node) {
	delete(oldDir.dir.children, oldName)
	t.renamed(oldDir)
	if dir.dir.children == nil {
		dir.dir.children = make(map[string]*Node)
	}
	dir.dir.children[name] = n
	dir.dir.most = max(dir.dir.most, len(dir.dir.children))
	t.renamed(dir)
	n.parent, n.name = dir, name
	if n.IsDir() && oldDir != dir {
		oldDir.nlink--
		dir.nlink++
	}
}

func (n *Node) subdirs() (count uint32) {
	for _, c := range n.dir.children {
		if c.IsDir() {
			count++
		}
	}
	return count
}

// Link gives n a further name. A directory is [backends.ErrNotPermitted]; a
// file that has lost its last name can't get another one (linkat(2), ENOENT).
func (t *Tree) Link(n, dir *Node, name string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case n.IsDir():
		return backends.ErrNotPermitted
	case n.nlink == 0:
		return fs.ErrNotExist
	case n.nlink >= 1<<31-1:
		return backends.ErrTooManyLinks
	}
	if err := dir.checkInsert(name); err != nil {
		return err
	}
	t.attach(dir, name, n)
	now := time.Now()
	n.ctime.Store(now.UnixNano())
	dir.Touch(now)
	return nil
}

// CheckUnlink returns the node that Unlink would take the name from, or its
// error.
func (t *Tree) CheckUnlink(dir *Node, name string) (*Node, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return dir.checkUnlink(name)
}

func (n *Node) checkUnlink(name string) (*Node, error) {
	c, err := n.child(name)
	if err != nil {
		return nil, err
	}
	if c.IsDir() {
		return nil, backends.ErrIsDir
	}
	return c, nil
}

// Unlink removes a name that is not a directory and returns the node; gone
// says that it was its last name. If want is not nil and the name is another
// node's by now, nothing happens and the error is [backends.ErrChanged].
func (t *Tree) Unlink(dir *Node, name string, want *Node) (n *Node, gone bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n, err = dir.checkUnlink(name)
	if err != nil {
		return nil, false, err
	}
	if want != nil && n != want {
		return nil, false, backends.ErrChanged
	}
	t.detach(dir, name, n)
	now := time.Now()
	n.ctime.Store(now.UnixNano())
	dir.Touch(now)
	return n, n.nlink == 0, nil
}

// CheckRmdir returns the directory that Rmdir would remove, or its error.
func (t *Tree) CheckRmdir(dir *Node, name string) (*Node, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return dir.checkRmdir(name)
}

func (n *Node) checkRmdir(name string) (*Node, error) {
	c, err := n.child(name)
	if err != nil {
		return nil, err
	}
	switch {
	case !c.IsDir():
		return nil, backends.ErrNotDir
	case len(c.dir.children) > 0:
		return nil, backends.ErrNotEmpty
	}
	return c, nil
}

// Rmdir removes an empty directory.
func (t *Tree) Rmdir(dir *Node, name string) (*Node, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n, err := dir.checkRmdir(name)
	if err != nil {
		return nil, err
	}
	t.detach(dir, name, n)
	now := time.Now()
	n.ctime.Store(now.UnixNano())
	dir.Touch(now)
	return n, nil
}
