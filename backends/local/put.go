package local

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/unixmode"
)

// Put replaces or makes a file: the content goes to a temporary file in the
// same directory, is synced, and takes the name in one step. A file that is
// replaced hands its mode and owner on, unless opts say otherwise.
func (s *Store) Put(ctx context.Context, name string, body *io.SectionReader, opts backends.PutOptions) (backends.Entry, error) {
	return s.replace(ctx, "put", name, opts, func(f *os.File) error {
		_, err := io.Copy(f, &contextReader{ctx, io.NewSectionReader(body, 0, body.Size())})
		return err
	})
}

// Copy copies a file; where the host's file system can, without moving bytes.
func (s *Store) Copy(ctx context.Context, from string, src backends.If, to string, opts backends.PutOptions) (backends.Entry, error) {
	in, st, err := s.openFile(ctx, "copy", from, src)
	if err != nil {
		return backends.Entry{}, err
	}
	defer in.Close()
	return s.replace(ctx, "copy", to, opts, func(f *os.File) error {
		// *os.File from a limited *os.File is copy_file_range(2), a reflink
		// where there is such a thing.
		if _, err := io.Copy(f, io.LimitReader(in, st.Size)); err != nil {
			return err
		}
		var now unix.Stat_t
		if err := unix.Fstat(int(in.Fd()), &now); err != nil {
			return err
		}
		if now.Size != st.Size || now.Mtim != st.Mtim {
			return backends.ErrChanged
		}
		return ctx.Err()
	})
}

// replace makes name a file with the content that fill writes.
func (s *Store) replace(ctx context.Context, op, name string, opts backends.PutOptions, fill func(*os.File) error) (backends.Entry, error) {
	if err := errors.Join(checkNewName(op, name), ctx.Err()); err != nil {
		return backends.Entry{}, err
	}
	if name == "." {
		return backends.Entry{}, &fs.PathError{Op: op, Path: name, Err: backends.ErrIsDir}
	}
	dir, base := split(name)
	dirFD, err := s.openDir(dir, opts.If.Match == "")
	if err == unix.ENOENT {
		err = backends.ErrChanged // nothing has the version that is asked for
	}
	if err != nil {
		return backends.Entry{}, Wrap(op, name, err)
	}
	defer func() { _ = unix.Close(dirFD) }()
	st, err := s.replaceIn(dirFD, name, base, opts, fill)
	if err != nil {
		return backends.Entry{}, Wrap(op, name, err)
	}
	return entryOf(name, &st), nil
}

func (s *Store) replaceIn(dirFD int, name, base string, opts backends.PutOptions, fill func(*os.File) error) (st unix.Stat_t, err error) {
	// A precondition that fails already, or a directory, spares the writing;
	// what counts is the check at the end.
	old, err := met(dirFD, base, opts.If)
	if err == nil && old != nil && isDir(old) {
		err = unix.EISDIR
	}
	if err != nil {
		return st, err
	}
	temp, f, err := createTemp(dirFD)
	if err != nil {
		return st, err
	}
	defer func() {
		if err != nil {
			_ = unix.Unlinkat(dirFD, temp, 0)
		}
		_ = f.Close()
	}()
	if err := fill(f); err != nil {
		return st, err
	}
	if err := f.Sync(); err != nil {
		return st, err
	}

	defer s.lockName(name)()
	if old, err = met(dirFD, base, opts.If); err != nil {
		return st, err
	}
	if err := s.dress(f, old, opts.Attr); err != nil {
		return st, err
	}
	if err := renameAt(dirFD, temp, dirFD, base, opts.If.Absent); err != nil {
		return st, err
	}
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return st, err
	}
	return st, syncDir(dirFD)
}

// dress gives a temporary file the attributes that it shall have under its
// name, where old is the file that it replaces, if any.
func (s *Store) dress(f *os.File, old *unix.Stat_t, c backends.AttrChange) error {
	fd := int(f.Fd())
	mode := uint32(fileMode)
	if old != nil && isRegular(old) {
		mode = old.Mode & 0o777 // a new content has no right to set-id bits
		if asRoot() {
			if err := unix.Fchown(fd, int(old.Uid), int(old.Gid)); err != nil {
				return err
			}
		}
	}
	if c.Has(backends.SetMode) {
		mode = unixmode.Perm(c.Mode)
	}
	if asRoot() && c.Set&(backends.SetUID|backends.SetGID) != 0 {
		owner := backends.AttrChange{Set: c.Set & (backends.SetUID | backends.SetGID), UID: c.UID, GID: c.GID}
		if err := setAttr(fd, owner); err != nil {
			return err
		}
	}
	if err := unix.Fchmod(fd, mode); err != nil {
		return err
	}
	times := backends.AttrChange{Set: backends.SetMtime, Mtime: s.nextMtime()}
	if c.Has(backends.SetMtime) {
		times.Mtime = c.Mtime
	}
	if c.Has(backends.SetAtime) {
		times.Set |= backends.SetAtime
		times.Atime = c.Atime
	}
	return setAttr(fd, times)
}

// nextMtime returns the present time, but later than all that it returned
// before: inode numbers are used again, so two contents of one size put
// within a tick of the host's clock would otherwise have one version.
func (s *Store) nextMtime() time.Time {
	for {
		last := s.lastMtime.Load()
		next := max(time.Now().UnixNano(), last+1)
		if s.lastMtime.CompareAndSwap(last, next) {
			return time.Unix(0, next)
		}
	}
}

// createTemp makes a temporary file in dir and locks it, for as long as it is
// open.
func createTemp(dir int) (name string, f *os.File, err error) {
	name = tempPrefix + rand.Text()
	fd, err := openAt(dir, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return "", nil, err
	}
	// Where the host has no locks, leftovers stay and nothing else is lost.
	_ = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	return name, os.NewFile(uintptr(fd), name), nil
}

// staleAfter is the age before which a temporary file is left alone: its
// writer may be between making and locking it.
const staleAfter = time.Minute

// removeStale removes those of the temporary files in dir whose writers are
// gone. What can't be removed stays.
func removeStale(dir int, temps []string) (removed int) {
	for _, name := range temps {
		st, err := lstatAt(dir, name)
		if err != nil || !isRegular(&st) || time.Since(timeOf(st.Mtim)) < staleAfter {
			continue
		}
		fd, err := openAt(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil && unix.Unlinkat(dir, name, 0) == nil {
			removed++
		}
		_ = unix.Close(fd)
	}
	return removed
}

// removeDir removes an empty directory; one that has nothing but stale
// temporary files is empty.
func removeDir(parent int, base string) error {
	err := unix.Unlinkat(parent, base, unix.AT_REMOVEDIR)
	if err != unix.ENOTEMPTY && err != unix.EEXIST {
		return err
	}
	fd, operr := openAt(parent, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if operr != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	children, temps, rerr := readDir(fd)
	if rerr != nil || len(children) > 0 || removeStale(fd, temps) == 0 {
		return unix.ENOTEMPTY
	}
	return unix.Unlinkat(parent, base, unix.AT_REMOVEDIR)
}

// contextReader ends with the context's error once the context is over.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// syncDir makes a change of dir, opened with O_PATH, durable.
func syncDir(dir int) error {
	fd, err := openAt(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Fsync(fd); err != unix.EINVAL {
		return err
	}
	return nil // a file system where directories need none
}
