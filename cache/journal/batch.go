package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
)

// A Batch is a list of changes that are committed together, in the order in
// which they were added: a Delete after a Put of the same key wins. The zero
// Batch is empty and ready to use. It is not safe for concurrent use, and not to
// be touched while a Commit of it runs.
type Batch struct {
	ops []op
	buf []byte // keys and values of ops, one after the other
}

type opKind uint8

const (
	opPut opKind = iota
	opDelete
	opDeletePrefix
)

// op is a change. Its key begins at from in the batch's buf, its value where
// the key ends.
type op struct {
	kind     opKind
	from     int
	key, val int // lengths
}

func (b *Batch) add(kind opKind, key string, value []byte) {
	b.ops = append(b.ops, op{kind, len(b.buf), len(key), len(value)})
	b.buf = append(b.buf, key...)
	b.buf = append(b.buf, value...)
}

// key and value return parts of b's buffer, never nil.
func (b *Batch) key(o op) []byte { return b.part(o.from, o.key) }

func (b *Batch) value(o op) []byte { return b.part(o.from+o.key, o.val) }

func (b *Batch) part(from, n int) []byte {
	if n == 0 {
		return []byte{} // nil is NULL to the driver
	}
	return b.buf[from : from+n : from+n]
}

// Put sets key to value, of which it keeps a copy. A nil value is an empty one.
func (b *Batch) Put(key string, value []byte) { b.add(opPut, key, value) }

// Delete removes key, if it is there.
func (b *Batch) Delete(key string) { b.add(opDelete, key, nil) }

// DeletePrefix removes every key that begins with prefix, those that the batch
// has put before included; with "" everything.
func (b *Batch) DeletePrefix(prefix string) { b.add(opDeletePrefix, prefix, nil) }

// Len returns the number of changes.
func (b *Batch) Len() int { return len(b.ops) }

// Grow makes room for so many more changes, whose keys and values have so many bytes.
func (b *Batch) Grow(changes, bytes int) {
	b.ops, b.buf = slices.Grow(b.ops, changes), slices.Grow(b.buf, bytes)
}

// Reset empties b and keeps its memory for the next use.
func (b *Batch) Reset() { b.ops, b.buf = b.ops[:0], b.buf[:0] }

// Append adds the changes of o after those of b.
func (b *Batch) Append(o *Batch) {
	from := len(b.buf)
	b.buf = append(b.buf, o.buf...)
	for _, x := range o.ops {
		x.from += from
		b.ops = append(b.ops, x)
	}
}

// Truncate forgets all but the first n changes.
func (b *Batch) Truncate(n int) {
	if n < len(b.ops) {
		b.buf = b.buf[:b.ops[n].from]
		b.ops = b.ops[:n]
	}
}

// appendTo appends b as bytes: the number of changes, of each its kind and the
// lengths of key and value, and then keys and values.
func (b *Batch) appendTo(p []byte) []byte {
	p = binary.AppendUvarint(p, uint64(len(b.ops)))
	for _, o := range b.ops {
		p = append(p, byte(o.kind))
		p = binary.AppendUvarint(p, uint64(o.key))
		p = binary.AppendUvarint(p, uint64(o.val))
	}
	return append(p, b.buf...)
}

var errBatch = errors.New("changes are garbled")

// parseBatch is the reverse of appendTo. The batch has no copy of p.
func parseBatch(p []byte) (*Batch, error) {
	r := bytes.NewReader(p)
	count, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, errBatch
	}
	b := &Batch{}
	from := 0
	for range count {
		kind, err1 := r.ReadByte()
		key, err2 := binary.ReadUvarint(r)
		val, err3 := binary.ReadUvarint(r)
		if err1 != nil || err2 != nil || err3 != nil || kind > byte(opDeletePrefix) || key > uint64(len(p)) || val > uint64(len(p)) {
			return nil, errBatch
		}
		b.ops = append(b.ops, op{opKind(kind), from, int(key), int(val)})
		from += int(key) + int(val)
	}
	if b.buf = p[len(p)-r.Len():]; len(b.buf) != from {
		return nil, errBatch
	}
	return b, nil
}

// prefixEnd returns the first key after all that begin with prefix, nil if
// there is none.
func prefixEnd(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] != 0xff {
			end := append([]byte{}, prefix[:i+1]...)
			end[i]++
			return end
		}
	}
	return nil
}
