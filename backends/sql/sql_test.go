package sql_test

import (
	"os"
	"testing"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/backendtest"
	"github.com/agentfs/agentfs/backends/faulty"
	"github.com/agentfs/agentfs/backends/prefix/prefixtest"
	"github.com/agentfs/agentfs/backends/readonly"
	"github.com/agentfs/agentfs/backends/sql"
	"github.com/agentfs/agentfs/backends/sql/sqltest"
	"github.com/agentfs/agentfs/cache/cachetest"
)

func TestMain(m *testing.M) { os.Exit(sqltest.Main(m)) }

// open returns the store of a database.
func open(t testing.TB, c sql.Config) *sql.Store {
	t.Helper()
	s, err := sql.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// databases are the two, each with a way to an empty one.
var databases = map[string]func(t testing.TB) sql.Config{
	"SQLite":     func(t testing.TB) sql.Config { return sql.Config{Path: t.TempDir() + "/agentfs.db"} },
	"PostgreSQL": sqltest.Postgres,
}

// each runs a test over both.
func each(t *testing.T, f func(t *testing.T, config func(t testing.TB) sql.Config)) {
	for name, config := range databases {
		t.Run(name, func(t *testing.T) { f(t, config) })
	}
}

// TestStore runs the contract.
func TestStore(t *testing.T) {
	each(t, func(t *testing.T, config func(t testing.TB) sql.Config) {
		backendtest.Store(t, func(t *testing.T) backends.Store { return open(t, config(t)) })
	})
}

// TestWrappers runs it through all wrappers of stores at once.
func TestWrappers(t *testing.T) {
	each(t, func(t *testing.T, config func(t testing.TB) sql.Config) {
		next := prefixtest.Directories(faulty.Store(open(t, config(t))))
		backendtest.ReadOnlyStore(t, func(t *testing.T) (r, w backends.Store) {
			w = next(t)
			return readonly.Store(w), w
		})
	})
}

// TestFileSystem runs the contract of the file depth, which the cache gives.
func TestFileSystem(t *testing.T) {
	each(t, func(t *testing.T, config func(t testing.TB) sql.Config) {
		cachetest.FileSystem(t, prefixtest.Directories(open(t, config(t))))
	})
}
