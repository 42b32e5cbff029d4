// Package index keeps, on disk, which objects of the store a room has contents
// of. Its loss costs only fetches: it is written behind, and an index that
// can't be read is replaced by an empty one.
package index

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite" // the driver
)

// format is the version of what an index looks like on disk, kept as SQLite's
// user_version. An index of any other format is begun anew: it holds nothing
// that the store does not have.
const format = 1

// applicationID marks the database as an index of agentfs: "agix".
const applicationID = 0x61676978

const dbName = "index.db"

// Entry says what one file of the room has of one object.
type Entry struct {
	// File is the name of the file. It identifies the entry.
	File string
	// Key, Version and Size are the object's. Of one object there is one entry.
	Key     string
	Version string
	Size    int64
	// Bytes is the sum of the ranges' lengths.
	Bytes int64
	// Used is when the content was last used, in nanoseconds since 1970.
	Used int64
	// Ranges are those that the file has, as [from, to) pairs in their order;
	// Sums belong to them, as the caller defines it.
	Ranges [][2]int64
	Sums   []uint32
}

// Index is an open index. All methods are safe for concurrent use.
type Index struct {
	db                             *sql.DB
	find, put, drop, oldest, touch *sql.Stmt
}

// Open opens the index in the directory dir, or begins one. problem says, for
// people, why an earlier one was not used, "" if it was or there was none.
// Only one process at a time may have it open.
func Open(dir string) (x *Index, problem string, err error) {
	// An URI's path is absolute.
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, "", err
	}
	name := filepath.Join(dir, dbName)
	x, err = open(name)
	if err == nil {
		return x, "", nil
	}
	problem = err.Error()
	if err := remove(name); err != nil {
		return nil, problem, err
	}
	x, err = open(name)
	return x, problem, err
}

func remove(name string) error {
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(name + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func open(name string) (_ *Index, err error) {
	u := url.URL{Path: name}
	// One process, and in it one connection: the log needs no index in a shared
	// file. What a power loss may take is found by the sums.
	db, err := sql.Open("sqlite", "file:"+u.EscapedPath()+"?vfs=unix-excl&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_pragma=temp_store(MEMORY)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	x := &Index{db: db}
	if err := x.prepare(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), db.Close())
	}
	return x, nil
}

func (x *Index) prepare() error {
	var have, app int
	if err := x.db.QueryRow("PRAGMA user_version").Scan(&have); err != nil {
		return err
	}
	if err := x.db.QueryRow("PRAGMA application_id").Scan(&app); err != nil {
		return err
	}
	switch {
	case have == 0 && app == 0:
		if err := x.begin(); err != nil {
			return err
		}
	case app != applicationID:
		return errors.New("it is no index of agentfs")
	case have != format:
		return fmt.Errorf("it has format %d, this agentfs knows %d", have, format)
	}
	// Damage that doesn't show here does later, and is an error then.
	if _, err := x.Count(); err != nil {
		return err
	}
	for _, s := range []struct {
		to    **sql.Stmt
		query string
	}{
		{&x.find, "SELECT file, size, bytes, used, map FROM content WHERE key = ? AND version = ?"},
		{&x.put, "INSERT OR REPLACE INTO content (file, key, version, size, bytes, used, map) VALUES (?, ?, ?, ?, ?, ?, ?)"},
		{&x.drop, "DELETE FROM content WHERE file = ?"},
		{&x.oldest, "SELECT file, bytes, used FROM content WHERE used < ? ORDER BY used LIMIT ?"},
		{&x.touch, "UPDATE content SET used = ? WHERE file = ?"},
	} {
		var err error
		if *s.to, err = x.db.Prepare(s.query); err != nil {
			return err
		}
	}
	return nil
}

// begin makes the tables, or nothing.
func (x *Index) begin() error {
	tx, err := x.db.Begin()
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after a commit
	for _, s := range []string{
		"CREATE TABLE content (file TEXT PRIMARY KEY, key BLOB NOT NULL, version TEXT NOT NULL, size INTEGER NOT NULL, bytes INTEGER NOT NULL, used INTEGER NOT NULL, map BLOB NOT NULL) WITHOUT ROWID",
		"CREATE UNIQUE INDEX object ON content (key, version)",
		"CREATE INDEX age ON content (used, bytes)",
		fmt.Sprintf("PRAGMA application_id=%d", applicationID),
		fmt.Sprintf("PRAGMA user_version=%d", format),
	} {
		if _, err := tx.Exec(s); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// Close brings everything into the database and lets go of it.
func (x *Index) Close() error { return x.db.Close() }

// Find returns the entry of an object; ok is false if there is none.
func (x *Index) Find(key, version string) (e Entry, ok bool, err error) {
	return lookup(x.find, key, version)
}

func lookup(find *sql.Stmt, key, version string) (e Entry, ok bool, err error) {
	var m []byte
	e.Key, e.Version = key, version
	err = find.QueryRow([]byte(key), version).Scan(&e.File, &e.Size, &e.Bytes, &e.Used, &m)
	if errors.Is(err, sql.ErrNoRows) {
		return e, false, nil
	}
	if err == nil {
		err = e.unpack(m)
	}
	return e, err == nil, err
}

// Change is what one transaction does, in this order.
type Change struct {
	Drop  []string         // files whose entries go
	Touch map[string]int64 // when contents were used
	Put   []Entry          // new entries, in the place of those of the same file or object
}

// Apply makes a change, all of it or nothing. It returns the entries that had
// to give way to others of the same object.
func (x *Index) Apply(c Change) (replaced []Entry, err error) {
	tx, err := x.db.Begin()
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after a commit
	drop, put, touch, find := tx.Stmt(x.drop), tx.Stmt(x.put), tx.Stmt(x.touch), tx.Stmt(x.find)
	for _, f := range c.Drop {
		if _, err := drop.Exec(f); err != nil {
			return nil, err
		}
	}
	for f, used := range c.Touch {
		if _, err := touch.Exec(used, f); err != nil {
			return nil, err
		}
	}
	for _, e := range c.Put {
		old, found, err := lookup(find, e.Key, e.Version)
		if err != nil {
			return nil, err
		}
		if found && old.File != e.File {
			replaced = append(replaced, old)
		}
		if _, err := put.Exec(e.File, []byte(e.Key), e.Version, e.Size, e.Bytes, e.Used, e.pack()); err != nil {
			return nil, err
		}
	}
	return replaced, tx.Commit()
}

// Oldest returns up to n entries that were last used before t, those first
// that were used longest ago, without key, version and ranges.
func (x *Index) Oldest(t int64, n int) ([]Entry, error) {
	rows, err := x.oldest.Query(t, n)
	if err != nil {
		return nil, err
	}
	return scan(rows)
}

// All returns every entry, without key, version and ranges.
func (x *Index) All() ([]Entry, error) {
	rows, err := x.db.Query("SELECT file, bytes, used FROM content")
	if err != nil {
		return nil, err
	}
	return scan(rows)
}

// Count returns the number of entries.
func (x *Index) Count() (n int64, err error) {
	err = x.db.QueryRow("SELECT count(*) FROM content").Scan(&n)
	return n, err
}

func scan(rows *sql.Rows) (all []Entry, err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var e Entry
		if err := rows.Scan(&e.File, &e.Bytes, &e.Used); err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, rows.Err()
}

// Ranges returns the ranges of a file's entry; none if it has no entry.
func (x *Index) Ranges(file string) ([][2]int64, error) {
	var m []byte
	err := x.db.QueryRow("SELECT map FROM content WHERE file = ?", file).Scan(&m)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var e Entry
	err = e.unpack(m)
	return e.Ranges, err
}
