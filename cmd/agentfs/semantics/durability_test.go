package semantics

import (
	"bytes"
	"errors"
	"fmt"
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

// s3Mount is a mount of the test's own, with S3 alone at /.
type s3Mount struct {
	*mount
	t      testing.TB
	server s3test.Server
}

func startS3(t testing.TB, server s3test.Server, cacheDir string, flags []string, options ...string) s3Mount {
	t.Helper()
	m := start(t, setup{server: server, cacheDir: cacheDir, flags: flags, routes: []string{"/=" + s3URL(server, options...)}})
	return s3Mount{m, t, server}
}

func (m s3Mount) path(name string) string { return filepath.Join(m.dir, name) }

func (m s3Mount) sync() { m.t.Helper(); syncDir(m.t, m.dir) }

func (m s3Mount) holdsObject(name, want string) {
	m.t.Helper()
	if got, there := getObject(m.t, m.server, keyPrefix+name); !there || got != want {
		m.t.Errorf("the bucket has %s (there: %v) for %s, want %s", brief(got), there, name, brief(want))
	}
}

// On S3, close(2) returns when the change is in the journal, on this machine's
// disk (durability=writeback, the default), and so do truncate(2), rename(2),
// unlink(2), mkdir(2) and rmdir(2) for what they do. The store follows a moment
// later, in the background. When the process of the mount is killed (SIGKILL)
// before that, the next mount with the same cache directory shows everything as
// it was left and sends it: the bucket then has just that, and no name comes
// back that was removed or renamed.
func TestKilledMountLosesNothingAcknowledged(t *testing.T) {
	s := startOwnServer(t)
	cache := publicTempDir(t)
	options := []string{"request_timeout", "1s", "retry_timeout", "1s", "ttl", "1h"}
	m := startS3(t, s.Server, cache, nil, options...)
	want := map[string]string{}
	for i := range 10 {
		name := fmt.Sprint("old", i)
		write(t, m.path(name), name)
		want[name] = name
	}
	mkdir(t, m.path("dir/sub"))
	write(t, m.path("dir/sub/f"), "moved with its directory")
	write(t, m.path("appended"), "one, ")
	mkdir(t, m.path("doomed"))
	m.sync()
	for _, d := range []string{"", "dir", "dir/sub", "doomed"} {
		names(t, m.path(d))
	}
	s.kill()

	for i := range 20 {
		name := fmt.Sprint("f", i)
		want[name] = strings.Repeat(name+" ", 5000)
		write(t, m.path(name), want[name])
	}
	write(t, m.path("new.tmp"), "renamed over")
	ok(t, "rename", os.Rename(m.path("new.tmp"), m.path("old1")))
	want["old1"] = "renamed over"
	ok(t, "rename", os.Rename(m.path("old2"), m.path("moved2")))
	delete(want, "old2")
	want["moved2"] = "old2"
	ok(t, "unlink", os.Remove(m.path("old3")))
	delete(want, "old3")
	write(t, m.path("scratch"), "scratch")
	ok(t, "unlink", os.Remove(m.path("scratch")))
	ok(t, "truncate", os.Truncate(m.path("old4"), 2))
	want["old4"] = "ol"
	f := open(t, m.path("appended"), os.O_WRONLY|os.O_APPEND)
	_, err := f.WriteString("two")
	ok(t, "write", err)
	ok(t, "close", f.Close())
	want["appended"] = "one, two"
	ok(t, "rename of a directory", os.Rename(m.path("dir"), m.path("dir2")))
	want["dir2/sub/f"] = "moved with its directory"
	mkdir(t, m.path("made"))
	want["made/"] = ""
	ok(t, "rmdir", os.Remove(m.path("doomed")))
	ok(t, "kill", m.cmd.Process.Kill())
	<-m.ended
	_, err = os.Stat(m.path("f1"))
	isErr(t, "stat on a dead mount", err, syscall.ENOTCONN)
	run(t, "/", program(t), "unmount", m.dir)
	if _, err := os.ReadDir(m.dir); err != nil {
		t.Errorf("after agentfs unmount: %v", err)
	}

	s.start()
	again := startS3(t, s.Server, cache, nil, options...)
	for name, content := range want {
		if !strings.HasSuffix(name, "/") {
			holds(t, again.path(name), content)
		}
	}
	again.sync()
	s.holdsJust(want)
	if got := names(t, again.dir); slices.ContainsFunc(got, func(n string) bool {
		return slices.Contains([]string{"new.tmp", "old2", "old3", "scratch", "dir", "doomed"}, n)
	}) {
		t.Errorf("listed: %q", got)
	}
	again.unmount(t)
	s.holdsJust(want)
}

// holdsJust fails unless the bucket has these objects, below the route's prefix,
// and no others but for empty directories' keys of what is there.
func (s *ownServer) holdsJust(want map[string]string) {
	s.t.Helper()
	have := map[string]bool{}
	for _, k := range s.Keys(s.t) {
		name := strings.TrimPrefix(k, keyPrefix)
		if strings.HasPrefix(filepath.Base(name), ".agentfs-") {
			continue // attribute records; of a probe that an outage cut off, the log says so
		}
		have[name] = true
		content, wanted := want[name]
		if !wanted && strings.HasSuffix(name, "/") {
			for w := range want {
				wanted = wanted || strings.HasPrefix(w, name)
			}
		}
		if !wanted {
			s.t.Errorf("the bucket has %s", k)
		} else if got, _ := getObject(s.t, s.Server, k); got != content {
			s.t.Errorf("the bucket has %s for %s, want %s", brief(got), name, brief(content))
		}
	}
	for name := range want {
		if !have[name] {
			s.t.Errorf("the bucket does not have %s", name)
		}
	}
}

// With durability=close on a route, close(2) returns when the store has the
// content, and so do truncate(2), rename(2), unlink(2), mkdir(2) and rmdir(2) for
// what they do; close(2) fails if the store can't be reached, and the change is in
// the journal nevertheless. Of a file that is still open the store has what it
// had.
func TestDurabilityClose(t *testing.T) {
	s := startOwnServer(t)
	m := startS3(t, s.Server, "", nil, "durability", "close", "request_timeout", "1s", "retry_timeout", "1s", "ttl", "1h")
	for i := range 20 {
		name := fmt.Sprint("f", i)
		write(t, m.path(name), strings.Repeat(name, i*1000))
		m.holdsObject(name, strings.Repeat(name, i*1000))
	}
	there := func(name string) bool { _, there := getObject(t, m.server, keyPrefix+name); return there }
	mkdir(t, m.path("d"))
	if !there("d/") {
		t.Error("the bucket has no key for the empty directory")
	}
	ok(t, "rename", os.Rename(m.path("f3"), m.path("d/g")))
	m.holdsObject("d/g", strings.Repeat("f3", 3000))
	if there("f3") {
		t.Error("the bucket still has the old name")
	}
	ok(t, "truncate", os.Truncate(m.path("d/g"), 2))
	m.holdsObject("d/g", "f3")
	ok(t, "unlink", os.Remove(m.path("d/g")))
	if there("d/g") {
		t.Error("the bucket still has the unlinked file")
	}
	ok(t, "rmdir", os.Remove(m.path("d")))
	if there("d/") {
		t.Error("the bucket still has the directory")
	}
	f := open(t, m.path("f5"), os.O_WRONLY|os.O_APPEND)
	s.kill()
	_, err := f.WriteString("more")
	ok(t, "write", err)
	isErr(t, "close", f.Close(), syscall.EIO)
	s.start()
	m.unmount(t)
	m.holdsObject("f5", strings.Repeat("f5", 5000)+"more")
}

// fsync(2) and fdatasync(2) return when the store has what the file holds, and
// fsync on a directory when it has everything below that directory, removals
// included. A file stays open, and later writes are sent after the next fsync or
// close.
func TestFsync(t *testing.T) {
	p := onS3(t)
	f := open(t, p.path("f"), os.O_RDWR|os.O_CREATE)
	_, err := f.WriteString("one")
	ok(t, "write", err)
	ok(t, "fsync", f.Sync())
	p.holdsObjectNow("f", "one")
	_, err = f.WriteString(" two")
	ok(t, "write", err)
	ok(t, "fdatasync", syscall.Fdatasync(int(f.Fd())))
	p.holdsObjectNow("f", "one two")
	_, err = f.WriteString(" three")
	ok(t, "write", err)
	mkdir(t, p.path("d"))
	g := open(t, p.path("d/g"), os.O_WRONLY|os.O_CREATE)
	_, err = g.WriteString("below")
	ok(t, "write", err)
	d := open(t, p.dir, os.O_RDONLY)
	ok(t, "fsync of the directory", d.Sync())
	p.holdsObjectNow("f", "one two three")
	p.holdsObjectNow("d/g", "below")
	ok(t, "unlink", os.Remove(p.path("d/g")))
	ok(t, "fsync of the directory", d.Sync())
	if _, there := p.objectNow("d/g"); there {
		t.Error("the bucket still has the removed file")
	}
}

// sync(1) and syncfs(2) reach no FUSE server: they return and nothing was
// asked. "agentfs sync", or fsync on the route's directory, is the call that
// waits for the stores.
func TestAgentfsSync(t *testing.T) {
	p := onS3(t)
	// In a process of its own: no other test may close a duplicate of it.
	cmd := exec.Command("sh", "-c", `exec 3>f && printf unclosed >&3 && echo written && read x`)
	cmd.Dir = p.dir
	in, err := cmd.StdinPipe()
	ok(t, "pipe", err)
	out, err := cmd.StdoutPipe()
	ok(t, "pipe", err)
	ok(t, "start", cmd.Start())
	defer cmd.Wait()
	defer in.Close()
	_, err = out.Read(make([]byte, 10))
	ok(t, "waiting for the writer", err)
	run(t, "/", program(t), "sync", p.tree.dir)
	p.holdsObjectNow("f", "unclosed")
}

// While something can't be stored, fsync(2) of it and of a directory above it
// fail: EACCES if the store refuses it, EIO otherwise. agentfs sync says what it
// is and exits with status 3, and so do agentfs unmount and the process of the
// mount. What they could not store is in the journal, and the next mount sends
// it.
func TestBarriersReportWhatIsNotStored(t *testing.T) {
	server := s3test.Versitygw(t)
	proxy := s3test.NewProxy(t, server)
	for kind, c := range map[string]struct {
		fault s3test.Fault
		errno syscall.Errno
	}{
		"outage": {s3test.Fault{Status: 503}, syscall.EIO},
		"denied": {s3test.Fault{Status: 403}, syscall.EACCES},
	} {
		t.Run(kind, func(t *testing.T) {
			cache := publicTempDir(t)
			m := startS3(t, server.Through(proxy), cache, []string{"--drain-timeout", "3s"}, "max_attempts", "1", "retry_timeout", "1s", "ttl", "1h")
			mkdir(t, m.path(kind))
			m.sync()
			proxy.Inject(func(r s3test.Request) s3test.Fault {
				if r.Op == "PutObject" {
					return c.fault
				}
				return s3test.Fault{}
			})
			defer proxy.Inject(nil)
			name := m.path(kind + "/f")
			write(t, name, kind)
			f, d := open(t, name, os.O_RDONLY), open(t, m.path(kind), os.O_RDONLY)
			isErr(t, "fsync", f.Sync(), c.errno)
			isErr(t, "fsync of the directory", d.Sync(), c.errno)
			out, err := exec.Command(program(t), "sync", m.dir).CombinedOutput()
			if status := exitStatus(err); status != 3 || !strings.Contains(string(out), name) {
				t.Errorf("agentfs sync: exit status %d: %s", status, out)
			}
			f.Close()
			d.Close()
			out, err = exec.Command(program(t), "unmount", m.dir).CombinedOutput()
			if status := exitStatus(err); status != 3 {
				t.Errorf("agentfs unmount: exit status %d: %s", status, out)
			}
			m.wait(t)
			if code := m.cmd.ProcessState.ExitCode(); code != 3 {
				t.Errorf("agentfs mount: exit status %d\n%s", code, m.log)
			}
			proxy.Inject(nil)
			startS3(t, server.Through(proxy), cache, nil).unmount(t)
			m.holdsObject(kind+"/f", kind)
		})
	}
}

// exitStatus returns the status that a command ended with.
func exitStatus(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -1
}

// A temporary file that is written and renamed over another one is a single PUT
// of the target. What is created and removed again within the grace (100 ms
// after its last change) costs no request at all.
func TestTemporaryFilesCostNothing(t *testing.T) {
	server := s3test.Versitygw(t)
	proxy := s3test.NewProxy(t, server)
	m := startS3(t, server.Through(proxy), "", nil, "ttl", "1h", "grace", "1s")
	write(t, m.path("target"), "old")
	m.sync()
	names(t, m.dir)
	proxy.Reset()
	write(t, m.path("target.tmp"), "new")
	ok(t, "rename", os.Rename(m.path("target.tmp"), m.path("target")))
	write(t, m.path("scratch"), "scratch")
	ok(t, "unlink", os.Remove(m.path("scratch")))
	mkdir(t, m.path("d/e"))
	write(t, m.path("d/e/f"), "scratch")
	ok(t, "rm -r", os.RemoveAll(m.path("d")))
	m.sync()
	if counts := proxy.Counts(); counts["PutObject"] != 1 || proxy.Total() != 1 {
		t.Errorf("the store was asked %v", counts)
	}
	m.holdsObject("target", "new")
	if keys := server.Keys(t); len(keys) != 1 {
		t.Errorf("the bucket has %q", keys)
	}
}

// What a close or fsync has seen is sent as it was then: a program that goes on
// writing, through write(2) or a mapping, neither waits for the upload nor gets
// into it. No object is ever a mixture of two states.
func TestWritersDoNotTearObjects(t *testing.T) {
	server := s3test.Versitygw(t)
	proxy := s3test.NewProxy(t, server)
	m := startS3(t, server.Through(proxy), "", nil, "grace", "0s")
	proxy.Inject(func(r s3test.Request) s3test.Fault {
		if r.Op == "PutObject" {
			return s3test.Fault{Delay: 200 * time.Millisecond}
		}
		return s3test.Fault{}
	})
	const size = 1 << 20
	all := func(b byte) string { return strings.Repeat(string(b), size) }
	for _, how := range []string{"write", "mapping"} {
		write(t, m.path(how), all('a'))
		f := open(t, m.path(how), os.O_RDWR)
		mapped, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		ok(t, "mmap", err)
		for b := byte('b'); b < 'h'; b++ {
			if how == "write" {
				_, err := f.WriteAt([]byte(all(b)), 0)
				ok(t, "write", err)
			} else {
				copy(mapped, all(b))
			}
			// fsync seals this state and waits for it, while the next one is
			// being written.
			synced := make(chan error, 1)
			go func() { synced <- f.Sync() }()
			time.Sleep(100 * time.Millisecond)
			if how == "write" {
				_, err = f.WriteAt([]byte(all('X')[:size/2]), size/4)
				ok(t, "write", err)
			} else {
				copy(mapped[size/4:], all('X')[:size/2])
			}
			ok(t, "fsync", <-synced)
			if got, _ := getObject(t, server, keyPrefix+how); got != all(b) {
				t.Errorf("%s: the object of state %c has %d of its bytes", how, b, strings.Count(got, string(b)))
			}
		}
		ok(t, "munmap", unix.Munmap(mapped))
		ok(t, "close", f.Close())
	}
}

// SIGTERM and SIGINT end a mount in order: everything is sent, files that are
// still open as they are, then the mount goes and the process ends with status 0.
// So does "agentfs unmount", and after a plain umount(8) the process goes on until
// everything is stored.
func TestSignalFlushesAndUnmounts(t *testing.T) {
	server := s3test.Versitygw(t)
	for name, end := range map[string]func(m s3Mount) error{
		"SIGTERM": func(m s3Mount) error { return m.cmd.Process.Signal(syscall.SIGTERM) },
		"SIGINT":  func(m s3Mount) error { return m.cmd.Process.Signal(syscall.SIGINT) },
		"umount":  func(m s3Mount) error { return exec.Command("umount", m.dir).Run() },
	} {
		t.Run(name, func(t *testing.T) {
			if name == "umount" {
				needRoot(t)
			}
			m := startS3(t, server, "", nil)
			write(t, m.path("closed-"+name), "closed")
			if name != "umount" { // which refuses while files are open
				f := open(t, m.path("open-"+name), os.O_WRONLY|os.O_CREATE)
				_, err := f.WriteString("open")
				ok(t, "write", err)
				defer f.Close()
			}
			ok(t, name, end(m))
			m.wait(t)
			if code := m.cmd.ProcessState.ExitCode(); code != 0 {
				t.Errorf("exit status %d\n%s", code, m.log)
			}
			m.holdsObject("closed-"+name, "closed")
			if name != "umount" {
				m.holdsObject("open-"+name, "open")
			}
			mounts, err := os.ReadFile("/proc/self/mounts")
			if ok(t, "mounts", err); bytes.Contains(mounts, []byte(m.dir)) {
				t.Error("still mounted")
			}
		})
	}
}

// A signal to a program aborts none of its calls on files: write, close, rename
// and fsync run to their end, and the program hears EINTR only when it is being
// killed. A program that gets hundreds of signals a second works as without
// them.
func TestSignalsAbortNothing(t *testing.T) {
	onEach(t, func(t *testing.T, p place) {
		bomb := func(pid int, stop chan struct{}) {
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
					_ = syscall.Kill(pid, syscall.SIGUSR1) // it may have ended
				}
			}
		}
		// The shell restarts nothing and reports every failure.
		cmd := exec.Command("bash", "-c", `
			trap : USR1
			set -e
			for i in $(seq 25); do
				head -c 100000 /dev/zero > tmp || exit 3
				mv tmp f$i || exit 4
				cat f$i > /dev/null || exit 5
			done`)
		cmd.Dir = p.dir
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		ok(t, "start", cmd.Start())
		stop := make(chan struct{})
		time.Sleep(20 * time.Millisecond) // until the trap is set
		go bomb(cmd.Process.Pid, stop)
		// And this process, whose own calls are interrupted likewise.
		go bomb(os.Getpid(), stop)
		for i := range 25 {
			write(t, p.path(fmt.Sprint("g", i)), strings.Repeat("g", 50_000))
		}
		err := cmd.Wait()
		close(stop)
		if err != nil {
			t.Fatalf("%v\n%s", err, &out)
		}
		for i := range 25 {
			holds(t, p.path(fmt.Sprint("f", i+1)), strings.Repeat("\x00", 100_000))
			if p.s3 {
				p.holdsObject(fmt.Sprint("g", i), strings.Repeat("g", 50_000))
			}
		}
	})
}
