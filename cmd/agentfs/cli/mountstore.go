package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/local"
)

// mountStore is a mounted tree as a store. It is a host directory, except for
// how a file is replaced: the temporary file is renamed before it is closed.
// A mount over an object store that uploads at close and fsync then sends the
// content once and under its own name, instead of uploading a temporary object,
// copying and removing it.
type mountStore struct {
	*local.Store
	root *os.Root
	// sync makes Put wait until the store has the content, by fsync(2). Without
	// it a file is as safe as close(2) makes it on that route.
	sync bool
}

func newMountStore(dir string) (*mountStore, error) {
	st, err := local.New(dir)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, errors.Join(err, backends.CloseStore(st))
	}
	return &mountStore{Store: st, root: root}, nil
}

// Close implements [backends.Closer].
func (s *mountStore) Close() error { return errors.Join(s.root.Close(), backends.CloseStore(s.Store)) }

// Put implements [backends.Store]. A mount has no conditional rename, so an
// If.Match holds until shortly before the change and not at it; a conflict
// that slips through is the mount's to find.
func (s *mountStore) Put(ctx context.Context, name string, body *io.SectionReader, opts backends.PutOptions) (backends.Entry, error) {
	if err := errors.Join(backends.CheckName("put", name), ctx.Err()); err != nil {
		return backends.Entry{}, err
	}
	if err := s.put(ctx, name, body, opts.If); err != nil {
		return backends.Entry{}, backends.WrapPath("put", name, err)
	}
	return s.Stat(ctx, name)
}

func (s *mountStore) put(ctx context.Context, name string, body *io.SectionReader, cond backends.If) error {
	mode, err := s.met(ctx, name, cond)
	if err != nil {
		return err
	}
	dir := path.Dir(name)
	if err := s.root.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	if cond.Absent {
		return s.create(name, body)
	}
	temp := path.Join(dir, fmt.Sprintf(".%.20s.%s.tmp", path.Base(name), rand.Text()))
	f, err := s.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	err = fill(f, body)
	if err == nil && mode != newFileMode {
		err = f.Chmod(mode) // the umask has taken from it
	}
	if err == nil {
		_, err = s.met(ctx, name, cond)
	}
	if err == nil {
		err = s.root.Rename(temp, name)
	}
	if err != nil {
		return errors.Join(err, f.Close(), s.root.Remove(temp))
	}
	return s.finish(f)
}

const newFileMode = 0o666

// met returns the mode that the file shall have, or an error if cond does not
// hold.
func (s *mountStore) met(ctx context.Context, name string, cond backends.If) (fs.FileMode, error) {
	e, err := s.Stat(ctx, name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && cond.Match != "":
		return 0, backends.ErrChanged
	case errors.Is(err, fs.ErrNotExist):
		return newFileMode, nil
	case err != nil:
		return 0, err
	case cond.Absent:
		return 0, fs.ErrExist
	case e.IsDir():
		return 0, backends.ErrIsDir
	case cond.Match != "" && e.Version != cond.Match:
		return 0, backends.ErrChanged
	case !e.Mode.IsRegular():
		return newFileMode, nil
	}
	return e.Mode.Perm(), nil
}

// create writes a file that must not exist yet: O_EXCL decides, which the
// mount passes on to the store.
func (s *mountStore) create(name string, body *io.SectionReader) error {
	f, err := s.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, newFileMode)
	if err != nil {
		return err
	}
	if err := fill(f, body); err != nil {
		return errors.Join(err, f.Close(), s.root.Remove(name))
	}
	return s.finish(f)
}

// finish closes a file that was written.
func (s *mountStore) finish(f *os.File) error {
	var err error
	if s.sync {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func fill(f *os.File, body *io.SectionReader) error {
	_, err := io.Copy(f, io.NewSectionReader(body, 0, body.Size()))
	return err
}
