package cache

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/cache/journal"
)

// layer is one sparse file of the room, or a slot in one, in which local bytes
// lie at the offsets that they have in the content. Its fields are guarded by
// the mutex of the content that it belongs to.
type layer struct {
	path  string   // of a slot: where a file of its name would be, but is not
	file  *os.File // open while somebody uses it
	slot  *slot    // not nil: it has no file of its own
	users int      // who keep it open, as far as there is room; see descriptors
	fixed int      // who use it without the mutex: it stays open
	refs  int      // the content and its seals; the file goes with the last
	// was is what the file looked like when it was closed, unless it never was.
	// changed says that it looked otherwise when it was opened again: somebody
	// else has written to it.
	was     *stamp
	changed bool
	shelf   *shelf // has a row of it
	// frozen says that the file has a second name, by which somebody else knows its
	// bytes as they are: a person (room.keep), or a ghost (room.keepLayer). Whoever
	// changes the content moves it to another file first (content.apart).
	frozen bool
}

// localFile is what a layer's bytes are read from and written to.
type localFile interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
}

// name is how the journal calls the layer.
func (l *layer) name() string { return filepath.Base(l.path) }

// open returns the file, made if it is not there.
func (l *layer) open() (localFile, error) {
	if l.slot != nil {
		l.changed = l.slot.cut() || l.changed
		return l.slot, nil
	}
	if l.file == nil {
		f, err := openPlain(l.path, unix.O_RDWR|unix.O_CREAT)
		if err != nil {
			return nil, diskError(err)
		}
		l.file = f
		if l.was != nil {
			st, err := f.Stat()
			l.changed = err != nil || stampOf(st) != *l.was
		}
	}
	return l.file, nil
}

// rest closes the file if nobody uses it.
func (l *layer) rest() {
	if l.users == 0 && l.file != nil {
		l.shut()
	}
}

// shut closes the file.
func (l *layer) shut() {
	if st, err := l.file.Stat(); err == nil {
		was := stampOf(st)
		l.was = &was
	}
	l.file.Close()
	l.file = nil
}

// drop gives one reference back.
func (l *layer) drop() {
	if l.refs--; l.refs > 0 {
		return
	}
	if l.slot != nil {
		l.slot.drop()
	} else {
		if l.file != nil {
			l.file.Close()
			l.file = nil
		}
		_ = os.Remove(l.path)
	}
	if l.shelf != nil {
		l.shelf.forget(l.name())
	}
}

// truncate makes the file that long, open or not. One that is not there and
// would be empty stays away.
func (l *layer) truncate(size int64) error {
	if l.slot != nil {
		return diskError(l.slot.Truncate(size))
	}
	// Not if it is that long: ftruncate(2) would set its time, by which replay
	// tells when it was written last.
	if l.file != nil {
		if st, err := l.file.Stat(); err == nil && st.Size() == size {
			return nil
		}
		return diskError(l.file.Truncate(size))
	}
	st, err := os.Stat(l.path)
	if err == nil && st.Size() == size {
		return nil
	}
	l.was = nil
	err = os.Truncate(l.path, size)
	if errors.Is(err, fs.ErrNotExist) {
		if size == 0 {
			return nil
		}
		f, err := l.open()
		if err != nil {
			return err
		}
		defer l.rest()
		return diskError(f.Truncate(size))
	}
	return diskError(err)
}

// shorten makes the file no longer than that.
func (l *layer) shorten(size int64) error {
	if n, _, err := l.stat(); err != nil || n <= size {
		return nil // whoever reads finds out what is missing
	}
	return l.truncate(size)
}

// appear makes the layer be there, even if nothing was written to it: one that the
// journal names and that is not there was lost. at is when, in ns since 1970.
func (l *layer) appear(at int64) error {
	switch {
	case l.slot != nil && l.slot.time == 0:
		return diskError(l.slot.head(0, max(at, 1)))
	case l.slot != nil || l.file != nil:
		return nil
	}
	_, err := os.Stat(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err = l.open(); err == nil {
			l.rest()
		}
	}
	return diskError(err)
}

// zero makes [off, end) a hole in the file.
func (l *layer) zero(off, end int64) error {
	if l.slot != nil {
		return diskError(l.slot.zero(off, end))
	}
	if _, err := l.open(); err != nil {
		return err
	}
	f := l.file
	err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, end-off)
	if !errors.Is(err, unix.EOPNOTSUPP) {
		return diskError(err)
	}
	// A host file system without holes: zeros, as far as the file goes.
	st, err := f.Stat()
	if err != nil {
		return diskError(err)
	}
	zeros := make([]byte, 1<<20)
	for end = min(end, st.Size()); off < end; {
		n, err := f.WriteAt(zeros[:min(int64(len(zeros)), end-off)], off)
		if err != nil {
			return diskError(err)
		}
		off += int64(n)
	}
	return nil
}

// copyRange copies [off, end) to the same place in another layer.
func (l *layer) copyRange(to *layer, off, end int64) error {
	return l.copyTo(to, off, end, off)
}

// copyTo copies [off, end) to another place in a layer.
func (l *layer) copyTo(to *layer, off, end, at int64) error {
	from, err := l.open()
	if err != nil {
		return err
	}
	dst, err := to.open()
	if err != nil {
		return err
	}
	_, err = io.Copy(io.NewOffsetWriter(dst, at), io.NewSectionReader(from, off, end-off))
	return diskError(err)
}

// stat returns how long the layer is and when it was written last. One that
// nothing was written to is not there before it appears.
func (l *layer) stat() (size int64, written time.Time, err error) {
	if l.slot != nil {
		if l.slot.time == 0 {
			return 0, written, fs.ErrNotExist
		}
		return l.slot.length, timeOf(l.slot.time), nil
	}
	st, err := os.Stat(l.path)
	if err != nil {
		return 0, written, err
	}
	return st.Size(), st.ModTime(), nil
}

// extents returns where the file has bytes.
func (l *layer) extents() (x extents, length int64, err error) {
	if l.slot != nil {
		return extents(nil).local(0, l.slot.length), l.slot.length, nil
	}
	f, err := os.Open(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, diskError(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, 0, diskError(err)
	}
	length = st.Size()
	for off := int64(0); off < length; {
		data, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		if err != nil {
			return extents(nil).local(0, length), length, nil // no holes to be found
		}
		hole, err := unix.Seek(int(f.Fd()), data, unix.SEEK_HOLE)
		if err != nil {
			return nil, 0, diskError(err)
		}
		x = x.local(data, hole)
		off = hole
	}
	return x, length, nil
}

// diskError gives the host's refusals the contract's names.
func diskError(err error) error {
	switch {
	case err == nil:
		return nil
	case journal.Full(err):
		return fmt.Errorf("cache: %w", backends.ErrNoSpace)
	case errors.Is(err, unix.EFBIG):
		return backends.ErrTooLarge
	}
	return fmt.Errorf("cache: %w", err)
}
