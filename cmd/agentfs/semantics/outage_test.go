package semantics

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends/s3/s3test"
)

// While the store can't be reached, work goes on with what is here: files are
// read and written, created, renamed and removed, and close(2) succeeds. What
// needs the store fails with EIO in bounded time: a request of its own ends at the
// route's retry_timeout, and every operation at --timeout (close and fsync at ten
// times that). `agentfs status` and .agentfs/errors show what waits and why; the
// store follows by itself when it is back. Other routes notice nothing.
func TestStoreOutage(t *testing.T) {
	// Not in parallel: the descriptors that another test's new process closes are
	// closes of this one's open files.
	for name, outage := range map[string]struct{ begin, end func(s *ownServer) }{
		"hangs": {func(s *ownServer) { s.signal(syscall.SIGSTOP) }, func(s *ownServer) { s.signal(syscall.SIGCONT) }},
		"dies":  {func(s *ownServer) { s.kill() }, func(s *ownServer) { s.start() }},
	} {
		t.Run(name, func(t *testing.T) {
			s := startOwnServer(t)
			s.Put(t, keyPrefix+"there", "there")
			m := start(t, setup{
				server: s.Server, flags: []string{"--timeout", "3s"},
				routes: []string{"/=memory:", "/s3=" + s3URL(s.Server, "ttl", "1h", "request_timeout", "1s", "retry_timeout", "2s")},
			})
			at := func(name string) string { return m.dir + "/s3/" + name }
			write(t, at("here"), "here")
			names(t, m.dir+"/s3")
			mkdir(t, at("d"))
			write(t, at("d/removed"), "removed")
			write(t, at("renamed"), "renamed")
			syncDir(t, at("."))
			r, w := open(t, at("here"), os.O_RDONLY), open(t, at("written"), os.O_WRONLY|os.O_CREATE)
			holds(t, at("here"), "here")
			f := open(t, at("written"), os.O_RDONLY)

			outage.begin(s)
			inTime := func(what string, limit time.Duration, f func() error) {
				t.Helper()
				began := time.Now()
				isErr(t, what, f(), syscall.EIO)
				if d := time.Since(began); d > limit {
					t.Errorf("%s took %s", what, d)
				}
			}
			_, err := w.WriteString("local work")
			ok(t, "write to the open file", err)
			ok(t, "close", w.Close())
			write(t, at("d/created"), "created")
			ok(t, "unlink", os.Remove(at("d/removed")))
			ok(t, "rename", os.Rename(at("renamed"), at("d/moved")))
			ok(t, "rename of a directory made here", os.Rename(at("d"), at("e")))
			mkdir(t, at("made"))
			holds(t, at("e/moved"), "renamed")
			inTime("fsync", 40*time.Second, f.Sync)
			inTime("open", 10*time.Second, func() error { _, err := os.ReadFile(at("there")); return err })
			buf := make([]byte, 4)
			_, err = r.ReadAt(buf, 0)
			ok(t, "read of what is here", err)
			write(t, m.dir+"/memory", "works")
			holds(t, m.dir+"/memory", "works")
			if st := m.status(t); st.Pending < 4 {
				t.Errorf("%d pending", st.Pending)
			}
			if shown := read(t, m.dir+"/.agentfs/errors"); !strings.Contains(shown, "outage: put "+at("written")) {
				t.Errorf(".agentfs/errors: %s", shown)
			}
			// In words it shows the first few.
			if shown := run(t, "/", program(t), "status", "--json", m.dir); !strings.Contains(shown, `"name": "written"`) {
				t.Errorf("agentfs status: %s", shown)
			}

			outage.end(s)
			within(t, 75*time.Second, "uploaded", func() bool { return m.status(t).Pending == 0 })
			if shown := read(t, m.dir+"/.agentfs/errors"); shown != "No errors.\n" {
				t.Errorf(".agentfs/errors: %s", shown)
			}
			s.holdsJust(map[string]string{
				"here": "here", "there": "there", "written": "local work", "e/created": "created", "e/moved": "renamed", "made/": "",
			})
			holds(t, at("there"), "there")
		})
	}
}

// An upload that has failed is told by the next close(2) or fsync(2) of the file,
// once, and tried again all the same, with growing pauses. What the store refuses
// (403) stands in .agentfs/errors as a matter of permissions, with what to do, and
// holds up nothing else.
func TestFailedUploadIsToldOnce(t *testing.T) {
	server := s3test.Versitygw(t)
	proxy := s3test.NewProxy(t, server)
	m := startS3(t, server.Through(proxy), "", nil, "ttl", "1h")
	write(t, m.path("f"), "one")
	write(t, m.path("other"), "one")
	m.sync()
	var refused atomic.Int64
	proxy.Inject(func(r s3test.Request) s3test.Fault {
		if r.Op == "PutObject" && strings.HasSuffix(r.Key, "/f") {
			refused.Add(1)
			return s3test.Fault{Status: 403}
		}
		return s3test.Fault{}
	})
	f := open(t, m.path("f"), os.O_WRONLY|os.O_APPEND)
	g := open(t, m.path("f"), os.O_WRONLY|os.O_APPEND)
	_, err := g.WriteString(", two")
	ok(t, "write", err)
	ok(t, "close", g.Close())
	within(t, 10*time.Second, "in .agentfs/errors", func() bool {
		return strings.Contains(read(t, filepath.Join(m.dir, ".agentfs", "errors")), "permission: put "+m.path("f"))
	})
	write(t, m.path("other"), "two")
	isErr(t, "the next close", f.Close(), syscall.EACCES)
	h := open(t, m.path("f"), os.O_RDONLY)
	ok(t, "close after that, of a reader", h.Close())
	within(t, 10*time.Second, "the other one stored", func() bool { got, _ := getObject(t, server, keyPrefix+"other"); return got == "two" })
	proxy.Inject(nil)
	m.sync()
	m.holdsObject("f", "one, two")
}

// A mount that ends while the store can't be reached keeps what is not stored in
// the journal, says how much that is and where, and exits with status 3. `agentfs
// recover` sends it, as the next mount would.
func TestEndDuringAnOutageKeepsTheBytes(t *testing.T) {
	s := startOwnServer(t)
	options := []string{"request_timeout", "1s", "retry_timeout", "1s", "ttl", "1h"}
	large := strings.Repeat("l", 3<<20)
	s.Put(t, keyPrefix+"large", large)
	m := startS3(t, s.Server, "", []string{"--timeout", "1s", "--drain-timeout", "2s"}, options...)
	write(t, m.path("before"), "before")
	m.sync()
	l := open(t, m.path("large"), os.O_WRONLY|os.O_APPEND)
	s.kill()
	_, err := l.WriteString("the end of it")
	ok(t, "write", err)
	ok(t, "close", l.Close())
	f := open(t, m.path("before"), os.O_WRONLY|os.O_APPEND)
	_, err = f.WriteString(", unsent")
	ok(t, "write", err)
	ok(t, "close", f.Close())
	ok(t, "SIGTERM", m.cmd.Process.Signal(syscall.SIGTERM))
	m.wait(t)
	if code := m.cmd.ProcessState.ExitCode(); code != 3 {
		t.Errorf("exit status %d", code)
	}
	if said := m.log.String(); !strings.Contains(said, "2 changes") || !strings.Contains(said, m.cacheDir) {
		t.Errorf("it does not say what is left, and where:\n%s", said)
	}
	s.start()
	cmd := exec.Command(program(t), "recover", "--cache-dir", m.cacheDir)
	cmd.Env = setup{server: s.Server}.env()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("agentfs recover: %v\n%s", err, out)
	}
	s.holdsJust(map[string]string{"before": "before, unsent", "large": large + "the end of it"})
}

// Writing more than a memory route's size is ENOSPC at the write, and what was
// there stays; after something is removed there is room again. The same holds
// for the disk space that the cache may use (cache: {size: ...}): what waits to
// be uploaded is never thrown away for something newer, and a writer waits for
// uploads that make room before it gets ENOSPC.
func TestNoSpace(t *testing.T) {
	m := start(t, setup{routes: []string{"/=memory:?size=16MiB"}})
	write(t, m.dir+"/kept", "kept")
	f := open(t, m.dir+"/big", os.O_WRONLY|os.O_CREATE)
	var err error
	for range 40 {
		if _, err = f.Write(make([]byte, 1<<20)); err != nil {
			break
		}
	}
	isErr(t, "write", err, unix.ENOSPC)
	holds(t, m.dir+"/kept", "kept")
	ok(t, "close", f.Close())
	ok(t, "unlink", os.Remove(m.dir+"/big"))
	within(t, 5*time.Second, "room again", func() bool {
		return os.WriteFile(m.dir+"/fits", make([]byte, 8<<20), 0o644) == nil
	})

	server := s3test.Versitygw(t)
	config := filepath.Join(t.TempDir(), "agentfs.yaml")
	write(t, config, fmt.Sprintf("cache: {size: 8MiB}\nroutes:\n  /: {backend: s3, bucket: %s, prefix: %s, endpoint: %q, region: %s}\n",
		server.Bucket, strings.TrimSuffix(keyPrefix, "/"), server.Endpoint, server.Region))
	c := start(t, setup{server: server, flags: []string{"--config", config}})
	big := open(t, c.dir+"/big", os.O_WRONLY|os.O_CREATE)
	for range 40 {
		if _, err = big.Write(make([]byte, 1<<20)); err != nil {
			break
		}
	}
	isErr(t, "write beyond the cache's size", err, unix.ENOSPC)
	ok(t, "ftruncate", big.Truncate(0))
	ok(t, "close", big.Close())
	for i := range 6 { // more than the cache holds at once
		write(t, fmt.Sprint(c.dir, "/f", i), strings.Repeat(fmt.Sprint(i), 3<<20))
	}
	for i := range 6 {
		holds(t, fmt.Sprint(c.dir, "/f", i), strings.Repeat(fmt.Sprint(i), 3<<20))
	}
}

// An answer of the store that gets lost is no conflict and no error: the mount
// finds out whether what it asked was done. Nor are errors that pass, such as
// 500 and 503, and answers that are cut short.
func TestFaultsThatPass(t *testing.T) {
	server := s3test.Versitygw(t)
	proxy := s3test.NewProxy(t, server)
	m := startS3(t, server.Through(proxy), "", nil, "ttl", "0s")
	proxy.Inject(func(r s3test.Request) s3test.Fault {
		switch {
		case strings.Contains(r.Key, ".agentfs"):
		case r.Op == "GetObject" && r.N%3 == 0:
			return s3test.Fault{Cut: 1000}
		case r.N%4 == 1:
			return s3test.Fault{Lost: true}
		case r.N%4 == 2:
			return s3test.Fault{Status: 503}
		case r.N%7 == 3:
			return s3test.Fault{Reset: true}
		}
		return s3test.Fault{}
	})
	for i := range 5 {
		name := fmt.Sprint("f", i)
		write(t, m.path(name), strings.Repeat(name, 3000))
		write(t, m.path(name), strings.Repeat(name, 2000))
		m.sync()
		ok(t, "rename", os.Rename(m.path(name), m.path(name+".moved")))
		holds(t, m.path(name+".moved"), strings.Repeat(name, 2000))
		if i%2 == 0 {
			ok(t, "unlink", os.Remove(m.path(name+".moved")))
		}
	}
	m.sync()
	proxy.Inject(nil)
	if got := names(t, m.dir); len(got) != 2 {
		t.Errorf("listed: %q", got)
	}
	for i := 1; i < 5; i += 2 {
		name := fmt.Sprint("f", i)
		m.holdsObject(name+".moved", strings.Repeat(name, 2000))
	}
	if st := m.status(t); st.Conflicts != 0 || st.Pending != 0 {
		t.Errorf("%+v", st)
	}
}
