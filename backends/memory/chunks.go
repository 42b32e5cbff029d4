package memory

import (
	"errors"
	"math"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
)

// smallMax is the largest content that is one slice on Go's heap.
const smallMax = chunkSize / 2

// chunkBody is a content in the process: one slice while it is small, else
// chunks by index. A missing chunk is a hole.
type chunkBody struct {
	arena  *arena
	length int64
	small  []byte           // the content, while chunks is nil; may be shorter than length (zeros)
	chunks map[int64][]byte // nil while the content is small
}

var _ body = (*chunkBody)(nil)

func (b *chunkBody) open() error         { return nil }
func (b *chunkBody) shut()               {}
func (b *chunkBody) look() (int64, bool) { return 0, false }
func (b *chunkBody) size() int64         { return b.length }
func (b *chunkBody) blocks() int64 {
	return int64(cap(b.small)+511)/512 + int64(len(b.chunks))*(chunkSize/512)
}

func (b *chunkBody) readAt(p []byte, off int64) (int, error) {
	if off >= b.length {
		return 0, nil
	}
	p = p[:min(int64(len(p)), b.length-off)]
	if b.chunks == nil {
		n := 0
		if off < int64(len(b.small)) {
			n = copy(p, b.small[off:])
		}
		clear(p[n:])
		return len(p), nil
	}
	for n := 0; n < len(p); {
		i, at := (off+int64(n))/chunkSize, (off+int64(n))%chunkSize
		m := min(len(p)-n, int(chunkSize-at))
		if c := b.chunks[i]; c != nil {
			copy(p[n:n+m], c[at:])
		} else {
			clear(p[n : n+m])
		}
		n += m
	}
	return len(p), nil
}

func (b *chunkBody) writeAt(p []byte, off int64) (int, error) {
	if off < 0 || off > math.MaxInt64-int64(len(p)) {
		return 0, backends.ErrTooLarge
	}
	end := off + int64(len(p))
	if b.chunks == nil && end <= smallMax {
		if err := b.growSmall(end); err != nil {
			return 0, err
		}
		copy(b.small[off:], p)
		b.length = max(b.length, end)
		return len(p), nil
	}
	if err := b.promote(); err != nil {
		return 0, err
	}
	n := 0
	for n < len(p) {
		i, at := (off+int64(n))/chunkSize, (off+int64(n))%chunkSize
		c, err := b.chunk(i)
		if err != nil {
			// What is written stays: POSIX write() may be short.
			b.length = max(b.length, off+int64(n))
			return n, err
		}
		n += copy(c[at:], p[n:])
	}
	b.length = max(b.length, end)
	return n, nil
}

// growSmall makes small at least end bytes long.
func (b *chunkBody) growSmall(end int64) error {
	if end <= int64(len(b.small)) {
		return nil
	}
	if end > int64(cap(b.small)) {
		// Exact for the first write, which for most files is the only one.
		c := end
		if cap(b.small) > 0 {
			c = min(max(end, 2*int64(cap(b.small))), smallMax)
		}
		if err := b.arena.reserve(c - int64(cap(b.small))); err != nil {
			return err
		}
		grown := make([]byte, end, c)
		copy(grown, b.small)
		b.small = grown
		return nil
	}
	old := len(b.small)
	b.small = b.small[:end]
	clear(b.small[old:])
	return nil
}

// promote turns a small content into chunks.
func (b *chunkBody) promote() error {
	if b.chunks != nil {
		return nil
	}
	b.chunks = make(map[int64][]byte)
	if len(b.small) > 0 {
		c, err := b.chunk(0)
		if err != nil {
			b.chunks = nil
			return err
		}
		copy(c, b.small)
	}
	b.arena.used.Add(-int64(cap(b.small)))
	b.small = nil
	return nil
}

// chunk returns chunk i, made if it is a hole.
func (b *chunkBody) chunk(i int64) ([]byte, error) {
	if c := b.chunks[i]; c != nil {
		return c, nil
	}
	if err := b.arena.reserve(chunkSize); err != nil {
		return nil, err
	}
	c, err := b.arena.chunk()
	if err != nil {
		b.arena.used.Add(-chunkSize)
		return nil, err
	}
	b.chunks[i] = c
	return c, nil
}

func (b *chunkBody) drop(i int64) {
	b.arena.release(b.chunks[i])
	b.arena.used.Add(-chunkSize)
	delete(b.chunks, i)
}

func (b *chunkBody) truncate(size int64) error {
	switch {
	case size == 0:
		b.free()
	case size < b.length:
		b.zero(size, b.length)
		for i := range b.chunks {
			if i*chunkSize >= size {
				b.drop(i)
			}
		}
		if int64(len(b.small)) > size {
			b.small = b.small[:size]
		}
	case b.chunks == nil && size > smallMax:
		if err := b.promote(); err != nil {
			return err
		}
	}
	b.length = size
	return nil
}

// zero makes [off, end) zeros, as holes where whole chunks are in it.
func (b *chunkBody) zero(off, end int64) {
	if b.chunks == nil {
		if off < int64(len(b.small)) {
			clear(b.small[off:min(end, int64(len(b.small)))])
		}
		return
	}
	for i, c := range b.chunks {
		from, to := max(off, i*chunkSize), min(end, (i+1)*chunkSize)
		switch {
		case from >= to:
		case to-from == chunkSize:
			b.drop(i)
		default:
			clear(c[from-i*chunkSize : to-i*chunkSize])
		}
	}
}

func (b *chunkBody) allocate(off, length int64, mode uint32) error {
	if off > math.MaxInt64-length {
		return backends.ErrTooLarge
	}
	end := off + length
	keep := mode&unix.FALLOC_FL_KEEP_SIZE != 0
	switch mode &^ unix.FALLOC_FL_KEEP_SIZE {
	case unix.FALLOC_FL_PUNCH_HOLE:
		if !keep {
			return errors.ErrUnsupported
		}
		b.zero(off, min(end, b.length))
		return nil
	case unix.FALLOC_FL_ZERO_RANGE:
		b.zero(off, min(end, b.length))
	case 0:
	default:
		return errors.ErrUnsupported
	}
	if end-off > b.arena.limit {
		return backends.ErrNoSpace
	}
	if err := b.promote(); err != nil {
		return err
	}
	var made []int64
	for i := off / chunkSize; i*chunkSize < end; i++ {
		if b.chunks[i] != nil {
			continue
		}
		if _, err := b.chunk(i); err != nil {
			for _, j := range made {
				b.drop(j)
			}
			return err
		}
		made = append(made, i)
	}
	if !keep {
		b.length = max(b.length, end)
	}
	return nil
}

func (b *chunkBody) seek(off int64, hole bool) (int64, error) {
	if off < 0 || off >= b.length {
		return 0, backends.ErrNoData
	}
	if b.chunks == nil {
		if hole {
			return b.length, nil
		}
		return off, nil
	}
	for at := off; at < b.length; at = (at/chunkSize + 1) * chunkSize {
		if (b.chunks[at/chunkSize] == nil) == hole {
			return at, nil
		}
		if !hole && len(b.chunks) == 0 {
			break
		}
		if !hole {
			// Jump over a hole that may be very long.
			next := int64(math.MaxInt64)
			for i := range b.chunks {
				if i > at/chunkSize {
					next = min(next, i)
				}
			}
			if next == math.MaxInt64 || next*chunkSize >= b.length {
				break
			}
			return next * chunkSize, nil
		}
	}
	if hole {
		return b.length, nil
	}
	return 0, backends.ErrNoData
}

func (b *chunkBody) free() {
	for i := range b.chunks {
		b.drop(i)
	}
	b.arena.used.Add(-int64(cap(b.small)))
	b.chunks, b.small, b.length = nil, nil, 0
}
