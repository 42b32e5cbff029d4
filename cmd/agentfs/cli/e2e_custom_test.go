package cli

import (
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends/sql/sqltest"
)

// A program serves a route of a mount, named in the configuration file by a path
// relative to it.
func TestExecRoute(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		lacks(t, "python3", err)
	}
	script, err := os.ReadFile("../../../examples/exec-python/dict_store.py")
	if err != nil {
		t.Fatal(err)
	}
	file := writeConfig(t, "routes:\n  /notes: {backend: exec, command: [./dict.py], durability: close}\n")
	dict := filepath.Join(filepath.Dir(file), "dict.py")
	if err := os.WriteFile(dict, script, 0o755); err != nil {
		t.Fatal(err)
	}
	cache := t.TempDir()
	m := startMount(t, "--cache-dir", cache, "--config", file)
	name := filepath.Join(m.point, "notes", "a", "b.txt")
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte("hello"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name, name+".old"); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(name + ".old"); err != nil || string(b) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
	mustRun(t, "unmount", m.point)
	select {
	case <-m.done:
	case <-time.After(time.Minute):
		t.Fatal("the mount does not end")
	}
	if out := mustRun(t, "check", "--cache-dir", cache, "--config", file); !strings.Contains(out, "/notes: version 1 of the protocol: with operation") {
		t.Errorf("check says\n%s", out)
	}
}

// Files in a database survive the mount; another machine sees them; and no
// password is in what people and other programs read.
func TestSQLRoute(t *testing.T) {
	for name, route := range map[string]func(t *testing.T) string{
		"SQLite": func(t *testing.T) string { return "path: " + t.TempDir() + "/files.db" },
		"PostgreSQL": func(t *testing.T) string {
			c := sqltest.Postgres(t)
			t.Setenv("DB_URL", strings.Replace(c.DSN, "agentfs@", "agentfs:hunter2@", 1))
			return "dsn: $DB_URL, schema: " + c.Schema
		},
	} {
		t.Run(name, func(t *testing.T) {
			file := writeConfig(t, "routes:\n  /db: {backend: sql, "+route(t)+"}\n")
			cache := t.TempDir()
			m := startMount(t, "--cache-dir", cache, "--config", file)
			path := filepath.Join(m.point, "db", "a", "b.txt")
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			large := strings.Repeat("0123456789", 300_000)
			if err := os.WriteFile(path, []byte(large), 0o640); err != nil {
				t.Fatal(err)
			}
			mustRun(t, "sync", m.point)
			shown := mustRun(t, "status", m.point) + mustRun(t, "status", "--json", m.point)
			for _, f := range []string{"routes", "status", "stats", "AGENTS.md"} {
				b, err := os.ReadFile(filepath.Join(m.point, ".agentfs", f))
				if err != nil {
					t.Error(err)
				}
				shown += string(b)
			}
			contains(t, shown, "a path below it has at most 1024 bytes")
			if got := mustRun(t, "ls", "--config", file, "/db/a"); !strings.Contains(got, "b.txt") {
				t.Errorf("without the mount there is %q", got)
			}
			mustRun(t, "unmount", m.point)
			<-m.done
			again := startMount(t, "--cache-dir", t.TempDir(), "--config", file)
			b, err := os.ReadFile(filepath.Join(again.point, "db", "a", "b.txt"))
			if err != nil || string(b) != large {
				t.Errorf("%d bytes, %v", len(b), err)
			}
			if st, err := os.Stat(filepath.Join(again.point, "db", "a", "b.txt")); err != nil || st.Mode().Perm() != 0o640 {
				t.Errorf("the mode is %v, %v", st.Mode(), err)
			}
			mustRun(t, "unmount", again.point)
			<-again.done
			out := mustRun(t, "check", "--cache-dir", cache, "--config", file)
			if !strings.Contains(out, "/db: "+name+" ") {
				t.Errorf("check says\n%s", out)
			}
			shown += out + m.log.String() + again.log.String() + mustRun(t, "recover", "--list", "--json", "--cache-dir", cache)
			if strings.Contains(shown, "hunter2") {
				t.Errorf("the password is in\n%s", shown)
			}
			if out, err := exec.Command("grep", "-r", "-l", "hunter2", cache).CombinedOutput(); err == nil {
				t.Errorf("the password is in %s", out)
			}
		})
	}
}

// A program that a mount in the background starts is not told that it is one: an
// agentfs that it runs would take descriptor 3 for the one that waits for it.
func TestBackgroundIsNotInherited(t *testing.T) {
	file := filepath.Join(t.TempDir(), "env")
	_, errOut, _ := run(t, "mount", "--background", "--cache-dir", t.TempDir(), "--route", "/x=exec:/bin/sh?arg=-c&arg="+url.QueryEscape("env > "+file), newPoint(t))
	if env := readFile(t, file); strings.Contains(env, backgroundEnv) {
		t.Errorf("the program has %s; the mount said: %s", env, errOut)
	}
}
