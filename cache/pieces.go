package cache

import (
	"errors"
	"hash/crc32"
	"io"
	"sync"
)

// piece is a range of a file of the room that has one sum.
type piece struct {
	off, end int64
	sum      uint32
}

// piecesOf divides ranges at the multiples of blockSize.
func piecesOf(ranges [][2]int64) (all []piece) {
	for _, r := range ranges {
		for off := r[0]; off < r[1]; {
			end := min(r[1], (off/blockSize+1)*blockSize)
			all = append(all, piece{off: off, end: end})
			off = end
		}
	}
	return all
}

// CRC-32C is quick on all processors that matter, and enough against accidents:
// nobody is kept from forging what is in his own cache directory.
var sumTable = crc32.MakeTable(crc32.Castagnoli)

// sumOf returns the sum of a piece of a file. A file that is too short is
// io.ErrUnexpectedEOF.
func sumOf(f io.ReaderAt, p piece, buf []byte) (uint32, error) {
	buf = buf[:p.end-p.off]
	if _, err := f.ReadAt(buf, p.off); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, err
	}
	return crc32.Checksum(buf, sumTable), nil
}

// sumBuffers are as large as a piece can be.
var sumBuffers = sync.Pool{New: func() any { b := make([]byte, blockSize); return &b }}
