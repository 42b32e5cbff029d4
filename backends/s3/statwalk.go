package s3

import (
	"context"
	"io/fs"
	"path"
	"strings"

	"github.com/agentfs/agentfs/backends"
)

// StatWalk implements [backends.StatWalker]: one flat LIST of the keys that begin
// with name, which has the file, and the directory with what is below it. Where a
// page is full of others ("name-1", "name.txt") before it comes to the directory,
// Stat and WalkPage ask.
func (s *Store) StatWalk(ctx context.Context, name string) (backends.Entry, backends.Page, error) {
	const op = "stat"
	if name == "." {
		p, err := s.WalkPage(ctx, name, "")
		return dirEntry("."), p, err
	}
	if err := s.keys.checkFile(op, name); err != nil {
		return backends.Entry{}, backends.Page{}, err
	}
	key, below := s.keys.file(name), s.keys.dir(name)
	l := &lister{s: s, ctx: ctx, prefix: s.keys.dir(path.Dir(name)), only: key, more: true}
	if err := l.page(); err != nil {
		return backends.Entry{}, backends.Page{}, s.fail(ctx, op, name, err)
	}
	if l.more && l.last < below {
		e, err := s.Stat(ctx, name)
		if err != nil || !e.IsDir() {
			return e, backends.Page{}, err
		}
		p, err := s.WalkPage(ctx, name, "")
		return e, p, err
	}
	var found backends.Entry
	var p backends.Page
	for len(l.queue) > 0 {
		next := l.queue[0].key
		isBelow := strings.HasPrefix(next, below)
		if isBelow {
			found = dirEntry(name) // also if what is there can't be shown
		} else if next > below {
			break // past all that is below it
		}
		if p.More = l.waits(); p.More {
			break
		}
		it, _, err := l.next()
		switch {
		case err != nil:
			return backends.Entry{}, backends.Page{}, s.fail(ctx, op, name, err)
		case !it.shown():
		case isBelow && it.key != below:
			p.Entries = append(p.Entries, it.entry)
		case it.key == key:
			found = it.entry
		}
	}
	switch {
	case found.Name == "":
		return backends.Entry{}, backends.Page{}, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	case len(l.queue) == 0:
		p.More = l.more && found.IsDir()
	}
	var err error
	if p.More && len(p.Entries) == 0 {
		p, err = s.WalkPage(ctx, name, "") // a page has to have something to go on behind
	}
	return found, p, err
}
