package cache

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/agentfs/agentfs/backends"
)

// flatDir is what a flat listing has of one directory.
type flatDir struct {
	dir     string
	entries []backends.Entry
	asked   time.Time // when its first entry was asked for
	moves   uint64    // FS.moves then
	part    bool      // what is before the first entry is not known
}

// flat sorts a flat listing, which comes in the order of its keys, into the
// directories that it goes through: all that lies below one comes in a row.
type flat struct {
	asked time.Time // when what is added now was asked for
	moves uint64
	open  []flatDir // from the root of the listing down to the directory of the last entry
	done  []flatDir // those that the listing is past
}

// newFlat returns what sorts the listing that m asks for.
func newFlat(m merging) *flat {
	l := &flat{asked: m.asked, moves: m.moves}
	l.push(m.key)
	return l
}

func (l *flat) push(dir string) {
	l.open = append(l.open, flatDir{dir: dir, asked: l.asked, moves: l.moves})
}

// at returns the directory that the listing is in.
func (l *flat) at() string { return l.open[len(l.open)-1].dir }

// add takes the next entry.
func (l *flat) add(e backends.Entry) {
	root := l.open[0].dir
	if e.Name == root || !under(e.Name, root) {
		return
	}
	l.enter(path.Dir(e.Name))
	if e.IsDir() && l.at() == e.Name {
		return
	}
	top := &l.open[len(l.open)-1]
	top.entries = append(top.entries, e)
	if e.IsDir() {
		l.push(e.Name)
	}
}

// enter makes dir, which lies below the root, the directory that the listing is
// in.
func (l *flat) enter(dir string) {
	for !under(dir, l.at()) {
		l.leave()
	}
	for at := l.at(); at != dir; at = l.at() {
		rest := dir
		if at != "." {
			rest = dir[len(at)+1:]
		}
		name, _, _ := strings.Cut(rest, "/")
		child := join(at, name)
		top := &l.open[len(l.open)-1]
		top.entries = append(top.entries, backends.Entry{Name: child, Mode: fs.ModeDir})
		l.push(child)
	}
}

// leave ends the directory that the listing is in.
func (l *flat) leave() {
	last := len(l.open) - 1
	if !l.open[last].part {
		l.done = append(l.done, l.open[last])
	}
	l.open = l.open[:last]
}

// end says that the listing is over.
func (l *flat) end() {
	for len(l.open) > 0 {
		l.leave()
	}
}

// take returns the directories that the listing is past, those above first.
func (l *flat) take() []flatDir {
	done := l.done
	l.done = nil
	slices.SortFunc(done, func(a, b flatDir) int { return strings.Compare(a.dir, b.dir) })
	return done
}

// mergeFlat merges directories, those above first. It returns those for which
// the tree has no place (yet), and calls merged for each of the others.
func (c *FS) mergeFlat(ctx context.Context, dirs []flatDir, merged func(flatDir, *dir)) (left []flatDir, err error) {
	for _, l := range dirs {
		c.ns.Lock()
		n := c.dirAt(l.dir)
		here := n != nil && dirOf(n).local
		c.ns.Unlock()
		if n == nil {
			left = append(left, l)
			continue
		}
		if here {
			continue // all that is in it is here
		}
		m := merging{c: c, dir: n, key: l.dir, asked: l.asked, moves: l.moves}
		switch err := m.all(ctx, l.entries); {
		case errors.Is(err, errMoved):
		case err != nil:
			return left, err
		case merged != nil:
			merged(l, dirOf(n))
		}
	}
	return left, nil
}
