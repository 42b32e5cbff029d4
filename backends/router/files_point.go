package router

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/agentfs/agentfs/backends"
)

const (
	// patience is how long a store may take to answer for a point's attributes
	// before others stand in: whoever lists the directory above, or only
	// passes through on the way to another route, doesn't wait for an endpoint
	// that is gone.
	patience = 2 * time.Second
	// standInValid is how long the kernel may believe attributes that stand
	// in for those that couldn't be had.
	standInValid = time.Second
)

// find returns the directory that p's store has for p. There may be none: the
// error then matches [fs.ErrNotExist], or [backends.ErrNotDir] if something
// else is in its place or in that of an ancestor.
//
// It looks every time, because the store may be changed by others. What is
// found is never forgotten: another call may be using it.
func (p *point) find(ctx context.Context) (backends.Node, backends.Attr, error) {
	if p.mount {
		return p.r.files.Root(), backends.Attr{}, nil
	}
	dir, _, err := p.parent.find(ctx)
	if err != nil {
		return nil, backends.Attr{}, err
	}
	n, a, err := p.r.files.Lookup(ctx, dir, p.base)
	if err != nil {
		return nil, backends.Attr{}, err
	}
	if !a.Mode.IsDir() {
		return nil, backends.Attr{}, &fs.PathError{Op: "lookup", Path: p.path, Err: backends.ErrNotDir}
	}
	if last := p.lastDir.Load(); last == nil || *last != n {
		found := n
		p.lastDir.Store(&found)
	}
	return n, a, nil
}

// materialize is find that makes the directory, and those above it, if there
// is none. Several callers may do so at once.
func (p *point) materialize(ctx context.Context) (backends.Node, error) {
	n, _, err := p.find(ctx)
	switch {
	case errors.Is(err, backends.ErrNotDir):
		return nil, fmt.Errorf("route %s has something else where the way to another route leads; rename it in the store: %w",
			display(p.r.path), err)
	case err == nil || !errors.Is(err, fs.ErrNotExist):
		return n, err
	}
	dir, err := p.parent.materialize(ctx)
	if err != nil {
		return nil, err
	}
	a, err := p.parent.attr(ctx)
	if err != nil {
		return nil, err
	}
	_, _, err = p.r.files.Mkdir(ctx, dir, p.base, backends.CreateAttr{
		Mode: fs.ModeDir | a.Mode.Perm(), UID: a.UID, GID: a.GID,
	})
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	n, _, err = p.find(ctx)
	return n, err
}

// attr returns p's attributes, whatever its store answers; the error is that
// of a call whose context ended.
func (p *point) attr(ctx context.Context) (backends.Attr, error) {
	a, err := p.ask(ctx)
	switch {
	case err == nil:
		p.remember(a)
		return p.dress(a), nil
	case ctx.Err() != nil:
		return backends.Attr{}, err
	case missing(err) && !p.mount:
		up, err := p.parent.attr(ctx)
		if err != nil {
			return backends.Attr{}, err
		}
		return p.standIn(up, up.Valid), nil
	}
	return p.standIn(p.remembered(), standInValid), nil
}

// ask asks p's store for the attributes of p's directory.
func (p *point) ask(ctx context.Context) (backends.Attr, error) {
	ctx, stop := context.WithTimeout(ctx, patience)
	defer stop()
	if p.mount {
		return p.r.files.Attr(ctx, p.r.files.Root())
	}
	_, a, err := p.find(ctx)
	return a, err
}

// remember keeps what remembered needs of a.
func (p *point) remember(a backends.Attr) {
	last := p.lastAttr.Load()
	if last == nil || last.Mode != a.Mode || last.UID != a.UID || last.GID != a.GID {
		known := a
		p.lastAttr.Store(&known)
	}
}

// remembered returns the attributes that p, or the nearest directory above of
// which any are known, had last.
func (p *point) remembered() backends.Attr {
	for q := p; q != nil; q = q.parent {
		if last := q.lastAttr.Load(); last != nil {
			return *last
		}
	}
	return backends.Attr{Mode: fs.ModeDir | 0o755, UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
}

// dress makes the attributes of p's directory those of p.
func (p *point) dress(a backends.Attr) backends.Attr {
	a.ID = p.ID()
	// 1 would say that the store counts no links of directories.
	if a.Nlink > 1 {
		a.Nlink += p.visible
	}
	return a
}

// standIn returns attributes for a point that has no directory of its own or
// whose store doesn't answer: owner and permissions are those of like.
func (p *point) standIn(like backends.Attr, valid time.Duration) backends.Attr {
	return backends.Attr{
		ID: p.ID(), Mode: fs.ModeDir | like.Mode.Perm(), UID: like.UID, GID: like.GID,
		Nlink: 2 + p.visible, Atime: p.owner.born, Mtime: p.owner.born, Ctime: p.owner.born,
		Valid: valid,
	}
}

// merge returns the entries of p's directory with the points in it.
func (p *point) merge(es []backends.DirEntry) []backends.DirEntry {
	out := make([]backends.DirEntry, 0, len(es)+len(p.order))
	for _, e := range es {
		c := p.children[e.Name]
		switch {
		case c == nil:
			e.ID = p.r.id(e.ID)
			out = append(out, e)
		case c.hidden && !c.mount && e.Mode.IsDir():
			out = append(out, c.dirEntry()) // the store itself has it
		}
	}
	for _, c := range p.order {
		if !c.hidden {
			out = append(out, c.dirEntry())
		}
	}
	return out
}

func (p *point) dirEntry() backends.DirEntry {
	return backends.DirEntry{Name: p.base, ID: p.ID(), Mode: fs.ModeDir}
}
