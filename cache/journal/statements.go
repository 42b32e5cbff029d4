package journal

import "errors"

// statements are those that change the table, prepared.
type statements struct {
	begin, count, number, commit, rollback *stmt
	put, remove, removeRange, removeFrom   *stmt
}

func (s *statements) all() map[**stmt]string {
	return map[**stmt]string{
		&s.begin:    "BEGIN IMMEDIATE",
		&s.count:    "UPDATE meta SET seq = ?, boot = ?",
		&s.number:   "UPDATE meta SET primed = primed + 1",
		&s.commit:   "COMMIT",
		&s.rollback: "ROLLBACK",
		// Until format 2, seq was the number of the commit.
		&s.put:         "INSERT OR REPLACE INTO kv (key, seq, value) VALUES (?, 0, ?)",
		&s.remove:      "DELETE FROM kv WHERE key = ?",
		&s.removeRange: "DELETE FROM kv WHERE key >= ? AND key < ?",
		&s.removeFrom:  "DELETE FROM kv WHERE key >= ?",
	}
}

func (s *statements) prepare(d *db) (err error) {
	for to, query := range s.all() {
		if *to, err = d.prepare(query); err != nil {
			return err
		}
	}
	return nil
}

func (s *statements) close() error {
	var errs []error
	for p := range s.all() {
		if *p != nil {
			errs = append(errs, (*p).s.Close())
		}
	}
	return errors.Join(errs...)
}

// set makes key what it has become.
func (s *statements) set(key string, c change) error {
	if c.gone {
		return s.remove.run([]byte(key))
	}
	return s.put.run([]byte(key), c.value)
}

// wipe removes every key that begins with prefix.
func (s *statements) wipe(prefix string) error {
	if end := prefixEnd([]byte(prefix)); end != nil {
		return s.removeRange.run([]byte(prefix), end)
	}
	return s.removeFrom.run([]byte(prefix))
}
