package semantics

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/agentfs/agentfs/backends/s3/s3test"
)

// metered is a mount of S3 behind a proxy that counts the bytes that it sends
// and the requests that it reads objects with.
type metered struct {
	s3Mount
	proxy *s3test.Proxy
	sent  atomic.Int64
	gets  atomic.Int64 // of what is no scratch or record of ours
}

func startMetered(t *testing.T, server s3test.Server, cache string) *metered {
	t.Helper()
	return meteredBy(t, s3test.NewProxy(t, server), server, cache)
}

// meteredBy is startMetered with the proxy of an earlier mount: what a store is
// called is part of what it is.
func meteredBy(t *testing.T, proxy *s3test.Proxy, server s3test.Server, cache string) *metered {
	t.Helper()
	m := &metered{proxy: proxy}
	proxy.Inject(func(r s3test.Request) s3test.Fault {
		if r.Op == "GetObject" && !strings.Contains(r.Key, ".agentfs-") {
			m.gets.Add(1)
		}
		n, _ := strconv.ParseInt(r.Header.Get("Content-Length"), 10, 64)
		m.sent.Add(n)
		return s3test.Fault{}
	})
	m.s3Mount = startS3(t, server.Through(proxy), cache, nil, "ttl", "1h")
	return m
}

func (m *metered) sync() {
	m.t.Helper()
	run(m.t, "/", program(m.t), "sync", m.dir)
}

// moved returns what went through this machine since the last call.
func (m *metered) moved() (sent, gets int64) {
	m.proxy.Reset()
	return m.sent.Swap(0), m.gets.Swap(0)
}

// movedNothing fails if a content has gone through this machine.
func (m *metered) movedNothing(what string) {
	m.t.Helper()
	counts := m.proxy.Counts()
	if sent, gets := m.moved(); sent > 64<<10 || gets > 0 {
		m.t.Errorf("%s: %d bytes were sent, %d objects read: %v", what, sent, gets, counts)
	}
}

func lettersOf(size int) string {
	var b strings.Builder
	for i := 0; b.Len() < size; i++ {
		b.WriteString(strconv.Itoa(i * 7919))
		b.WriteByte('\n')
	}
	return b.String()[:size]
}

// cp(1) within an S3 route moves no bytes through this machine, of a file that
// was just written as of one that only the store has; what becomes of the
// source meanwhile is not the copy's business.
func TestCopyStaysInTheStore(t *testing.T) {
	server := s3test.Versitygw(t)
	cache := publicTempDir(t)
	content := lettersOf(32 << 20)
	server.Put(t, keyPrefix+"far", content)
	m := startMetered(t, server, cache)
	_ = names(t, m.dir)
	m.moved()
	run(t, m.dir, "cp", "far", "copy")
	m.sync()
	m.movedNothing("cp of what is far")
	m.holdsObject("copy", content)

	write(t, m.path("near"), content)
	m.sync()
	m.moved()
	run(t, m.dir, "cp", "near", "copy2")
	m.sync()
	m.movedNothing("cp of what is here")
	m.holdsObject("copy2", content)
	holds(t, m.path("copy2"), content)

	// Removed, overwritten and renamed right after the copy.
	m.moved()
	run(t, m.dir, "sh", "-c", "cp copy removed; rm copy; cp copy2 over; echo new > copy2; cp near renamed; mv near far2")
	m.sync()
	m.movedNothing("cp, and then the source goes")
	for _, name := range []string{"removed", "over", "renamed", "far2"} {
		m.holdsObject(name, content)
	}
	m.holdsObject("copy2", "new\n")
	if _, there := getObject(t, server, keyPrefix+"copy"); there {
		t.Error("copy is still there")
	}
}

// Appending a line to a large object, or changing one in its middle, does not
// send the whole.
func TestChangeOfALargeObject(t *testing.T) {
	server := s3test.Versitygw(t)
	content := lettersOf(32 << 20)
	server.Put(t, keyPrefix+"f", content)
	m := startMetered(t, server, "")
	_ = names(t, m.dir)
	for _, what := range []string{"far", "here"} {
		m.moved()
		f := open(t, m.path("f"), os.O_WRONLY|os.O_APPEND)
		_, err := f.WriteString(strings.Repeat("x", 1023) + "\n")
		ok(t, "write", err)
		ok(t, "fsync", f.Sync())
		content += strings.Repeat("x", 1023) + "\n"
		if sent, _ := m.moved(); sent > 64<<10 {
			t.Errorf("%s: an append of 1 KiB sent %d bytes", what, sent)
		}
		m.holdsObject("f", content)
		f = open(t, m.path("f"), os.O_WRONLY)
		_, err = f.WriteAt([]byte("changed"), 16<<20)
		ok(t, "write", err)
		ok(t, "fsync", f.Sync())
		content = content[:16<<20] + "changed" + content[16<<20+7:]
		if sent, _ := m.moved(); sent > 6<<20 {
			t.Errorf("%s: a change of 7 bytes sent %d bytes", what, sent)
		}
		m.holdsObject("f", content)
		holds(t, m.path("f"), content)
	}
	if left := leftUploads(t, server); left > 0 {
		t.Errorf("%d uploads are left", left)
	}
}

// A copy that the store does not have when the mount is killed is made by the
// next one; if another machine has changed the source meanwhile, there is no
// copy rather than one with zeros in it.
func TestCopyAcrossAKill(t *testing.T) {
	for _, changed := range []bool{false, true} {
		t.Run("changed="+strconv.FormatBool(changed), func(t *testing.T) {
			server := s3test.Versitygw(t)
			cache := publicTempDir(t)
			content := lettersOf(32 << 20)
			server.Put(t, keyPrefix+"f", content)
			m := startMetered(t, server, cache)
			_ = names(t, m.dir)
			refuse := func(r s3test.Request) s3test.Fault {
				if strings.Contains(r.Op, "Copy") || strings.Contains(r.Op, "Upload") || r.Op == "PutObject" {
					return s3test.Fault{Status: 503}
				}
				return s3test.Fault{}
			}
			m.proxy.Inject(refuse)
			run(t, m.dir, "cp", "f", "g")
			ok(t, "kill", m.cmd.Process.Kill())
			<-m.ended
			run(t, "/", program(t), "unmount", m.dir)
			if changed {
				server.Put(t, keyPrefix+"f", "theirs")
			}
			again := meteredBy(t, m.proxy, server, cache)
			cmd := exec.Command(program(t), "sync", again.dir)
			out, err := cmd.CombinedOutput()
			if !changed {
				ok(t, "sync: "+string(out), err)
				again.movedNothing("the next mount")
				again.holdsObject("g", content)
				return
			}
			within(t, 30*time.Second, "settled", func() bool { return again.status(t).Pending == 0 })
			if got, there := getObject(t, server, keyPrefix+"g"); there {
				t.Errorf("the bucket has a copy: %s", brief(got))
			}
			if b, err := os.ReadFile(again.path("g")); err == nil {
				t.Errorf("there is a copy: %s", brief(string(b)))
			}
			again.holdsObject("f", "theirs")
		})
	}
}

// A cp that is killed leaves what it had copied, as on any disk.
func TestCopyStoppedMidway(t *testing.T) {
	server := s3test.Versitygw(t)
	content := lettersOf(32 << 20)
	server.Put(t, keyPrefix+"f", content)
	m := startMetered(t, server, "")
	for i := range 5 {
		cmd := exec.Command("cp", "f", "g")
		cmd.Dir = m.dir
		ok(t, "cp", cmd.Start())
		time.Sleep(time.Duration(i) * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if gone(m.path("g")) {
			continue
		}
		m.sync()
		got, _ := getObject(t, server, keyPrefix+"g")
		if !strings.HasPrefix(content, got) {
			t.Errorf("the bucket has %s of it", brief(got))
		}
	}
}

func leftUploads(t *testing.T, s s3test.Server) int {
	t.Helper()
	out, err := clientOf(s).ListMultipartUploads(t.Context(), listUploads(s))
	ok(t, "listing uploads", err)
	return len(out.Uploads)
}

func listUploads(s s3test.Server) *awss3.ListMultipartUploadsInput {
	return &awss3.ListMultipartUploadsInput{Bucket: &s.Bucket}
}
