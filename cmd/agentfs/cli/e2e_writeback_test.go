package cli

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/cache"
)

// quick are the options of a route whose store gives up soon when it is down,
// and whose names are known once they were listed.
const quick = "&max_attempts=2&retry_timeout=1s&ttl=1h"

// list lists a directory, so that what is in it is known without the store.
func list(t *testing.T, dir string) {
	t.Helper()
	if _, err := os.ReadDir(dir); err != nil {
		t.Fatal(err)
	}
}

// eventually waits until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func readMountStatus(t *testing.T, point string) (st mountStatus) {
	t.Helper()
	if err := json.Unmarshal([]byte(readFile(t, filepath.Join(point, ".agentfs/status"))), &st); err != nil {
		t.Fatal(err)
	}
	return st
}

// exists reports whether the server has an object.
func (s *s3Server) exists(t *testing.T, bucket, key string) bool {
	t.Helper()
	resp, err := http.Head(s.URL + "/" + bucket + "/" + key)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// roomOf returns the only room of a cache directory.
func roomOf(t *testing.T, dir string) cache.RoomStatus {
	t.Helper()
	var rooms []cache.RoomStatus
	if err := json.Unmarshal([]byte(mustRun(t, "status", "--json", "--cache-dir", dir)), &rooms); err != nil || len(rooms) != 1 {
		t.Fatalf("%+v, %v; want one room", rooms, err)
	}
	return rooms[0]
}

// killPending mounts a bucket, closes files while the store can't be reached
// and kills the process. The store is still down when it returns.
func killPending(t *testing.T, s *s3Server, dir string, names ...string) {
	t.Helper()
	m := startMount(t, "--cache-dir", dir, "--route", s.route("/d", "b", quick))
	list(t, filepath.Join(m.point, "d"))
	for _, name := range names {
		list(t, filepath.Dir(filepath.Join(m.point, "d", name)))
	}
	s.down.Store(true)
	for _, name := range names {
		writeFile(t, filepath.Join(m.point, "d", name), "content of "+name)
	}
	m.signal(t, unix.SIGKILL)
	m.end(t)
	mustRun(t, "unmount", m.point)
}

// Closing a file doesn't wait for the store unless the route says so; sync
// does.
func TestWritebackCloses(t *testing.T) {
	s := newS3Server(t, "b")
	m := startMount(t, "--cache-dir", t.TempDir(), "--route", s.route("/d", "b", ""))
	contains(t, m.log.String(), "on this disk, then in the store")
	contains(t, readFile(t, filepath.Join(m.point, ".agentfs/AGENTS.md")), "on this machine's disk", "agentfs sync "+m.point)
	if st := readMountStatus(t, m.point); st.Routes[1].Durability != durabilityWriteback {
		t.Errorf("durability %q", st.Routes[1].Durability)
	}
	writeFile(t, filepath.Join(m.point, "d/first"), "what the server honours is known then")
	mustRun(t, "sync", m.point)
	s.slow.Store(int64(time.Second))
	begin := time.Now()
	writeFile(t, filepath.Join(m.point, "d/a.txt"), "hello")
	if d := time.Since(begin); d > 500*time.Millisecond {
		t.Errorf("closing took %s", d)
	}
	st := readMountStatus(t, m.point)
	if st.Pending != 1 || st.PendingBytes != 5 || s.exists(t, "b", "a.txt") {
		t.Errorf("after close: %d pending of %d bytes", st.Pending, st.PendingBytes)
	}
	contains(t, readFile(t, filepath.Join(m.point, ".agentfs/pending")), "/d/a.txt")
	contains(t, mustRun(t, "status", m.point), "1 change waits (5 B)", "/d/a.txt")
	mustRun(t, "sync", m.point)
	if got := s.object(t, "b", "a.txt"); got != "hello" {
		t.Errorf("after sync the object has %q", got)
	}
	contains(t, mustRun(t, "status", m.point), "Nothing waits")
	mustRun(t, "write", "--mount", m.point, "/d/b.txt", "--content", "journaled")
	mustRun(t, "write", "--mount", m.point, "/d/c.txt", "--content", "stored", "--sync")
	if !s.exists(t, "b", "c.txt") {
		t.Error("write --sync did not wait")
	}
	m.stop(t)
	if got := s.object(t, "b", "b.txt"); got != "journaled" {
		t.Errorf("after the end the object has %q", got)
	}

	m = startMount(t, "--cache-dir", t.TempDir(), "--route", s.route("/d", "b", "&durability=close"))
	writeFile(t, filepath.Join(m.point, "d/now.txt"), "1")
	if !s.exists(t, "b", "now.txt") {
		t.Error("durability=close did not wait")
	}
	m.stop(t)
}

// What a mount could not store is in its journal, everybody who asks is told
// where, and recover stores it.
func TestNotStored(t *testing.T) {
	s, dir := newS3Server(t, "b"), t.TempDir()
	m := startMount(t, "--cache-dir", dir, "--drain-timeout", "2s", "--route", s.route("/d", "b", quick))
	openDirty(t, filepath.Join(m.point, "d/open.txt"))
	s.down.Store(true)
	_, errOut, status := run(t, "unmount", m.point)
	if status != exitNotStored {
		t.Errorf("unmount: exit status %d: %s", status, errOut)
	}
	room := roomOf(t, dir)
	contains(t, errOut, "1 change of "+room.Identity+" in the journal in "+room.Dir, "agentfs recover --cache-dir "+dir, "(--drain-timeout was 2s)")
	if status := m.end(t); status != exitNotStored {
		t.Errorf("mount: exit status %d: %s", status, m.log)
	}
	contains(t, mustRun(t, "status", "--cache-dir", dir), "not in use", "1 change is not stored")
	contains(t, mustRun(t, "recover", "--list", "--cache-dir", dir), "1 change is not stored", "was mounted as /d from s3://b/")
	out, errOut, status := run(t, "recover", "--cache-dir", dir, "--drain-timeout", "2s")
	if status != exitNotStored {
		t.Errorf("recover while it is down: exit status %d: %s%s", status, out, errOut)
	}
	contains(t, errOut, "1 change is not stored: ", "503", "its bytes are in "+room.Dir)
	s.down.Store(false)
	_, errOut, status = run(t, "recover", "--cache-dir", dir)
	if status != 0 {
		t.Errorf("recover: exit status %d: %s", status, errOut)
	}
	contains(t, errOut, room.Identity+": everything is stored (1 change).")
	if got := s.object(t, "b", "open.txt"); got != "precious" {
		t.Errorf("the object has %q", got)
	}
	contains(t, mustRun(t, "recover", "--cache-dir", dir), "keeps nothing that is not stored")
}

// A mount that is killed loses nothing: recover stores it, with the settings
// of the mount or with those given.
func TestKilledAndRecovered(t *testing.T) {
	s := newS3Server(t, "b")
	for name, args := range map[string][]string{
		"origin": nil,
		"route":  {"--route", s.route("/elsewhere", "b", "&read_only=true")},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			killPending(t, s, dir, name+"1", name+"2")
			if r := roomOf(t, dir); r.Pending != 2 || strings.Contains(string(r.Origin), "test") {
				t.Errorf("%d pending, origin %s", r.Pending, r.Origin)
			}
			s.down.Store(false)
			if _, errOut, status := run(t, append([]string{"recover", "--cache-dir", dir}, args...)...); status != 0 {
				t.Fatalf("recover: exit status %d: %s", status, errOut)
			}
			for _, n := range []string{name + "1", name + "2"} {
				if got := s.object(t, "b", n); got != "content of "+n {
					t.Errorf("%s has %q", n, got)
				}
			}
			if r := roomOf(t, dir); r.Pending != 0 {
				t.Errorf("%d still pending", r.Pending)
			}
		})
	}
}

// The next mount goes on with what a killed one left, and recover leaves it to
// that mount.
func TestKilledAndRemounted(t *testing.T) {
	s, dir := newS3Server(t, "b"), t.TempDir()
	killPending(t, s, dir, "a")
	s.down.Store(false)
	s.hang.Store(true)
	m := startMount(t, "--cache-dir", dir, "--route", s.route("/d", "b", "&request_timeout=1s"))
	if got := readFile(t, filepath.Join(m.point, "d/a")); got != "content of a" {
		t.Errorf("the mount has %q", got)
	}
	out, errOut, status := run(t, "recover", "--cache-dir", dir)
	if status != 0 {
		t.Errorf("recover beside a mount: exit status %d: %s%s", status, out, errOut)
	}
	contains(t, errOut, "in use by process", m.point)
	s.hang.Store(false)
	eventually(t, "the object is there", func() bool { return s.exists(t, "b", "a") })
	m.stop(t)
}

// What a store without a route has left is reported by mount, status and
// check.
func TestLeftWorkIsReported(t *testing.T) {
	s, dir := newS3Server(t, "b"), t.TempDir()
	killPending(t, s, dir, "a")
	identity := roomOf(t, dir).Identity
	m := startMount(t, "--cache-dir", dir)
	contains(t, m.log.String(), "no route for", identity, "agentfs recover --cache-dir "+dir)
	contains(t, mustRun(t, "status", m.point), "Left by mounts that have ended", identity+": 1 change is not stored")
	m.stop(t)
	out, _, _ := run(t, "check", "--cache-dir", dir)
	contains(t, out, "WARN  a mount of "+identity+" has ended, and 1 change is not stored")
	if roomOf(t, dir).Pending != 1 {
		t.Error("it is gone")
	}
	s.down.Store(false)
	mustRun(t, "recover", "--cache-dir", dir)
}

// A read-only mount stores nothing of what an earlier one has left, and nothing
// of it waits for that: it says who stores it, and ends well.
func TestReadOnlyLeavesTheJournal(t *testing.T) {
	s, dir := newS3Server(t, "b"), t.TempDir()
	s.put(t, "b", "sub/there", "there")
	killPending(t, s, dir, "a", "sub/b")
	s.down.Store(false)
	m := startMount(t, "--cache-dir", dir, "--route", s.route("/d", "b", "&read_only=true"))
	contains(t, m.log.String(), "an earlier mount of this route left changes", "changes=2", "agentfs recover --cache-dir "+dir)
	if got := readFile(t, filepath.Join(m.point, "d/sub/b")); got != "content of sub/b" {
		t.Errorf("read %q", got)
	}
	mustRun(t, "sync", m.point)
	begin := time.Now()
	m.stop(t)
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("it took %s to end", d)
	}
	if s.exists(t, "b", "a") || s.exists(t, "b", "sub/b") {
		t.Error("a read-only mount has stored something")
	}
	if r := roomOf(t, dir); r.Pending != 2 {
		t.Errorf("%d changes are left, want 2", r.Pending)
	}
	mustRun(t, "recover", "--cache-dir", dir)
	if got := s.object(t, "b", "sub/b"); got != "content of sub/b" {
		t.Errorf("the object has %q", got)
	}
}

// An attribute that is not stored is a change that waits, too.
func TestAttributesAreRecovered(t *testing.T) {
	s, dir := newS3Server(t, "b"), t.TempDir()
	s.put(t, "b", "sub/f", "there")
	m := startMount(t, "--cache-dir", dir, "--route", s.route("/d", "b", quick))
	name := filepath.Join(m.point, "d/sub/f")
	list(t, filepath.Dir(name))
	s.down.Store(true)
	if err := os.Chmod(name, 0o711); err != nil {
		t.Fatal(err)
	}
	m.signal(t, unix.SIGKILL)
	m.end(t)
	mustRun(t, "unmount", m.point)
	if r := roomOf(t, dir); r.Pending != 1 {
		t.Errorf("%d changes are left, want 1", r.Pending)
	}
	s.down.Store(false)
	mustRun(t, "recover", "--cache-dir", dir)
	if r := roomOf(t, dir); r.Pending != 0 {
		t.Errorf("%d changes are left after recover", r.Pending)
	}
	m = startMount(t, "--cache-dir", t.TempDir(), "--route", s.route("/d", "b", ""))
	if fi, err := os.Stat(filepath.Join(m.point, "d/sub/f")); err != nil || fi.Mode().Perm() != 0o711 {
		t.Errorf("after recover: %v, %v", fi.Mode(), err)
	}
	m.stop(t)
}

// What the store refuses is shown with what to do, and the end doesn't wait
// for what waiting does not mend.
func TestDeniedIsShown(t *testing.T) {
	s, dir := newS3Server(t, "b"), t.TempDir()
	m := startMount(t, "--cache-dir", dir, "--route", s.route("/d", "b", ""))
	s.deny.Store(true)
	name := filepath.Join(m.point, "d/a")
	writeFile(t, name, "1")
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err == nil {
		t.Error("fsync succeeded")
	}
	f.Close()
	all := readFile(t, filepath.Join(m.point, ".agentfs/errors"))
	contains(t, all, "permission: put "+name+"\n", "-> the credentials lack s3:PutObject")
	contains(t, readFile(t, filepath.Join(m.point, ".agentfs/stats")), `agentfs_failing_changes{route="/d",kind="permission"} 1`)
	contains(t, mustRun(t, "status", m.point), "1 change could not be stored so far", name)
	_, errOut, status := run(t, "sync", m.point)
	if status != exitNotStored {
		t.Errorf("sync: exit status %d", status)
	}
	contains(t, errOut, "not everything could be stored", "put "+name)
	begin := time.Now()
	_, errOut, status = run(t, "unmount", m.point)
	if status != exitNotStored || time.Since(begin) > 2*lastTry {
		t.Errorf("unmount: exit status %d after %s: %s", status, time.Since(begin), errOut)
	}
	contains(t, errOut, "1 change of ", "agentfs recover")
	m.end(t)
	s.deny.Store(false)
	mustRun(t, "recover", "--cache-dir", dir)
	if got := s.object(t, "b", "a"); got != "1" {
		t.Errorf("the object has %q", got)
	}
}

// sync --timeout ends then, also while the kernel waits for the mount's answer.
func TestSyncTimeout(t *testing.T) {
	s := newS3Server(t, "b")
	m := startMount(t, "--cache-dir", t.TempDir(), "--route", s.route("/d", "b", ""))
	writeFile(t, filepath.Join(m.point, "d/first"), "")
	mustRun(t, "sync", m.point)
	s.slow.Store(int64(8 * time.Second))
	writeFile(t, filepath.Join(m.point, "d/second"), "x")
	begin := time.Now()
	_, errOut, status := run(t, "sync", "--timeout", "500ms", m.point)
	if took := time.Since(begin); status != exitNotStored || took > 5*time.Second {
		t.Errorf("sync --timeout 500ms: exit status %d after %s: %s", status, took, errOut)
	}
	contains(t, errOut, "1 change")
	s.slow.Store(0)
	m.stop(t)
}

// umount(8) doesn't wait; the process then stores the rest and says how that
// went.
func TestUmountDrainsInBackground(t *testing.T) {
	s, dir := newS3Server(t, "b"), t.TempDir()
	umount := func(m *mountProcess) {
		t.Helper()
		if out, err := exec.Command("umount", m.point).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	m := startMount(t, "--cache-dir", dir, "--route", s.route("/d", "b", ""))
	writeFile(t, filepath.Join(m.point, "d/first"), "")
	mustRun(t, "sync", m.point)
	s.slow.Store(int64(2 * time.Second))
	writeFile(t, filepath.Join(m.point, "d/a"), "1")
	begin := time.Now()
	umount(m)
	if d := time.Since(begin); d > time.Second || s.exists(t, "b", "a") {
		t.Errorf("umount took %s", d)
	}
	if status := m.end(t); status != 0 {
		t.Errorf("exit status %d: %s", status, m.log)
	}
	contains(t, m.log.String(), "unmounted from outside", "everything is stored")
	if got := s.object(t, "b", "a"); got != "1" {
		t.Errorf("the object has %q", got)
	}
	s.slow.Store(0)

	m = startMount(t, "--cache-dir", dir, "--drain-timeout", "1s", "--route", s.route("/d", "b", quick))
	list(t, filepath.Join(m.point, "d"))
	s.down.Store(true)
	writeFile(t, filepath.Join(m.point, "d/b"), "2")
	umount(m)
	if status := m.end(t); status != exitNotStored {
		t.Errorf("exit status %d: %s", status, m.log)
	}
	contains(t, m.log.String(), "1 change of ", "agentfs recover --cache-dir "+dir)
}

// After a second signal the journal has everything.
func TestSecondSignalKeepsTheJournal(t *testing.T) {
	s, dir := newS3Server(t, "b"), t.TempDir()
	m := startMount(t, "--cache-dir", dir, "--route", s.route("/d", "b", ""))
	list(t, filepath.Join(m.point, "d"))
	s.hang.Store(true)
	writeFile(t, filepath.Join(m.point, "d/closed"), "1")
	openDirty(t, filepath.Join(m.point, "d/open"))
	m.signal(t, unix.SIGTERM)
	time.Sleep(300 * time.Millisecond)
	m.signal(t, unix.SIGTERM)
	if status := m.end(t); status != exitNotStored {
		t.Errorf("exit status %d: %s", status, m.log)
	}
	contains(t, m.log.String(), "in the journal: 2 changes (9 B)", roomOf(t, dir).Dir)
	s.hang.Store(false)
	mustRun(t, "recover", "--cache-dir", dir)
	if a, b := s.object(t, "b", "closed"), s.object(t, "b", "open"); a != "1" || b != "precious" {
		t.Errorf("the objects have %q and %q", a, b)
	}
}
