package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/local"
	"github.com/agentfs/agentfs/backends/policy"
	"github.com/agentfs/agentfs/cmd/agentfs/protocol"
)

// mountStore is a mounted tree as a store. It is a host directory, except for
// how a file is replaced and what its version is.
//
// The temporary file is renamed before it is closed: a mount over an object
// store that uploads at close and fsync then sends the content once and under
// its own name, instead of uploading a temporary object, copying and removing
// it.
//
// The version is that of the store, which the mount shows as an extended
// attribute, so that it is the same with a mount and without. A file that its
// store does not have yet has none, and then, as in a walk, where asking for
// each file would cost a call each, it is the host directory's. A condition may
// name either.
type mountStore struct {
	store *local.Store
	dir   string
	root  *os.Root
}

var (
	_ backends.Store          = (*mountStore)(nil)
	_ backends.Walker         = (*mountStore)(nil)
	_ backends.Copier         = (*mountStore)(nil)
	_ backends.Renamer        = (*mountStore)(nil)
	_ backends.StoreSymlinker = (*mountStore)(nil)
	_ backends.Closer         = (*mountStore)(nil)
)

func newMountStore(dir string) (*mountStore, error) {
	st, err := local.New(dir)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, errors.Join(err, backends.CloseStore(st))
	}
	return &mountStore{store: st, dir: dir, root: root}, nil
}

// Close implements [backends.Closer].
func (s *mountStore) Close() error { return errors.Join(s.root.Close(), s.store.Close()) }

// dress gives an entry of the host directory the version that the mount shows.
func (s *mountStore) dress(e backends.Entry) backends.Entry {
	if !e.Mode.IsRegular() {
		return e
	}
	var buf [256]byte
	n, err := unix.Lgetxattr(filepath.Join(s.dir, e.Name), backends.VersionXattr, buf[:])
	if err == nil && n > 0 {
		e.Version = backends.Version(buf[:n])
	}
	return e
}

// translate returns the condition as the host directory knows it.
func (s *mountStore) translate(ctx context.Context, name string, cond backends.If) (backends.If, error) {
	if cond.Match == "" {
		return cond, nil
	}
	e, err := s.store.Stat(ctx, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return cond, &fs.PathError{Op: "stat", Path: name, Err: backends.ErrChanged}
	case err != nil:
		return cond, err
	case e.Version != cond.Match && s.dress(e).Version != cond.Match:
		return cond, &fs.PathError{Op: "stat", Path: name, Err: backends.ErrChanged}
	}
	cond.Match = e.Version
	return cond, nil
}

// Stat implements [backends.Store].
func (s *mountStore) Stat(ctx context.Context, name string) (backends.Entry, error) {
	e, err := s.store.Stat(ctx, name)
	if err != nil {
		return e, err
	}
	return s.dress(e), nil
}

// List implements [backends.Store].
func (s *mountStore) List(ctx context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	return func(yield func(backends.Entry, error) bool) {
		for e, err := range s.store.List(ctx, dir, after) {
			if err == nil {
				e = s.dress(e)
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// Walk implements [backends.Walker].
func (s *mountStore) Walk(ctx context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	return backends.Walk(ctx, s.store, dir, after)
}

// Open implements [backends.Store].
func (s *mountStore) Open(ctx context.Context, name string, r backends.Range, cond backends.If) (io.ReadCloser, backends.Entry, error) {
	if isControl(name) {
		return s.openControl(ctx, name, r)
	}
	cond, err := s.translate(ctx, name, cond)
	if err != nil {
		return nil, backends.Entry{}, err
	}
	f, e, err := s.store.Open(ctx, name, r, cond)
	if err != nil {
		return nil, e, err
	}
	return f, s.dress(e), nil
}

// openControl opens a file of the control directory. Each open has one of its
// own, made in that moment, so there is no version to hold on to: its attributes
// are others whenever somebody asks.
func (s *mountStore) openControl(ctx context.Context, name string, r backends.Range) (io.ReadCloser, backends.Entry, error) {
	f, err := s.root.Open(name)
	if err != nil {
		return nil, backends.Entry{}, local.Wrap("open", name, err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		return nil, backends.Entry{}, local.Wrap("read", name, err)
	}
	e, err := s.store.Stat(ctx, name)
	if err != nil {
		return nil, e, err
	}
	e.Size = int64(len(b))
	b = b[min(r.Off, e.Size):]
	if r.Len > 0 {
		b = b[:min(r.Len, int64(len(b)))]
	}
	return io.NopCloser(bytes.NewReader(b)), e, nil
}

// Mkdir implements [backends.Store].
func (s *mountStore) Mkdir(ctx context.Context, name string, attr backends.AttrChange) error {
	return s.store.Mkdir(ctx, name, attr)
}

// Remove implements [backends.Store].
func (s *mountStore) Remove(ctx context.Context, name string, cond backends.If) error {
	cond, err := s.translate(ctx, name, cond)
	if err != nil {
		return err
	}
	return s.store.Remove(ctx, name, cond)
}

// Rename implements [backends.Renamer].
func (s *mountStore) Rename(ctx context.Context, from string, src backends.If, to string, cond backends.If) error {
	src, err := s.translate(ctx, from, src)
	if err == nil {
		cond, err = s.translate(ctx, to, cond)
	}
	if err != nil {
		return err
	}
	return s.store.Rename(ctx, from, src, to, cond)
}

// Symlink implements [backends.StoreSymlinker].
func (s *mountStore) Symlink(ctx context.Context, target, name string) error {
	return s.store.Symlink(ctx, target, name)
}

// Readlink implements [backends.StoreSymlinker].
func (s *mountStore) Readlink(ctx context.Context, name string) (string, error) {
	return s.store.Readlink(ctx, name)
}

// Put implements [backends.Store]. A mount has no conditional rename, so an
// If.Match holds until shortly before the change and not at it; a conflict
// that slips through is the mount's to find.
func (s *mountStore) Put(ctx context.Context, name string, body *io.SectionReader, opts backends.PutOptions) (backends.Entry, error) {
	return s.replace(ctx, "put", name, opts, func(f *os.File) error {
		_, err := io.Copy(f, io.NewSectionReader(body, 0, body.Size()))
		return err
	})
}

// Copy implements [backends.Copier]: the kernel copies, and the mount may do so
// without moving bytes.
func (s *mountStore) Copy(ctx context.Context, from string, src backends.If, to string, opts backends.PutOptions) (backends.Entry, error) {
	if _, err := s.translate(ctx, from, src); err != nil {
		return backends.Entry{}, err
	}
	in, err := s.root.OpenFile(from, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return backends.Entry{}, local.Wrap("copy", from, err)
	}
	defer in.Close()
	return s.replace(ctx, "copy", to, opts, func(f *os.File) error {
		_, err := io.Copy(f, in) // copy_file_range(2)
		return err
	})
}

// replace makes name a file with the content that fill writes.
func (s *mountStore) replace(ctx context.Context, op, name string, opts backends.PutOptions, fill func(*os.File) error) (backends.Entry, error) {
	if err := errors.Join(backends.CheckName(op, name), ctx.Err()); err != nil {
		return backends.Entry{}, err
	}
	if err := s.put(ctx, name, opts, fill); err != nil {
		return backends.Entry{}, local.Wrap(op, name, err)
	}
	return s.Stat(ctx, name)
}

func (s *mountStore) put(ctx context.Context, name string, opts backends.PutOptions, fill func(*os.File) error) error {
	mode, err := s.met(ctx, name, opts.If)
	if err != nil {
		return err
	}
	if opts.Attr.Has(backends.SetMode) {
		mode = opts.Attr.Mode.Perm()
	}
	dir := path.Dir(name)
	if err := s.root.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	if opts.If.Absent {
		return s.create(ctx, name, mode, fill)
	}
	temp := path.Join(dir, policy.Temporary(path.Base(name)))
	f, err := s.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	err = fill(f)
	if err == nil && mode != newFileMode {
		err = f.Chmod(mode) // the umask has taken from it
	}
	if err == nil {
		_, err = s.met(ctx, name, opts.If)
	}
	if err == nil {
		err = s.root.Rename(temp, name)
	}
	if err != nil {
		return errors.Join(err, f.Close(), s.root.Remove(temp))
	}
	return finish(ctx, f)
}

const newFileMode = 0o666

// met returns the mode that the file shall have, or an error if cond does not
// hold.
func (s *mountStore) met(ctx context.Context, name string, cond backends.If) (fs.FileMode, error) {
	if _, err := s.translate(ctx, name, cond); err != nil {
		return 0, err
	}
	e, err := s.store.Stat(ctx, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return newFileMode, nil
	case err != nil:
		return 0, err
	case cond.Absent:
		return 0, fs.ErrExist
	case e.IsDir():
		return 0, backends.ErrIsDir
	case !e.Mode.IsRegular():
		return newFileMode, nil
	}
	return e.Mode.Perm(), nil
}

// create writes a file that must not exist yet: O_EXCL decides, which the
// mount passes on to the store.
func (s *mountStore) create(ctx context.Context, name string, mode fs.FileMode, fill func(*os.File) error) error {
	f, err := s.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if err := fill(f); err != nil {
		return errors.Join(err, f.Close(), s.root.Remove(name))
	}
	return finish(ctx, f)
}

// finish closes a file that was written. Without [protocol.WithSync] it is as
// safe as close(2) makes it on that route.
func finish(ctx context.Context, f *os.File) error {
	var err error
	if protocol.Syncs(ctx) {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
