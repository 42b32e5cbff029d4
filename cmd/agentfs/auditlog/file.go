package auditlog

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"
)

// fileMode lets nobody but the owner read what others do.
const fileMode = 0o600

// errNoReader: the file is a named pipe that nobody has open for reading.
var errNoReader = errors.New("nobody reads the pipe")

// file is the file that records are in. Several processes may write to the same
// one, a mount and commands with the same configuration: each appends whole
// lines under a lock of the file, and each notices when another has rotated it.
// (That is why no library does this: those that rotate assume one process.)
// Not for concurrent use.
type file struct {
	path    string
	maxSize int64
	keep    int
	log     *slog.Logger

	f       *os.File // nil if it is not open
	regular bool
	// stuck says that the file can't be rotated, which has been logged.
	stuck bool
}

// open opens the file, which is made if it isn't there.
func (s *file) open() error {
	// A pipe without a reader must not hold us up.
	f, err := os.OpenFile(s.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NONBLOCK, fileMode)
	if errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("%s: %w", s.path, errNoReader)
	}
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if st.IsDir() {
		return errors.Join(&fs.PathError{Op: "open", Path: s.path, Err: unix.EISDIR}, f.Close())
	}
	s.f, s.regular = f, st.Mode().IsRegular()
	return nil
}

func (s *file) close() error {
	if s.f == nil {
		return nil
	}
	err := s.f.Close()
	s.f = nil
	return err
}

// write writes whole lines and returns how many of them it has written.
func (s *file) write(lines [][]byte) (int, error) {
	if s.f == nil {
		if err := s.open(); err != nil {
			return 0, err
		}
	}
	if !s.regular {
		return s.pipe(lines)
	}
	if err := s.lock(int64(size(lines))); err != nil {
		return 0, errors.Join(err, s.close())
	}
	defer unix.Flock(int(s.f.Fd()), unix.LOCK_UN)
	st, err := s.f.Stat()
	if err != nil {
		return 0, err
	}
	written, err := s.f.Write(bytes.Join(lines, nil))
	if err == nil {
		return len(lines), nil
	}
	// A line that is there in part would spoil the one that follows.
	n, whole := 0, 0
	for n < len(lines) && whole+len(lines[n]) <= written {
		whole += len(lines[n])
		n++
	}
	if whole < written {
		err = errors.Join(err, s.f.Truncate(st.Size()+int64(whole)))
	}
	return n, err
}

func size(lines [][]byte) (n int) {
	for _, l := range lines {
		n += len(l)
	}
	return n
}

// pipe writes lines to what is no regular file. What had taken a part of a line
// is gone after an error.
func (s *file) pipe(lines [][]byte) (int, error) {
	for i, line := range lines {
		if _, err := s.f.Write(line); err != nil {
			return i, errors.Join(err, s.close())
		}
	}
	return len(lines), nil
}

// lock takes the lock of the file that has the name now, which is rotated
// first if more bytes would make it too large.
func (s *file) lock(more int64) error {
	for {
		if err := unix.Flock(int(s.f.Fd()), unix.LOCK_EX); err != nil {
			return &fs.PathError{Op: "lock", Path: s.path, Err: err}
		}
		st, err := s.f.Stat()
		if err != nil {
			return err
		}
		named, err := os.Stat(s.path)
		current := err == nil && os.SameFile(st, named)
		if current && (st.Size() == 0 || st.Size()+more <= s.maxSize || !s.rotate()) {
			return nil
		}
		if err := errors.Join(s.close(), s.open()); err != nil {
			return err
		}
	}
}

// rotate gives the file, whose lock is held, another name, and reports whether
// it could. Where it can't, the file grows: a record that is too much is better
// than none.
func (s *file) rotate() bool {
	var err error
	for i := s.keep; i > 0 && (err == nil || errors.Is(err, fs.ErrNotExist)); i-- {
		err = os.Rename(backup(s.path, i-1), backup(s.path, i))
	}
	if err != nil && !s.stuck {
		s.log.Error("the audit's file can't be rotated and grows", "file", s.path, "err", err)
	}
	s.stuck = err != nil
	return err == nil
}

// backup returns the name of the i-th oldest file, from 0 for the newest.
func backup(path string, i int) string {
	if i == 0 {
		return path
	}
	return fmt.Sprintf("%s.%d", path, i)
}
