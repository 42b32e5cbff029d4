package index

import (
	"encoding/binary"
	"errors"
)

var errMap = errors.New("the index is damaged: an entry's ranges can't be read")

// pack returns ranges and sums as bytes: how many ranges, for each what lies
// between it and the one before and its length, all as varints; then the sums,
// four bytes each.
func (e *Entry) pack() []byte {
	b := binary.AppendUvarint(nil, uint64(len(e.Ranges)))
	at := int64(0)
	for _, r := range e.Ranges {
		b = binary.AppendUvarint(b, uint64(r[0]-at))
		b = binary.AppendUvarint(b, uint64(r[1]-r[0]))
		at = r[1]
	}
	for _, s := range e.Sums {
		b = binary.LittleEndian.AppendUint32(b, s)
	}
	return b
}

// unpack is the opposite. Whatever the bytes are, the ranges are in their order
// and within the object, if e.Size is set.
func (e *Entry) unpack(b []byte) error {
	next := func() (int64, error) {
		v, n := binary.Uvarint(b)
		if n <= 0 || v > 1<<60 {
			return 0, errMap
		}
		b = b[n:]
		return int64(v), nil
	}
	count, err := next()
	if err != nil || count > int64(len(b)) {
		return errMap
	}
	at := int64(0)
	for range count {
		gap, err := next()
		if err != nil {
			return err
		}
		length, err := next()
		if err != nil {
			return err
		}
		r := [2]int64{at + gap, at + gap + length}
		if length == 0 || r[1] > 1<<60 || e.Size > 0 && r[1] > e.Size {
			return errMap
		}
		e.Ranges = append(e.Ranges, r)
		at = r[1]
	}
	if len(b)%4 != 0 {
		return errMap
	}
	for ; len(b) > 0; b = b[4:] {
		e.Sums = append(e.Sums, binary.LittleEndian.Uint32(b))
	}
	return nil
}
