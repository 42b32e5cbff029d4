package semantics

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends/s3/s3test"
)

// What a program does through the mount, every program on the same mount sees
// at once: after create, mkdir, rename, unlink and rmdir have returned, names
// and listings are as the call has left them, on every route.
func TestOwnChangesAreVisibleAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, p place) {
		for i := range 10 {
			a, b := p.path("a"), p.path(fmt.Sprint("b", i))
			write(t, a, fmt.Sprint(i))
			holds(t, a, fmt.Sprint(i))
			if got := run(t, p.dir, "ls"); !slices.Contains(strings.Fields(got), "a") {
				t.Fatalf("round %d: ls after create shows %q", i, got)
			}
			ok(t, "rename", os.Rename(a, b))
			if !gone(a) || gone(b) {
				t.Fatalf("round %d: after rename: a gone: %v, b gone: %v", i, gone(a), gone(b))
			}
			ok(t, "unlink", os.Remove(b))
			ok(t, "mkdir in its place", os.Mkdir(b, 0o755))
			ok(t, "rmdir", os.Remove(b))
			if got := names(t, p.dir); len(got) != 0 {
				t.Fatalf("round %d: left over: %v", i, got)
			}
		}
	})
}

// The errors of names are POSIX's on every route: ENOENT for a missing name,
// EEXIST for mkdir, O_EXCL and RENAME_NOREPLACE onto one that exists, ENOTDIR
// for a path through a file, EISDIR for writing or unlinking a directory,
// ENOTEMPTY for removing or replacing one with children, EINVAL for moving a
// directory into itself, ENAMETOOLONG for more than 255 bytes.
func TestErrorsOfNames(t *testing.T) {
	onEach(t, func(t *testing.T, p place) {
		file, dir, full := p.path("file"), p.path("dir"), p.path("full")
		write(t, file, "x")
		mkdir(t, dir)
		mkdir(t, p.path("full/child"))
		_, err := os.Stat(p.path("missing"))
		isErr(t, "stat of a missing name", err, syscall.ENOENT)
		isErr(t, "unlink of a missing name", syscall.Unlink(p.path("missing")), syscall.ENOENT)
		isErr(t, "rename of a missing name", os.Rename(p.path("missing"), p.path("x")), syscall.ENOENT)
		isErr(t, "mkdir on a file", os.Mkdir(file, 0o755), syscall.EEXIST)
		isErr(t, "mkdir on a directory", os.Mkdir(dir, 0o755), syscall.EEXIST)
		_, err = os.OpenFile(file, os.O_CREATE|os.O_EXCL, 0o644)
		isErr(t, "O_EXCL", err, syscall.EEXIST)
		isErr(t, "RENAME_NOREPLACE", unix.Renameat2(unix.AT_FDCWD, p.path("full/child"), unix.AT_FDCWD, dir, unix.RENAME_NOREPLACE), syscall.EEXIST)
		_, err = os.Stat(p.path("file/x"))
		isErr(t, "a path through a file", err, syscall.ENOTDIR)
		isErr(t, "rmdir of a file", syscall.Rmdir(file), syscall.ENOTDIR)
		isErr(t, "directory onto a file", os.Rename(dir, file), syscall.ENOTDIR)
		_, err = os.OpenFile(dir, os.O_WRONLY, 0)
		isErr(t, "writing a directory", err, syscall.EISDIR)
		isErr(t, "unlink of a directory", syscall.Unlink(dir), syscall.EISDIR)
		isErr(t, "file onto a directory", syscall.Rename(file, dir), syscall.EISDIR)
		isErr(t, "rmdir with children", syscall.Rmdir(full), syscall.ENOTEMPTY)
		isErr(t, "directory onto one with children", syscall.Rename(dir, full), syscall.ENOTEMPTY)
		isErr(t, "directory into itself", os.Rename(full, p.path("full/child/x")), syscall.EINVAL)
		_, err = os.Create(p.path(strings.Repeat("n", 256)))
		isErr(t, "256 bytes", err, syscall.ENAMETOOLONG)
		ok(t, "directory onto an empty one", syscall.Rename(dir, p.path("full/child")))
		write(t, p.path(strings.Repeat("n", 255)), "255")
		holds(t, p.path(strings.Repeat("n", 255)), "255")
	})
}

// A name on the memory and host routes is any bytes but slash and NUL. On S3 it
// must be UTF-8 (else EILSEQ), the path with the route's prefix may have at
// most 1,024 bytes (ENAMETOOLONG), and names that begin with .agentfs are
// reserved at every level (EPERM). The call itself says so, never a later
// upload.
func TestNamesThatAStoreCannotHold(t *testing.T) {
	odd := []string{"with space", "tab\tnew\nline", "ünïcödé", "日本語", "%2F+&=?#", "'\"\\", "-rf", ".hidden", "trailing."}
	onEach(t, func(t *testing.T, p place) {
		for _, n := range odd {
			write(t, p.path(n), n)
			holds(t, p.path(n), n)
			if p.s3 {
				p.holdsObject(n, n)
			}
		}
		if got, want := names(t, p.dir), slices.Sorted(slices.Values(odd)); !slices.Equal(got, want) {
			t.Errorf("listed %q, want %q", got, want)
		}
		if !p.s3 {
			write(t, p.path("\xff\xfe"), "bytes")
			holds(t, p.path("\xff\xfe"), "bytes")
			return
		}
		creates := func(path string) error {
			f, err := os.Create(path)
			if err == nil {
				err = f.Close()
			}
			return err
		}
		isErr(t, "not UTF-8", creates(p.path("\xff\xfe")), syscall.EILSEQ)
		isErr(t, "mkdir, not UTF-8", os.Mkdir(p.path("\xff"), 0o755), syscall.EILSEQ)
		isErr(t, "rename, not UTF-8", os.Rename(p.path("-rf"), p.path("\xff")), syscall.EILSEQ)
		for _, n := range []string{".agentfs", ".agentfs-x"} {
			isErr(t, n, creates(p.path(n)), syscall.EPERM)
			isErr(t, "mkdir "+n, os.Mkdir(p.path(n), 0o755), syscall.EPERM)
			isErr(t, "rename to "+n, os.Rename(p.path("-rf"), p.path(n)), syscall.EPERM)
		}
		deep, key := p.dir, len(p.key)
		for key+201 < 1024-20 {
			deep = filepath.Join(deep, strings.Repeat("d", 200))
			key += 201
		}
		mkdir(t, deep)
		fits := strings.Repeat("f", 1024-key)
		write(t, filepath.Join(deep, fits), "fits")
		holds(t, filepath.Join(deep, fits), "fits")
		isErr(t, "a key of 1,025 bytes", creates(filepath.Join(deep, fits+"f")), syscall.ENAMETOOLONG)
	})
}

// Keys of the bucket that are no file names are left out of listings and can't
// be reached through the mount: those with an empty, "." or ".." segment or a
// NUL byte, a segment of more than 255 bytes, what is not UTF-8, names that
// begin with .agentfs, and control characters where the server can't list them.
// Everything beside them is there, and no such key is ever taken for another
// file. Where a key "x" lies beside keys that begin with "x/", the directory
// hides the file. A zero-byte key "x/" is an empty directory.
func TestKeysThatAreNoNames(t *testing.T) {
	p := onS3(t)
	put := func(key, content string) bool {
		k := p.key + key
		_, err := clientOf(p.tree.server).PutObject(t.Context(), &awss3.PutObjectInput{Bucket: &p.tree.server.Bucket, Key: &k, Body: strings.NewReader(content)})
		return err == nil
	}
	for _, key := range []string{"good", "dir/good", "control\x01char", "new\nline", "marker/", "x/below"} {
		if !put(key, map[bool]string{true: "", false: "content of " + key}[strings.HasSuffix(key, "/")]) {
			t.Fatalf("the server does not take %q", key)
		}
	}
	took := 0
	for _, key := range []string{
		"a//b", "//double", "dot/./in", "dotdot/../out", "./start", "../up", ".", "..", "end/.", "end/..", "x", "nul\x00", ".agentfs-records", "dir/.agentfs.x", "\xff\xfe",
		strings.Repeat("l", 256),
	} {
		if put(key, "wrong content of "+key) {
			took++
		}
	}
	settle()
	t.Logf("the server took %d of the keys that are no names", took)
	want := map[string]string{"good": "", "dir/good": "", "new\nline": "", "x/below": ""}
	for n := range want {
		holds(t, p.path(n), "content of "+n)
	}
	// This server's listings have U+FFFD in its place, other servers' the name.
	if b, err := os.ReadFile(p.path("control\x01char")); err == nil && string(b) != "content of control\x01char" {
		t.Errorf("the control character's file holds %q", b)
	}
	if fi, err := os.Stat(p.path("marker")); err != nil || !fi.IsDir() {
		t.Errorf("marker/: %v, %v", fi, err)
	}
	if got := names(t, p.path("marker")); len(got) != 0 {
		t.Errorf("marker/ lists %q", got)
	}
	// Whatever is listed at any depth can be read, and is what another client
	// gets for just that key. (This server makes another key of some.)
	err := filepath.WalkDir(p.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(p.dir, path)
		if d.IsDir() {
			return nil
		}
		p.holdsObject(name, read(t, path))
		if strings.Contains(name, ".agentfs") || len(filepath.Base(name)) > 255 {
			t.Errorf("listed: %q", name)
		}
		return nil
	})
	ok(t, "walking", err)
	if fi, err := os.Stat(p.path("x")); err != nil || !fi.IsDir() {
		t.Errorf("x beside x/below: %v, %v", fi, err)
	}
}

// A listing has every entry exactly once, however many there are: what was
// there before the listing began and is there when it ends is in it, also while
// others create and remove names in the same directory.
func TestListingOfThousands(t *testing.T) {
	server := s3test.Versitygw(t)
	n := 3000
	if raceDetector || testing.Short() {
		n = 1200 // still more than one page of a listing
	}
	var want []string
	for i := range n {
		want = append(want, fmt.Sprintf("entry-%04d", i))
	}
	eachParallel(16, want, func(name string) { putObject(t, server, keyPrefix+"many/"+name, name) })
	p := startS3(t, server, "", nil)
	if got := names(t, p.path("many")); !slices.Equal(got, want) {
		t.Fatalf("%d entries listed, want %d", len(got), n)
	}
	// Read in small steps while names come and go.
	d := open(t, p.path("many"), os.O_RDONLY)
	seen := map[string]int{}
	for i := 0; ; i++ {
		part, err := d.Readdirnames(100)
		for _, name := range part {
			seen[name]++
		}
		if err != nil {
			break
		}
		if i%5 == 0 {
			write(t, p.path(fmt.Sprintf("many/new-%d", i)), "")
			ok(t, "remove", os.Remove(p.path("many/"+want[n-1-i])))
		}
	}
	for i, name := range want {
		if removed := i >= n-60; seen[name] != 1 && !removed || seen[name] > 1 {
			t.Errorf("%s was listed %d times", name, seen[name])
		}
	}
	holds(t, p.path("many/entry-0123"), "entry-0123")
}

// "rm -r" removes a tree completely on every route, empty directories included;
// the bucket then has no key below it.
func TestRemoveTree(t *testing.T) {
	onEach(t, func(t *testing.T, p place) {
		for i := range 60 {
			mkdir(t, p.path(fmt.Sprintf("top/d%d/e", i%7)))
			write(t, p.path(fmt.Sprintf("top/d%d/e/f%d", i%7, i)), "x")
		}
		mkdir(t, p.path("top/empty"))
		if p.s3 {
			p.sync()
		}
		run(t, p.dir, "rm", "-r", "top")
		if !gone(p.path("top")) {
			t.Error("top is still there")
		}
		if p.s3 {
			p.sync()
			for _, k := range p.tree.server.Keys(t) {
				if strings.HasPrefix(k, p.key+"top") {
					t.Errorf("the bucket still has %s", k)
				}
			}
		}
	})
}

// On S3 the objects of a removed tree are removed in the background, many at once:
// in one request where the endpoint can do that under conditions, side by side
// otherwise. "rm -r" waits for none of it.
func TestRemoveTreeIsBatched(t *testing.T) {
	server := s3test.Versitygw(t)
	proxy := s3test.NewProxy(t, server)
	m := startS3(t, server.Through(proxy), "", nil, "ttl", "1h")
	for i := range 400 {
		putObject(t, server, fmt.Sprintf("%stop/d%d/f%d", keyPrefix, i%4, i), "x")
	}
	for d := range 4 {
		names(t, m.path(fmt.Sprint("top/d", d)))
	}
	const delay = 200 * time.Millisecond
	proxy.Inject(func(r s3test.Request) s3test.Fault {
		if strings.HasPrefix(r.Op, "DeleteObject") {
			return s3test.Fault{Delay: delay}
		}
		return s3test.Fault{}
	})
	began := time.Now()
	run(t, m.dir, "rm", "-r", "top")
	removed := time.Since(began)
	m.sync()
	if synced := time.Since(began); removed > 400*delay/20 || synced > 400*delay/4 {
		t.Errorf("rm took %s, sync %s; one after another it would be %s", removed, synced, 400*delay)
	}
	if keys := server.Keys(t); len(keys) != 0 {
		t.Errorf("the bucket still has %q", keys)
	}
}
