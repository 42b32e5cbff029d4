package sql

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
)

// Mkdir implements [backends.Store]. Attributes are not kept.
func (s *Store) Mkdir(ctx context.Context, name string, _ backends.AttrChange) error {
	if err := checkName("mkdir", name); err != nil {
		return err
	}
	return s.change(ctx, "mkdir", name, func(t *tx) error {
		if name == "." {
			return fs.ErrExist
		}
		old, err := s.node(ctx, t, name, s.forKeyShare)
		if err != nil {
			return err
		}
		if old != nil {
			return fs.ErrExist
		}
		if err := s.directory(ctx, t, parentOf(name)); err != nil {
			return err
		}
		made, err := s.insert(ctx, t, newDir(name))
		if err == nil && !made {
			err = fs.ErrExist
		}
		return err
	})
}

// Remove implements [backends.Store].
func (s *Store) Remove(ctx context.Context, name string, cond backends.If) error {
	if err := checkName("remove", name); err != nil {
		return err
	}
	return s.change(ctx, "remove", name, func(t *tx) error {
		if name == "." {
			return backends.ErrBusy
		}
		n, err := s.node(ctx, t, name, s.forUpdate)
		if err != nil {
			return err
		}
		switch {
		case n == nil && cond.Match != "":
			return backends.ErrChanged
		case n == nil:
			return fs.ErrNotExist
		}
		return s.removeNode(ctx, t, n, cond)
	})
}

// removeNode removes a row that is locked, if the condition holds.
func (s *Store) removeNode(ctx context.Context, t *tx, n *node, cond backends.If) error {
	if n.isDir() {
		return s.removeDir(ctx, t, n, cond)
	}
	if err := removable(n, cond, nil); err != nil {
		return err
	}
	return s.delete(ctx, t, n)
}

// removable returns ErrChanged if the file n is of another version than the
// condition says, and not what one of the earlier operations has left.
func removable(n *node, cond backends.If, earlier []string) error {
	_, err := met(n, backends.PutOptions{If: backends.If{Match: cond.Match}, Earlier: earlier})
	return err
}

// removeDir removes the row of a directory, which is locked: who puts something
// into it waits for that.
func (s *Store) removeDir(ctx context.Context, t *tx, n *node, cond backends.If) error {
	if cond.Match != "" {
		return backends.ErrChanged
	}
	full, err := s.hasChildren(ctx, t, n.path)
	switch {
	case err != nil:
		return err
	case full:
		return backends.ErrNotEmpty
	}
	return s.delete(ctx, t, n)
}

// source returns the row that is copied or renamed, locked.
func (s *Store) source(ctx context.Context, t *tx, path string, cond backends.If) (*node, error) {
	n, err := s.node(ctx, t, path, s.forShare)
	switch {
	case err != nil:
		return nil, err
	case n == nil:
		return nil, fs.ErrNotExist
	case cond.Match != "" && n.version != cond.Match:
		return nil, backends.ErrChanged
	}
	return n, nil
}

// Rename implements [backends.Renamer]: a file is one row, a directory all that
// are below it.
func (s *Store) Rename(ctx context.Context, from string, src backends.If, to string, cond backends.If) error {
	if err := errors.Join(checkName("rename", from), checkName("rename", to)); err != nil {
		return err
	}
	switch {
	case from == "." || to == ".":
		return backends.WrapPath("rename", from, backends.ErrBusy)
	case strings.HasPrefix(to, from+"/"):
		return backends.WrapPath("rename", to, fs.ErrInvalid)
	}
	if err := s.ready(ctx, "rename", from); err != nil {
		return err
	}
	n, err := s.find(ctx, "rename", from)
	if err != nil {
		return err
	}
	dir := n.isDir()
	for {
		err := s.change(ctx, "rename", from, func(t *tx) error { return s.renameIn(ctx, t, from, src, to, cond, dir) })
		if !errors.Is(err, errKind) {
			return err
		}
		dir = !dir
	}
}

// errKind: what is renamed is a directory and no file, or the other way round.
var errKind = errors.New("of another kind meanwhile")

func (s *Store) renameIn(ctx context.Context, t *tx, from string, src backends.If, to string, cond backends.If, dir bool) error {
	if dir && s.lockAll != "" {
		// Whoever puts something below it, or is about to, would leave that behind.
		if _, err := s.exec(ctx, t, s.lockAll); err != nil {
			return err
		}
	}
	n, target, err := s.both(ctx, t, from, to)
	switch {
	case err != nil:
		return err
	case n == nil:
		return fs.ErrNotExist
	case n.isDir() != dir:
		return errKind
	case src.Match != "" && n.version != src.Match:
		return backends.ErrChanged
	case cond.Absent && target != nil:
		return fs.ErrExist
	case cond.Match != "" && (target == nil || target.version != cond.Match):
		return backends.ErrChanged
	case from == to:
		return nil
	}
	if target == nil {
		err = s.directory(ctx, t, parentOf(to))
	} else if err = s.replaceable(ctx, t, dir, target); err == nil {
		err = s.delete(ctx, t, target)
	}
	if err != nil {
		return err
	}
	if !dir {
		_, err := s.exec(ctx, t, "UPDATE nodes SET path = ?, parent = ?, key = ? WHERE path = ?",
			[]byte(to), []byte(parentOf(to)), []byte(to), []byte(from))
		return err
	}
	return s.moveTree(ctx, t, from, to)
}

// both returns the rows of two paths, locked in the order of the paths, so that
// two renames don't wait for each other. Either may be nil.
func (s *Store) both(ctx context.Context, t *tx, from, to string) (n, target *node, err error) {
	if from > to {
		target, n, err = s.both(ctx, t, to, from)
		return n, target, err
	}
	if n, err = s.node(ctx, t, from, s.forUpdate); err != nil || from == to {
		return n, n, err
	}
	target, err = s.node(ctx, t, to, s.forUpdate)
	return n, target, err
}

// replaceable returns the error that a rename onto target ends in, if any.
func (s *Store) replaceable(ctx context.Context, t *tx, dir bool, target *node) error {
	switch {
	case !dir && target.isDir():
		return backends.ErrIsDir
	case dir && !target.isDir():
		return backends.ErrNotDir
	case !dir:
		return nil
	}
	full, err := s.hasChildren(ctx, t, target.path)
	if err == nil && full {
		err = backends.ErrNotEmpty
	}
	return err
}

// moveTree moves a directory and all below it.
func (s *Store) moveTree(ctx context.Context, t *tx, from, to string) error {
	// The longest name must fit, too.
	var longest int
	err := s.row(ctx, t, "SELECT max(length(path)) FROM nodes WHERE key >= ? AND key < ?", []byte(from+"/"), []byte(from+"0")).Scan(&longest)
	if err != nil {
		return err
	}
	if longest-len(from)+len(to) > MaxName {
		return backends.ErrNameTooLong
	}
	// What is below it has a path, a parent and a key that begin with its path.
	moved := func(column string) string { return fmt.Sprintf(s.replace, column) }
	_, err = s.exec(ctx, t, "UPDATE nodes SET path = "+moved("path")+", key = "+moved("key")+
		", parent = CASE WHEN path = ? THEN ? ELSE "+moved("parent")+" END WHERE key >= ? AND key < ?",
		[]byte(to), len(from)+1, []byte(to), len(from)+1,
		[]byte(from), []byte(parentOf(to)), []byte(to), len(from)+1,
		[]byte(from+"/"), []byte(from+"0"))
	return err
}

// Usage implements [backends.UsageReporter]: for SQLite what the file system
// has, of a server nobody says it.
func (s *Store) Usage(context.Context) (backends.Usage, error) {
	if s.dir == "" {
		return backends.Usage{}, nil
	}
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir, &st); err != nil {
		return backends.Usage{}, backends.WrapPath("usage", ".", errors.New(err.Error()))
	}
	return backends.Usage{TotalBytes: st.Blocks * uint64(st.Bsize), FreeBytes: st.Bavail * uint64(st.Bsize)}, nil
}
