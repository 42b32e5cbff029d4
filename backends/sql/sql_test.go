package sql_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/backendtest"
	"github.com/agentfs/agentfs/backends/faulty"
	"github.com/agentfs/agentfs/backends/prefix"
	"github.com/agentfs/agentfs/backends/readonly"
	"github.com/agentfs/agentfs/backends/sql"
	"github.com/agentfs/agentfs/backends/sql/sqltest"
	"github.com/agentfs/agentfs/cache"
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

// directories returns a way to an empty directory of one database, as a store.
func directories(t *testing.T, config func(testing.TB) sql.Config) func(t *testing.T) backends.Store {
	s, n := open(t, config(t)), 0
	return func(t *testing.T) backends.Store {
		t.Helper()
		n++
		dir := fmt.Sprintf("tests/%d", n)
		if err := s.Mkdir(t.Context(), dir, backends.AttrChange{}); err != nil {
			t.Fatal(err)
		}
		d, err := prefix.Store(faulty.Store(s), dir)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
}

// TestWrappers runs it through all wrappers of stores at once.
func TestWrappers(t *testing.T) {
	each(t, func(t *testing.T, config func(t testing.TB) sql.Config) {
		next := directories(t, config)
		backendtest.ReadOnlyStore(t, func(t *testing.T) (r, w backends.Store) {
			w = next(t)
			return readonly.Store(w), w
		})
	})
}

// TestFileSystem runs the contract of the file depth, which the cache gives.
func TestFileSystem(t *testing.T) {
	each(t, func(t *testing.T, config func(t testing.TB) sql.Config) {
		next := directories(t, config)
		backendtest.FileSystem(t, func(t *testing.T) backends.FileSystem {
			f, err := cache.New(t.Context(), next(t), cache.Config{Dir: t.TempDir(), TTL: 5 * time.Second, Durability: "close"})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				defer cancel()
				if err := f.Close(ctx); err != nil {
					t.Error(err)
				}
			})
			return f
		},
			backendtest.Exception{Test: "Rename/Exchange", Reason: "the cache has no moment in which two names change"},
			backendtest.Exception{Test: "Link", Reason: "a name of a store is a file of its own"},
			backendtest.Exception{Test: "Mknod", Reason: "a store has regular files"},
		)
	})
}
