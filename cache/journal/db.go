package journal

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"
	"syscall"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// db is one connection to an SQLite database. It is the driver's own and not
// one of database/sql: there is nothing to pool, and a pool's locks and checks
// cost as much as a small statement. Not safe for concurrent use.
type db struct {
	conn driver.Conn
}

// stmt is a prepared statement of a db.
type stmt struct {
	s    driver.Stmt
	exec driver.StmtExecContext
	args []driver.NamedValue
}

// openDB opens a database file. mode is "ro", "rw" or "rwc", further parameters
// of SQLite's URIs may follow it, as "ro&immutable=1".
func openDB(name, mode string) (*db, error) {
	u := url.URL{Path: name}
	c, err := sqlite.NewConnector("file:" + u.EscapedPath() + "?mode=" + mode)
	if err != nil {
		return nil, err
	}
	conn, err := c.Connect(context.Background())
	if err != nil {
		return nil, known(err)
	}
	return &db{conn}, nil
}

func (d *db) close() error { return known(d.conn.Close()) }

// run executes statements without results, one after the other.
func (d *db) run(statements ...string) error {
	for _, s := range statements {
		if _, err := d.conn.(driver.ExecerContext).ExecContext(context.Background(), s, nil); err != nil {
			return fmt.Errorf("%s: %w", s, known(err))
		}
	}
	return nil
}

// row returns the first row of a query, io.EOF if there is none.
func (d *db) row(query string, args ...driver.Value) ([]driver.Value, error) {
	var row []driver.Value
	err := d.each(query, args, func(r []driver.Value) error {
		row = append(row, r...)
		return errStop
	})
	if err == nil && row == nil {
		err = io.EOF
	}
	return row, err
}

// number is row for a query whose result is one integer.
func (d *db) number(query string, args ...driver.Value) (int64, error) {
	row, err := d.row(query, args...)
	if err != nil {
		return 0, err
	}
	n, ok := row[0].(int64)
	if !ok {
		return 0, fmt.Errorf("%s: %T instead of a number", query, row[0])
	}
	return n, nil
}

var errStop = errors.New("enough")

// each calls f with every row of a query, which is valid only during the call,
// until f returns an error; errStop ends it without one.
func (d *db) each(query string, args []driver.Value, f func(row []driver.Value) error) (err error) {
	rows, err := d.conn.(driver.QueryerContext).QueryContext(context.Background(), query, named(nil, args...))
	if err != nil {
		return fmt.Errorf("%s: %w", query, known(err))
	}
	defer func() {
		if e := rows.Close(); err == nil && e != nil {
			err = fmt.Errorf("%s: %w", query, known(e))
		}
	}()
	row := make([]driver.Value, len(rows.Columns()))
	for {
		switch err := rows.Next(row); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("%s: %w", query, known(err))
		}
		switch err := f(row); {
		case errors.Is(err, errStop):
			return nil
		case err != nil:
			return err
		}
	}
}

func (d *db) prepare(query string) (*stmt, error) {
	s, err := d.conn.(driver.ConnPrepareContext).PrepareContext(context.Background(), query)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", query, known(err))
	}
	return &stmt{s: s, exec: s.(driver.StmtExecContext)}, nil
}

// run executes s. The arguments are not kept.
func (s *stmt) run(args ...driver.Value) error {
	s.args = named(s.args[:0], args...)
	_, err := s.exec.ExecContext(context.Background(), s.args)
	clear(s.args)
	return known(err)
}

func named(to []driver.NamedValue, args ...driver.Value) []driver.NamedValue {
	for i, a := range args {
		to = append(to, driver.NamedValue{Ordinal: i + 1, Value: a})
	}
	return to
}

// code returns SQLite's primary result code in err, 0 if there is none.
func code(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}

// damaged reports whether err says that the file's contents are at fault.
func damaged(err error) bool {
	c := code(err)
	return c == sqlite3.SQLITE_NOTADB || c == sqlite3.SQLITE_CORRUPT
}

// known adds to an error of SQLite the errno that callers ask for. SQLite tells
// a full disk from other failures itself; only for the index of the log, which
// it makes larger by other means, it doesn't.
func known(err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	switch {
	case e.Code()&0xff == sqlite3.SQLITE_FULL,
		e.Code() == sqlite3.SQLITE_IOERR_SHMSIZE:
		return &errnoError{err, syscall.ENOSPC}
	case e.Code()&0xff == sqlite3.SQLITE_READONLY:
		return &errnoError{err, syscall.EROFS}
	}
	return err
}

// errnoError is an error of SQLite that is also an errno.
type errnoError struct {
	err   error
	errno syscall.Errno
}

func (e *errnoError) Error() string   { return e.errno.Error() + ": " + e.err.Error() }
func (e *errnoError) Unwrap() []error { return []error{e.err, e.errno} }
