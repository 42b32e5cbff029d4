package tree

import (
	"errors"
	"io/fs"
	"time"

	"github.com/agentfs/agentfs/backends"
)

// Move is what a rename will do or has done.
type Move struct {
	Node *Node // what moves
	// Target had the new name before; nil if nobody had. With
	// [backends.RenameExchange] it gets the old name, otherwise it loses its
	// own.
	Target *Node
	// Gone says that Target has no name any more.
	Gone bool
	// Same says that both names are the same inode already, so that nothing
	// happens (rename(2)).
	Same bool
}

// CheckRename returns what Rename would do, or its error.
func (t *Tree) CheckRename(oldDir *Node, oldName string, dir *Node, name string, flags backends.RenameFlags) (Move, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.checkRename(oldDir, oldName, dir, name, flags)
}

// checkRename has the rules of rename(2), in Linux's order.
func (t *Tree) checkRename(oldDir *Node, oldName string, dir *Node, name string, flags backends.RenameFlags) (Move, error) {
	switch flags {
	case 0, backends.RenameNoReplace, backends.RenameExchange:
	default:
		return Move{}, fs.ErrInvalid
	}
	if err := CheckName(name); err != nil {
		return Move{}, err
	}
	n, err := oldDir.child(oldName)
	if err != nil {
		return Move{}, err
	}
	target, err := dir.child(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Move{}, err
	}
	if dir.nlink == 0 {
		return Move{}, fs.ErrNotExist
	}
	if n.IsDir() && n.contains(dir) {
		return Move{}, fs.ErrInvalid
	}
	if target != nil && flags == 0 && target.IsDir() && target.contains(oldDir) {
		// The target has at least the source in it, whatever the source is.
		return Move{}, backends.ErrNotEmpty
	}
	m := Move{Node: n, Target: target}
	switch {
	case flags == backends.RenameExchange:
		if target == nil {
			return Move{}, fs.ErrNotExist
		}
		if target.IsDir() && target.contains(oldDir) {
			return Move{}, fs.ErrInvalid
		}
		m.Same = target == n
		return m, nil
	case target == nil:
		return m, nil
	case flags == backends.RenameNoReplace:
		return Move{}, fs.ErrExist
	case target == n:
		m.Same = true
		return m, nil
	case n.IsDir() && !target.IsDir():
		return Move{}, backends.ErrNotDir
	case !n.IsDir() && target.IsDir():
		return Move{}, backends.ErrIsDir
	case target.IsDir() && len(target.dir.children) > 0:
		return Move{}, backends.ErrNotEmpty
	}
	return m, nil
}

// contains reports whether d is n or lies below it.
func (n *Node) contains(d *Node) bool {
	for {
		if d == n {
			return true
		}
		if d.parent == nil || d.parent == d {
			return false
		}
		d = d.parent
	}
}

// Rename moves a name. If check is not nil it is told what will happen and may
// refuse; it runs under the tree's lock.
func (t *Tree) Rename(oldDir *Node, oldName string, dir *Node, name string, flags backends.RenameFlags, check func(Move) error) (Move, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m, err := t.checkRename(oldDir, oldName, dir, name, flags)
	if err != nil {
		return m, err
	}
	if check != nil {
		if err := check(m); err != nil {
			return Move{}, err
		}
	}
	if m.Same {
		return m, nil
	}
	now := time.Now()
	if flags == backends.RenameExchange {
		t.exchange(oldDir, oldName, m.Node, dir, name, m.Target)
		m.Target.ctime.Store(now.UnixNano())
	} else {
		if m.Target != nil {
			t.detach(dir, name, m.Target)
			m.Target.ctime.Store(now.UnixNano())
			m.Gone = m.Target.nlink == 0
		}
		t.move(oldDir, oldName, dir, name, m.Node)
	}
	m.Node.ctime.Store(now.UnixNano())
	oldDir.Touch(now)
	dir.Touch(now)
	return m, nil
}

// exchange swaps two names. Tree.mu is held.
func (t *Tree) exchange(aDir *Node, aName string, a *Node, bDir *Node, bName string, b *Node) {
	aDir.dir.children[aName], bDir.dir.children[bName] = b, a
	t.renamed(aDir)
	t.renamed(bDir)
	b.parent, b.name = aDir, aName
	a.parent, a.name = bDir, bName
	if aDir == bDir {
		return
	}
	if a.IsDir() {
		aDir.nlink--
		bDir.nlink++
	}
	if b.IsDir() {
		bDir.nlink--
		aDir.nlink++
	}
}
