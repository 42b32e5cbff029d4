package journal

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// All calls f with every record, in the order of the keys, as they were when All
// was called. value is valid only during the call. All ends with the first error
// of f and returns it. f may use the journal.
func (j *Journal) All(f func(key string, value []byte) error) error {
	// A connection of its own, so that commits go on meanwhile.
	d, err := openDB(j.path(dbName), "ro")
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	defer d.close()
	if err := d.run("PRAGMA busy_timeout=5000"); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return d.each("SELECT key, value FROM kv ORDER BY key", nil, func(row []driver.Value) error {
		key, _ := row[0].([]byte)
		value, _ := row[1].([]byte)
		return f(string(key), value)
	})
}

func (j *Journal) path(name string) string { return filepath.Join(j.dir, name) }

// Count returns how many keys begin with prefix in the journal in dir, 0 if there
// is none. It changes nothing, and does not disturb a process that has the journal
// open or find what one that died has left.
func Count(dir, prefix string) (int64, error) {
	name, err := filepath.Abs(filepath.Join(dir, dbName))
	if err != nil {
		return 0, err
	}
	switch fi, err := os.Stat(name); {
	case errors.Is(err, fs.ErrNotExist):
		return 0, nil
	case err != nil:
		return 0, err
	case fi.Size() == 0:
		return 0, nil
	}
	mode := "ro"
	if _, err := os.Stat(name + "-wal"); errors.Is(err, fs.ErrNotExist) {
		// Nobody has it open, and it was closed. Even a reader would make a log
		// and its index, and leave them there.
		mode = "ro&immutable=1"
	}
	d, err := openDB(name, mode)
	if err != nil {
		return 0, err
	}
	defer d.close()
	if err := d.run("PRAGMA busy_timeout=5000"); err != nil {
		return 0, err
	}
	key := append([]byte{}, prefix...)
	if end := prefixEnd(key); end != nil {
		return d.number("SELECT count(*) FROM kv WHERE key >= ? AND key < ?", key, end)
	}
	return d.number("SELECT count(*) FROM kv WHERE key >= ?", key)
}
