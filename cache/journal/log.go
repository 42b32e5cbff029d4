package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// The log is one file or more, its segments, to which commits are appended: a
// record each, which is one write(2) for all that are committed together. A
// process begins a segment of its own, and another one whenever what is in the
// log is to go into the table; a segment is removed once the table has it all.
//
// A segment begins with a head: the line logMagic, a byte with the length of the
// name of the machine's boot, that name, and a sum of all this. A record is
//
//	4 bytes   length of the changes
//	4 bytes   a sum of all that follows
//	8 bytes   number of the commit before which it can be applied to
//	8 bytes   its own number
//	...       the changes, see [Batch.appendTo]
//
// Numbers are little endian, sums are CRC-32. A record counts only if the commit
// that it follows is there, so what is behind a place that is damaged does not.

const (
	logMagic   = "agentfs journal log\n"
	recordHead = 24
)

// segment is a file of the log.
type segment struct {
	f   *os.File
	end int64 // behind the last record
	// torn: behind end there may be records of an append that failed.
	torn bool
	// Guarded by sync.mu: its name is on the disk, and all of it, if it was ended.
	named, whole bool
	// again is what an earlier process has written, until it was written once more.
	again []byte
}

// segmentName is that of a segment whose first commit has the number seq. Numbers
// are not given twice, and names sort like them.
func segmentName(seq uint64) string { return fmt.Sprintf("journal-%016x.log", seq) }

// segmentNames returns the paths of the segments in dir, the oldest first.
func segmentNames(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string // ReadDir sorts
	for _, e := range entries {
		if n := e.Name(); len(n) == len(segmentName(0)) && strings.HasPrefix(n, "journal-") && strings.HasSuffix(n, ".log") {
			names = append(names, filepath.Join(dir, n))
		}
	}
	return names, nil
}

// newSegment makes a segment without records.
func newSegment(dir string, seq uint64, boot string) (_ *segment, err error) {
	boot = boot[:min(len(boot), math.MaxUint8)]
	head := append([]byte(logMagic), byte(len(boot)))
	head = append(head, boot...)
	head = binary.LittleEndian.AppendUint32(head, crc32.ChecksumIEEE(head))
	// One that is there has nothing that counts, else it would not have this number.
	f, err := os.OpenFile(filepath.Join(dir, segmentName(seq)), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err := f.WriteAt(head, 0); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return &segment{f: f, end: int64(len(head))}, nil
}

// appendRecord appends to p the record of b, with the number seq, after prev.
func appendRecord(p []byte, prev, seq uint64, b *Batch) []byte {
	from := len(p)
	p = append(p, make([]byte, recordHead)...)
	p = b.appendTo(p)
	r := p[from:]
	binary.LittleEndian.PutUint32(r, uint32(len(r)-recordHead))
	binary.LittleEndian.PutUint64(r[8:], prev)
	binary.LittleEndian.PutUint64(r[16:], seq)
	binary.LittleEndian.PutUint32(r[4:], crc32.ChecksumIEEE(r[8:]))
	return p
}

// append writes records behind those that are there. If it fails, they are not.
func (s *segment) append(p []byte) error {
	if err := s.mend(); err != nil {
		return err
	}
	if _, err := s.f.WriteAt(p, s.end); err != nil {
		s.torn = true // some of them may be whole
		return errors.Join(err, s.mend())
	}
	s.end += int64(len(p))
	return nil
}

// mend cuts off what an append has left that failed. Until that is done nothing may
// follow, here or in another segment: it has the numbers of what comes next. It
// takes no room, so it hardly fails.
func (s *segment) mend() error {
	if !s.torn {
		return nil
	}
	err := s.f.Truncate(s.end)
	s.torn = err != nil
	return err
}

// logContents is what a log has for a table.
type logContents struct {
	recent *overlay
	seq    uint64 // of the last commit that counts
	boot   string // of the machine at that commit, if there is one
	any    bool   // there is one
	use    []segmentUse
}

// segmentUse is what a segment is good for. One that has neither is the work of a
// process that died before its first record, or of a power loss.
type segmentUse struct {
	counts bool // it has records that count
	stray  bool // it has one that is whole and follows nothing that is there
}

// logBytes is what the segments of a log have, the oldest first.
type logBytes [][]byte

func readLog(names []string) (l logBytes, err error) {
	for _, name := range names {
		p, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		l = append(l, p)
	}
	return l, nil
}

// after returns what the log has for a table that has all commits up to seq.
func (l logBytes) after(seq uint64) logContents {
	all := logContents{recent: newOverlay(), seq: seq}
	for _, p := range l {
		// A later segment may follow what was whole of this one, if its process has
		// found it like this.
		all.use = append(all.use, all.read(p))
	}
	return all
}

// read applies the records of a segment, up to the first that is garbled or does
// not follow.
func (l *logContents) read(p []byte) (use segmentUse) {
	n := len(logMagic) + 1
	if len(p) < n || string(p[:n-1]) != logMagic {
		return use
	}
	end := n + int(p[n-1])
	if len(p) < end+4 || binary.LittleEndian.Uint32(p[end:]) != crc32.ChecksumIEEE(p[:end]) {
		return use
	}
	boot := string(p[n:end])
	for p = p[end+4:]; len(p) > 0; use.counts = true {
		if len(p) < recordHead {
			return use
		}
		size := int64(binary.LittleEndian.Uint32(p))
		if int64(len(p)-recordHead) < size {
			return use
		}
		r := p[:recordHead+size]
		p = p[len(r):]
		if binary.LittleEndian.Uint32(r[4:]) != crc32.ChecksumIEEE(r[8:]) {
			return use
		}
		prev, seq := binary.LittleEndian.Uint64(r[8:]), binary.LittleEndian.Uint64(r[16:])
		if seq <= l.seq {
			continue // the table has it
		}
		b, err := parseBatch(r[recordHead:])
		if err != nil || prev != l.seq {
			use.stray = err == nil
			return use
		}
		l.recent.apply(b)
		l.seq, l.boot, l.any = seq, boot, true
	}
	return use
}
