package journal

import (
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"math"
	"os"

	"modernc.org/sqlite/vfs"
)

// snapshot reads a database and its log without SQLite's locks and files: it is
// the database as it is with the pages of the log's commits in place. SQLite is
// given that as a file that can't be written. It is of use only as long as
// nobody folds the log; who else has the files open is not affected.
//
// The formats are in https://sqlite.org/fileformat2.html.
type snapshot struct {
	base, log *os.File
	pageSize  int64
	pages     map[uint32]int64 // by number, the place in the log of those that are there
	size      int64            // bytes of the database
	end       int64            // of what was read of the log to find them
	gone      bool             // the log was emptied too early

	name  string // of the file system that SQLite knows it by
	files *vfs.FS
}

var errGone = errors.New("the log was folded meanwhile")

func openSnapshot(name string) (_ *snapshot, err error) {
	s := &snapshot{pages: map[uint32]int64{}}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	// The log first: once it is gone the database has it all.
	if s.log, err = os.Open(name + "-wal"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if s.base, err = os.Open(name); err != nil {
		return nil, err
	}
	fi, err := s.base.Stat()
	if err != nil {
		return nil, err
	}
	s.size = fi.Size()
	var head [18]byte
	if _, err := s.base.ReadAt(head[:], 0); err != nil && err != io.EOF {
		return nil, err
	}
	if s.pageSize = int64(binary.BigEndian.Uint16(head[16:])); s.pageSize == 1 {
		s.pageSize = 65536
	}
	if s.log != nil {
		if err := s.readLog(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// torn reports whether the log was emptied before s was done with it. Pages may
// then have been taken for the end of the log, or for zeros.
func (s *snapshot) torn() bool {
	if s.gone || s.log == nil {
		return s.gone
	}
	fi, err := s.log.Stat()
	return err != nil || fi.Size() < s.end
}

// empty reports whether there is no database.
func (s *snapshot) empty() bool {
	fi, err := s.base.Stat()
	return err == nil && fi.Size() == 0
}

// close may be called for one that was not opened fully.
func (s *snapshot) close() error {
	var errs []error
	if s.files != nil {
		errs = append(errs, s.files.Close())
	}
	for _, f := range []*os.File{s.base, s.log} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// readLog finds the pages in the log, up to the last commit before the first
// frame that is not whole. Frames of an earlier use of the log have another salt.
func (s *snapshot) readLog() error {
	r := io.NewSectionReader(s.log, 0, math.MaxInt64)
	var head [32]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return unlessEnd(err)
	}
	magic := binary.BigEndian.Uint32(head[:])
	if magic&^1 != 0x377f0682 {
		return nil
	}
	sum := logSum{order: binary.LittleEndian}
	if magic&1 != 0 {
		sum.order = binary.BigEndian
	}
	size := int64(binary.BigEndian.Uint32(head[8:]))
	if sum.add(head[:24]); !sum.is(head[24:]) || size < 512 || size > 65536 {
		return nil
	}
	frame := make([]byte, 24+size)
	uncommitted := map[uint32]int64{}
	for at := int64(len(head)); ; at += int64(len(frame)) {
		s.end = at
		if _, err := io.ReadFull(r, frame); err != nil {
			return unlessEnd(err)
		}
		sum.add(frame[:8])
		sum.add(frame[24:])
		if string(frame[8:16]) != string(head[16:24]) || !sum.is(frame[16:]) {
			return nil
		}
		uncommitted[binary.BigEndian.Uint32(frame)] = at + 24
		if pages := binary.BigEndian.Uint32(frame[4:]); pages != 0 {
			for n, place := range uncommitted {
				s.pages[n] = place
			}
			clear(uncommitted)
			s.pageSize, s.size = size, int64(pages)*size
		}
	}
}

func unlessEnd(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return nil
	}
	return err
}

// logSum is the sum that runs over a log, of words in the order of the bytes of
// the machine that wrote it.
type logSum struct {
	order binary.ByteOrder
	a, b  uint32
}

// add takes a multiple of 8 bytes.
func (s *logSum) add(p []byte) {
	for ; len(p) > 0; p = p[8:] {
		s.a += s.order.Uint32(p) + s.b
		s.b += s.order.Uint32(p[4:]) + s.a
	}
}

func (s *logSum) is(p []byte) bool {
	return s.a == binary.BigEndian.Uint32(p) && s.b == binary.BigEndian.Uint32(p[4:])
}

// db opens it as a database, to be closed before s.
func (s *snapshot) db() (d *db, err error) {
	if s.name, s.files, err = vfs.New(s); err != nil {
		return nil, err
	}
	return openDB(dbName, "ro&vfs="+s.name)
}

// Open implements fs.FS for SQLite: there is one file.
func (s *snapshot) Open(name string) (fs.File, error) {
	if name != dbName {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &snapshotFile{s: s}, nil
}

// snapshotFile is the database as SQLite reads it.
type snapshotFile struct {
	s   *snapshot
	off int64
}

var _ io.ReadSeeker = (*snapshotFile)(nil)

// Seek implements io.Seeker; SQLite only ever counts from the start.
func (f *snapshotFile) Seek(offset int64, whence int) (int64, error) {
	if whence != io.SeekStart || offset < 0 {
		return 0, fs.ErrInvalid
	}
	f.off = offset
	return offset, nil
}

// Read implements io.Reader. It never reads over the end of a page.
func (f *snapshotFile) Read(p []byte) (int, error) {
	s := f.s
	if f.off >= s.size || s.pageSize == 0 {
		return 0, io.EOF
	}
	page, within := f.off/s.pageSize, f.off%s.pageSize
	p = p[:min(int64(len(p)), s.pageSize-within)]
	from, place := s.base, f.off
	if at, ok := s.pages[uint32(page+1)]; ok {
		from, place = s.log, at+within
	}
	n, err := from.ReadAt(p, place)
	for i := range p[:n] {
		// The versions of the format that reading and writing need: 2 would have
		// SQLite look for a log.
		if at := f.off + int64(i); at == 18 || at == 19 {
			p[i] = 1
		} else if at > 19 {
			break
		}
	}
	f.off += int64(n)
	if n < len(p) && from == s.log {
		// Emptied meanwhile. SQLite would take the end of a file for zeros.
		s.gone = true
		return 0, errGone
	}
	if n > 0 {
		err = nil
	}
	return n, err
}

// Stat implements fs.File.
func (f *snapshotFile) Stat() (fs.FileInfo, error) {
	fi, err := f.s.base.Stat()
	return sizedInfo{fi, f.s.size}, err
}

// Close implements fs.File; the files are the snapshot's.
func (f *snapshotFile) Close() error { return nil }

// sizedInfo is a FileInfo with another size.
type sizedInfo struct {
	fs.FileInfo
	size int64
}

func (fi sizedInfo) Size() int64 { return fi.size }
