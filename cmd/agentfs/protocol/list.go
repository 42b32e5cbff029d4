package protocol

import (
	"context"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"

	"github.com/agentfs/agentfs/backends"
)

// ListOptions modify a List.
type ListOptions struct {
	// After is the Next of an earlier call, to go on where it ended.
	After string
	// Limit is how many items to return at most; 0 means all.
	Limit int64
}

// ListResult says what a List left out.
type ListResult struct {
	// Next is where to go on, if there is more.
	Next string `json:"next,omitempty" jsonschema:"there is more: give this as after to go on"`
}

// List calls emit for the direct children of the directory p, in the order of
// their names, or for p itself if it is no directory. It ends with emit's first
// error.
func (t *Tree) List(ctx context.Context, p string, o ListOptions, emit func(Item) error) (ListResult, error) {
	var res ListResult
	name, err := Name(p)
	if err != nil {
		return res, err
	}
	e, err := t.Store.Stat(ctx, name)
	if err != nil {
		return res, err
	}
	if !e.IsDir() {
		return res, emit(itemOf(e))
	}
	var n int64
	last := ""
	for e, err := range t.Store.List(ctx, name, o.After) {
		if err != nil {
			return res, err
		}
		if o.Limit > 0 && n == o.Limit {
			res.Next = last
			return res, nil
		}
		if err := emit(itemOf(e)); err != nil {
			return res, err
		}
		n++
		last = e.Key()
	}
	return res, nil
}

// MkdirResult says what a Mkdir found.
type MkdirResult struct {
	Path    string `json:"path"`
	Created bool   `json:"created" jsonschema:"false if it was there already"`
}

// Mkdir makes the directory p and missing ones above it. A directory that is
// there already is no error; anything else is [fs.ErrExist].
func (t *Tree) Mkdir(ctx context.Context, p string) (MkdirResult, error) {
	name, err := Name(p)
	if err != nil {
		return MkdirResult{}, err
	}
	res := MkdirResult{Path: Path(name, true)}
	if name == "." {
		return res, nil
	}
	if err := t.Store.Mkdir(ctx, name, backends.AttrChange{}); err != nil {
		if KindOf(err) != KindExist {
			return MkdirResult{}, err
		}
		if e, serr := t.Store.Stat(ctx, name); serr != nil || !e.IsDir() {
			return MkdirResult{}, err
		}
		return res, nil
	}
	res.Created = true
	return res, nil
}

// walk yields everything below the directory name whose name comes after after,
// in [backends.Walk]'s order, the directories included that the store's own walk
// may leave out because they are there only for what lies below them. It goes
// on after yielding the error of a part of the tree.
func (t *Tree) walk(ctx context.Context, name, after string) iter.Seq2[backends.Entry, error] {
	return func(yield func(backends.Entry, error) bool) {
		// open are the directories above the last entry, outermost first. In
		// this order everything below a directory comes in one run, so a
		// directory that has been left can't come again.
		var open []string
		for e, err := range backends.Walk(ctx, t.Store, name, after) {
			if err != nil {
				if !yield(backends.Entry{}, err) || ctx.Err() != nil {
					return
				}
				continue
			}
			var implied []string
			open, implied = enter(open, name, e)
			for _, d := range implied {
				if !yield(backends.Entry{Name: d, Mode: fs.ModeDir}, nil) {
					return
				}
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// enter returns the chain of directories that e lies in (e itself included, if
// it is one) and those of them above e that are not in open: the ones that the
// walk did not name.
func enter(open []string, root string, e backends.Entry) (chain, implied []string) {
	for d := path.Dir(e.Name); d != root && d != "."; d = path.Dir(d) {
		chain = append(chain, d)
	}
	slices.Reverse(chain)
	for _, d := range chain {
		if !slices.Contains(open, d) {
			implied = append(implied, d)
		}
	}
	if e.IsDir() {
		chain = append(chain, e.Name)
	}
	return chain, implied
}

// regular returns an error that says what e is, unless it is a regular file. A
// symbolic link is not followed: its target may be in no store.
func (t *Tree) regular(ctx context.Context, op string, e backends.Entry) error {
	if e.Mode.IsRegular() {
		return nil
	}
	err := invalid("is not a regular file")
	if e.Mode&fs.ModeSymlink != 0 {
		err = invalid("is a symbolic link; read what it names")
		if target, lerr := backends.Readlink(ctx, t.Store, e.Name); lerr == nil {
			err = invalid("is a symbolic link to %s; read that path", target)
		}
	}
	return &fs.PathError{Op: op, Path: e.Name, Err: err}
}

// relative returns name, which lies below dir, as seen from dir.
func relative(dir, name string) string {
	if dir == "." {
		return name
	}
	return strings.TrimPrefix(name, dir+"/")
}
