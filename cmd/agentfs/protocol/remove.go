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

// Remove removes the file or empty directory p and returns how many names
// went; with recursive, everything below a directory too. Files are removed
// in the version that was seen: one that somebody changes meanwhile stays, and
// the error says so.
func Remove(ctx context.Context, s backends.Store, p string, recursive bool) (removed int64, err error) {
	name, err := Name(p)
	if err != nil {
		return 0, err
	}
	if name == "." {
		return 0, &fs.PathError{Op: "rm", Path: "/", Err: fmt.Errorf("%w: the root stays", backends.ErrBusy)}
	}
	e, err := s.Stat(ctx, name)
	if err != nil {
		return 0, err
	}
	if !e.IsDir() {
		if err := s.Remove(ctx, name, backends.If{Match: e.Version}); err != nil {
			return 0, err
		}
		return 1, nil
	}
	if !recursive {
		if err := s.Remove(ctx, name, backends.If{}); err != nil {
			return 0, err
		}
		return 1, nil
	}
	return removeTree(ctx, s, name)
}

// removeTree removes the files below the directory name, then the directories,
// innermost first. It goes on after an error and returns all of them.
func removeTree(ctx context.Context, s backends.Store, name string) (removed int64, err error) {
	var errs []error
	var batch []backends.Removal
	dirs := []string{name}
	flush := func() {
		for i, err := range backends.RemoveMany(ctx, s, batch) {
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
	for e, err := range walk(ctx, s, name) {
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
		switch err := s.Remove(ctx, dirs[i], backends.If{}); {
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
