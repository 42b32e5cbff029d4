package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// A journal of format 2 may have a bundle: a large batch that its process has put
// into the table as one record, to be spread over it later, which did not happen.
// It is newer than all the rest.

// bundleKey is the key of the bundle. No other key begins like this.
const bundleKey = "\x00bundle"

var errBundle = errors.New("a bundle of changes is garbled")

// readBundle returns the bundle in the table, nil if there is none.
func (d *db) readBundle() (*Batch, error) {
	row, err := d.row("SELECT value FROM kv WHERE key = ?", []byte(bundleKey))
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	value, _ := row[0].([]byte)
	if len(value) < 4 || binary.LittleEndian.Uint32(value) != crc32.ChecksumIEEE(value[4:]) {
		return nil, errBundle
	}
	b, err := parseBatch(value[4:])
	if err != nil {
		return nil, errBundle
	}
	return b, nil
}

// bundle returns what an earlier process has not spread.
func (d *db) bundle() (*overlay, error) {
	b, err := d.readBundle()
	if b == nil || err != nil {
		return nil, err
	}
	o := newOverlay()
	o.apply(b)
	return o, nil
}

// adoptBundle takes over what an earlier process has not spread. A garbled one
// is told as damage, and goes.
func (j *Journal) adoptBundle() error {
	o, err := j.db.bundle()
	if errors.Is(err, errBundle) {
		if j.damage != "" {
			j.damage += "; "
		}
		j.damage += fmt.Sprintf("the journal %s was damaged (%v); the change that it was part of is lost", j.path(dbName), err)
		return j.db.run(fmt.Sprintf("DELETE FROM kv WHERE key = x'%x'", bundleKey))
	}
	j.bundle = o
	return err
}
