package sql_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/sql"
	"github.com/agentfs/agentfs/backends/sql/sqltest"
)

// A listing reads its own rows and no others, in the order of an index, however
// much lies deeper or beside it.
func TestListingsUseIndexes(t *testing.T) {
	each(t, func(t *testing.T, config func(testing.TB) sql.Config) {
		s := open(t, config(t))
		put(t, s, "d/f", "x", backends.PutOptions{})
		fill := "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) INSERT INTO nodes " +
			"SELECT p, CAST('d/sub' AS T), p, 1, 1, 'v', '', NULL FROM (SELECT CAST('d/sub/' || i AS T) AS p FROM n) x"
		explain, kind := "EXPLAIN ", "bytea"
		if strings.Contains(t.Name(), "SQLite") {
			explain, kind = "EXPLAIN QUERY PLAN ", "BLOB"
		}
		for _, stmt := range []string{strings.ReplaceAll(fill, " T)", " "+kind+")"), "ANALYZE"} {
			if _, err := s.DB().ExecContext(t.Context(), stmt); err != nil {
				t.Fatal(err)
			}
		}
		for query, args := range map[string][]any{
			sql.ListQuery: {[]byte("d"), []byte("d/"), 1000},
			sql.WalkQuery: {[]byte("d0"), []byte("d/"), 1000},
		} {
			rows, err := s.DB().QueryContext(t.Context(), explain+s.SQL(query), args...)
			if err != nil {
				t.Fatal(err)
			}
			var plan strings.Builder
			columns, _ := rows.Columns()
			for rows.Next() {
				cells := make([]any, len(columns))
				for i := range cells {
					cells[i] = new(any)
				}
				if err := rows.Scan(cells...); err != nil {
					t.Fatal(err)
				}
				fmt.Fprintln(&plan, *cells[len(cells)-1].(*any))
			}
			rows.Close()
			text := strings.ToLower(plan.String())
			want := "nodes_children"
			if query == sql.WalkQuery {
				want = "key"
			}
			if !strings.Contains(text, "index") || !strings.Contains(text, want) || strings.Contains(text, "sort") || strings.Contains(text, "temp") || strings.Contains(text, "seq scan") {
				t.Errorf("%s\nis done by\n%s", query, plan.String())
			}
		}
	})
}

// A large content takes no memory of its size, and a range of it reads little.
func TestLarge(t *testing.T) {
	each(t, func(t *testing.T, config func(testing.TB) sql.Config) {
		s := open(t, config(t))
		put(t, s, "warm", "up", backends.PutOptions{})
		runtime.GC()
		var before, now runtime.MemStats
		runtime.ReadMemStats(&before)
		const size = 64<<20 + 12345
		body := &pattern{watch: func() {
			runtime.ReadMemStats(&now)
			if grown := int64(now.HeapAlloc) - int64(before.HeapAlloc); grown > size/2 {
				t.Errorf("%d MiB of memory for a content of %d MiB", grown>>20, size>>20)
			}
		}}
		if e, err := s.Put(t.Context(), "f", io.NewSectionReader(body, 0, size), backends.PutOptions{}); err != nil || e.Size != size {
			t.Fatal(e, err)
		}
		for _, r := range []backends.Range{{Off: 0, Len: 10}, {Off: sql.ChunkSize - 5, Len: 10}, {Off: 40<<20 + 7, Len: 600_000}, {Off: size - 3}} {
			rc, _, err := s.Open(t.Context(), "f", r, backends.If{})
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(rc)
			rc.Close()
			want := make([]byte, min(r.Len, size-r.Off))
			if r.Len == 0 {
				want = make([]byte, size-r.Off)
			}
			body.ReadAt(want, r.Off)
			if err != nil || string(got) != string(want) {
				t.Errorf("%+v: %d bytes, %v; or others than were put", r, len(got), err)
			}
		}
		put(t, s, "f", "small again", backends.PutOptions{})
		s.Wait()
		if err := s.CheckIntegrity(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// pattern has another byte at every offset near another.
type pattern struct{ watch func() }

func (p *pattern) ReadAt(b []byte, off int64) (int, error) {
	p.watch()
	for i := range b {
		o := off + int64(i)
		b[i] = byte(o) ^ byte(o>>8) ^ byte(o>>16)
	}
	return len(b), nil
}

// What a process that was killed has left goes at a start, and what somebody
// may still be writing stays.
func TestLeftBehind(t *testing.T) {
	each(t, func(t *testing.T, config func(testing.TB) sql.Config) {
		c := config(t)
		first := open(t, c)
		first.Wait()
		old, err := first.Stage(t.Context(), 300_000, 4000)
		if err != nil {
			t.Fatal(err)
		}
		fresh, err := first.Stage(t.Context(), 300_000, 100)
		if err != nil {
			t.Fatal(err)
		}
		second := open(t, c)
		if _, err := second.Stat(t.Context(), "."); err != nil {
			t.Fatal(err)
		}
		// The sweep starts the removal while it is waited for.
		second.Wait()
		count := func(id int64) (n int) {
			if err := second.DB().QueryRowContext(t.Context(), second.SQL("SELECT count(*) FROM chunks WHERE content = ?"), id).Scan(&n); err != nil {
				t.Fatal(err)
			}
			return n
		}
		if n := count(old); n != 0 {
			t.Errorf("%d chunks of what was left behind are there", n)
		}
		if n := count(fresh); n != 2 {
			t.Errorf("%d chunks of what is being written are there, want 2", n)
		}
	})
}

// A newer format, and a database of somebody else, are refused and left alone.
func TestForeignDatabases(t *testing.T) {
	each(t, func(t *testing.T, config func(testing.TB) sql.Config) {
		c := config(t)
		first := open(t, c)
		put(t, first, "f", "x", backends.PutOptions{})
		if _, err := first.DB().ExecContext(t.Context(), "UPDATE agentfs SET format = 99"); err != nil {
			t.Fatal(err)
		}
		_, err := open(t, c).Stat(t.Context(), "f")
		if err == nil || !strings.Contains(err.Error(), "format 99 and this agentfs knows 1; use a newer one") {
			t.Errorf("a newer format: %v", err)
		}
		if _, err := first.DB().ExecContext(t.Context(), "DROP TABLE agentfs"); err != nil {
			t.Fatal(err)
		}
		_, err = open(t, c).Stat(t.Context(), "f")
		if err == nil || !strings.Contains(err.Error(), "but not those of agentfs") || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("tables of somebody else: %v", err)
		}
	})
	file := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(file, []byte(strings.Repeat("no database\n", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, sql.Config{Path: file}).Stat(t.Context(), "f"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a text file as the database: %v", err)
	}
}

// A server that is not there, or goes away, is an error of its own, not a file
// that does not exist; and a store goes on when it is back.
func TestServerGone(t *testing.T) {
	for _, dsn := range []string{"postgres://ada:hunter2@/d?host=/no/such/directory", "postgres://ada:hunter2@127.0.0.1:1/d"} {
		s := open(t, sql.Config{DSN: dsn})
		_, err := s.Stat(t.Context(), "f")
		if err == nil || errors.Is(err, fs.ErrNotExist) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("Stat without a server: %v", err)
		}
		if _, err := s.Put(t.Context(), "f", section("x"), backends.PutOptions{}); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Put without a server: %v", err)
		}
		if strings.Contains(s.Identity(), "hunter2") || strings.Contains(s.Identity(), "ada") {
			t.Errorf("the identity is %s", s.Identity())
		}
	}
	s := open(t, sqltest.Postgres(t))
	put(t, s, "f", "x", backends.PutOptions{})
	if _, err := s.DB().ExecContext(t.Context(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; {
		_, err := s.Put(t.Context(), "f", section("y"), backends.PutOptions{})
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func TestOptions(t *testing.T) {
	dir := t.TempDir()
	type values map[string]backends.Option
	for _, c := range []struct {
		values values
		want   string
	}{
		{nil, "test: dsn: is required: postgres://HOST/DATABASE, or as path the file of an SQLite database"},
		{values{"path": {Value: dir + "/none/a.db"}}, "there is no directory " + dir + "/none"},
		{values{"path": {Value: dir}}, "path: " + dir + " is not a file"},
		{values{"path": {Value: dir + "/a.db"}, "dsn": {Value: "postgres://h/d"}}, "path: is of SQLite and dsn of PostgreSQL"},
		{values{"path": {Value: dir + "/a.db"}, "schema": {Value: "s"}}, "schema: is for PostgreSQL (dsn)"},
		{values{"path": {Value: dir + "/a.db"}, "size": {Value: "1"}}, "size: unknown option; this route knows dsn, path"},
		{values{"dsn": {Value: "mysql://h/d"}}, "dsn: is not the URL of a PostgreSQL database"},
		{values{"dsn": {Value: "host=h password=hunter2"}}, "dsn: is not the URL of a PostgreSQL database"},
		{values{"dsn": {Value: "postgres://a:hunter2@h:port/d"}}, "dsn: can't be used"},
		{values{"dsn": {Value: "postgres://h/d"}, "sslmode": {Value: "perhaps"}}, "dsn: can't be used: sslmode is invalid"},
		{values{"dsn": {Value: "postgres://h/d"}, "schema": {Value: `a"b`}}, "dsn: the schema \"a\\\"b\" is no name"},
		{values{"dsn": {Value: "postgres://h/d"}, "connections": {Value: "0"}}, "connections: \"0\" is not a whole number from 1 to 1000"},
	} {
		_, err := sql.Open(t.Context(), backends.NewOptions("test", nil, c.values))
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v: %v, want %q", c.values, err, c.want)
		}
	}
	for id, v := range map[string]values{
		"sqlite:" + dir + "/a.db":     {"path": {Value: dir + "/a.db"}},
		"postgres://h:5433/d/agentfs": {"dsn": {Value: "postgres://u:hunter2@h:5433/d"}},
		"postgres://h:5432/d/s":       {"dsn": {Value: "postgresql://h/d?sslmode=disable"}, "schema": {Value: "s"}},
	} {
		s, err := sql.Open(t.Context(), backends.NewOptions("test", nil, v))
		if err != nil {
			t.Error(err)
			continue
		}
		if got := backends.IdentityOf(s, ""); got != id {
			t.Errorf("the identity is %s, want %s", got, id)
		}
		if err := backends.CloseStore(s); err != nil {
			t.Error(err)
		}
	}
}
