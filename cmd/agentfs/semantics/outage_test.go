package semantics

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends/s3/s3test"
)

// While the store can't be reached, what needs it fails with EIO in bounded
// time: a request of its own ends at the route's retry_timeout, and every
// operation at --timeout (close and fsync at ten times that). What is here is
// readable. A close that fails says so, its bytes are kept and shown as
// pending, and are uploaded by the mount itself when the store is back. Other
// routes notice nothing.
func TestStoreOutage(t *testing.T) {
	// Not in parallel: the descriptors that another test's new process closes are
	// closes of this one's open files.
	for name, outage := range map[string]struct{ begin, end func(s *ownServer) }{
		"hangs": {func(s *ownServer) { s.signal(syscall.SIGSTOP) }, func(s *ownServer) { s.signal(syscall.SIGCONT) }},
		"dies":  {func(s *ownServer) { s.kill() }, func(s *ownServer) { s.start() }},
	} {
		t.Run(name, func(t *testing.T) {
			s := startOwnServer(t)
			m := start(t, setup{
				server: s.Server, flags: []string{"--timeout", "3s"},
				routes: []string{"/=memory:", "/s3=" + s3URL(s.Server, "ttl", "100ms", "request_timeout", "1s", "retry_timeout", "2s")},
			})
			at := func(name string) string { return m.dir + "/s3/" + name }
			write(t, at("here"), "here")
			s.Put(t, keyPrefix+"there", "there")
			r, w := open(t, at("here"), os.O_RDONLY), open(t, at("written"), os.O_WRONLY|os.O_CREATE)
			holds(t, at("here"), "here")
			time.Sleep(200 * time.Millisecond)

			outage.begin(s)
			inTime := func(what string, limit time.Duration, f func() error) {
				t.Helper()
				began := time.Now()
				isErr(t, what, f(), syscall.EIO)
				if d := time.Since(began); d > limit {
					t.Errorf("%s took %s", what, d)
				}
			}
			inTime("open", 10*time.Second, func() error { _, err := os.ReadFile(at("there")); return err })
			inTime("readdir", 10*time.Second, func() error { _, err := os.ReadDir(m.dir + "/s3"); return err })
			_, err := w.WriteString("local work")
			ok(t, "write to the open file", err)
			inTime("close", 40*time.Second, w.Close)
			buf := make([]byte, 4)
			_, err = r.ReadAt(buf, 0)
			ok(t, "read of what is here", err)
			write(t, m.dir+"/memory", "works")
			holds(t, m.dir+"/memory", "works")
			if st := m.status(t); st.Pending != 1 {
				t.Errorf("%d pending", st.Pending)
			}

			outage.end(s)
			within(t, 75*time.Second, "uploaded", func() bool { return m.status(t).Pending == 0 })
			if got := s.file("written"); got != "local work" {
				t.Errorf("the store has %q", got)
			}
			holds(t, at("there"), "there")
			holds(t, at("written"), "local work")
		})
	}
}

// A mount that ends while the store can't be reached keeps what is not uploaded
// in the cache directory, names it, and exits with a status other than 0.
func TestEndDuringAnOutageKeepsTheBytes(t *testing.T) {
	s := startOwnServer(t)
	m := startS3(t, s.Server, "", []string{"--timeout", "1s", "--drain-timeout", "2s"}, "request_timeout", "1s", "retry_timeout", "1s")
	write(t, m.path("before"), "before")
	s.Put(t, keyPrefix+"large", strings.Repeat("l", 3<<20))
	large := open(t, m.path("large"), os.O_WRONLY|os.O_APPEND)
	s.kill()
	_, err := large.WriteString("the end of it")
	ok(t, "write", err)
	isErr(t, "close", large.Close(), syscall.EIO)
	f := open(t, m.path("before"), os.O_WRONLY|os.O_APPEND)
	_, err = f.WriteString(", unsent")
	ok(t, "write", err)
	isErr(t, "close", f.Close(), syscall.EIO)
	ok(t, "SIGTERM", m.cmd.Process.Signal(syscall.SIGTERM))
	m.wait(t)
	if m.cmd.ProcessState.ExitCode() == 0 {
		t.Error("exit status 0")
	}
	if !strings.Contains(m.log.String(), "before") {
		t.Errorf("the file is not named:\n%s", m.log)
	}
	for _, text := range []string{"before, unsent", "the end of it"} {
		if err := exec.Command("grep", "-raqF", text, m.cacheDir).Run(); err != nil {
			t.Errorf("%q is not in the cache directory\n%s", text, m.log)
		}
	}
}

// Writing more than a memory route's size is ENOSPC at the write, and what was
// there stays; after something is removed there is room again. The same holds
// for the disk space that the cache may use (cache: {size: ...}): what waits to
// be uploaded is never thrown away for something newer.
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
		ok(t, "rename", os.Rename(m.path(name), m.path(name+".moved")))
		holds(t, m.path(name+".moved"), strings.Repeat(name, 2000))
		if i%2 == 0 {
			ok(t, "unlink", os.Remove(m.path(name+".moved")))
		}
	}
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
