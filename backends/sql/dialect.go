package sql

import (
	"cmp"
	"context"
	stdsql "database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"golang.org/x/sys/unix"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/agentfs/agentfs/backends"
)

// dialect is what the two databases differ in.
type dialect struct {
	title    string
	identity string
	dir      string // of an SQLite file
	schema   string // of PostgreSQL

	// Suffixes of a SELECT that lock its rows until the end of the
	// transaction. SQLite has one writer at a time.
	forUpdate, forShare, forKeyShare string
	// lockAll keeps everybody else from changing nodes.
	lockAll string
	// replace is a column from a byte on, with something else before it.
	replace string
	// now is the database's clock, in seconds since 1970.
	now          string
	versionQuery string
	formats      [][]string
	numbered     bool // parameters are $1, $2 and not ?

	// again reports whether a transaction has failed for reasons that may be
	// gone when it is made again.
	again func(error) bool
	// kind returns the error of package backends that err stands for, or nil.
	kind func(error) error
}

// busyTimeout is how long SQLite waits for another process's lock.
const busyTimeout = 10 * time.Second

// openSQLite opens an SQLite file. Its writers share one connection, so that
// they wait for each other in line; readers don't wait.
func (s *Store) openSQLite(c Config) error {
	file, err := filepath.Abs(c.Path)
	if err != nil {
		return err
	}
	dir := filepath.Dir(file)
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return fmt.Errorf("there is no directory %s to hold the database; make it (mkdir -p %s) or correct the path", dir, dir)
	}
	if st, err := os.Stat(file); err == nil && !st.Mode().IsRegular() {
		return fmt.Errorf("%s is not a file; name the file that is to hold the database", file)
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		file = filepath.Join(real, filepath.Base(file))
	}
	query := url.Values{"_txlock": {"immediate"}, "_pragma": {
		fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()), "journal_mode(WAL)", "synchronous(FULL)",
	}}
	dsn := "file:" + (&url.URL{Path: file}).EscapedPath() + "?" + query.Encode()
	if s.writes, err = stdsql.Open("sqlite", dsn); err != nil {
		return err
	}
	if s.reads, err = stdsql.Open("sqlite", dsn); err != nil {
		return errors.Join(err, s.writes.Close())
	}
	s.writes.SetMaxOpenConns(1)
	n := cmp.Or(c.Connections, DefaultConnections)
	s.reads.SetMaxOpenConns(n)
	s.reads.SetMaxIdleConns(n)
	s.dialect = &dialect{
		title: "SQLite", identity: "sqlite:" + file, dir: dir,
		replace: "CAST(? || substr(%s, ?) AS BLOB)",
		now:     "unixepoch()", versionQuery: "SELECT sqlite_version()",
		formats: sqliteFormats, again: sqliteAgain, kind: sqliteKind,
	}
	return nil
}

func sqliteCode(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}

func sqliteAgain(err error) bool {
	c := sqliteCode(err)
	return c == sqlite3.SQLITE_BUSY || c == sqlite3.SQLITE_LOCKED
}

func sqliteKind(err error) error {
	switch sqliteCode(err) {
	case sqlite3.SQLITE_FULL:
		return backends.ErrNoSpace
	case sqlite3.SQLITE_READONLY:
		return backends.ErrReadOnly
	case sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN:
		return fs.ErrPermission
	}
	return nil
}

// serverPatience is how long the server lets a statement wait for a lock, and a
// transaction for its next statement: one of a machine that is gone keeps nobody
// waiting for ever.
const serverPatience = "30s"

// dialer makes connections that end if the server is not there any more, however
// long a statement may take while it is.
var dialer = net.Dialer{
	KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 6},
	Control: func(network, _ string, c syscall.RawConn) (err error) {
		if !strings.HasPrefix(network, "tcp") {
			return nil
		}
		cerr := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 45_000)
		})
		return errors.Join(cerr, err)
	},
}

var schemaName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,62}$`)

// openPostgres opens a PostgreSQL database. No error repeats the DSN.
func (s *Store) openPostgres(c Config) error {
	if !strings.HasPrefix(c.DSN, "postgres://") && !strings.HasPrefix(c.DSN, "postgresql://") {
		return errors.New("is not the URL of a PostgreSQL database; write postgres://USER@HOST:PORT/DATABASE")
	}
	schema := cmp.Or(c.Schema, DefaultSchema)
	if !schemaName.MatchString(schema) {
		return fmt.Errorf("the schema %q is no name of letters, digits and underscores", schema)
	}
	dsn := c.DSN
	if c.SSLMode != "" {
		sep := "?"
		if strings.Contains(dsn, "?") {
			sep = "&"
		}
		dsn += sep + "sslmode=" + url.QueryEscape(c.SSLMode)
	}
	conf, err := pgx.ParseConfig(dsn)
	if err != nil {
		var parse *pgconn.ParseConfigError
		if errors.As(err, &parse) {
			err = errors.Unwrap(parse)
		}
		if err == nil || strings.Contains(err.Error(), "://") {
			err = errors.New("it is malformed")
		}
		return fmt.Errorf("can't be used: %v", err)
	}
	if conf.RuntimeParams["application_name"] == "" {
		conf.RuntimeParams["application_name"] = "agentfs"
	}
	conf.RuntimeParams["search_path"] = pgx.Identifier{schema}.Sanitize()
	conf.RuntimeParams["lock_timeout"] = serverPatience
	conf.RuntimeParams["idle_in_transaction_session_timeout"] = serverPatience
	conf.ConnectTimeout = cmp.Or(conf.ConnectTimeout, 10*time.Second)
	conf.DialFunc = dialer.DialContext
	s.writes = stdlib.OpenDB(*conf)
	s.reads = s.writes
	n := cmp.Or(c.Connections, DefaultConnections)
	s.writes.SetMaxOpenConns(n)
	s.writes.SetMaxIdleConns(n)
	s.writes.SetConnMaxIdleTime(time.Minute)
	s.dialect = &dialect{
		title: "PostgreSQL", schema: schema,
		identity:  fmt.Sprintf("postgres://%s:%d/%s/%s", conf.Host, conf.Port, conf.Database, schema),
		forUpdate: " FOR UPDATE", forShare: " FOR SHARE", forKeyShare: " FOR KEY SHARE",
		replace: "?::bytea || substr(%s, ?)",
		lockAll: "LOCK TABLE nodes IN EXCLUSIVE MODE",
		now:     "extract(epoch FROM now())::bigint", versionQuery: "SHOW server_version",
		formats: postgresFormats, numbered: true, again: postgresAgain, kind: postgresKind,
	}
	return nil
}

func postgresCode(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// postgresAgain has serialization failures, deadlocks, a lock that was not to
// be had, and a name that somebody else has made meanwhile.
func postgresAgain(err error) bool {
	switch postgresCode(err) {
	case "40001", "40P01", "55P03", "23505":
		return true
	}
	return false
}

func postgresKind(err error) error {
	switch code := postgresCode(err); {
	case code == "53100":
		return backends.ErrNoSpace
	case code == "25006":
		return backends.ErrReadOnly
	case code == "42501", strings.HasPrefix(code, "28"):
		return fs.ErrPermission
	}
	return nil
}

// known returns err as one that callers may ask for. Whatever else it wraps
// stays hidden: a socket that does not exist is not a file that doesn't.
func (d *dialect) known(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if kind := d.kind(err); kind != nil {
		return fmt.Errorf("%w (%s: %v)", kind, d.title, err)
	}
	return fmt.Errorf("%s: %v", d.title, err)
}

// sql returns a statement with its parameters, written as ?, in the form that
// the database wants.
func (d *dialect) sql(query string) string {
	if !d.numbered {
		return query
	}
	var b strings.Builder
	for n := 1; ; n++ {
		before, after, ok := strings.Cut(query, "?")
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		b.WriteString("$" + strconv.Itoa(n))
		query = after
	}
}

// querier is a database or a transaction.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (stdsql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*stdsql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *stdsql.Row
}

func (d *dialect) row(ctx context.Context, q querier, query string, args ...any) *stdsql.Row {
	return q.QueryRowContext(ctx, d.sql(query), args...)
}

// exec makes a change and returns how many rows it was.
func (d *dialect) exec(ctx context.Context, q querier, query string, args ...any) (int64, error) {
	r, err := q.ExecContext(ctx, d.sql(query), args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// holes returns n parameters for an IN.
func holes(n int) string { return strings.TrimSuffix(strings.Repeat("?, ", n), ", ") }
