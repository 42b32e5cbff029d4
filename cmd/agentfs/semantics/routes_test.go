package semantics

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/agentfs/agentfs/backends/s3/s3test"
)

// ttl is the S3 route's on the mount that most tests share: short, because
// some wait for it to pass.
const ttl = time.Second

// keyPrefix is what the S3 route's keys begin with in the bucket.
const keyPrefix = "some/prefix/"

// tree is the mount that most tests share: memory at /, S3 at /s3-data and a
// host directory at /host.
type tree struct {
	*mount
	server s3test.Server
	host   string
}

var common = shared(func(t testing.TB) tree {
	server := s3test.Versitygw(t)
	host := publicTempDir(t)
	m := start(t, setup{
		server: server,
		routes: []string{"/=memory:?size=2GiB", "/s3-data=" + s3URL(server, "ttl", ttl.String()), "/host=local:" + host},
		flags:  allowOther(),
	})
	return tree{mount: m, server: server, host: host}
})

// allowOther lets other users in, where that may be said.
func allowOther() []string {
	if os.Geteuid() == 0 {
		return []string{"--allow-other"}
	}
	return nil
}

// s3URL returns the URL of a route to the server's bucket.
func s3URL(s s3test.Server, options ...string) string {
	u := fmt.Sprintf("s3://%s/%s?endpoint=%s&region=%s", s.Bucket, strings.TrimSuffix(keyPrefix, "/"), s.Endpoint, s.Region)
	for i := 0; i < len(options); i += 2 {
		u += "&" + options[i] + "=" + options[i+1]
	}
	return u
}

// place is a directory of a test's own on one route.
type place struct {
	t    testing.TB
	tree tree
	// dir is its path on this machine, key what the keys below it begin with,
	// "" on routes that have none.
	dir, key string
	s3       bool
}

// path returns the path of a name in the place.
func (p place) path(name string) string { return filepath.Join(p.dir, name) }

// sync waits until the store has everything in the place.
func (p place) sync() { p.t.Helper(); syncDir(p.t, p.dir) }

// syncDir waits until the store has everything below a directory.
func syncDir(t testing.TB, dir string) {
	t.Helper()
	d, err := os.Open(dir)
	ok(t, "open", err)
	defer d.Close()
	ok(t, "fsync of "+dir, d.Sync())
}

// object returns what the bucket holds for a name in the place, as another S3
// client sees it when the store has everything in the place.
func (p place) object(name string) (string, bool) {
	p.t.Helper()
	p.sync()
	return p.objectNow(name)
}

// objectNow is object without waiting for the store.
func (p place) objectNow(name string) (string, bool) {
	p.t.Helper()
	return getObject(p.t, p.tree.server, p.key+name)
}

// put makes another S3 client put an object.
func (p place) put(name, content string) {
	p.t.Helper()
	putObject(p.t, p.tree.server, p.key+name, content)
}

// clients are SDK clients by server, for their connections' sake: a new one for
// each of thousands of objects takes most of a test's time.
var clients sync.Map

// clientOf returns an S3 client that knows nothing of agentfs.
func clientOf(s s3test.Server) *awss3.Client {
	if c, ok := clients.Load(s); ok {
		return c.(*awss3.Client)
	}
	c, _ := clients.LoadOrStore(s, s.Client())
	return c.(*awss3.Client)
}

// putObject is s3test.Server.Put with a client that stays.
func putObject(t testing.TB, s s3test.Server, key, content string) {
	t.Helper()
	_, err := clientOf(s).PutObject(t.Context(), &awss3.PutObjectInput{Bucket: &s.Bucket, Key: &key, Body: strings.NewReader(content)})
	if err != nil {
		t.Errorf("putting %q: %v", key, err)
	}
}

// getObject is s3test.Server.Get with a client that stays.
func getObject(t testing.TB, s s3test.Server, key string) (string, bool) {
	t.Helper()
	out, err := clientOf(s).GetObject(t.Context(), &awss3.GetObjectInput{Bucket: &s.Bucket, Key: &key})
	var none *types.NoSuchKey
	if errors.As(err, &none) {
		return "", false
	}
	if err != nil {
		t.Errorf("getting %q: %v", key, err)
		return "", false
	}
	defer out.Body.Close()
	b, err := io.ReadAll(out.Body)
	if err != nil {
		t.Errorf("reading %q: %v", key, err)
	}
	return string(b), true
}

// remove makes another S3 client delete an object.
func (p place) remove(name string) {
	p.t.Helper()
	key := p.key + name
	if _, err := clientOf(p.tree.server).DeleteObject(p.t.Context(), &awss3.DeleteObjectInput{Bucket: &p.tree.server.Bucket, Key: &key}); err != nil {
		p.t.Fatalf("deleting %s: %v", key, err)
	}
}

// settle waits until nothing is believed any more that the store said before,
// so that what another client did is seen.
func settle() { time.Sleep(ttl + ttl/10) }

// at returns a fresh place on the route of that path.
func at(t *testing.T, route string) place {
	t.Helper()
	tr := common(t)
	name := strings.NewReplacer("/", "-", "#", "-").Replace(strings.TrimPrefix(t.Name(), "Test"))
	dir, err := os.MkdirTemp(filepath.Join(tr.dir, route), name+"-")
	if err != nil {
		t.Fatal(err)
	}
	p := place{t: t, tree: tr, dir: dir, s3: route == "/s3-data"}
	if p.s3 {
		p.key = keyPrefix + filepath.Base(dir) + "/"
	}
	return p
}

// onMemory and onS3 are the routes by their names in tests.
func onMemory(t *testing.T) place { t.Helper(); return at(t, "/") }
func onS3(t *testing.T) place     { t.Helper(); return at(t, "/s3-data") }

// onEach runs f on every route.
func onEach(t *testing.T, f func(t *testing.T, p place)) {
	for _, r := range []struct{ name, path string }{{"memory", "/"}, {"s3", "/s3-data"}, {"host", "/host"}} {
		t.Run(r.name, func(t *testing.T) { f(t, at(t, r.path)) })
	}
}

// The following fail the test where they fail.

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func mkdir(t testing.TB, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, path string, flags int) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, flags, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func ok(t testing.TB, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// isErr fails unless err is errno.
func isErr(t testing.TB, what string, err error, errno syscall.Errno) {
	t.Helper()
	if !errors.Is(err, errno) {
		t.Errorf("%s: %v, want %v", what, err, errno)
	}
}

// holds fails unless the file at path has that content.
func holds(t testing.TB, path, want string) {
	t.Helper()
	if got := read(t, path); got != want {
		t.Errorf("%s holds %s, want %s", path, brief(got), brief(want))
	}
}

// holdsObject fails unless the bucket has that content for name when the store
// has everything in the place.
func (p place) holdsObject(name, want string) {
	p.t.Helper()
	p.sync()
	p.holdsObjectNow(name, want)
}

// holdsObjectNow is holdsObject without waiting for the store.
func (p place) holdsObjectNow(name, want string) {
	p.t.Helper()
	if got, there := p.objectNow(name); !there || got != want {
		p.t.Errorf("the bucket has %s (there: %v) for %s, want %s", brief(got), there, name, brief(want))
	}
}

func brief(s string) string {
	if len(s) > 60 {
		return fmt.Sprintf("%q… (%d bytes)", s[:60], len(s))
	}
	return fmt.Sprintf("%q", s)
}

func gone(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// run runs a command in dir and returns its output.
func run(t testing.TB, dir string, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	return string(out)
}

// within fails unless cond comes true in that time.
func within(t testing.TB, limit time.Duration, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !cond(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after %s: not %s", limit, what)
		}
	}
}

func names(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}
