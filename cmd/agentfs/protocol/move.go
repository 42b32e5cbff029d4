package protocol

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/agentfs/agentfs/backends"
)

// MoveOptions modify a Move.
type MoveOptions struct {
	// Replace lets a file take the place of the file that is at the target.
	Replace bool
}

// MoveResult says what a Move moved.
type MoveResult struct {
	From string `json:"from"`
	To   string `json:"to"`
	// Moved is how many files were copied and removed one by one, because their
	// store can't rename them in one step; 0 if it can.
	Moved int64 `json:"moved,omitempty" jsonschema:"how many files were copied and removed one by one, where the store can't rename in one step"`
}

// Move gives the file or directory from the path to, whose missing directories
// are made. Something that is at to is [fs.ErrExist], unless a file replaces a
// file. A directory in which a route begins is [backends.ErrBusy].
//
// Within a store that renames it is one step. Otherwise, and between routes, the
// files are copied, each on condition that it is still the version that was
// copied removed, and a move that fails midway leaves both: nothing is removed
// before everything is copied.
func (t *Tree) Move(ctx context.Context, from, to string, o MoveOptions) (MoveResult, error) {
	a, err := Name(from)
	if err != nil {
		return MoveResult{}, err
	}
	b, err := Name(to)
	if err != nil {
		return MoveResult{}, err
	}
	if err := t.movable("mv", a); err != nil {
		return MoveResult{}, err
	}
	e, err := t.Store.Stat(ctx, a)
	if err != nil {
		return MoveResult{}, err
	}
	res := MoveResult{From: Path(a, e.IsDir()), To: Path(b, e.IsDir())}
	cond := backends.If{Absent: true}
	if o.Replace && !e.IsDir() {
		cond = backends.If{}
	}
	switch {
	case a == b:
		err = invalid("is the path that it has already")
	case strings.HasPrefix(b, a+"/"):
		err = invalid("a directory can't be moved into itself")
	default:
		err = t.freeTarget(ctx, b, cond)
	}
	if err != nil {
		return MoveResult{}, &fs.PathError{Op: "mv", Path: b, Err: err}
	}
	err = t.rename(ctx, e, b, cond)
	if errors.Is(err, errors.ErrUnsupported) {
		res.Moved, err = t.moveByCopy(ctx, e, b, cond)
	}
	return res, err
}

// freeTarget returns an error if what is moved to name would not get the name.
func (t *Tree) freeTarget(ctx context.Context, name string, cond backends.If) error {
	e, err := t.Store.Stat(ctx, name)
	switch {
	case isAbsent(err):
		return nil
	case err != nil:
		return err
	case e.IsDir():
		return detailedError{"a directory is there already; give the full new path", fs.ErrExist}
	case cond.Absent:
		return fs.ErrExist
	}
	return nil
}

// rename moves e to the name to, in one step or not at all.
func (t *Tree) rename(ctx context.Context, e backends.Entry, to string, cond backends.If) error {
	r, ok := t.Store.(backends.Renamer)
	if !ok {
		return errors.ErrUnsupported
	}
	src := backends.If{Match: e.Version}
	err := r.Rename(ctx, e.Name, src, to, cond)
	if !isAbsent(err) || path.Dir(to) == "." {
		return err
	}
	// A directory that the target lies in, or the source itself, is missing.
	if _, serr := t.Store.Stat(ctx, e.Name); serr != nil {
		return serr
	}
	if _, merr := t.Mkdir(ctx, path.Dir(to)); merr != nil {
		return merr
	}
	return r.Rename(ctx, e.Name, src, to, cond)
}

// moveByCopy copies e and what is below it to the name to, and then removes it.
func (t *Tree) moveByCopy(ctx context.Context, e backends.Entry, to string, cond backends.If) (int64, error) {
	if !e.IsDir() {
		if err := t.copyOne(ctx, e, to, cond); err != nil {
			return 0, err
		}
		return 1, t.Store.Remove(ctx, e.Name, backends.If{Match: e.Version})
	}
	var files []backends.Removal
	dirs := []string{e.Name}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(t.parallel())
	var walked error
	for in, err := range t.walk(gctx, e.Name, "") {
		if err != nil {
			walked = err
			break
		}
		if in.IsDir() {
			dirs = append(dirs, in.Name)
			continue
		}
		files = append(files, backends.Removal{Name: in.Name, If: backends.If{Match: in.Version}})
		g.Go(func() error {
			return t.copyOne(gctx, in, path.Join(to, relative(e.Name, in.Name)), backends.If{Absent: true})
		})
	}
	if err := errors.Join(g.Wait(), walked); err != nil {
		return 0, fmt.Errorf("some of it is copied to %s and nothing is removed: %w", Path(to, true), err)
	}
	if err := t.makeDirs(ctx, e.Name, to, dirs); err != nil {
		return 0, err
	}
	var errs []error
	for batch := range slices.Chunk(files, removeBatch) {
		for i, err := range backends.RemoveMany(ctx, t.Store, batch) {
			if err != nil && !isAbsent(err) {
				errs = append(errs, backends.WrapPath("mv", batch[i].Name, err))
			}
		}
	}
	for i := len(dirs) - 1; i >= 0 && len(errs) == 0; i-- {
		if err := t.Store.Remove(ctx, dirs[i], backends.If{}); err != nil && !isAbsent(err) {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return int64(len(files)), fmt.Errorf("everything is copied to %s, but not all is removed: %w", Path(to, true), summary(errs))
	}
	return int64(len(files)), nil
}

// copyOne copies what is no directory.
func (t *Tree) copyOne(ctx context.Context, e backends.Entry, to string, cond backends.If) error {
	if e.Mode&fs.ModeSymlink != 0 {
		target, err := backends.Readlink(ctx, t.Store, e.Name)
		if err != nil {
			return err
		}
		return backends.Symlink(ctx, t.Store, target, to)
	}
	if err := t.regular(ctx, "mv", e); err != nil {
		return err
	}
	_, err := backends.Copy(ctx, t.Store, e.Name, backends.If{Match: e.Version}, to, backends.PutOptions{If: cond, Attr: keep(e)})
	return err
}

// makeDirs makes at to the directories that are not there for what lies in them.
func (t *Tree) makeDirs(ctx context.Context, from, to string, dirs []string) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(t.parallel())
	for _, d := range dirs {
		target := to
		if d != from {
			target = path.Join(to, relative(from, d))
		}
		g.Go(func() error {
			err := t.Store.Mkdir(ctx, target, backends.AttrChange{})
			if errors.Is(err, fs.ErrExist) {
				return nil
			}
			return err
		})
	}
	return g.Wait()
}
