package local

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
)

// Stat returns the entry of name; of a symbolic link the link's own.
func (s *Store) Stat(ctx context.Context, name string) (backends.Entry, error) {
	if err := errors.Join(checkName("stat", name), ctx.Err()); err != nil {
		return backends.Entry{}, err
	}
	st, err := s.lstat("stat", name)
	if err != nil {
		return backends.Entry{}, err
	}
	return entryOf(name, &st), nil
}

// List yields the children of dir. Entries are looked at as they are yielded.
func (s *Store) List(ctx context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	return func(yield func(backends.Entry, error) bool) {
		if err := s.list(ctx, dir, after, yield); err != nil {
			yield(backends.Entry{}, Wrap("list", dir, err))
		}
	}
}

func (s *Store) list(ctx context.Context, dir, after string, yield func(backends.Entry, error) bool) error {
	if err := errors.Join(checkName("list", dir), ctx.Err()); err != nil {
		return err
	}
	fd, err := openBeneath(s.rootFD(), dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	children, temps, err := readDir(fd)
	if err != nil {
		return err
	}
	removeStale(fd, temps)
	key := func(d dirent) string {
		if d.mode.IsDir() {
			return d.name + "/"
		}
		return d.name
	}
	slices.SortFunc(children, func(a, b dirent) int { return cmp.Compare(key(a), key(b)) })
	for _, d := range children {
		if key(d) <= after {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		st, err := lstatAt(fd, d.name)
		if err == unix.ENOENT {
			continue
		}
		if err != nil {
			return err
		}
		if !yield(entryOf(join(dir, d.name), &st), nil) {
			return nil
		}
	}
	return nil
}

// Open returns a reader of a regular file. Of anything else but a directory
// it is [fs.ErrInvalid]: a link is not followed, a FIFO not waited for.
func (s *Store) Open(ctx context.Context, name string, r backends.Range, cond backends.If) (io.ReadCloser, backends.Entry, error) {
	f, st, err := s.openFile(ctx, "open", name, cond)
	if err != nil {
		return nil, backends.Entry{}, err
	}
	length := st.Size - r.Off
	if r.Len > 0 {
		length = min(length, r.Len)
	}
	section := io.NewSectionReader(f, r.Off, max(length, 0))
	return &reader{ctx: ctx, name: name, f: f, section: section, bound: st}, entryOf(name, &st), nil
}

// openFile opens a regular file whose version fits cond.
func (s *Store) openFile(ctx context.Context, op, name string, cond backends.If) (*os.File, unix.Stat_t, error) {
	var st unix.Stat_t
	if err := errors.Join(checkName(op, name), ctx.Err()); err != nil {
		return nil, st, err
	}
	// O_NONBLOCK: a FIFO would wait for a writer.
	fd, err := openBeneath(s.rootFD(), name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		if lst, lerr := s.lstat(op, name); lerr == nil && !isDir(&lst) && !isRegular(&lst) {
			err = unix.EINVAL
		}
		return nil, st, Wrap(op, name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	if err = unix.Fstat(fd, &st); err == nil {
		switch {
		case isDir(&st):
			err = unix.EISDIR
		case !isRegular(&st):
			err = unix.EINVAL
		case cond.Match != "" && cond.Match != versionOf(&st):
			err = backends.ErrChanged
		}
	}
	if err != nil {
		return nil, st, errors.Join(Wrap(op, name, err), f.Close())
	}
	return f, st, nil
}

// reader reads one version of a file. A file that is replaced keeps its old
// content for those who have it open; a change in place shows in size and
// mtime, which are looked at after every read.
type reader struct {
	ctx     context.Context
	name    string
	f       *os.File
	section *io.SectionReader
	bound   unix.Stat_t
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.section.Read(p)
	if err != nil && err != io.EOF {
		return n, Wrap("read", r.name, err)
	}
	var st unix.Stat_t
	if serr := unix.Fstat(int(r.f.Fd()), &st); serr != nil {
		return 0, Wrap("read", r.name, serr)
	}
	if st.Size != r.bound.Size || st.Mtim != r.bound.Mtim {
		return 0, &fs.PathError{Op: "read", Path: r.name, Err: backends.ErrChanged}
	}
	return n, err
}

func (r *reader) Close() error { return r.f.Close() }
