package cache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A slab is two files in which small contents lie side by side, each in a slot
// of its own: making, opening and removing a file takes a host file system longer
// than everything else that is done for a small one. The one file has the bytes,
// the other one for each slot a head: how long its content is, when it was
// written last, and whose it is. A head is written after the bytes that it
// counts, in one write(2) that no kill of the process can tear, so what a head
// says is there.
//
// A slot is named by its number and a number that no other use of it has had
// (its turn). If the head has another turn, nothing was written in this one yet.
type slab struct {
	dir string

	mu    sync.Mutex
	bytes *os.File // nil until a slot is asked for
	heads *os.File
	free  []uint64 // numbers of slots
	count uint64   // slots there are
	turn  uint64   // the last one

	size atomic.Int64  // up to where bytes were written, or found
	cuts atomic.Uint64 // how often somebody else has made the file shorter than that
}

const (
	// slotSize is the largest content that lies in a slot.
	slotSize = 64 << 10
	headSize = 32
	// freeSlots is how many slots that are free keep their place on the disk.
	freeSlots = 256

	slabName   = "slab"
	headsName  = "slab.heads"
	slotPrefix = "slot-"
)

// slot is a layer's place in a slab. It belongs to the content that has the
// layer, and is guarded like that.
type slot struct {
	s      *slab
	bytes  *os.File
	heads  *os.File
	n      uint64
	turn   uint64
	length int64
	time   int64 // when it was written last, in ns since 1970
	dirty  int64 // from here on it is zeros
	top    int64 // up to where this process has written
	cuts   uint64
}

// open opens the files, made if need be. s.mu is held.
func (s *slab) open() (err error) {
	if s.bytes != nil {
		return nil
	}
	bytes, err := openPlain(filepath.Join(s.dir, slabName), unix.O_CREAT|unix.O_RDWR)
	if err != nil {
		return err
	}
	heads, err := openPlain(filepath.Join(s.dir, headsName), unix.O_CREAT|unix.O_RDWR)
	if err != nil {
		bytes.Close()
		return err
	}
	s.bytes, s.heads = bytes, heads
	if st, err := bytes.Stat(); err == nil {
		s.size.Store(st.Size())
	}
	return nil
}

// openPlain is os.OpenFile for a file that never blocks, without asking the
// runtime's poller whether it does.
func openPlain(path string, flags int) (*os.File, error) {
	for {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0o600)
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), path), nil
		case !errors.Is(err, unix.EINTR):
			return nil, &os.PathError{Op: "open", Path: path, Err: err}
		}
	}
}

// take returns a layer in an empty slot, nil if that can't be.
func (s *slab) take() *layer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open() != nil {
		return nil // whoever makes a file instead meets the same, and says so
	}
	x := &slot{s: s, bytes: s.bytes, heads: s.heads, cuts: s.cuts.Load()}
	if n := len(s.free); n > 0 {
		x.n, s.free = s.free[n-1], s.free[:n-1]
		x.dirty = slotSize
	} else {
		x.n = s.count
		s.count++
	}
	s.turn = max(s.turn+1, uint64(time.Now().UnixNano()))
	x.turn = s.turn
	return &layer{path: filepath.Join(s.dir, x.name()), slot: x, refs: 1}
}

func (x *slot) name() string { return fmt.Sprintf("%s%x-%x", slotPrefix, x.n, x.turn) }

// named returns the layer that lies in the slot of that name; ok is false if it
// is not the name of one.
func (s *slab) named(name string) (l *layer, ok bool) {
	x := &slot{s: s, dirty: slotSize}
	if !strings.HasPrefix(name, slotPrefix) {
		return nil, false
	}
	if _, err := fmt.Sscanf(name, slotPrefix+"%x-%x", &x.n, &x.turn); err != nil || x.name() != name {
		return nil, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open() == nil {
		x.bytes, x.heads, x.cuts = s.bytes, s.heads, s.cuts.Load()
		x.readHead()
	}
	return &layer{path: filepath.Join(s.dir, name), slot: x, refs: 1}, true
}

// headSum is the last of a head's four numbers, after turn, length and time.
func headSum(b []byte) uint64 { return uint64(crc32.ChecksumIEEE(b[:24])) }

// readHead fills in what the head says of this turn.
func (x *slot) readHead() {
	var b [headSize]byte
	le := binary.LittleEndian
	if n, _ := x.heads.ReadAt(b[:], int64(x.n)*headSize); n < headSize || le.Uint64(b[24:]) != headSum(b[:]) || le.Uint64(b[:]) != x.turn {
		return
	}
	x.length, x.time = int64(le.Uint64(b[8:])), int64(le.Uint64(b[16:]))
}

// written says that the content is that long now, and has just been written.
func (x *slot) written(length int64) error { return x.head(length, time.Now().UnixNano()) }

// head says that the content is that long and was written at a time.
func (x *slot) head(length, at int64) error {
	var b [headSize]byte
	le := binary.LittleEndian
	le.PutUint64(b[:], x.turn)
	le.PutUint64(b[8:], uint64(length))
	le.PutUint64(b[16:], uint64(at))
	le.PutUint64(b[24:], headSum(b[:]))
	if _, err := x.heads.WriteAt(b[:], int64(x.n)*headSize); err != nil {
		return err
	}
	x.length, x.time = length, at
	return nil
}

func (x *slot) at(off int64) int64 { return int64(x.n)*slotSize + off }

// ReadAt implements io.ReaderAt.
func (x *slot) ReadAt(p []byte, off int64) (int, error) {
	if off >= x.length {
		return 0, io.EOF
	}
	n := min(int64(len(p)), x.length-off)
	got, err := x.bytes.ReadAt(p[:n], x.at(off))
	if err == nil && got < len(p) {
		err = io.EOF
	}
	if errors.Is(err, io.EOF) && int64(got) < n && off+int64(got) >= x.top {
		// The slab ends in a hole.
		clear(p[got:n])
		got, err = int(n), nil
		if got < len(p) {
			err = io.EOF
		}
	}
	return got, err
}

// WriteAt implements io.WriterAt.
func (x *slot) WriteAt(p []byte, off int64) (n int, err error) {
	if off < 0 || off+int64(len(p)) > slotSize {
		return 0, unix.EFBIG
	}
	if off > x.length {
		if err := x.clear(x.length, off); err != nil {
			return 0, err
		}
	}
	x.s.shorter() // before the end is beyond the cut again
	n, err = x.bytes.WriteAt(p, x.at(off))
	if n > 0 {
		x.top = max(x.top, off+int64(n))
		x.s.grown(x.at(off) + int64(n))
		x.dirty = max(x.dirty, off+int64(n))
		if herr := x.written(max(x.length, off+int64(n))); herr != nil {
			return 0, herr
		}
	}
	return n, err
}

// grown says that something was written before end.
func (s *slab) grown(end int64) {
	for {
		was := s.size.Load()
		if was >= end || s.size.CompareAndSwap(was, end) {
			return
		}
	}
}

// shorter finds out whether somebody else has cut the file.
func (s *slab) shorter() {
	was := s.size.Load() // first: the file only grows by those who say so after it
	if st, err := s.bytes.Stat(); err == nil && st.Size() < was {
		s.size.CompareAndSwap(was, st.Size())
		s.cuts.Add(1)
	}
}

// cut reports whether somebody else has cut the file since the last time, so that
// what lies here may be zeros.
func (x *slot) cut() bool {
	if x.bytes == nil {
		return false
	}
	x.s.shorter()
	now := x.s.cuts.Load()
	cut := now != x.cuts
	x.cuts = now
	return cut
}

// clear makes [off, end) zeros, as far as it may be anything else.
func (x *slot) clear(off, end int64) error {
	if end = min(end, x.dirty); off >= end {
		return nil
	}
	_, err := x.bytes.WriteAt(make([]byte, end-off), x.at(off))
	return err
}

// Truncate makes the content that long.
func (x *slot) Truncate(size int64) error {
	switch {
	case size == x.length:
		return nil // lest its time changes
	case size > slotSize:
		return unix.EFBIG
	case size > x.length:
		if err := x.clear(x.length, size); err != nil {
			return err
		}
	}
	return x.written(size)
}

// zero makes what of [off, end) is in the content zeros.
func (x *slot) zero(off, end int64) error {
	if end = min(end, x.length); off >= end {
		return nil
	}
	if err := x.clear(off, end); err != nil {
		return err
	}
	return x.written(x.length)
}

// drop gives the slot back.
func (x *slot) drop() { x.s.giveBack(x.n) }

func (s *slab) giveBack(n uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bytes == nil {
		return
	}
	s.free = append(s.free, n)
	if len(s.free) > freeSlots {
		// If it can't be given to the disk, the next one has it.
		_ = unix.Fallocate(int(s.bytes.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(n)*slotSize, slotSize)
	}
}

// keep takes the slots of an earlier process over: all are free but those that
// have one of the names. Nobody uses s yet.
func (s *slab) keep(wanted map[string]bool) error {
	s.mu.Lock()
	used := slotsOf(wanted)
	for n := range used {
		s.count = max(s.count, n+1)
	}
	if len(used) == 0 {
		defer s.mu.Unlock()
		return s.remove()
	}
	err := s.open()
	if err == nil {
		var st os.FileInfo
		if st, err = s.bytes.Stat(); err == nil {
			s.count = max(s.count, uint64(st.Size()+slotSize-1)/slotSize)
		}
	}
	count := s.count
	s.mu.Unlock()
	for n := range count {
		if !used[n] {
			s.giveBack(n)
		}
	}
	return err
}

// slotsOf returns the numbers of the slots among names.
func slotsOf(names map[string]bool) map[uint64]bool {
	all := map[uint64]bool{}
	for name := range names {
		var n, turn uint64
		if _, err := fmt.Sscanf(name, slotPrefix+"%x-%x", &n, &turn); err == nil {
			all[n] = true
		}
	}
	return all
}

// remove removes the files. s.mu is held.
func (s *slab) remove() error {
	s.closeFiles()
	s.free, s.count = nil, 0
	var errs []error
	for _, name := range []string{slabName, headsName} {
		if err := os.Remove(filepath.Join(s.dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (s *slab) closeFiles() {
	for _, f := range []*os.File{s.bytes, s.heads} {
		if f != nil {
			f.Close()
		}
	}
	s.bytes, s.heads = nil, nil
}

// end lets the files go.
func (s *slab) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeFiles()
}

// slabFile reports whether a name in the content directory is that of a slab's
// file.
func slabFile(name string) bool { return name == slabName || name == headsName }
