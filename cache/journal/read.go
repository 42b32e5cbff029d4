package journal

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func (j *Journal) path(name string) string { return filepath.Join(j.dir, name) }

// All calls f with every record, in the order of the keys, as they were when All
// was called. value is valid only during the call. All ends with the first error
// of f and returns it. f may use the journal.
func (j *Journal) All(f func(key string, value []byte) error) error {
	return j.read(func(d *db, o *overlay) error {
		return d.records(o, func(key, value []byte) error { return f(string(key), value) })
	})
}

// read calls f with a connection of its own, so that commits go on meanwhile, and with
// what the table has not.
func (j *Journal) read(f func(*db, *overlay) error) error {
	// Held until the connection is there: Close would else leave it the database,
	// and it would make a log anew.
	j.turn.Lock()
	if j.closed {
		j.turn.Unlock()
		return fs.ErrClosed
	}
	d, err := openDB(j.path(dbName), "ro&vfs=unix-excl")
	if err == nil {
		// Takes the lock, and the state that f sees.
		err = d.run("PRAGMA busy_timeout=5000", "BEGIN", "SELECT seq FROM meta")
	}
	o := j.overlay()
	j.turn.Unlock()
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	defer d.close()
	return f(d, o)
}

// overlay returns what the table has not. Called with turn.
func (j *Journal) overlay() *overlay {
	if j.frozen == nil {
		return stacked(j.bundle, j.recent)
	}
	return stacked(j.bundle, j.frozen.overlay, j.recent)
}

// Count returns how many keys begin with prefix in the journal in dir, 0 if there
// is none. With anyOf it counts only those whose values have one of these texts.
// It takes no locks and writes nothing, so it neither waits for a process that
// has the journal open, nor disturbs it, nor changes what one that died has left.
func Count(dir, prefix string, anyOf ...string) (int64, error) {
	if j := openHere(dir); j != nil {
		var n int64
		err := j.read(func(d *db, o *overlay) (err error) {
			n, err = d.count(o, prefix, anyOf)
			return err
		})
		if !errors.Is(err, fs.ErrClosed) {
			return n, err
		}
	}
	ack, err := os.Open(filepath.Join(dir, ackName))
	if errors.Is(err, fs.ErrNotExist) {
		return countUnlocked(dir, prefix, anyOf) // a process would have one
	}
	if err != nil {
		return 0, err
	}
	defer ack.Close()
	turns := ackFile{f: ack}
	for try := range 50 {
		if err := turns.read(); err != nil {
			return 0, err
		}
		before := turns.turns
		n, err := countUnlocked(dir, prefix, anyOf)
		if rerr := turns.read(); rerr != nil {
			return 0, rerr
		}
		// What was read while the log was folded may belong to different states.
		if turns.turns == before && !errors.Is(err, errGone) {
			return n, err
		}
		time.Sleep(time.Duration(try) * time.Millisecond)
	}
	return 0, fmt.Errorf("journal in %s changes faster than it can be read", dir)
}

func countUnlocked(dir, prefix string, anyOf []string) (n int64, err error) {
	// The log first: once it is gone, or a part of it, the table has that.
	names, err := segmentNames(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	log, err := readLog(names)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, errGone
	}
	if err != nil {
		return 0, err
	}
	s, err := openSnapshot(filepath.Join(dir, dbName))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer func() {
		if s.torn() {
			err = errGone
		}
		if e := s.close(); err == nil {
			err = e
		}
	}()
	if s.empty() {
		return 0, nil
	}
	d, err := s.db()
	if err != nil {
		return 0, err
	}
	defer d.close()
	f, err := d.numbers()
	if err != nil {
		return 0, err
	}
	if f.damage != "" {
		return 0, fmt.Errorf("journal in %s is damaged: %s", dir, f.damage)
	}
	o, err := d.bundle()
	if err != nil {
		return 0, err
	}
	return d.count(stacked(o, log.after(f.seq).recent), prefix, anyOf)
}

// countTable is count of the table alone.
func (d *db) countTable(prefix string, anyOf []string) (int64, error) {
	key := append([]byte{}, prefix...)
	query, args := "SELECT count(*) FROM kv WHERE key >= ?", []driver.Value{key}
	if end := prefixEnd(key); end != nil {
		query += " AND key < ?"
		args = append(args, end)
	}
	if len(anyOf) > 0 {
		has := slices.Repeat([]string{"instr(value, ?) > 0"}, len(anyOf))
		query += " AND (" + strings.Join(has, " OR ") + ")"
		for _, text := range anyOf {
			args = append(args, []byte(text))
		}
	}
	return d.number(query, args...)
}
