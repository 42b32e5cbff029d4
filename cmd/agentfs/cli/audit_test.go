package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/audit"
	"github.com/agentfs/agentfs/backends/memory"
	"github.com/agentfs/agentfs/backends/memory/memorytest"
	"github.com/agentfs/agentfs/cmd/agentfs/auditlog"
)

func TestAuditConfig(t *testing.T) {
	file := writeConfig(t, "audit: {file: log/audit, max_size: 1MiB, keep: 3, queue: 100, when_full: refuse}\n")
	c, err := readConfig(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := auditConfig{file: filepath.Join(filepath.Dir(file), "log/audit"), maxSize: 1 << 20, keep: 3, queue: 100, whenFull: auditlog.Refuse, source: file + ":1"}
	if c.audit != want {
		t.Errorf("got %+v, want %+v", c.audit, want)
	}
	f := routeFlags{config: file, audit: auditFlags{file: "/other", whenFull: "drop"}}
	if c, err = f.read(); err != nil || c.audit.file != "/other" || c.audit.whenFull != auditlog.Drop || c.audit.keep != 3 {
		t.Errorf("flags over it: %+v, %v", c.audit, err)
	}
	for _, x := range []struct{ text, want string }{
		{"audit: {}\n", "F:1: audit has no file, as in {file: /var/log/agentfs/audit.jsonl}"},
		{"audit:\n  file: /a\n  size: 3\n", `F:3: unknown key "size"; audit has file, max_size, keep, queue and when_full`},
		{"audit:\n  file: /a\n  when_full: block\n", `F:3: when_full: "block" is neither drop nor refuse`},
		{"audit:\n  file: /a\n  queue: 3\n", `F:3: queue: "3" is not a whole number from 16 to 1048576`},
		{"audit:\n  file: /a\n  keep: 0\n", `F:3: keep: "0" is not a whole number from 1 to 1000`},
		{"audit:\n  file: /a\n  max_size: 1\n", `F:3: max_size: "1" is less than 4096 bytes`},
	} {
		file := writeConfig(t, x.text)
		_, err := readConfig(file, nil)
		if err == nil || strings.ReplaceAll(err.Error(), file, "F") != x.want {
			t.Errorf("%q: %v, want %s", x.text, err, x.want)
		}
	}
	f = routeFlags{audit: auditFlags{whenFull: "refuse"}}
	if _, err := f.read(); err == nil || !strings.Contains(err.Error(), "--audit-file") {
		t.Errorf("--audit-when-full alone: %v", err)
	}
}

// Where those who are recorded could change the records is no place for them.
func TestAuditPlace(t *testing.T) {
	served := t.TempDir()
	point := newPoint(t)
	for _, args := range [][]string{
		{"--audit-file", filepath.Join(served, "audit"), "--route", "/src=local:" + served},
		{"--audit-file", filepath.Join(point, "audit")},
		{"--audit-file", "/absent/dir/audit"},
	} {
		_, errOut, status := run(t, append(append([]string{"mount"}, args...), point)...)
		if status == 0 || !strings.Contains(errOut, "audit") {
			t.Errorf("%q: exit status %d, %s", args, status, errOut)
		}
	}
}

// The commands that work on stores are on record too, without a mount; agentfs
// audit shows and filters what is.
func TestAuditCommand(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(t.TempDir(), "audit")
	on := []string{"--route", "/=memory:", "--route", "/src=local:" + dir, "--audit-file", log}
	mustRun(t, append([]string{"write", "/src/a.txt", "--content", "secret"}, on...)...)
	mustRun(t, append([]string{"read", "/src/a.txt"}, on...)...)
	if _, _, status := run(t, append([]string{"read", "/src/absent"}, on...)...); status == 0 {
		t.Error("reading what isn't there succeeded")
	}
	mustRun(t, append([]string{"rm", "/src/a.txt"}, on...)...)

	show := func(args ...string) (ops []string) {
		t.Helper()
		out := mustRun(t, append([]string{"audit", log, "--json"}, args...)...)
		if strings.Contains(out, "secret") {
			t.Errorf("a content on record: %s", out)
		}
		for line := range strings.Lines(out) {
			var l auditlog.Line
			if err := json.Unmarshal([]byte(line), &l); err != nil {
				t.Fatal(err)
			}
			if l.PID == 0 || l.Exe == "" || l.UID != uint32(os.Getuid()) || l.Route != "/src" {
				t.Errorf("%s does not say who or where", line)
			}
			ops = append(ops, l.Op+" "+l.Path+" "+l.Result)
		}
		return ops
	}
	want := "put /src/a.txt ok, open /src/a.txt ok, close /src/a.txt ok, open /src/absent ENOENT, remove /src/a.txt ok"
	if got := strings.Join(show(), ", "); got != want {
		t.Errorf("on record: %s\nwant %s", got, want)
	}
	for _, c := range []struct {
		args []string
		n    int
	}{
		{[]string{"--path", "/src/*.txt"}, 4},
		{[]string{"--op", "open,remove"}, 3},
		{[]string{"--result", "error"}, 1},
		{[]string{"--since", "1h"}, 5},
		{[]string{"--until", "1h"}, 0},
		{[]string{"--since", "2020-01-01", "--until", "2020-01-02 03:04"}, 0},
		{[]string{"--user", fmt.Sprint(os.Getuid())}, 5},
		{[]string{"--user", whoAmI(t)}, 5},
		{[]string{"--process", "nobody"}, 0},
	} {
		if got := show(c.args...); len(got) != c.n {
			t.Errorf("%q: %q, want %d", c.args, got, c.n)
		}
	}
	if out := mustRun(t, "audit", log); !strings.Contains(out, "ENOENT    open") {
		t.Errorf("for people: %s", out)
	}
	for _, args := range [][]string{{"--since", "yesterday"}, {"--path", "[a"}} {
		if _, errOut, status := run(t, append([]string{"audit", log}, args...)...); status != exitUsage || !strings.Contains(errOut, args[1]) {
			t.Errorf("%q: exit status %d, %s", args, status, errOut)
		}
	}
	if _, errOut, status := run(t, "read", "/x", "--mount", dir, "--audit-file", log); status != exitUsage || !strings.Contains(errOut, "the mount itself records") {
		t.Errorf("with a mount: %d, %s", status, errOut)
	}
}

// A failing audit with refuse fails commands before they have done anything.
func TestAuditRefusesCommands(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(t.TempDir(), "audit")
	mustRun(t, "write", "/a", "--content", "x", "--route", "/=local:"+dir, "--audit-file", log, "--audit-when-full", "refuse")
	if _, errOut, status := run(t, "write", "/b", "--content", "x", "--route", "/=local:"+dir, "--audit-file", dir+"/in", "--audit-when-full", "refuse"); status == 0 {
		t.Errorf("exit status %d, %s", status, errOut)
	}
	if _, err := os.Stat(filepath.Join(dir, "b")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("written nevertheless (%v)", err)
	}
}

// No option that may be a secret, and nothing from a URL that could be one, is
// on any page that the mount shows or in a record.
func FuzzNoSecret(f *testing.F) {
	for _, key := range []string{"secret_access_key", "Token", "password", "region", "endpoint", "account_key"} {
		f.Add(key, "hunter2hunter2")
	}
	f.Add("endpoint", "https://h/?X-Amz-Signature=hunter2hunter2")
	f.Fuzz(func(t *testing.T, key, value string) {
		// A value that is a word of the pages themselves proves nothing.
		secret := "hunter2hunter2"
		value = strings.ReplaceAll(value, secret, "") + secret
		if key == "" || key == "path" || key == "host" || key == "backend" || key == "size" {
			return // what the route is called
		}
		r := routeConfig{path: "/x", backend: "other", source: "F:1", values: map[string]backends.Option{key: {Value: value, Source: "F:1"}}}
		c := &config{routes: []routeConfig{r}}
		s := memorytest.New(t, memory.Config{NoTmpfs: true})
		m := &mounted{mountOptions: mountOptions{config: c, point: "/mnt"}, started: time.Now()}
		m.routes = []mountedRoute{{openRoute: openRoute{routeConfig: r, store: s}, inner: s.FileSystem(), files: s.FileSystem()}}

		ctx := backends.WithCaller(context.Background(), backends.Caller{PID: uint32(os.Getpid()), UID: uint32(os.Getuid())})
		failure := fmt.Errorf("get https://user:%s@host/p?sig=%s: forbidden", secret, url.QueryEscape(value))
		caller, _ := backends.CallerFrom(ctx)
		m.failed.Add(&audit.Op{Time: time.Now(), Kind: audit.Open, Path: "x/f", Caller: caller, Err: failure})

		var pages strings.Builder
		page, err := m.agentsPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		pages.Write(page)
		if page, err = m.lastErrorPage(ctx); err != nil || !strings.Contains(string(page), "open /x/f") {
			t.Fatalf("%v: %s", err, page)
		}
		pages.Write(page)
		st := m.status(ctx)
		for _, write := range []func(io.Writer, mountStatus){writeRoutes, writePending, writeErrors, writeStats} {
			write(&pages, st)
		}
		b, err := json.Marshal(st)
		if err != nil {
			t.Fatal(err)
		}
		pages.Write(b)
		if strings.Contains(pages.String(), secret) {
			t.Errorf("%s=%q is shown:\n%s", key, value, pages.String())
		}
	})
}

// whoAmI returns the name of the user who runs the test.
func whoAmI(t *testing.T) string {
	t.Helper()
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return u.Username
}
