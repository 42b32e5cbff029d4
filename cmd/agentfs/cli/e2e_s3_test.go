package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/cmd/agentfs/protocol"
)

// Two mounts of one store from one cache directory would be two truths: the
// second is refused and names the first.
func TestSameStoreTwice(t *testing.T) {
	s, dir := newS3Server(t, "b"), t.TempDir()
	m := startMount(t, "--cache-dir", dir, "--route", s.route("/d", "b", ""))
	_, errOut, status := run(t, "mount", "--cache-dir", dir, "--route", s.route("/other", "b", ""), newPoint(t))
	if status != exitFailed || strings.Count(errOut, "\n") != 1 {
		t.Errorf("exit status %d: %s", status, errOut)
	}
	contains(t, errOut, m.point, fmt.Sprint(m.Process.Pid))
	contains(t, mustRun(t, "status", "--cache-dir", dir), m.point, fmt.Sprint(m.Process.Pid), "in use")
	m.stop(t)
	contains(t, mustRun(t, "status", "--cache-dir", dir), "not in use")
	startMount(t, "--cache-dir", dir, "--route", s.route("/other", "b", "")).stop(t)
}

// A store that can't be used is an error of the mount: one line with the
// route, what is wrong and what to do.
func TestStoreErrors(t *testing.T) {
	needFuse(t)
	s, denied := newS3Server(t, "b"), httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>`)
	}))
	defer denied.Close()
	invalid := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `<Error><Code>InvalidBucketName</Code><Message>The specified bucket is not valid.</Message></Error>`)
	}))
	defer invalid.Close()
	down := httptest.NewServer(nil)
	down.Close()
	for name, c := range map[string]struct {
		url  string
		want []string
	}{
		"no such bucket": {"s3://none?anonymous=true&endpoint=" + s.URL, []string{"none", "bucket"}},
		"denied":         {"s3://b?anonymous=true&endpoint=" + denied.URL, []string{"bucket \"b\" denied", "policy"}},
		"down": {"s3://b?anonymous=true&max_attempts=2&endpoint=" + down.URL, []string{
			"--route /d: no answer from " + down.URL + ": dial tcp", "connection refused; is the server up, and are the endpoint"}},
		"bucket name":    {"s3://b?anonymous=true&endpoint=" + invalid.URL, []string{"--route /d: \"b\" is no valid bucket name", "correct the bucket's name"}},
		"unknown option": {"s3://b?secret_access_key=hunter2", []string{"secret_access_key"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, errOut, status := run(t, "mount", "--cache-dir", t.TempDir(), "--route", "/d="+c.url, newPoint(t))
			if status == 0 || strings.Count(errOut, "\n") != 1 || strings.Contains(errOut, "hunter2") {
				t.Errorf("exit status %d, and not one line: %s", status, errOut)
			}
			contains(t, errOut, append(c.want, "--route /d")...)
		})
	}
}

// openDirty leaves a file open on the mount that is not stored yet.
func openDirty(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("precious"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// The end of a mount stores what is open and written.
func TestEndStoresOpenFiles(t *testing.T) {
	s := newS3Server(t, "b")
	m := startMount(t, "--cache-dir", t.TempDir(), "--route", s.route("/d", "b", ""))
	openDirty(t, filepath.Join(m.point, "d/open.txt"))
	var st mountStatus
	// Not with agentfs status: a new process closes its copy of the open file,
	// and every close stores it.
	if err := json.Unmarshal([]byte(readFile(t, filepath.Join(m.point, ".agentfs/status"))), &st); err != nil || st.Pending != 1 || st.PendingBytes != 8 {
		t.Errorf("pending %d, %d bytes, %v; want 1 of 8", st.Pending, st.PendingBytes, err)
	}
	contains(t, readFile(t, filepath.Join(m.point, ".agentfs/pending")), "put      8 B    open    /d/open.txt")
	contains(t, readFile(t, filepath.Join(m.point, ".agentfs/stats")), `agentfs_pending_changes{route="/d"} 1`, `agentfs_pending_bytes{route="/d"} 8`)
	m.stop(t)
	if got := s.object(t, "b", "open.txt"); got != "precious" {
		t.Errorf("the object has %q", got)
	}
}

// Who waits for the stores at a terminal sees how it goes.
func TestProgressOnTerminal(t *testing.T) {
	s := newS3Server(t, "b")
	m := startMount(t, "--cache-dir", t.TempDir(), "--route", s.route("/d", "b", ""))
	writeFile(t, filepath.Join(m.point, "d/first"), "what the server honours is known then")
	mustRun(t, "sync", m.point)
	shown, status := runOnTerminal(t, func() {
		openDirty(t, filepath.Join(m.point, "d/open.txt"))
		s.slow.Store(int64(2500 * time.Millisecond))
	}, "unmount", m.point)
	if status != 0 {
		t.Errorf("exit status %d", status)
	}
	contains(t, shown, "\rwaiting for the stores: 0 of 1 change, 0 B of 8 B\x1b[K", "\r\x1b[KEverything is stored")
	m.end(t)
}

// A conflict is shown with both names.
func TestConflictShown(t *testing.T) {
	s := newS3Server(t, "b")
	s.put(t, "b", "dir/f", "one\n")
	m := startMount(t, "--cache-dir", t.TempDir(), "--route", s.route("/d", "b", "&ttl=1h"))
	name := filepath.Join(m.point, "d/dir/f")
	if got := readFile(t, name); got != "one\n" {
		t.Fatalf("read %q", got)
	}
	s.put(t, "b", "dir/f", "theirs\n")
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString("ours\n")
	if err := errors.Join(err, f.Sync(), f.Close()); !errors.Is(err, unix.ESTALE) {
		t.Errorf("syncing what was changed elsewhere: %v, want ESTALE", err)
	}
	all := readFile(t, filepath.Join(m.point, ".agentfs/conflicts"))
	contains(t, all, "WHEN ", name+" ", name+".conflict-")
	ours := all[strings.LastIndex(all, name):]
	if got := readFile(t, strings.TrimSuffix(ours, "\n")); got != "one\nours\n" {
		t.Errorf("ours is %q", got)
	}
	contains(t, mustRun(t, "status", m.point), "1 conflict;", name+".conflict-")
	m.stop(t)
}

// The second signal doesn't wait.
func TestSecondSignal(t *testing.T) {
	s := newS3Server(t, "b")
	m := startMount(t, "--cache-dir", t.TempDir(), "--route", s.route("/d", "b", ""))
	openDirty(t, filepath.Join(m.point, "d/open.txt"))
	s.hang.Store(true)
	m.signal(t, unix.SIGINT)
	time.Sleep(500 * time.Millisecond)
	select {
	case <-m.done:
		t.Fatalf("ended although the store doesn't answer: %s", m.log)
	default:
	}
	begin := time.Now()
	m.signal(t, unix.SIGINT)
	if status := m.end(t); status != exitNotStored || time.Since(begin) > 5*time.Second {
		t.Errorf("exit status %d after %s: %s", status, time.Since(begin), m.log)
	}
	contains(t, m.log.String(), "second signal", "in the journal: 1 change (8 B)", "agentfs recover --cache-dir")
	if _, ok := mountAt(m.point); ok {
		t.Error("still mounted")
	}
}

// The commands on files do the same on a mount and on the stores themselves.
func TestFileCommands(t *testing.T) {
	s := newS3Server(t, "b")
	route := s.route("/d", "b", "&ttl=0s")
	m := startMount(t, "--cache-dir", t.TempDir(), "--route", route)
	for _, c := range []struct {
		name string
		on   []string
	}{
		{"mount", []string{"--mount", m.point}},
		{"stores", []string{"--route", route}},
	} {
		t.Run(c.name, func(t *testing.T) {
			do := func(args ...string) (string, string, int) { return run(t, append(args, c.on...)...) }
			ok := func(want string, args ...string) {
				t.Helper()
				out, errOut, status := do(args...)
				if status != 0 || out != want {
					t.Errorf("%q: exit status %d, %s\ngot  %q\nwant %q", args, status, errOut, out, want)
				}
			}
			fails := func(want int, args ...string) {
				t.Helper()
				if out, errOut, status := do(args...); status != want || strings.Count(errOut, "\n") > 1 {
					t.Errorf("%q: exit status %d, want %d: %s %s", args, status, want, out, errOut)
				}
			}
			dir := "/d/" + c.name
			ok("", "write", dir+"/a/b.txt", "--content", "one\ntwo\nthree\n")
			ok("", "write", dir+"/c.md", "--content", "# one")
			fails(exitCondition, "write", dir+"/c.md", "--content", "x", "--create-only")
			ok("two\n", "read", dir+"/a/b.txt", "--offset", "1", "--limit", "1")
			fails(exitFailed, "read", dir+"/none")
			ok(dir+"/a/b.txt: replaced once (line 2)\n", "edit", dir+"/a/b.txt", "two", "2")
			fails(exitCondition, "edit", dir+"/a/b.txt", "two", "2")
			fails(exitCondition, "edit", dir+"/a/b.txt", "e", "E")
			ok(dir+"/a/b.txt:1:one\n"+dir+"/c.md:1:# one\n", "grep", "one", dir)
			ok(dir+"/a/b.txt:1\n", "grep", "-c", "^o", dir)
			ok(dir+"/c.md\n", "grep", "-l", "one", dir, "--glob", "*.md")
			fails(exitFailed, "grep", "absent", dir)
			fails(exitUsage, "grep", "(", dir)
			fails(exitUsage, "grep", "x", dir+"/none")
			fails(exitUsage, "glob", "[", dir)
			ok(dir+"/a/b.txt\n", "glob", "*.txt", dir)
			if got := s.object(t, "b", c.name+"/a/b.txt"); got != "one\n2\nthree\n" {
				t.Errorf("the object has %q", got)
			}
			out, _, _ := do("ls", dir, "--json")
			var items []protocol.Item
			for line := range strings.Lines(out) {
				var it protocol.Item
				if err := json.Unmarshal([]byte(line), &it); err != nil {
					t.Fatal(err)
				}
				items = append(items, it)
			}
			if len(items) != 2 || items[0].Path != dir+"/a/" || items[1].Path != dir+"/c.md" || items[1].Size != 5 {
				t.Fatalf("ls: %+v", items)
			}
			version := string(items[1].Version)
			ok("", "write", dir+"/c.md", "--content", "# two", "--if-version", version)
			fails(exitCondition, "write", dir+"/c.md", "--content", "# three", "--if-version", version)
			fails(exitFailed, "rm", dir)
			fails(exitFailed, "rm", "-r", "/d")
			ok("", "rm", "-r", dir)
			fails(exitFailed, "ls", dir)
		})
	}
	m.stop(t)
	host := t.TempDir()
	if err := os.Symlink("x", filepath.Join(host, "link")); err != nil {
		t.Fatal(err)
	}
	_, errOut, status := run(t, "read", "--route", "/l=local:"+host, "/l/link")
	if want := "agentfs: /l/link: is a symbolic link to x; read that path\n"; status != exitFailed || errOut != want {
		t.Errorf("reading a link: %d %s", status, errOut)
	}
	for _, args := range [][]string{
		{"ls", "--mount", "/x", "--config", "/y"}, {"explain", "/p", "--mount", "/x", "--route", "/=memory:"}, {"grep", "x", "-l", "-c", "--route", "/=memory:"},
	} {
		if _, errOut, status := run(t, args...); status != exitUsage || !strings.Contains(errOut, "give one or the other") {
			t.Errorf("%q: %d: %s", args, status, errOut)
		}
	}
	if _, errOut, status := run(t, "ls"); status != exitUsage || !strings.Contains(errOut, "which tree?") {
		t.Errorf("ls without a tree: %d %s", status, errOut)
	}
}

// What a mount has recorded of files in a bucket is not lost by who changes them
// without a mount, and its records are in nobody's way.
func TestRecordsWithoutMount(t *testing.T) {
	route := newS3Server(t, "b").route("/data", "b", "&region=us-east-1")
	cache := t.TempDir()
	m := startMount(t, "--cache-dir", cache, "--route", route)
	dir := filepath.Join(m.point, "data", "d")
	if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"run", "sub/key"} {
		writeFile(t, filepath.Join(dir, name), "old\n")
		if err := os.Chmod(filepath.Join(dir, name), 0o710); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("run", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	m.stop(t)

	mustRun(t, "edit", "/data/d/run", "old", "new", "--route", route)
	mustRun(t, "mv", "/data/d", "/data/e", "--route", route)
	if out := mustRun(t, "ls", "/data", "--route", route); !strings.HasSuffix(strings.TrimSpace(out), "/data/e/") || strings.Contains(out, "/data/d/") {
		t.Errorf("after the move: %s", out)
	}

	m = startMount(t, "--cache-dir", cache, "--route", route)
	for _, name := range []string{"run", "sub/key"} {
		if st, err := os.Stat(filepath.Join(m.point, "data/e", name)); err != nil || st.Mode().Perm() != 0o710 {
			t.Errorf("%s: %v, %v", name, st, err)
		}
	}
	if got := readFile(t, filepath.Join(m.point, "data/e/link")); got != "new\n" {
		t.Errorf("through the link: %q", got)
	}
	m.stop(t)
	mustRun(t, "rm", "-r", "/data/e", "--route", route)
	if out := mustRun(t, "ls", "/data", "--route", route); out != "" {
		t.Errorf("what is left: %s", out)
	}
}
