package cache

import (
	"slices"
	"strings"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/tree"
)

// order is one in which programs go through a tree.
type order struct {
	back       bool // the last name first, as rg does from its stack
	filesFirst bool // a directory's files before its directories, as os.walk does
}

var orders = []order{{}, {filesFirst: true}, {back: true}, {back: true, filesFirst: true}}

// traversal goes on from a file through the tree as far as it is known, asking
// nobody. If it goes round, a directory's listing is gone through from the place
// where the traversal enters it to the end, and then from its beginning to there:
// whoever has another order comes to all of it as well.
type traversal struct {
	tree   *tree.Tree
	order  order
	round  bool
	above  func(dir *tree.Node) bool // whether it may go on in what is above its beginning
	frames []frame                   // the innermost last
}

// frame is a directory that a traversal is in.
type frame struct {
	dir     *tree.Node
	entries []backends.DirEntry
	next    int  // index of the next entry
	left    int  // how many entries are left in this round
	dirs    bool // the round of the directories, with filesFirst
}

// after returns a traversal that begins after dir's child name.
func (o order) after(t *tree.Tree, dir *tree.Node, name string, round bool, above func(*tree.Node) bool) *traversal {
	tr := &traversal{tree: t, order: o, round: round, above: above}
	tr.enter(dir)
	tr.skip(name)
	return tr
}

// traverseMost is how large a directory may be that is sorted for a traversal.
// One of a million names of which some are learned and others forgotten takes a
// second each time, and walks.mu is held, for which lookups elsewhere wait.
const traverseMost = 10_000

func (tr *traversal) enter(dir *tree.Node) {
	entries, ok := tr.tree.Listed(dir, traverseMost)
	if !ok {
		return
	}
	f := frame{dir: dir, entries: entries, left: len(entries)}
	if tr.order.back {
		f.next = len(entries) - 1
	}
	tr.frames = append(tr.frames, f)
}

// skip makes the innermost frame go on after name.
func (tr *traversal) skip(name string) {
	if len(tr.frames) == 0 {
		return
	}
	f := &tr.frames[len(tr.frames)-1]
	i, found := slices.BinarySearchFunc(f.entries, name, func(e backends.DirEntry, name string) int { return strings.Compare(e.Name, name) })
	f.next = i
	switch {
	case found:
		f.advance(tr.order.back)
	case tr.order.back:
		f.next--
	}
	switch {
	case tr.round:
	case tr.order.back:
		f.left = f.next + 1
	default:
		f.left = len(f.entries) - f.next
	}
}

func (f *frame) advance(back bool) {
	f.left--
	if back {
		f.next--
	} else {
		f.next++
	}
}

// file returns the next regular file, or nil if steps are used up or nothing
// is left.
func (tr *traversal) file(steps *int) *tree.Node {
	for len(tr.frames) > 0 {
		f := &tr.frames[len(tr.frames)-1]
		if f.left <= 0 {
			if tr.order.filesFirst && !f.dirs {
				f.dirs, f.left = true, len(f.entries)
				f.next = 0
				if tr.order.back {
					f.next = len(f.entries) - 1
				}
				continue
			}
			tr.leave()
			continue
		}
		if *steps <= 0 {
			return nil
		}
		*steps--
		f.next = (f.next + len(f.entries)) % len(f.entries)
		e := &f.entries[f.next]
		f.advance(tr.order.back)
		if tr.order.filesFirst && e.Mode.IsDir() != f.dirs {
			continue // its round is another one
		}
		n, err := tr.tree.Lookup(f.dir, e.Name)
		switch {
		case err != nil:
		case n.IsDir():
			tr.enter(n)
		case n.Type() == 0:
			return n
		}
	}
	return nil
}

// leave goes on in the directory above.
func (tr *traversal) leave() {
	dir := tr.frames[len(tr.frames)-1].dir
	if tr.frames = tr.frames[:len(tr.frames)-1]; len(tr.frames) > 0 {
		return
	}
	parent, name, ok := tr.tree.Where(dir)
	if !ok || parent == dir || !tr.above(parent) {
		return
	}
	tr.enter(parent)
	tr.skip(name)
	if len(tr.frames) > 0 && tr.order.filesFirst {
		tr.frames[0].dirs = true // its files came before
	}
}
