package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMain lets the test binary be a worker or a loopback server, as the
// program is when it starts itself.
func TestMain(m *testing.M) {
	if role, ok := roles[arg(1)]; ok {
		os.Exit(role(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// require skips a test whose requirement is missing, and fails it where everything
// has to be there.
func require(t *testing.T, ok bool, what string) {
	t.Helper()
	switch {
	case ok:
	case os.Getenv("CI") == "true":
		t.Fatalf("CI needs %s", what)
	default:
		t.Skipf("needs %s", what)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// quickRun runs the program with --quick and returns its report. A workload
// that does not do what it should is an error of run.
func quickRun(t *testing.T, args ...string) string {
	t.Helper()
	o, err := parseFlags(append([]string{"--quick", "--fio=false"}, args...), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	var report, progress bytes.Buffer
	if err := run(ctx, o, &report, &progress); err != nil {
		t.Fatalf("%v\n%s\n%s", err, &report, &progress)
	}
	if strings.Contains(report.String(), "failed") {
		t.Errorf("the report speaks of a failure:\n%s", &report)
	}
	t.Log("\n" + report.String())
	return report.String()
}

func wantIn(t *testing.T, report string, what ...string) {
	t.Helper()
	for _, w := range what {
		if !strings.Contains(report, w) {
			t.Errorf("the report has no %q", w)
		}
	}
}

func buildAgentfs(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "agentfs")
	cmd := exec.Command("go", "build", "-o", binary, "../cmd/agentfs")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return binary
}

// TestLocal runs every workload of part "local" on every candidate.
func TestLocal(t *testing.T) {
	require(t, exists("/dev/fuse"), "/dev/fuse")
	require(t, os.Geteuid() == 0, "root, to mount tmpfs")
	args := []string{"--part", "local", "--agentfs", buildAgentfs(t)}
	if testing.Short() {
		args = append(args, "--mem-files", "0")
	}
	report := quickRun(t, args...)
	wantIn(t, report, "agentfs / tmpfs", "agentfs / loopback", "agentfs-nopt / loopback-nopt",
		"| random write, 4 KiB |", "| unlink |", "| FUSE requests | loopback | agentfs |")
	if !testing.Short() {
		wantIn(t, report, "bytes per open handle")
	}
}

// TestFio has fio move the data; the other tests use the built-in equal.
func TestFio(t *testing.T) {
	_, err := exec.LookPath("fio")
	require(t, err == nil, "fio")
	report := quickRun(t, "--part", "local", "--only", "tmpfs", "--rows", "64 KiB", "--fio")
	wantIn(t, report, "by fio", "| random write, 64 KiB |")
}

// TestStore runs every workload of part "store" with the SDK alone, with agentfs and
// on a loopback mount.
func TestStore(t *testing.T) {
	require(t, exists("/dev/fuse"), "/dev/fuse")
	_, err := (&bench{}).findVersitygw()
	require(t, err == nil, "versitygw (make tools)")
	report := quickRun(t, "--part", "store", "--only", "SDK,loopback,agentfs", "--store-memory", "--agentfs", buildAgentfs(t))
	wantIn(t, report, "| workload | SDK | loopback | agentfs | target: agentfs now |", "<br>20: Put 20<br>80 KiB sent",
		"stored <= 1.5 x SDK: **", "entries of one directory, listed")
}

// TestGrowth runs every workload of part "growth".
func TestGrowth(t *testing.T) {
	require(t, exists("/dev/fuse"), "/dev/fuse")
	_, err := (&bench{}).findVersitygw()
	require(t, err == nil, "versitygw (make tools)")
	report := quickRun(t, "--part", "growth", "--only", "SDK,agentfs", "--agentfs", buildAgentfs(t))
	wantIn(t, report, "| grep -r, 120 x 4 KiB |", "| cat by 64 readers, 30 x 4 KiB |", "xychart-beta", `line "agentfs" [`)
}

// TestNames runs every step of part "names".
func TestNames(t *testing.T) {
	require(t, exists("/dev/fuse"), "/dev/fuse")
	_, err := (&bench{}).findVersitygw()
	require(t, err == nil, "versitygw (make tools)")
	report := quickRun(t, "--part", "names", "--only", "agentfs", "--names-options", "&entries=2000", "--agentfs", buildAgentfs(t))
	wantIn(t, report, "| ls -f, 3000 names |", "| ls, 3000 names |", "| ls -l, 3000 names |", "| find -size, 3000 names |")
}

// TestRequestsAreCounted compares the kernel's count with what a loopback mount,
// which caches no missing names, must have been asked.
func TestRequestsAreCounted(t *testing.T) {
	require(t, exists("/dev/fuse"), "/dev/fuse")
	tracer, err := newFuseTracer(filepath.Join(t.TempDir(), "trace"))
	require(t, !errors.Is(err, os.ErrNotExist) && !errors.Is(err, os.ErrPermission), "a kernel that traces FUSE requests, and root")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := tracer.close(); err != nil {
			t.Error(err)
		}
	}()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	below := filepath.Join(dir, "below")
	if err := os.Mkdir(below, 0o755); err != nil {
		t.Fatal(err)
	}
	m, err := serveMount(t.Context(), "loopback", filepath.Join(dir, "mnt"), nil, self, "loopback", below, filepath.Join(dir, "mnt"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := m.close(); err != nil {
			t.Error(err)
		}
	}()
	c := &client{dir: m.dir}
	if err := c.create(1, 0); err != nil {
		t.Fatal(err)
	}
	got, err := tracer.count(m.dir, func() error { return c.missing(7) })
	if err != nil {
		t.Fatal(err)
	}
	if got["LOOKUP"] != 7 {
		t.Errorf("7 lookups of missing names were counted as %v", got)
	}
}

// TestClientNotices makes sure that a file system which answers wrongly is not
// measured but reported.
func TestClientNotices(t *testing.T) {
	c := &client{dir: t.TempDir()}
	must := func(op string, files int, size int64) {
		t.Helper()
		if err := c.do(call{Op: op, Files: files, Size: size}); err != nil {
			t.Fatal(err)
		}
	}
	mustNot := func(op string) {
		t.Helper()
		if err := c.do(call{Op: op, Files: 3}); err == nil {
			t.Errorf("%s noticed nothing", op)
		}
	}
	must("populate", 3, 100)
	for _, op := range []string{"stat", "stat missing", "read", "readdir", "ls -l", "rename"} {
		must(op, 3, 0)
	}
	if err := os.Truncate(c.name("b", 1), 99); err != nil {
		t.Fatal(err)
	}
	mustNot("stat")
	mustNot("read")
	if err := os.Remove(c.name("b", 1)); err != nil {
		t.Fatal(err)
	}
	mustNot("readdir")
	mustNot("unlink")
	mustNot("no such thing")
}

func TestOperation(t *testing.T) {
	for _, test := range []struct{ method, url, copied, want string }{
		{"GET", "/b?list-type=2&prefix=a%2F", "", "List"},
		{"GET", "/b/?list-type=2", "", "List"},
		{"GET", "/b?versioning", "", "bucket versioning"},
		{"GET", "/b/dir/key", "", "Get"},
		{"HEAD", "/b", "", "HeadBucket"},
		{"HEAD", "/b/k", "", "Head"},
		{"PUT", "/b/k", "", "Put"},
		{"PUT", "/b/k", "b/other", "Copy"},
		{"PUT", "/b/k?partNumber=1&uploadId=x", "", "UploadPart"},
		{"PUT", "/b/k?partNumber=1&uploadId=x", "b/other", "UploadPartCopy"},
		{"POST", "/b/k?uploads", "", "CreateMultipartUpload"},
		{"POST", "/b/k?uploadId=x", "", "CompleteMultipartUpload"},
		{"DELETE", "/b/k?uploadId=x", "", "AbortMultipartUpload"},
		{"POST", "/b?delete", "", "DeleteObjects"},
		{"DELETE", "/b/k", "", "Delete"},
	} {
		r, err := http.NewRequest(test.method, "http://host"+test.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if test.copied != "" {
			r.Header.Set("X-Amz-Copy-Source", test.copied)
		}
		if got := operation(r); got != test.want {
			t.Errorf("%s %s is %s, want %s", test.method, test.url, got, test.want)
		}
	}
}

// TestRatio checks that ratios are taken within rounds: the second was slow for both.
func TestRatio(t *testing.T) {
	base := []time.Duration{10, 1000, 10}
	if v, ok := ratioOf([]time.Duration{20, 2000, 10}, base); !ok || v != 2 {
		t.Errorf("ratio = %v, %v; want 2", v, ok)
	}
	if _, ok := ratioOf(base, nil); ok {
		t.Error("a candidate without a time was compared with")
	}
}

// TestSpeed checks that ratios are taken within rounds: the second was slow for both.
func TestSpeed(t *testing.T) {
	base := &cell{times: []time.Duration{10, 1000, 10}}
	c := &cell{times: []time.Duration{20, 2000, 10}}
	if v, ok := c.speed(base); !ok || v != 0.5 {
		t.Errorf("speed = %v, %v; want 0.5", v, ok)
	}
	if _, ok := c.speed(&cell{}); ok {
		t.Error("a candidate without a time was compared with")
	}
}

func TestFlags(t *testing.T) {
	for _, bad := range [][]string{
		{"--part", "remote"}, {"--store-medium-size", "4MiB"}, {"--store-faults", "2"}, {"--rows", "("}, {"--size", "12q"}, {"--size", "1"}, {"--rounds", "0"}, {"extra"}, {"--no-such"},
	} {
		if _, err := parseFlags(bad, io.Discard); err == nil {
			t.Errorf("%v was accepted", bad)
		}
	}
	o, err := parseFlags([]string{"--size", "3MiB", "--rows", "READ", "--only", "tmpfs"}, io.Discard)
	if err != nil || o.size != 3<<20 || !o.rows.MatchString("random read") || o.wants("agentfs") {
		t.Errorf("%+v, %v", o, err)
	}
}

func TestPeers(t *testing.T) {
	for _, bad := range []string{"x: {comand: [a]}", "x: {env: {A: b}}", "x: ["} {
		if _, err := parsePeers([]byte(bad), "test.yaml"); err == nil || !strings.Contains(err.Error(), "test.yaml") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	ps, err := parsePeers(builtinPeers, "peers.yaml")
	if err != nil || len(ps) == 0 || ps[0].Name != "agentfs" {
		t.Errorf("%v, %v", ps, err)
	}
}
