package journal

import (
	"bytes"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"
)

// A large batch is first put down as one record, a bundle, which takes a
// fraction of the time that its changes take as records of their own, and is
// spread over the table right after the commit has returned. There is at most
// one, and it is the newest there is: whatever is committed next, it is spread
// before. Readers see the table as if it were spread.

// bundleKey is the key of the bundle. No other key begins like this.
const bundleKey = "\x00bundle"

const (
	// defaultBundleMin is how many changes make a batch a large one.
	defaultBundleMin = 128
	// bundleMax is how many bytes a bundle has at most, because it is kept in
	// memory until it is spread.
	bundleMax = 64 << 20
)

// bundles reports whether b is put down as a bundle.
func (j *Journal) bundles(b *Batch) bool {
	return len(b.ops) >= j.opt.bundleMin && len(b.buf) <= bundleMax &&
		!slices.ContainsFunc(b.ops, func(o op) bool { return o.kind == opDeletePrefix })
}

// encode returns b as bytes: a sum of the rest, the number of changes, of each
// its kind and the lengths of key and value, and then keys and values.
func (b *Batch) encode() []byte {
	p := make([]byte, 4, 16+8*len(b.ops)+len(b.buf))
	p = binary.AppendUvarint(p, uint64(len(b.ops)))
	for _, o := range b.ops {
		p = append(p, byte(o.kind))
		p = binary.AppendUvarint(p, uint64(o.key))
		p = binary.AppendUvarint(p, uint64(o.val))
	}
	p = append(p, b.buf...)
	binary.LittleEndian.PutUint32(p, crc32.ChecksumIEEE(p[4:]))
	return p
}

var errBundle = errors.New("a bundle of changes is garbled")

// decodeBatch is the reverse of encode.
func decodeBatch(p []byte) (*Batch, error) {
	if len(p) < 4 || binary.LittleEndian.Uint32(p) != crc32.ChecksumIEEE(p[4:]) {
		return nil, errBundle
	}
	r := bytes.NewReader(p[4:])
	count, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, errBundle
	}
	b := &Batch{}
	from := 0
	for range count {
		kind, err1 := r.ReadByte()
		key, err2 := binary.ReadUvarint(r)
		val, err3 := binary.ReadUvarint(r)
		if err1 != nil || err2 != nil || err3 != nil || kind > byte(opDelete) || key > uint64(len(p)) || val > uint64(len(p)) {
			return nil, errBundle
		}
		b.ops = append(b.ops, op{opKind(kind), from, int(key), int(val)})
		from += int(key) + int(val)
	}
	b.buf = bytes.Clone(p[len(p)-r.Len():])
	if len(b.buf) != from {
		return nil, errBundle
	}
	return b, nil
}

// clone returns a copy of b.
func (b *Batch) clone() *Batch { return &Batch{slices.Clone(b.ops), bytes.Clone(b.buf)} }

// commitBundle commits b as a bundle. Called with turn, when there is none.
func (j *Journal) commitBundle(b *Batch) error {
	err := j.transact(1, func(seq int64) (bool, error) {
		if j.format < format {
			// An older program must not take it for a journal that it knows.
			if err := j.db.run(fmt.Sprintf("PRAGMA user_version=%d", format)); err != nil {
				return false, err
			}
		}
		blob := b.encode()
		j.unmeasured += len(blob)/pageSize + 2
		return true, j.stmts.put.run([]byte(bundleKey), seq, blob)
	})
	if err == nil {
		j.format = format
		j.bundle = b.clone()
		offer(j.tending.bundled)
	}
	return err
}

// spread makes records of the bundle, if there is one. Called with turn.
func (j *Journal) spread() error {
	if j.bundle == nil {
		return nil
	}
	err := j.transact(1, func(seq int64) (bool, error) {
		if err := j.stmts.remove.run([]byte(bundleKey)); err != nil {
			return false, err
		}
		return false, j.applied(j.bundle, seq)
	})
	if err == nil {
		j.bundle = nil
	}
	return err
}

// spreadSoon is spread for tend. If it fails, the next commit tries again, and
// says so.
func (j *Journal) spreadSoon() {
	j.turn.Lock()
	defer j.turn.Unlock()
	if !j.closed {
		_ = j.spread()
	}
}

// readBundle returns the bundle in the database, nil if there is none.
func (d *db) readBundle() (*Batch, error) {
	row, err := d.row("SELECT value FROM kv WHERE key = ?", []byte(bundleKey))
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	value, _ := row[0].([]byte)
	return decodeBatch(value)
}

// records calls f with every record, in the order of the keys, as if the bundle
// were spread. What f gets is valid only during the call.
func (d *db) records(f func(key, value []byte) error) error {
	b, err := d.readBundle()
	if err != nil {
		return err
	}
	// What the bundle makes of each key that it has: the last word counts.
	last := map[string]op{}
	if b != nil {
		for _, o := range b.ops {
			last[string(b.key(o))] = o
		}
	}
	var puts []op
	for _, o := range last {
		if o.kind == opPut {
			puts = append(puts, o)
		}
	}
	slices.SortFunc(puts, func(x, y op) int { return bytes.Compare(b.key(x), b.key(y)) })
	upto := func(key []byte) error { // exclusive; nil is the end
		for len(puts) > 0 && (key == nil || bytes.Compare(b.key(puts[0]), key) < 0) {
			if err := f(b.key(puts[0]), b.value(puts[0])); err != nil {
				return err
			}
			puts = puts[1:]
		}
		return nil
	}
	err = d.each("SELECT key, value FROM kv ORDER BY key", nil, func(row []driver.Value) error {
		key, _ := row[0].([]byte)
		value, _ := row[1].([]byte)
		if string(key) == bundleKey {
			return nil
		}
		if _, ok := last[string(key)]; ok {
			return nil // comes from the bundle, or has gone
		}
		if err := upto(key); err != nil {
			return err
		}
		return f(key, value)
	})
	if err != nil {
		return err
	}
	return upto(nil)
}

// countMerged is count for a table that has a bundle.
func (d *db) countMerged(prefix string, anyOf []string) (n int64, err error) {
	err = d.records(func(key, value []byte) error {
		has := func(text string) bool { return bytes.Contains(value, []byte(text)) }
		if strings.HasPrefix(string(key), prefix) && (len(anyOf) == 0 || slices.ContainsFunc(anyOf, has)) {
			n++
		}
		return nil
	})
	return n, err
}

// adoptBundle takes over what an earlier process has not spread. A garbled one
// is told as damage, and goes.
func (j *Journal) adoptBundle() error {
	b, err := j.db.readBundle()
	if errors.Is(err, errBundle) {
		if j.damage != "" {
			j.damage += "; "
		}
		j.damage += fmt.Sprintf("the journal %s was damaged (%v); the change that it was part of is lost", j.path(dbName), err)
		return j.db.run(fmt.Sprintf("DELETE FROM kv WHERE key = x'%x'", bundleKey))
	}
	j.bundle = b
	return err
}
