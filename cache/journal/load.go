package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	sqlite3 "modernc.org/sqlite/lib"
)

// load opens the database, after having looked whether it can be believed.
func (j *Journal) load() error {
	name := j.path(dbName)
	found, err := examine(name)
	if err != nil {
		return err
	}
	names, err := segmentNames(j.dir)
	if err != nil {
		return err
	}
	log, err := readLog(names)
	if err != nil {
		return err
	}
	var recovered logContents
	if found.damage == "" && !found.missing {
		if recovered = log.after(found.seq); recovered.any {
			found.seq, found.boot = recovered.seq, recovered.boot
		}
		if found.seq < j.ack.folded || found.table < j.ack.table {
			found.damage = "its log has lost commits of which the database may have parts"
		}
	}
	lost := j.ack.acked > found.seq || found.missing && len(names) > 0
	j.lost = found.damage != "" || lost && found.seq == 0
	switch {
	case found.damage != "":
		aside, err := moveAside(name, names)
		if err != nil {
			return err
		}
		j.damage = fmt.Sprintf("the journal %s was damaged (%s); what it held is lost here, the damaged file is now %s", name, found.damage, aside)
	case found.missing && lost:
		j.damage = fmt.Sprintf("the journal %s is missing; what it held is lost", name)
	case lost:
		j.damage = fmt.Sprintf("the journal %s has lost the last %d of its acknowledged commits", name, j.ack.acked-found.seq)
	}
	if found.damage != "" || found.missing {
		if _, err := moveAside(name, names); err != nil { // a log without its database
			return err
		}
		if err := j.ack.setFolded(0); err != nil {
			return err
		}
		// After a power loss the number of transactions may be the old one's.
		if err := begin(name, j.ack.table); err != nil {
			return err
		}
		found, recovered, names = finding{table: j.ack.table}, logContents{}, nil
	}
	j.rebooted = j.ack.acked+found.seq > 0 && (found.boot == "" || found.boot != j.opt.bootID)
	if j.rebooted && lost && found.seq > 0 {
		j.damage += "; the machine was restarted before they were on disk"
	}
	// A number is not given twice, lest a later Open takes new commits for the lost ones.
	j.seq, j.held, j.boot, j.table = max(found.seq, j.ack.acked), found.seq, found.boot, found.table
	j.done.Store(j.seq)
	if err := j.keep(names, log, recovered.use); err != nil {
		return err
	}
	if recovered.any {
		j.frozen = &frozen{overlay: recovered.recent, keys: slices.Sorted(maps.Keys(recovered.recent.changes)), upto: j.held, boot: j.boot}
	}
	return j.connect(name)
}

// keep takes over the segments that earlier processes have left, until the table has
// all of them. Those that have nothing that counts go: their numbers are given again,
// so their records would follow new ones one day, or new ones be in a file that is
// removed in their stead.
func (j *Journal) keep(names []string, log logBytes, use []segmentUse) error {
	for i, name := range names {
		if !use[i].counts {
			if err := j.discard(name, use[i].stray || j.ack.acked > j.held); err != nil {
				return err
			}
			continue
		}
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		s := &segment{f: f, end: int64(len(log[i])), again: log[i]}
		j.sync.add(s)
		j.size.Add(s.end)
		j.older = append(j.older, s)
	}
	return nil
}

// discard removes a segment that has nothing that counts. If there may be something in
// it that was acknowledged, it is moved aside instead.
func (j *Journal) discard(name string, acked bool) error {
	if !acked {
		return os.Remove(name)
	}
	aside := asideName(j.path(dbName)) + "-" + filepath.Base(name)
	if j.damage != "" {
		j.damage += "; "
	}
	j.damage += fmt.Sprintf("a part of its log, which does not follow the rest, is now %s", aside)
	return os.Rename(name, aside)
}

// connect opens the database for good. unix-excl is SQLite's way to have a
// database for one process: the index of the log is in memory instead of in a file
// that is locked and unlocked for each commit, which takes twice as long. Other
// programs find the database locked; see [Count] for how to look into it.
func (j *Journal) connect(name string) (err error) {
	if j.db, err = openDB(name, "rw&vfs=unix-excl"); err != nil {
		return err
	}
	if err := j.db.run(
		"PRAGMA busy_timeout=5000",
		// What is in the log is synced before it is folded into the database, and
		// that before the log is begun anew: enough for a power loss to find a
		// state that once was. OFF would leave that out.
		"PRAGMA synchronous=NORMAL",
		"PRAGMA wal_autocheckpoint=0", // see tend
		"PRAGMA temp_store=MEMORY",
	); code(err) == sqlite3.SQLITE_BUSY {
		return fmt.Errorf("%s is in use by another program, such as sqlite3, which must end first: %w", name, err)
	} else if err != nil {
		return err
	}
	mode, err := j.db.row("PRAGMA journal_mode=WAL")
	if err != nil {
		return err
	}
	if mode[0] != "wal" {
		return fmt.Errorf("%s can't have a write-ahead log (journal mode %v); is the file system a network's?", name, mode[0])
	}
	if err := j.stmts.prepare(j.db); err != nil {
		return err
	}
	// The first read has made the log, if it was not there.
	if _, err := j.db.row("SELECT seq FROM meta"); err != nil {
		return err
	}
	if j.wal, err = os.OpenFile(name+"-wal", os.O_RDWR, 0); err != nil {
		return err
	}
	if j.format, err = j.db.number("PRAGMA user_version"); err != nil {
		return err
	}
	return j.adoptBundle()
}

// finding is what examine found.
type finding struct {
	missing bool
	damage  string // "" or why the database can't be used
	seq     uint64
	boot    string
	table   uint64 // number of the last transaction
}

// examine looks at a database without changing it. Errors are those of the
// machine, and *VersionError.
func examine(name string) (finding, error) {
	// SQLite by itself would change something: even a reader makes an index of
	// the log, for which a full disk has no room, and the last one out folds it.
	s, err := openSnapshot(name)
	if errors.Is(err, fs.ErrNotExist) {
		return finding{missing: true}, nil
	}
	if err != nil {
		return finding{}, err
	}
	defer s.close()
	if s.empty() {
		return finding{missing: true}, nil
	}
	d, err := s.db()
	if err != nil {
		return finding{}, err
	}
	defer d.close()
	f, err := d.examine(name)
	// SQLITE_ERROR is a table that is not there, or not as it should be.
	if damaged(err) || code(err) == sqlite3.SQLITE_ERROR {
		return finding{damage: err.Error()}, nil
	}
	return f, err
}

func (d *db) examine(name string) (f finding, err error) {
	id, err := d.number("PRAGMA application_id")
	if err != nil {
		return f, err
	}
	version, err := d.number("PRAGMA user_version")
	if err != nil {
		return f, err
	}
	switch {
	case id != applicationID || version < 1:
		f.damage = "it is no journal of agentfs"
		return f, nil
	case version > format:
		return f, &VersionError{File: name, Format: version, Known: format}
	}
	check, err := d.row("PRAGMA quick_check(1)")
	if err != nil {
		return f, err
	}
	if check[0] != "ok" {
		// It has a heading and lines.
		text := strings.TrimPrefix(fmt.Sprint(check[0]), "*** in database main ***")
		f.damage = strings.Join(strings.Fields(text), " ")
		return f, nil
	}
	return d.numbers()
}

// numbers returns what the table says of itself.
func (d *db) numbers() (f finding, err error) {
	row, err := d.row("SELECT max(seq, (SELECT ifnull(max(seq), 0) FROM kv)), boot, primed FROM meta")
	if err != nil {
		return f, err
	}
	seq, ok1 := row[0].(int64)
	boot, ok2 := row[1].(string)
	table, ok3 := row[2].(int64)
	if !ok1 || !ok2 || !ok3 {
		f.damage = "its numbers are garbled"
	}
	f.seq, f.boot, f.table = uint64(seq), boot, uint64(table)
	return f, nil
}

// begin makes an empty database, all of it or nothing, that counts its transactions
// from table on.
func begin(name string, table uint64) (err error) {
	tmp := name + ".new"
	if err := removeDB(tmp); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = removeDB(tmp)
		}
	}()
	d, err := openDB(tmp, "rwc")
	if err != nil {
		return err
	}
	err = d.run(
		"PRAGMA synchronous=OFF", // synced below, before it has its name
		fmt.Sprintf("PRAGMA page_size=%d", pageSize),
		"PRAGMA auto_vacuum=INCREMENTAL",
		fmt.Sprintf("PRAGMA application_id=%d", applicationID),
		fmt.Sprintf("PRAGMA user_version=%d", format),
		"CREATE TABLE kv (key BLOB PRIMARY KEY, seq INTEGER NOT NULL, value BLOB NOT NULL) WITHOUT ROWID",
		// primed is the number of transactions; its name is that of format 1.
		"CREATE TABLE meta (seq INTEGER NOT NULL, boot TEXT NOT NULL, primed INTEGER NOT NULL)",
		fmt.Sprintf("INSERT INTO meta VALUES (0, '', %d)", int64(table)),
		"PRAGMA journal_mode=WAL",
	)
	if e := d.close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	f, err := os.Open(tmp)
	if err != nil {
		return err
	}
	err = f.Sync()
	f.Close()
	if err != nil {
		return err
	}
	return os.Rename(tmp, name)
}

// suffixes are those of the files that make up a database; the database itself
// comes first.
var suffixes = []string{"", "-wal", "-shm", "-journal"}

func removeDB(name string) error {
	for _, s := range suffixes {
		if err := os.Remove(name + s); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func asideName(name string) string {
	return name + ".damaged-" + time.Now().UTC().Format("20060102T150405.000000000")
}

// moveAside gives the files of a database, and the segments of the log, names that
// say that they are damaged, under which sqlite3 still takes the former for one
// database, and returns that of the database.
func moveAside(name string, segments []string) (string, error) {
	aside := asideName(name)
	to := map[string]string{}
	for _, s := range suffixes {
		to[name+s] = aside + s
	}
	for _, s := range segments {
		to[s] = aside + "-" + filepath.Base(s)
	}
	for from, to := range to {
		if err := os.Rename(from, to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return aside, nil
}
