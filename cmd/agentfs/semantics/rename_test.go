package semantics

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends/s3/s3test"
)

// rename(2) of a file replaces its target as a whole: nobody who opens the
// target's name through the mount finds it missing, empty or mixed. On S3 the
// call returns at once and the store follows; the last state is what it gets.
func TestRenameReplacesAsAWhole(t *testing.T) {
	onEach(t, func(t *testing.T, p place) {
		write(t, p.path("f"), "version 0000")
		stop, done := make(chan struct{}), make(chan string)
		go func() {
			bad := ""
			for {
				select {
				case <-stop:
					done <- bad
					return
				default:
				}
				b, err := os.ReadFile(p.path("f"))
				if err != nil || len(b) != 12 || !strings.HasPrefix(string(b), "version ") {
					bad = fmt.Sprintf("%q, %v", b, err)
				}
			}
		}()
		for i := range 40 {
			write(t, p.path("f.tmp"), fmt.Sprintf("version %04d", i))
			if err := os.Rename(p.path("f.tmp"), p.path("f")); err != nil {
				t.Errorf("rename %d: %v", i, err)
			}
		}
		close(stop)
		if bad := <-done; bad != "" {
			t.Errorf("a reader found %s", bad)
		}
		holds(t, p.path("f"), "version 0039")
		if p.s3 {
			p.holdsObject("f", "version 0039")
			if _, there := p.object("f.tmp"); there {
				t.Error("the bucket still has the old name")
			}
		}
	})
}

// Who has a file open keeps it through a rename of it, of the directory it is
// in, and through a rename of another file over it: reads and writes go on in
// the file that was opened, and only in that one.
func TestOpenFilesFollowRenames(t *testing.T) {
	onEach(t, func(t *testing.T, p place) {
		mkdir(t, p.path("dir"))
		write(t, p.path("dir/moved"), "moved ")
		write(t, p.path("replaced"), "replaced ")
		write(t, p.path("dir/other"), "other ")
		moved := open(t, p.path("dir/moved"), os.O_RDWR|os.O_APPEND)
		replaced := open(t, p.path("replaced"), os.O_RDWR|os.O_APPEND)
		fresh := open(t, p.path("dir/fresh"), os.O_RDWR|os.O_CREATE)
		_, err := fresh.WriteString("fresh ")
		ok(t, "write", err)
		ok(t, "rename over an open file", os.Rename(p.path("dir/other"), p.path("replaced")))
		ok(t, "rename of the directory", os.Rename(p.path("dir"), p.path("dir2")))
		ok(t, "rename of the file", os.Rename(p.path("dir2/moved"), p.path("moved2")))
		for _, f := range []*os.File{moved, replaced, fresh} {
			_, err := f.WriteString("more")
			ok(t, "write", err)
		}
		for f, want := range map[*os.File]string{moved: "moved more", replaced: "replaced more", fresh: "fresh more"} {
			got := make([]byte, 100)
			n, _ := f.ReadAt(got, 0)
			if string(got[:n]) != want {
				t.Errorf("the handle reads %q, want %q", got[:n], want)
			}
			ok(t, "close", f.Close())
		}
		for name, want := range map[string]string{"moved2": "moved more", "replaced": "other ", "dir2/fresh": "fresh more"} {
			holds(t, p.path(name), want)
			if p.s3 {
				p.holdsObject(name, want)
			}
		}
	})
}

// A directory can be renamed, over an empty one too, with everything in it, in
// one step for whoever looks through the mount. On S3 the bucket follows: each
// object is copied inside the store, or put if it is small and here, and then
// removed under its old name. rename(2) itself lists what is below the directory
// if that is not known already, and fails, having changed nothing, if it can't.
func TestRenameDirectory(t *testing.T) {
	onEach(t, func(t *testing.T, p place) {
		want := map[string]string{}
		for i := range 80 {
			name := fmt.Sprintf("d%d/sub/f%d", i%5, i)
			want[name] = strings.Repeat(name, i)
			mkdir(t, filepath.Dir(p.path("old/"+name)))
			write(t, p.path("old/"+name), want[name])
		}
		mkdir(t, p.path("old/empty"))
		mkdir(t, p.path("new"))
		if p.s3 {
			p.sync()
		}
		ok(t, "rename", syscall.Rename(p.path("old"), p.path("new")))
		if !gone(p.path("old")) {
			t.Error("the old name is still there")
		}
		if got := names(t, p.path("new")); !slices.Equal(got, []string{"d0", "d1", "d2", "d3", "d4", "empty"}) {
			t.Errorf("the new directory lists %q", got)
		}
		for name, content := range want {
			holds(t, p.path("new/"+name), content)
		}
		if p.s3 {
			p.sync()
			for name, content := range want {
				p.holdsObjectNow("new/"+name, content)
			}
			for _, k := range p.tree.server.Keys(t) {
				if strings.HasPrefix(k, p.key+"old") {
					t.Errorf("the bucket still has %s", k)
				}
			}
		}
	})
}

// When the store follows a rename, the new name is put before the old one is
// removed: at every moment the bucket has each content under one of its names, if
// not both.
func TestRenamedContentsAreAlwaysThere(t *testing.T) {
	server := s3test.Versitygw(t)
	proxy := s3test.NewProxy(t, server)
	m := startS3(t, server.Through(proxy), "", nil, "ttl", "1h")
	mkdir(t, m.path("old"))
	for i := range 30 {
		write(t, m.path(fmt.Sprint("old/f", i)), strings.Repeat(fmt.Sprint(i), 100))
	}
	m.sync()
	names(t, m.path("old"))
	var bad sync.Map
	proxy.Inject(func(r s3test.Request) s3test.Fault {
		switch {
		case r.Op == "PutObject" || r.Op == "UploadPartCopy" || r.Op == "CompleteMultipartUpload" || r.Op == "CopyObject":
			return s3test.Fault{Delay: 30 * time.Millisecond}
		case strings.HasPrefix(r.Op, "DeleteObject"):
			have := map[string]bool{}
			for _, k := range server.Keys(t) {
				have[strings.TrimPrefix(k, keyPrefix)] = true
			}
			for i := range 30 {
				if a, b := fmt.Sprint("old/f", i), fmt.Sprint("new/f", i); !have[a] && !have[b] {
					bad.Store(a, r.Op)
				}
			}
		}
		return s3test.Fault{}
	})
	began := time.Now()
	ok(t, "rename", os.Rename(m.path("old"), m.path("new")))
	if d := time.Since(began); d > time.Second {
		t.Errorf("rename took %s", d)
	}
	holds(t, m.path("new/f7"), strings.Repeat("7", 100))
	m.sync()
	bad.Range(func(k, v any) bool { t.Errorf("%s was nowhere at a %s", k, v); return true })
	for i := range 30 {
		m.holdsObject(fmt.Sprint("new/f", i), strings.Repeat(fmt.Sprint(i), 100))
	}
	for _, k := range server.Keys(t) {
		if strings.HasPrefix(k, keyPrefix+"old") {
			t.Errorf("the bucket still has %s", k)
		}
	}
}

// A rename of a directory that is interrupted, by a failing store or the death of
// the mount (SIGKILL), is completed: by the mount when the store is back, by the
// next mount with the same cache directory. Until then the bucket has some of the
// contents under the old name and some under the new one, and none is missing.
func TestRenameDirectoryIsCompleted(t *testing.T) {
	server := s3test.Versitygw(t)
	proxy := s3test.NewProxy(t, server)
	cache := publicTempDir(t)
	options := []string{"max_attempts", "1", "ttl", "1h"}
	want := map[string]string{}
	m := startS3(t, server.Through(proxy), cache, nil, options...)
	for i := range 40 {
		name := fmt.Sprintf("d%d/f%d", i%3, i)
		want[name] = strings.Repeat(name, 50)
		mkdir(t, filepath.Dir(m.path("old/"+name)))
		write(t, m.path("old/"+name), want[name])
	}
	m.sync()
	var sent atomic.Int64
	proxy.Inject(func(r s3test.Request) s3test.Fault {
		if (r.Op == "PutObject" || r.Op == "UploadPartCopy" || r.Op == "CopyObject") && sent.Add(1) > 15 {
			return s3test.Fault{Status: 503}
		}
		return s3test.Fault{}
	})
	ok(t, "rename", os.Rename(m.path("old"), m.path("new")))
	within(t, 20*time.Second, "on its way", func() bool { return sent.Load() > 20 })
	ok(t, "kill", m.cmd.Process.Kill())
	<-m.ended
	run(t, "/", program(t), "unmount", m.dir)
	for name, content := range want {
		a, _ := getObject(t, server, keyPrefix+"old/"+name)
		b, _ := getObject(t, server, keyPrefix+"new/"+name)
		if a != content && b != content {
			t.Errorf("%s is nowhere in the bucket", name)
		}
	}
	proxy.Inject(nil)
	again := startS3(t, server.Through(proxy), cache, nil, options...)
	again.sync()
	if !gone(again.path("old")) {
		t.Error("the old name is back")
	}
	for name, content := range want {
		holds(t, again.path("new/"+name), content)
		again.holdsObject("new/"+name, content)
	}
	for _, k := range server.Keys(t) {
		if strings.HasPrefix(k, keyPrefix+"old") {
			t.Errorf("the bucket still has %s", k)
		}
	}
}

// RENAME_NOREPLACE works on every route. RENAME_EXCHANGE works on memory and
// the host; on S3, which can't change two keys at once, it is EINVAL within a
// directory and EXDEV between two, and changes nothing. Other flags are EINVAL.
func TestRenameFlags(t *testing.T) {
	onEach(t, func(t *testing.T, p place) {
		mkdir(t, p.path("d"))
		write(t, p.path("a"), "a")
		write(t, p.path("b"), "b")
		write(t, p.path("d/c"), "c")
		ren := func(from, to string, flags uint) error {
			return unix.Renameat2(unix.AT_FDCWD, p.path(from), unix.AT_FDCWD, p.path(to), flags)
		}
		isErr(t, "NOREPLACE onto a file", ren("a", "b", unix.RENAME_NOREPLACE), syscall.EEXIST)
		ok(t, "NOREPLACE onto nothing", ren("a", "a2", unix.RENAME_NOREPLACE))
		isErr(t, "WHITEOUT", ren("a2", "a3", unix.RENAME_WHITEOUT), syscall.EINVAL)
		if p.s3 {
			isErr(t, "EXCHANGE", ren("a2", "b", unix.RENAME_EXCHANGE), syscall.EINVAL)
			isErr(t, "EXCHANGE between directories", ren("a2", "d/c", unix.RENAME_EXCHANGE), syscall.EXDEV)
			holds(t, p.path("a2"), "a")
			holds(t, p.path("b"), "b")
			return
		}
		ok(t, "EXCHANGE", ren("a2", "b", unix.RENAME_EXCHANGE))
		holds(t, p.path("a2"), "b")
		holds(t, p.path("b"), "a")
		ok(t, "EXCHANGE between directories", ren("b", "d/c", unix.RENAME_EXCHANGE))
		holds(t, p.path("b"), "c")
	})
}

// Nothing moves from one route to another in one step: rename(2) and link(2)
// between them are EXDEV, upon which mv copies and removes, as between file
// systems.
func TestAcrossRoutes(t *testing.T) {
	mem, s3 := onMemory(t), onS3(t)
	write(t, mem.path("f"), "content")
	isErr(t, "rename", os.Rename(mem.path("f"), s3.path("f")), syscall.EXDEV)
	isErr(t, "link", os.Link(mem.path("f"), s3.path("l")), syscall.EXDEV)
	mkdir(t, mem.path("tree/sub"))
	write(t, mem.path("tree/sub/x"), "x")
	run(t, mem.dir, "mv", "f", "tree", s3.dir)
	if !gone(mem.path("f")) || !gone(mem.path("tree")) {
		t.Error("mv left the source")
	}
	s3.holdsObject("f", "content")
	s3.holdsObject("tree/sub/x", "x")
	run(t, s3.dir, "mv", "tree", mem.path("back"))
	holds(t, mem.path("back/sub/x"), "x")
	if _, there := s3.object("tree/sub/x"); there {
		t.Error("mv left the object")
	}
}

// The path of a route, and every directory above it, is there as long as the
// mount is: removing, renaming or replacing it is EBUSY. It is listed in its
// parent directory, and what the route around it has under that name is never
// seen.
func TestRouteRootsStay(t *testing.T) {
	tr := common(t)
	route := filepath.Join(tr.dir, "s3-data")
	isErr(t, "rmdir", syscall.Rmdir(route), syscall.EBUSY)
	isErr(t, "rename of the route", syscall.Rename(route, filepath.Join(tr.dir, "elsewhere")), syscall.EBUSY)
	mem := onMemory(t)
	mkdir(t, mem.path("d"))
	isErr(t, "rename onto the route", syscall.Rename(mem.path("d"), route), syscall.EBUSY)
	isErr(t, "mkdir", os.Mkdir(route, 0o755), syscall.EEXIST)
	if got := names(t, tr.dir); !slices.Contains(got, "s3-data") || !slices.Contains(got, "host") || slices.Contains(got, ".agentfs") {
		t.Errorf("the root lists %q", got)
	}

	around := publicTempDir(t)
	write(t, filepath.Join(around, "x"), "a file that the route hides")
	m := start(t, setup{routes: []string{"/=local:" + around, "/x=memory:", "/deep/er=memory:"}})
	for _, dir := range []string{"x", "deep", "deep/er"} {
		if st := stat(t, filepath.Join(m.dir, dir)); st.Mode&unix.S_IFMT != unix.S_IFDIR {
			t.Errorf("%s has mode %o", dir, st.Mode)
		}
		isErr(t, "rmdir "+dir, syscall.Rmdir(filepath.Join(m.dir, dir)), syscall.EBUSY)
	}
	if got := names(t, m.dir); !slices.Equal(got, []string{"deep", "x"}) {
		t.Errorf("listed: %q", got)
	}
	write(t, filepath.Join(m.dir, "x", "f"), "on the route")
	holds(t, filepath.Join(around, "x"), "a file that the route hides")
}
