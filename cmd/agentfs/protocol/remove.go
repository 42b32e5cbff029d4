package protocol

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/agentfs/agentfs/backends"
)

// removeBatch is how many files are removed in one go: as many as one request
// of S3's DeleteObjects takes.
const removeBatch = 1000

// RemoveOptions modify a Remove.
type RemoveOptions struct {
	// Recursive removes a directory with everything below it.
	Recursive bool
	// IfVersion removes a file only if it still holds this version.
	IfVersion backends.Version
}

// RemoveResult says what a Remove removed.
type RemoveResult struct {
	Path string `json:"path"`
	// Removed is how many names went.
	Removed int64 `json:"removed" jsonschema:"how many files and directories went"`
}

// Remove removes the file or empty directory p; with Recursive, everything below
// a directory too. Files are removed in the version that was seen: one that
// somebody changes meanwhile stays, and the error says so. A directory in which
// a route begins is [backends.ErrBusy], and nothing in it is touched.
func (t *Tree) Remove(ctx context.Context, p string, o RemoveOptions) (RemoveResult, error) {
	res := RemoveResult{Path: p}
	name, err := Name(p)
	if err != nil {
		return res, err
	}
	res.Path = Path(name, false)
	if err := t.movable("rm", name); err != nil {
		return res, err
	}
	e, err := t.Store.Stat(ctx, name)
	if err != nil {
		return res, err
	}
	if e.IsDir() {
		res.Path = Path(name, true)
		if o.IfVersion != "" {
			return res, &fs.PathError{Op: "rm", Path: name, Err: backends.ErrIsDir}
		}
		if o.Recursive {
			res.Removed, err = t.removeTree(ctx, name)
			return res, err
		}
	} else if o.IfVersion != "" {
		e.Version = o.IfVersion
	}
	if err = t.Store.Remove(ctx, name, backends.If{Match: e.Version}); err == nil {
		res.Removed = 1
	}
	return res, err
}

// removeTree removes the files below the directory name, then the directories,
// innermost first. It goes on after an error and returns all of them.
func (t *Tree) removeTree(ctx context.Context, name string) (removed int64, err error) {
	var errs []error
	var batch []backends.Removal
	dirs := []string{name}
	flush := func() {
		for i, err := range backends.RemoveMany(ctx, t.Store, batch) {
			switch {
			case err == nil:
				removed++
			case isAbsent(err): // gone already
			default:
				errs = append(errs, backends.WrapPath("rm", batch[i].Name, err))
			}
		}
		batch = batch[:0]
	}
	for e, err := range t.walk(ctx, name, "") {
		if err != nil {
			errs = append(errs, err)
			break
		}
		if e.IsDir() {
			dirs = append(dirs, e.Name)
			continue
		}
		if batch = append(batch, backends.Removal{Name: e.Name, If: backends.If{Match: e.Version}}); len(batch) == removeBatch {
			flush()
		}
	}
	if len(batch) > 0 {
		flush()
	}
	if len(errs) > 0 {
		return removed, summary(errs)
	}
	for i := len(dirs) - 1; i >= 0; i-- {
		switch err := t.Store.Remove(ctx, dirs[i], backends.If{}); {
		case err == nil:
			removed++
		case isAbsent(err): // a key store's directory goes with its last child
		default:
			errs = append(errs, err)
		}
	}
	return removed, summary(errs)
}

// summary joins errors; of many it keeps the first few and says how many more
// there are.
func summary(errs []error) error {
	const most = 5
	if n := len(errs) - most; n > 0 {
		errs = append(errs[:most:most], fmt.Errorf("and %d more", n))
	}
	return errors.Join(errs...)
}

func isAbsent(err error) bool { return errors.Is(err, fs.ErrNotExist) }
