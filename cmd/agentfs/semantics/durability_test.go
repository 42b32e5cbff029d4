package semantics

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

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

func (m s3Mount) holdsObject(name, want string) {
	m.t.Helper()
	if got, there := getObject(m.t, m.server, keyPrefix+name); !there || got != want {
		m.t.Errorf("the bucket has %s (there: %v) for %s, want %s", brief(got), there, name, brief(want))
	}
}

// On S3, close(2) returns when the store has the content of a file that was
// open for writing (durability=close, the only one in this version), and so do
// truncate(2), rename(2), unlink(2), mkdir(2) and rmdir(2) for what they do. Of
// a file that is still open the store has what it had.
func TestCloseReturnsWhenTheStoreHasIt(t *testing.T) {
	p := onS3(t)
	for i := range 20 {
		name := fmt.Sprint("f", i)
		write(t, p.path(name), strings.Repeat(name, i*1000))
		p.holdsObject(name, strings.Repeat(name, i*1000))
	}
	mkdir(t, p.path("d"))
	if _, there := p.object("d/"); !there {
		t.Error("the bucket has no key for the empty directory")
	}
	ok(t, "rename", os.Rename(p.path("f3"), p.path("d/g")))
	p.holdsObject("d/g", strings.Repeat("f3", 3000))
	ok(t, "unlink", os.Remove(p.path("d/g")))
	if _, there := p.object("d/g"); there {
		t.Error("the bucket still has the unlinked file")
	}
	ok(t, "rmdir", os.Remove(p.path("d")))
	if _, there := p.object("d/"); there {
		t.Error("the bucket still has the directory")
	}
}

// fsync(2) and fdatasync(2) return when the store has what the file holds, and
// fsync on a directory when it has everything below that directory. A file
// stays open, and later writes are put by the next fsync or close.
func TestFsync(t *testing.T) {
	p := onS3(t)
	f := open(t, p.path("f"), os.O_RDWR|os.O_CREATE)
	_, err := f.WriteString("one")
	ok(t, "write", err)
	ok(t, "fsync", f.Sync())
	p.holdsObject("f", "one")
	_, err = f.WriteString(" two")
	ok(t, "write", err)
	ok(t, "fdatasync", syscall.Fdatasync(int(f.Fd())))
	p.holdsObject("f", "one two")
	_, err = f.WriteString(" three")
	ok(t, "write", err)
	mkdir(t, p.path("d"))
	g := open(t, p.path("d/g"), os.O_WRONLY|os.O_CREATE)
	_, err = g.WriteString("below")
	ok(t, "write", err)
	d := open(t, p.dir, os.O_RDONLY)
	ok(t, "fsync of the directory", d.Sync())
	p.holdsObject("f", "one two three")
	p.holdsObject("d/g", "below")
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
	p.holdsObject("f", "unclosed")
}

// Whatever close(2) or fsync(2) acknowledged on an S3 route is in the bucket,
// also when the process of the mount is killed (SIGKILL) a moment later. What
// was written and not yet closed dies with it. The mount point of the dead
// mount answers ENOTCONN, "agentfs unmount" clears it, and the next mount takes
// the same cache directory.
func TestKilledMountLosesNothingAcknowledged(t *testing.T) {
	server := s3test.Versitygw(t)
	cache := publicTempDir(t)
	m := startS3(t, server, cache, nil)
	acknowledged := map[string]string{}
	for i := range 30 {
		name := fmt.Sprint("f", i)
		acknowledged[name] = strings.Repeat(name+" ", 5000)
		write(t, m.path(name), acknowledged[name])
	}
	f := open(t, m.path("synced"), os.O_WRONLY|os.O_CREATE)
	_, err := f.WriteString("synced")
	ok(t, "write", err)
	ok(t, "fsync", f.Sync())
	acknowledged["synced"] = "synced"
	ok(t, "kill", m.cmd.Process.Kill())
	<-m.ended
	_, err = os.Stat(m.path("f1"))
	isErr(t, "stat on a dead mount", err, syscall.ENOTCONN)
	f.Close()
	run(t, "/", program(t), "unmount", m.dir)
	if _, err := os.ReadDir(m.dir); err != nil {
		t.Errorf("after agentfs unmount: %v", err)
	}
	for name, content := range acknowledged {
		m.holdsObject(name, content)
	}
	again := startS3(t, server, cache, nil)
	for name, content := range acknowledged {
		holds(t, again.path(name), content)
	}
}

// SIGTERM and SIGINT end a mount in order: files that are still open are put as
// they are, then the mount goes and the process ends with status 0. So does
// "agentfs unmount", and a plain umount(8).
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
