package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A mount serves, shows itself in its control directory, and ends at SIGTERM
// with everything gone.
func TestMountLife(t *testing.T) {
	m := startMount(t, "--cache-dir", t.TempDir(), "--route", "/scratch=memory:?size=16MiB")
	contains(t, m.log.String(), m.point, "/scratch", "16 MiB")
	writeFile(t, filepath.Join(m.point, "a.txt"), "hello")
	if got := readFile(t, filepath.Join(m.point, "a.txt")); got != "hello" {
		t.Errorf("read %q", got)
	}
	names, err := os.ReadDir(m.point)
	if err != nil || len(names) != 2 {
		t.Errorf("the root has %v, %v; want a.txt and scratch only", names, err)
	}
	contains(t, readFile(t, filepath.Join(m.point, ".agentfs/AGENTS.md")), m.point, "/scratch")
	contains(t, readFile(t, filepath.Join(m.point, ".agentfs/routes")), "/scratch")
	var st mountStatus
	if err := json.Unmarshal([]byte(mustRun(t, "status", "--json", m.point)), &st); err != nil {
		t.Fatal(err)
	}
	if st.PID != m.Process.Pid || st.MountPoint != m.point || len(st.Routes) != 2 || st.Routes[1].TotalBytes != 16<<20 {
		t.Errorf("status %+v", st)
	}
	contains(t, mustRun(t, "status", m.point), "/scratch", "Nothing waits")
	for name, want := range map[string]string{
		"pending": "Nothing waits to be stored.\n", "errors": "No errors.\n", "conflicts": "No conflicts since this mount began.\n",
	} {
		if got := readFile(t, filepath.Join(m.point, ".agentfs", name)); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	contains(t, readFile(t, filepath.Join(m.point, ".agentfs/stats")), `agentfs_route_size_bytes{route="/scratch"} 16777216`)
	mustRun(t, "sync", m.point)
	m.stop(t)
	contains(t, m.log.String(), "everything is stored")
}

func TestUnmount(t *testing.T) {
	m := startMount(t, "--cache-dir", t.TempDir())
	_, stderr, status := run(t, "unmount", m.point)
	if status != 0 || m.end(t) != 0 {
		t.Errorf("unmount: exit status %d: %s", status, stderr)
	}
	contains(t, stderr, "Everything is stored")
	_, stderr, status = run(t, "unmount", m.point)
	if want := "agentfs: " + m.point + ": nothing is mounted there\n"; status != exitFailed || stderr != want {
		t.Errorf("second unmount: %d %s", status, stderr)
	}
	_, stderr, status = run(t, "status", m.point)
	if status != exitFailed || !strings.Contains(stderr, "not the mount point of an agentfs") {
		t.Errorf("status without a mount: %d %s", status, stderr)
	}
}

// umount(8) and fusermount3(1) end the process in order.
func TestUnmountFromOutside(t *testing.T) {
	for _, cmd := range [][]string{{"umount"}, {"fusermount3", "-u"}} {
		m := startMount(t, "--cache-dir", t.TempDir())
		if out, err := exec.Command(cmd[0], append(cmd[1:], m.point)...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", cmd, err, out)
		}
		if status := m.end(t); status != 0 {
			t.Errorf("%s: exit status %d: %s", cmd, status, m.log)
		}
		contains(t, m.log.String(), "unmounted from outside", "everything is stored")
	}
}

// A mount that is in use is detached, and the log says by whom.
func TestMountBusy(t *testing.T) {
	m := startMount(t, "--cache-dir", t.TempDir())
	holder := exec.Command("sleep", "60")
	holder.Dir = m.point
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = holder.Process.Kill()
		_ = holder.Wait()
	}()
	m.stop(t)
	contains(t, m.log.String(), "in use", fmt.Sprint(holder.Process.Pid))
}

func TestBackground(t *testing.T) {
	needFuse(t)
	point, cache := newPoint(t), t.TempDir()
	out, errOut, status := run(t, "mount", "--background", "--cache-dir", cache, point)
	if status != 0 {
		t.Fatalf("exit status %d: %s", status, errOut)
	}
	defer func() { _ = unix.Unmount(point, unix.MNT_DETACH) }()
	contains(t, out, "ready at "+point, "in the background")
	writeFile(t, filepath.Join(point, "x"), "1")
	logs, err := filepath.Glob(filepath.Join(cache, "logs", "*.log"))
	if err != nil || len(logs) != 1 {
		t.Fatalf("logs %q, %v", logs, err)
	}
	mustRun(t, "unmount", point)
	contains(t, readFile(t, logs[0]), "ending the mount")

	// The error of a mount that fails comes through to the front.
	_, errOut, status = run(t, "mount", "--background", "--cache-dir", cache, filepath.Join(point, "none"))
	if status != exitFailed || strings.Count(errOut, "\n") != 1 || !strings.Contains(errOut, "does not exist") {
		t.Errorf("missing mount point: %d %s", status, errOut)
	}
}

// mount(8) and fstab call the program with a source and -o.
func TestMountHelper(t *testing.T) {
	needFuse(t)
	point := newPoint(t)
	_, errOut, status := run(t, "memory:?size=8MiB", point, "-o", "rw,_netdev,nofail,cache_dir="+t.TempDir())
	if status != 0 {
		t.Fatalf("exit status %d: %s", status, errOut)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(point, &st); err != nil || st.Blocks*uint64(st.Bsize) != 8<<20 {
		t.Errorf("statfs %d bytes, %v; want 8 MiB", st.Blocks*uint64(st.Bsize), err)
	}
	// By its source "mount -a" knows what is mounted already.
	if m, _ := mountAt(point); m.source != "memory:?size=8MiB" {
		t.Errorf("the mount table has the source %q", m.source)
	}
	mustRun(t, "unmount", point)
}

// What a killed process leaves behind is recognised, and cleared by the next
// mount or by unmount.
func TestStaleMount(t *testing.T) {
	cache := t.TempDir()
	kill := func(m *mountProcess) {
		m.signal(t, unix.SIGKILL)
		m.end(t)
		if _, err := os.ReadDir(m.point); !errors.Is(err, unix.ENOTCONN) {
			t.Fatalf("reading a dead mount: %v; the test expects ENOTCONN", err)
		}
	}
	m := startMount(t, "--cache-dir", cache)
	kill(m)
	want := "agentfs: " + m.point + ": the process of this mount is dead (agentfs unmount " + m.point + " clears it)\n"
	for _, args := range [][]string{{"status", m.point}, {"sync", m.point}, {"sync", m.point + "/d"}, {"ls", "--mount", m.point}} {
		if _, errOut, status := run(t, args...); status != exitFailed || errOut != want {
			t.Errorf("%q on a dead mount: %d %s", args, status, errOut)
		}
	}
	m = startMountAt(t, m.point, "--cache-dir", cache)
	writeFile(t, filepath.Join(m.point, "x"), "1")
	contains(t, m.log.String(), "dead process")
	kill(m)
	mustRun(t, "unmount", m.point)
	if _, ok := mountAt(m.point); ok {
		t.Error("unmount did not clear it")
	}
}

// A mount that can't be made is one line that says what and what to do.
func TestMountErrors(t *testing.T) {
	needFuse(t)
	cache, dir := t.TempDir(), t.TempDir()
	file, full := filepath.Join(dir, "file"), filepath.Join(dir, "full")
	writeFile(t, file, "")
	if err := os.Mkdir(full, 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(full, "x"), "")
	link := filepath.Join(dir, "link")
	if err := os.Symlink(full, link); err != nil {
		t.Fatal(err)
	}
	m := startMount(t, "--cache-dir", cache)
	conf := writeConfig(t, "routes:\n  /: {backend: memory, sice: 1}\n")
	for _, c := range []struct {
		name   string
		args   []string
		status int
		want   []string
	}{
		{"missing", []string{filepath.Join(dir, "none")}, exitFailed, []string{dir + "/none", "does not exist", "mkdir"}},
		{"missing parent", []string{filepath.Join(dir, "no", "none")}, exitFailed, []string{"does not exist", "mkdir"}},
		{"file", []string{file}, exitFailed, []string{file, "not a directory"}},
		{"not empty", []string{full}, exitFailed, []string{full, "not empty"}},
		{"mounted", []string{m.point}, exitFailed, []string{m.point, "already mounted", "agentfs unmount"}},
		{"no mount point", nil, exitUsage, []string{"arguments are missing", "MOUNTPOINT"}},
		{"unknown option", []string{"--config", conf, full}, exitUsage, []string{conf + ":2: sice: unknown option"}},
		{"unknown flag", []string{"--cash-dir", full}, exitUsage, []string{"unknown flag: --cash-dir"}},
		{"no config", []string{"--config", "/none.yaml", full}, exitUsage, []string{"/none.yaml: no such configuration file"}},
		{"log level", []string{"--log-level", "loud", full}, exitUsage, []string{"debug, info, warn or error"}},
		{"mount point in a route", []string{"--route", "/x=local:" + dir, full}, exitUsage, []string{"--route /x", dir + " contains the mount point " + full, "outside it"}},
		{"mount point of a route", []string{"--route", "/x=local:" + link, full}, exitUsage, []string{"--route /x", link + " contains the mount point " + full}},
		{"same store", []string{"--route", "/t=local:" + cache, "--route", "/u=local:" + cache, full}, exitUsage, []string{"--route /u: routes /t (--route /t) and /u name the same store"}},
		{"directory of a route", []string{"--route", "/x=local:" + dir + "/none", full}, exitUsage, []string{"--route /x", dir + "/none"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, errOut, status := run(t, append([]string{"mount", "--cache-dir", cache}, c.args...)...)
			if status != c.status || strings.Count(errOut, "\n") != 1 || !strings.HasPrefix(errOut, "agentfs: ") {
				t.Errorf("exit status %d, want %d, and one line:\n%s", status, c.status, errOut)
			}
			contains(t, errOut, c.want...)
		})
	}
	m.stop(t)
}

func TestReadOnly(t *testing.T) {
	host := t.TempDir()
	writeFile(t, filepath.Join(host, "x"), "1")
	m := startMount(t, "--cache-dir", t.TempDir(), "--route", "/host=local:"+host+"?read_only=true", "--route", "/local=local:"+t.TempDir())
	contains(t, m.log.String(), "on this host")
	if err := os.WriteFile(filepath.Join(m.point, "host/x"), nil, 0o644); !errors.Is(err, unix.EROFS) {
		t.Errorf("writing to a read-only route: %v, want EROFS", err)
	}
	writeFile(t, filepath.Join(m.point, "y"), "")
	m.stop(t)
	m = startMount(t, "--cache-dir", t.TempDir(), "--read-only")
	if err := os.Mkdir(filepath.Join(m.point, "d"), 0o755); !errors.Is(err, unix.EROFS) {
		t.Errorf("writing to a read-only mount: %v, want EROFS", err)
	}
	m.stop(t)
}

// The demo works, and leaves nothing behind at Ctrl-C.
func TestDemo(t *testing.T) {
	needFuse(t)
	for name, given := range map[string]bool{"fresh directory": false, "given directory": true} {
		t.Run(name, func(t *testing.T) {
			tmp := t.TempDir()
			t.Setenv("TMPDIR", tmp)
			args, point := []string{"demo"}, ""
			if given {
				point = filepath.Join(tmp, "here")
				args = append(args, point)
			}
			m := start(t, point, args...)
			st, _, _ := strings.Cut(strings.TrimPrefix(m.log.String(), "agentfs is ready at "), "\n")
			m.point = st
			// Nobody has installed the program that is tried.
			contains(t, m.log.String(), "/s3-data", "--endpoint-url http://127.0.0.1:", m.Path+" status "+m.point)
			contains(t, readFile(t, filepath.Join(m.point, "s3-data/logs/2026-03-01.log")), "error upstream")
			writeFile(t, filepath.Join(m.point, "s3-data/notes/new.txt"), "mine")
			m.signal(t, unix.SIGINT)
			if status := m.end(t); status != 0 {
				t.Errorf("exit status %d: %s", status, m.log)
			}
			if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
			if _, ok := mountAt(m.point); ok {
				t.Error("still mounted")
			}
		})
	}
}

func TestCheck(t *testing.T) {
	needFuse(t)
	s := newS3Server(t, "b")
	out, _, status := run(t, "check", "--cache-dir", t.TempDir(), "--route", s.route("/d", "b", ""))
	if status != 0 {
		t.Errorf("exit status %d", status)
	}
	contains(t, out, "OK    /dev/fuse", "can be listed", "conditional put")
	begin := time.Now()
	out, _, status = run(t, "check", "--cache-dir", t.TempDir(), "--route", s.route("/d", "none", ""))
	if status != exitFailed {
		t.Errorf("no such bucket: exit status %d", status)
	}
	contains(t, out, "FAIL", "none", "      -> ")
	s.Close()
	out, _, status = run(t, "check", "--cache-dir", t.TempDir(), "--route", s.route("/d", "b", "&retry_timeout=1s&max_attempts=2"))
	if status != exitFailed {
		t.Errorf("endpoint down: exit status %d", status)
	}
	contains(t, out, "FAIL", strings.TrimPrefix(s.URL, "http://"), "      -> ")
	if d := time.Since(begin); d > 2*checkTimeout {
		t.Errorf("took %s", d)
	}
}
