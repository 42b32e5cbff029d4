package sql

import (
	"cmp"
	"context"
	stdsql "database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/agentfs/agentfs/backends"
)

// MaxName is the length in bytes of the longest name.
const MaxName = 1024

// Config says where the database is: one of Path and DSN.
type Config struct {
	// Path is the file of an SQLite database, which is made if it is not there.
	Path string
	// DSN is the URL of a PostgreSQL database. What it does not say, the
	// environment does, as for libpq: PGPASSWORD, PGSSLMODE, ~/.pgpass.
	DSN string
	// Schema is the PostgreSQL schema that has the tables; "" is DefaultSchema.
	// It is made if it is not there.
	Schema string
	// SSLMode overrides that of the DSN.
	SSLMode string
	// Connections is how many connections there may be; 0 is
	// DefaultConnections.
	Connections int
	// Log takes what happens in the background; nil is silence.
	Log *slog.Logger
}

const (
	DefaultSchema      = "agentfs"
	DefaultConnections = 16
)

// Store is a database that holds files.
type Store struct {
	*dialect
	reads, writes *stdsql.DB
	log           *slog.Logger

	prepared  atomic.Bool   // the tables are there
	preparing chan struct{} // has a place for who makes them

	// What is done after a change, until closing.
	background sync.WaitGroup
	mu         sync.Mutex // guards closed, and background against Close
	closed     bool
	closing    context.Context
	stop       context.CancelFunc
}

var (
	_ backends.Store           = (*Store)(nil)
	_ backends.Closer          = (*Store)(nil)
	_ backends.Identifier      = (*Store)(nil)
	_ backends.NameChecker     = (*Store)(nil)
	_ backends.Walker          = (*Store)(nil)
	_ backends.Copier          = (*Store)(nil)
	_ backends.Renamer         = (*Store)(nil)
	_ backends.ManyRemover     = (*Store)(nil)
	_ backends.UsageReporter   = (*Store)(nil)
	_ backends.FeatureReporter = (*Store)(nil)
	_ backends.Opener          = Open
)

// Open takes the options of a route: "path" of an SQLite file, or "dsn",
// "schema", "sslmode" and "connections" of a PostgreSQL database. It connects to
// nothing.
func Open(_ context.Context, o *backends.Options) (backends.Store, error) {
	c := Config{Log: o.Log, Path: o.String("path", ""), DSN: o.String("dsn", "")}
	at := "dsn"
	switch {
	case c.Path != "" && c.DSN != "":
		o.Fail("path", "is of SQLite and dsn of PostgreSQL; keep one of them")
	case c.Path != "":
		at = "path"
		for _, key := range []string{"schema", "sslmode", "connections"} {
			o.Refuse(key, "is for PostgreSQL (dsn) and not for an SQLite file (path)")
		}
	default:
		c.Schema = o.String("schema", DefaultSchema)
		c.SSLMode = o.String("sslmode", "")
		c.Connections = int(o.Int("connections", DefaultConnections, 1, 1000))
	}
	s, err := New(c)
	if err != nil {
		o.Fail(at, "%v", err)
	}
	if err := o.Close(); err != nil {
		if s != nil {
			err = errors.Join(err, s.Close())
		}
		return nil, err
	}
	return s, nil
}

// New returns the store that a database holds. It connects to nothing yet.
func New(c Config) (*Store, error) {
	s := &Store{log: cmp.Or(c.Log, slog.New(slog.DiscardHandler)), preparing: make(chan struct{}, 1)}
	var err error
	switch {
	case c.Path != "":
		err = s.openSQLite(c)
	case c.DSN != "":
		err = s.openPostgres(c)
	default:
		err = errors.New("is required: postgres://HOST/DATABASE, or as path the file of an SQLite database")
	}
	if err != nil {
		return nil, err
	}
	s.closing, s.stop = context.WithCancel(context.Background())
	return s, nil
}

// Identity returns the database without user and password.
func (s *Store) Identity() string { return s.identity }

// Close ends what runs in the background and closes the connections.
func (s *Store) Close() error {
	s.mu.Lock()
	closed := s.closed
	s.closed = true
	s.mu.Unlock()
	if closed {
		return nil
	}
	s.stop()
	s.background.Wait()
	err := s.writes.Close()
	if s.reads != s.writes {
		err = errors.Join(err, s.reads.Close())
	}
	return err
}

// later runs f in the background, unless the store is closed.
func (s *Store) later(f func(ctx context.Context)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.background.Go(func() { f(s.closing) })
	}
}

// CheckName implements [backends.NameChecker].
func (s *Store) CheckName(name string) error { return checkName("create", name) }

func checkName(op, name string) error {
	if err := backends.CheckName(op, name); err != nil {
		return err
	}
	tooLong := len(name) > MaxName
	for seg := range strings.SplitSeq(name, "/") {
		tooLong = tooLong || len(seg) > backends.MaxNameLen
	}
	if tooLong {
		return &fs.PathError{Op: op, Path: name, Err: backends.ErrNameTooLong}
	}
	return nil
}

// pathOf returns the path under which nodes has name; the root's is empty.
func pathOf(name string) string {
	if name == "." {
		return ""
	}
	return name
}

// parentOf returns the path of the directory that path is in.
func parentOf(p string) string { return pathOf(path.Dir(p)) }

// Features implements [backends.FeatureReporter].
func (s *Store) Features(ctx context.Context) ([]backends.Feature, error) {
	if err := s.prepare(ctx); err != nil {
		return nil, err
	}
	var version string
	if err := s.row(ctx, s.reads, s.versionQuery).Scan(&version); err != nil {
		return nil, s.known(ctx, err)
	}
	return []backends.Feature{
		{Name: s.title + " " + version, Honored: true, Note: fmt.Sprintf("format %d", len(s.formats))},
		{Name: "conditional changes, copies, renames", Honored: true, Note: "each is one transaction"},
	}, nil
}
