package semantics

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends/s3/s3test"
)

// record is what these tests look at in a record of the audit.
type record struct {
	Op, Route, Path, To, Mode, Exe, Result string
	PID, UID                               uint32
	Read, Written                          int64
	Count                                  int64
	Before                                 string `json:"version_before"`
	After                                  string `json:"version_after"`
}

// recordsOf returns the whole records in a file.
func recordsOf(t testing.TB, file string) (all []record) {
	t.Helper()
	b, err := os.ReadFile(file)
	ok(t, "read", err)
	for line := range strings.Lines(string(b)) {
		var r record
		if strings.HasSuffix(line, "\n") {
			ok(t, "record "+line, json.Unmarshal([]byte(line), &r))
			all = append(all, r)
		}
	}
	return all
}

// With an audit, every operation that opens or changes something is on record a
// moment later, on every route and without a word of the program: when, what
// and where, which process, user and program, how it ended, at the end of an
// open file how many bytes were read and written, and the versions before and
// after as far as the store knows them. Contents, values of extended attributes
// and targets of links are not. The kernel then passes no file through, so that
// every byte is counted that is not served from its own pages.
func TestAudit(t *testing.T) {
	s := s3test.Versitygw(t)
	file := filepath.Join(t.TempDir(), "audit")
	m := start(t, setup{
		server: s, flags: []string{"--audit-file", file},
		routes: []string{"/=memory:", "/s3=" + s3URL(s, "durability", "close"), "/ro=memory:?read_only=true"},
	})
	script := `set -e
printf 'secret-content' > "$D/f"
cat "$D/f" >/dev/null
mkdir "$D/d"; mv "$D/f" "$D/d/g"; chmod 600 "$D/d/g"
setfattr -n user.name -v secret-value "$D/d/g"
ln -s secret-target "$D/link"; rm "$D/link"
printf 'one' > "$D/s3/v"; printf 'two' >> "$D/s3/v"
if printf x > "$D/ro/f"; then exit 1; fi
rm "$D/d/g"; rmdir "$D/d"`
	need(t, "setfattr", "attr")
	cmd := exec.Command("sh", "-c", script)
	cmd.Env = append(os.Environ(), "D="+m.dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	m.unmount(t) // after which nothing is missing
	all := recordsOf(t, file)
	var got []string
	for _, r := range all {
		if r.PID == 0 || r.UID != uint32(os.Getuid()) || r.Exe == "" {
			t.Errorf("%+v does not say who did it", r)
		}
		line := strings.Join(strings.Fields(fmt.Sprintln(r.Result, r.Op, r.Route, r.Path, r.To, r.Mode)), " ")
		if r.Op == "close" {
			line += fmt.Sprintf(" %d %d", r.Read, r.Written)
		}
		if !strings.HasSuffix(line, " /") && r.Op != "setattr" && r.Op != "stored" { // times, who lists what, and when is sent differ between systems
			got = append(got, line)
		}
	}
	want := []string{
		"ok create / /f wt", "ok close / /f wt 0 14", "ok open / /f r", "ok close / /f r 14 0",
		"ok mkdir / /d", "ok rename / /f /d/g", "ok setxattr / /d/g",
		"ok symlink / /link", "ok unlink / /link",
		"ok create /s3 /s3/v wt", "ok close /s3 /s3/v wt 0 3", "ok open /s3 /s3/v wa", "ok close /s3 /s3/v wa 0 3",
		"EROFS create /ro /ro/f wt",
		"ok unlink / /d/g", "ok rmdir / /d",
	}
	// An end comes when the kernel lets go of the file.
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("on record:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, r := range all {
		if r.Op == "close" && r.Path == "/s3/v" && r.Mode == "wa" && (r.Before == "" || r.After == "" || r.Before == r.After) {
			t.Errorf("an append is on record from version %q to %q", r.Before, r.After)
		}
	}
	b, err := os.ReadFile(file)
	ok(t, "read", err)
	if strings.Contains(string(b), "secret") {
		t.Errorf("the audit has contents:\n%s", b)
	}
}

// Under durability=writeback the version of a new content is not known yet when
// its file is closed. When the store has the content, a record "stored" of the
// mount itself has it, and the version that it replaced.
func TestAuditOfStored(t *testing.T) {
	s := s3test.Versitygw(t)
	file := filepath.Join(t.TempDir(), "audit")
	m := start(t, setup{server: s, flags: []string{"--audit-file", file}, routes: []string{"/=" + s3URL(s, "durability", "writeback")}})
	name := filepath.Join(m.dir, "v")
	for _, text := range []string{"one", "two"} {
		ok(t, "write", os.WriteFile(name, []byte(text), 0o600))
		run(t, "/", program(t), "sync", m.dir)
	}
	buf := make([]byte, 1000)
	n, err := unix.Getxattr(name, "user.agentfs.version", buf)
	ok(t, "version", err)
	want := string(buf[:n])
	m.unmount(t)
	var stored []record
	for _, r := range recordsOf(t, file) {
		if r.Op == "stored" {
			stored = append(stored, r)
		}
	}
	if len(stored) != 2 || stored[0].Path != "/v" || stored[0].Route != "/" || stored[0].Before != "" || stored[0].After == "" ||
		stored[1].Before != stored[0].After || stored[1].After != want || stored[1].PID == 0 {
		t.Errorf("on record: %+v, and the file has version %s", stored, want)
	}
}

// The audit's files, and .agentfs/audit, which has the newest megabyte of it, can
// be read by root and by who mounted, and by nobody else.
func TestAuditIsForItsOwner(t *testing.T) {
	needRoot(t)
	need(t, "setpriv", "util-linux")
	file := filepath.Join(publicTempDir(t), "audit")
	m := start(t, setup{flags: []string{"--audit-file", file, "--allow-other"}, routes: []string{"/=memory:"}})
	mkdir(t, filepath.Join(m.dir, "d"))
	within(t, time.Minute, "on record", func() bool { return len(recordsOf(t, file)) > 0 })
	for _, name := range []string{file, m.dir + "/.agentfs/audit"} {
		b, err := os.ReadFile(name)
		if err != nil || !strings.Contains(string(b), `"op":"mkdir"`) {
			t.Errorf("%s: %v, %s", name, err, b)
		}
		out, err := asNobody("cat", name)
		if err == nil || !strings.Contains(out, "Permission denied") {
			t.Errorf("%s for another user: %v, %s", name, err, out)
		}
	}
	if out, err := asNobody(program(t), "audit", m.dir); err == nil || !strings.Contains(out, "only root and who mounted") {
		t.Errorf("agentfs audit for another user: %v, %s", err, out)
	}
}

func asNobody(args ...string) (string, error) {
	cmd := exec.Command("setpriv", append([]string{"--reuid=65534", "--regid=65534", "--clear-groups"}, args...)...)
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// An audit that can't be written, because its disk is full or its pipe is not
// read, holds up nobody: some thousand records wait; then --audit-when-full=drop
// does operations without a record and counts them, and refuse fails them with
// EAGAIN, before they are done. Both are in the log, in agentfs status and in
// .agentfs/stats, and on record once there is room again.
func TestAuditWithoutRoom(t *testing.T) {
	for _, when := range []string{"drop", "refuse"} {
		t.Run(when, func(t *testing.T) {
			fifo := filepath.Join(t.TempDir(), "fifo")
			ok(t, "mkfifo", unix.Mkfifo(fifo, 0o600))
			config := filepath.Join(t.TempDir(), "agentfs.yaml")
			ok(t, "write", os.WriteFile(config, fmt.Appendf(nil, "audit: {file: %s, queue: 32, when_full: %s}\n", fifo, when), 0o600))
			m := start(t, setup{flags: []string{"--config", config}})
			var err error
			n := 0
			for ; n < 60 && err == nil; n++ {
				err = os.Mkdir(filepath.Join(m.dir, fmt.Sprint(n)), 0o755)
			}
			switch {
			case when == "drop" && err != nil:
				t.Errorf("mkdir %d: %v", n, err)
			case when == "refuse" && !errors.Is(err, syscall.EAGAIN):
				t.Errorf("mkdir %d: %v, want EAGAIN", n, err)
			case when == "refuse":
				if _, err := os.Stat(filepath.Join(m.dir, fmt.Sprint(n-1))); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("what was refused is there (%v)", err)
				}
				if out := lastError(t, m); !strings.Contains(out, "EAGAIN") || !strings.Contains(out, "the audit can't record it") {
					t.Errorf("last-error says %s", out)
				}
			}
			if !strings.Contains(m.log.String(), "the audit can't keep up") {
				t.Errorf("the log says nothing: %s", m.log)
			}
			stats, err := os.ReadFile(m.dir + "/.agentfs/stats")
			ok(t, "read", err)
			counter := map[string]string{"drop": "agentfs_audit_dropped_total 28", "refuse": "agentfs_audit_refused_total 1"}[when]
			if !strings.Contains(string(stats), counter+"\n") {
				t.Errorf("the stats lack %s:\n%s", counter, stats)
			}
			within(t, time.Minute, "in the status", func() bool {
				out, err := exec.Command(program(t), "status", m.dir).CombinedOutput()
				ok(t, "status", err)
				return strings.Contains(string(out), "nobody reads the pipe")
			})
			// Somebody comes and reads.
			reader := exec.Command("cat", fifo)
			var read logBuffer
			reader.Stdout = &read
			ok(t, "cat", reader.Start())
			defer func() {
				_ = reader.Process.Kill()
				_ = reader.Wait()
			}()
			word := map[string]string{"drop": "dropped", "refuse": "refused"}[when]
			within(t, time.Minute, "a record about the records", func() bool { return strings.Contains(read.String(), `"result":"`+word+`"`) })
			ok(t, "mkdir", os.Mkdir(filepath.Join(m.dir, "after"), 0o755))
			within(t, time.Minute, "the last record", func() bool { return strings.Contains(read.String(), `"path":"/after"`) })
		})
	}
}

func lastError(t testing.TB, m *mount) string {
	t.Helper()
	b, err := os.ReadFile(m.dir + "/.agentfs/last-error")
	ok(t, "read", err)
	return string(b)
}

// .agentfs/last-error says what the last failed call of the reader's process ran
// into: call, path, errno, cause, and what to do instead. If that process has had
// none, it is the last one of its parent and of what the parent has started, else
// of the grandparent, and so on: so "cat .agentfs/last-error" tells a shell about
// the command before, and a new shell about what another shell of the same agent
// did. Failures of other users are not shown, but to root. What the kernel answers
// by itself the mount has not seen: a name that it knows to be absent, permissions
// by mode and owner, and reading and writing a file that is passed through.
func TestLastError(t *testing.T) {
	s := s3test.Versitygw(t)
	m := start(t, setup{
		server: s, flags: []string{"--allow-other", "--no-passthrough"},
		routes: []string{"/=memory:?size=1MiB", "/ro=memory:?read_only=true", "/s3=" + s3URL(s, "durability", "close", "ttl", "1h")},
	})
	ok(t, "chmod", os.Chmod(m.dir, 0o777))
	shell := func(script string) string {
		cmd := exec.Command("sh", "-c", script)
		cmd.Env = append(os.Environ(), "D="+m.dir, "E="+m.dir+"/.agentfs/last-error")
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", script, err)
		}
		return string(out)
	}
	want := func(what, got string, parts ...string) {
		t.Helper()
		for _, part := range parts {
			if !strings.Contains(got, part) {
				t.Errorf("%s: no %q in:\n%s", what, part, got)
			}
		}
	}
	want("nothing yet", shell(`cat "$E"`), "No call of yours has failed")
	// A name that a program looks for before it makes it is no failure.
	want("no failure", shell(`echo x > "$D/new"; mkdir "$D/dir"; cat "$E"`), "No call of yours has failed")

	want("the command before", shell(`cp "$D/new" "$D/ro/x"; cat "$E"`),
		"/cp, pid", "create /ro/x", "EROFS", "write to another one (/, /s3)")
	want("another shell of the same parent", shell(`cat "$E"`), "/cp, pid", "create /ro/x")
	want("a subshell", shell(`(head -c 3000000 /dev/zero > "$D/big"); sh -c 'cat "$E"'`),
		"write /big", "ENOSPC", "the route's size is used up")
	want("all that this process has started", lastError(t, m), "write /big", "Before that:", "create /ro/x: EROFS")
	_, err := os.ReadFile(m.dir + "/absent")
	isErr(t, "read", err, syscall.ENOENT)
	want("its own comes first", lastError(t, m), "your process", "lookup /absent", "ENOENT")

	// A conflict in the store.
	write(t, m.dir+"/s3/c", "ours")
	s.Put(t, keyPrefix+"c", "theirs")
	want("conflict", shell(`printf more >> "$D/s3/c"; cat "$E"`), "flush /s3/c", "ESTALE", ".agentfs/conflicts")

	if os.Geteuid() != 0 {
		return
	}
	need(t, "setpriv", "util-linux")
	out, err := asNobody("cat", m.dir+"/.agentfs/last-error")
	if err != nil || !strings.Contains(out, "No call of yours has failed") {
		t.Errorf("another user: %v\n%s", err, out)
	}
	out, err = asNobody("sh", "-c", "head -c 3000000 /dev/zero 2>/dev/null >"+m.dir+"/mine; cat "+m.dir+"/.agentfs/last-error")
	want("another user's own", out, "write /mine", "ENOSPC")
	ok(t, "sh", err)
}

// A process in another pid namespace can't be told from others there: it is on
// record with pid 0, and .agentfs/last-error has one last failure for all such
// processes of a user.
func TestAuditOfAnotherPidNamespace(t *testing.T) {
	needRoot(t)
	need(t, "unshare", "util-linux")
	// The mount is in a namespace of its own, the caller outside it.
	bin, base := program(t), publicTempDir(t)
	needFuse(t)
	dir, file := filepath.Join(base, "mnt"), filepath.Join(base, "audit")
	mkdir(t, dir)
	cmd := exec.Command("unshare", "--pid", "--fork", "--kill-child", bin, "mount", "--cache-dir", filepath.Join(base, "cache"),
		"--audit-file", file, "--route", "/=memory:", "--route", "/ro=memory:?read_only=true", dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	ok(t, "start", cmd.Start())
	defer func() {
		_ = exec.Command("umount", dir).Run()
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			t.Error("the mount does not end")
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		}
	}()
	within(t, time.Minute, "the mount", func() bool {
		_, err := os.Stat(dir + "/.agentfs/last-error")
		return err == nil
	})
	isErr(t, "mkdir", os.Mkdir(dir+"/ro/d", 0o755), syscall.EROFS)
	within(t, time.Minute, "on record", func() bool { return len(recordsOf(t, file)) > 0 })
	if r := recordsOf(t, file)[0]; r.PID != 0 || r.Exe != "" || r.Result != "EROFS" || r.UID != 0 {
		t.Errorf("on record as %+v", r)
	}
	b, err := os.ReadFile(dir + "/.agentfs/last-error")
	if err != nil || !strings.Contains(string(b), "can't see") || !strings.Contains(string(b), "mkdir /ro/d") {
		t.Errorf("last-error: %v\n%s", err, b)
	}
}

// Where a rule of the policy refused the call, .agentfs/last-error names it, and so
// is the refusal on record. Of a rule that hides a name it says nothing.
func TestLastErrorOfARule(t *testing.T) {
	base := publicTempDir(t)
	config, file := filepath.Join(base, "agentfs.yaml"), filepath.Join(base, "audit")
	write(t, config, "policy:\n  - {path: '/hidden/**', access: hide}\n  - {path: '/locked/**', access: read}\n")
	m := start(t, setup{flags: []string{"--config", config, "--audit-file", file}})
	isErr(t, "mkdir", os.Mkdir(m.dir+"/locked", 0o755), syscall.EACCES)
	if out := lastError(t, m); !strings.Contains(out, "mkdir /locked") || !strings.Contains(out, "/locked/**") {
		t.Errorf("last-error says:\n%s", out)
	}
	isErr(t, "mkdir", os.Mkdir(m.dir+"/hidden", 0o755), syscall.EACCES)
	if out := lastError(t, m); !strings.Contains(out, "mkdir /hidden") || strings.Contains(out, "/hidden/**") {
		t.Errorf("last-error says:\n%s", out)
	}
	m.unmount(t)
	var got []string
	for _, r := range recordsOf(t, file) {
		got = append(got, r.Result+" "+r.Op+" "+r.Path)
	}
	if want := []string{"EACCES mkdir /locked", "EACCES mkdir /hidden"}; !slices.Equal(got, want) {
		t.Errorf("on record: %q, want %q", got, want)
	}
}
