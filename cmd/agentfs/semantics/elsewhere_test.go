package semantics

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends/s3/s3test"
)

// What another client puts into the bucket appears within the route's ttl (5 s
// unless it says otherwise): a new object, also under a name that was looked up
// in vain before, a new directory, another content. A ttl of 0 asks every time.
func TestObjectsAppearWithinTheTTL(t *testing.T) {
	t.Parallel()
	p := onS3(t)
	write(t, p.path("changed"), "old")
	p.sync()
	holds(t, p.path("changed"), "old")
	if !gone(p.path("new")) || !gone(p.path("dir/new")) {
		t.Fatal("there already")
	}
	p.put("new", "new")
	p.put("dir/new", "new below")
	p.put("changed", "changed elsewhere")
	settle()
	holds(t, p.path("changed"), "changed elsewhere")
	holds(t, p.path("new"), "new")
	holds(t, p.path("dir/new"), "new below")
	if got := strings.Join(names(t, p.dir), " "); got != "changed dir new" {
		t.Errorf("listed: %s", got)
	}
}

// After the ttl a lone open of a file that was seen before asks with one HEAD,
// and a second open in its directory within a second with one LIST, which
// answers for all names there; a ttl of 0 asks at every open. What another mount
// makes of the mode, the owner or other attributes of a file whose content stays
// may go unseen for up to 12 ttls where nobody lists the directory.
func TestLoneOpenAsksOnce(t *testing.T) {
	t.Parallel()
	server := s3test.Versitygw(t)
	proxy := s3test.NewProxy(t, server)
	const files = 5
	name := func(i int) string { return fmt.Sprintf("deep/er/f%d", i) }
	for i := range files {
		putObject(t, server, keyPrefix+name(i), "content")
	}
	for _, c := range []struct {
		ttl                   string
		lone, second, further map[string]int
	}{
		{"1s", map[string]int{"HeadObject": 1}, map[string]int{"ListObjectsV2": 1}, map[string]int{}},
		// Each name of the path is asked for, with the records of attributes of the
		// directory that it is in.
		{"0s", map[string]int{"HeadObject": 3, "ListObjectsV2": 5}, map[string]int{"HeadObject": 3, "ListObjectsV2": 5}, map[string]int{"HeadObject": 3, "ListObjectsV2": 5}},
	} {
		m := startS3(t, server.Through(proxy), t.TempDir(), nil, "ttl", c.ttl)
		asks := func(what string, want map[string]int, i int) {
			t.Helper()
			proxy.Reset()
			holds(t, m.path(name(i)), "content")
			if got := proxy.Counts(); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("ttl %s, %s asks %v, want %v", c.ttl, what, got, want)
			}
		}
		for i := range files {
			holds(t, m.path(name(i)), "content")
		}
		time.Sleep(3 * time.Second) // also what was opened before is not "within a second"
		asks("a lone open", c.lone, 0)
		asks("a second one", c.second, 1)
		asks("a further one", c.further, 2)
		m.unmount(t)
	}
}

// What a handle reads is one version from beginning to end. When another client
// changes an object that is open here, the handle opened before goes on with
// the old version: bytes that are here already are read, those that are not and
// can't be had any more are ESTALE. A handle that is opened after the ttl reads
// the new version. Old and new bytes are never mixed, in no buffer and no page.
func TestChangedUnderAnOpenFile(t *testing.T) {
	t.Parallel()
	p := onS3(t)
	const size = 24 << 20
	old, changed := strings.Repeat("o", size), strings.Repeat("N", size+5)
	p.put("small", old[:50_000])
	p.put("large", old)
	settle()
	small, large := open(t, p.path("small"), os.O_RDONLY), open(t, p.path("large"), os.O_RDONLY)
	buf := make([]byte, 50_000)
	_, err := small.ReadAt(buf[:10], 0)
	ok(t, "read", err)
	_, err = large.ReadAt(buf[:10], 0)
	ok(t, "read", err)
	p.put("small", changed[:60_000])
	p.put("large", changed)
	settle()
	small2, large2 := open(t, p.path("small"), os.O_RDONLY), open(t, p.path("large"), os.O_RDONLY)
	if n, err := small.ReadAt(buf, 0); n != 50_000 || string(buf) != old[:50_000] {
		t.Errorf("the handle opened before: %d bytes, %v, %s", n, err, brief(string(buf[:n])))
	}
	all := make([]byte, 70_000)
	if n, _ := small2.ReadAt(all, 0); string(all[:n]) != changed[:60_000] {
		t.Errorf("the handle opened after: %d bytes, %s", n, brief(string(all[:n])))
	}
	for off := int64(0); off < size; off += 1 << 20 {
		n, err := large.ReadAt(buf, off)
		if err != nil {
			isErr(t, "the handle opened before", err, syscall.ESTALE)
		}
		if string(buf[:n]) != old[:n] {
			t.Fatalf("the handle opened before read at %d: %s", off, brief(string(buf[:n])))
		}
		n, err = large2.ReadAt(buf, off)
		if err != nil || string(buf[:n]) != changed[:n] {
			t.Fatalf("the handle opened after read at %d: %v, %s", off, err, brief(string(buf[:n])))
		}
	}
	_, err = large.ReadAt(buf, size-50_000)
	isErr(t, "the end, which was never here", err, syscall.ESTALE)
	m, err := unix.Mmap(int(small.Fd()), 0, 50_000, unix.PROT_READ, unix.MAP_SHARED)
	ok(t, "mmap", err)
	if string(m) != old[:50_000] {
		t.Error("the mapping of the old handle has other bytes")
	}
	ok(t, "munmap", unix.Munmap(m))
}

// What another client deletes is gone within the ttl; who has it open keeps
// what is here. A directory whose last key was deleted elsewhere may be
// believed to be there for up to 12 ttls where only names below it are asked
// for, but shows nothing that is gone.
func TestDeletedElsewhere(t *testing.T) {
	t.Parallel()
	p := onS3(t)
	p.put("f", "content")
	p.put("d/only", "child")
	settle()
	f := open(t, p.path("f"), os.O_RDONLY)
	buf := make([]byte, 7)
	_, err := f.ReadAt(buf, 0)
	ok(t, "read", err)
	holds(t, p.path("d/only"), "child")
	p.remove("f")
	p.remove("d/only")
	settle()
	if !gone(p.path("f")) || !gone(p.path("d/only")) {
		t.Error("still there")
	}
	if n, err := f.ReadAt(buf, 0); n != 7 || string(buf) != "content" {
		t.Errorf("the open file: %q, %v", buf[:n], err)
	}
	within(t, 13*ttl, "gone", func() bool { return gone(p.path("d")) })
	write(t, p.path("f"), "created anew")
	p.holdsObject("f", "created anew")
}

// Nobody's change is overwritten unseen. When the store holds another version
// than the one that a change here derives from, the store's version keeps the
// name, this machine's content is put beside it as NAME.conflict-HOST-TIME, and
// fsync(2), or else the next close(2) of the file, says ESTALE. The log,
// .agentfs/status and .agentfs/conflicts say so too. The same holds for two that
// create one name.
func TestConflictKeepsBoth(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, before string }{{"changed", "the common ancestor"}, {"created", ""}} {
		t.Run(c.name, func(t *testing.T) {
			p := onS3(t)
			flags := os.O_WRONLY | os.O_CREATE
			if c.before != "" {
				write(t, p.path("f"), c.before)
				p.sync()
				flags = os.O_WRONLY | os.O_TRUNC
			}
			conflicts := p.tree.status(t).Conflicts
			f := open(t, p.path("f"), flags)
			_, err := f.WriteString("ours")
			ok(t, "write", err)
			p.put("f", "theirs")
			isErr(t, "fsync", f.Sync(), syscall.ESTALE)
			ok(t, "close", f.Close())
			p.holdsObject("f", "theirs")
			settle()
			holds(t, p.path("f"), "theirs")
			var beside []string
			for _, n := range names(t, p.dir) {
				if strings.HasPrefix(n, "f.conflict-") {
					beside = append(beside, n)
				}
			}
			if len(beside) != 1 {
				t.Fatalf("listed: %q", names(t, p.dir))
			}
			holds(t, p.path(beside[0]), "ours")
			p.holdsObject(beside[0], "ours")
			if now := p.tree.status(t).Conflicts; now <= conflicts {
				t.Errorf("%d conflicts before, %d after", conflicts, now)
			}
			if shown := read(t, filepath.Join(p.tree.mount.dir, ".agentfs", "conflicts")); !strings.Contains(shown, p.path(beside[0])) {
				t.Errorf(".agentfs/conflicts does not have %s:\n%s", p.path(beside[0]), shown)
			}
		})
	}
}

// If the version that a change derives from is gone from the store before all
// of it was here, there is no whole content to put beside. Then the store's
// version keeps the name, fsync(2) says ESTALE, what was written here is kept
// in the cache directory (agentfs recover shows where), and the mount goes on
// as if nothing were pending.
func TestConflictWithoutTheOldContent(t *testing.T) {
	t.Parallel()
	server := s3test.Versitygw(t)
	server.Put(t, keyPrefix+"f", strings.Repeat("o", 3<<20))
	m := startS3(t, server, "", nil, "ttl", ttl.String())
	f := open(t, m.path("f"), os.O_WRONLY|os.O_APPEND)
	server.Put(t, keyPrefix+"f", "theirs")
	_, err := f.WriteString("WRITTEN HERE")
	ok(t, "write", err)
	isErr(t, "fsync", f.Sync(), syscall.ESTALE)
	ok(t, "close", f.Close())
	settle()
	holds(t, m.path("f"), "theirs")
	if st := m.status(t); st.Pending != 0 || st.Conflicts != 1 {
		t.Errorf("%+v", st)
	}
	m.unmount(t) // which must succeed
	m.holdsObject("f", "theirs")
	if got := run(t, "/", program(t), "recover", "--cache-dir", m.cacheDir); !strings.Contains(got, "belongs to f in") {
		t.Errorf("agentfs recover: %s", got)
	}
	if got := run(t, m.cacheDir, "grep", "-rl", "WRITTEN HERE", "."); got == "" {
		t.Error("what was written is not in the cache directory")
	}
}

// What another client has changed or removed meanwhile is neither removed nor lost
// by what was done here without knowing it. A removal that meets a newer version
// lets it be: the name is back with their content. A file that is renamed here over
// one that they have changed goes beside it, as a conflict. A file that they have
// removed and that was changed here stays, with what was written here.
func TestChangesThatCross(t *testing.T) {
	t.Parallel()
	p := onS3(t)
	for _, n := range []string{"unlinked", "target", "source", "removed", "cut"} {
		write(t, p.path(n), n)
	}
	p.sync()
	names(t, p.dir)
	p.put("unlinked", "theirs")
	ok(t, "unlink", os.Remove(p.path("unlinked")))
	p.sync()
	p.holdsObjectNow("unlinked", "theirs")
	within(t, 2*ttl, "theirs", func() bool { b, err := os.ReadFile(p.path("unlinked")); return err == nil && string(b) == "theirs" })
	ok(t, "unlink, knowing it", os.Remove(p.path("unlinked")))
	if _, there := p.object("unlinked"); there {
		t.Error("the bucket has what was removed knowingly")
	}

	p.put("target", "theirs")
	ok(t, "rename", os.Rename(p.path("source"), p.path("target")))
	d := open(t, p.dir, os.O_RDONLY)
	isErr(t, "fsync of the directory", d.Sync(), syscall.ESTALE)
	p.holdsObject("target", "theirs")
	beside := ""
	within(t, 2*ttl, "beside it", func() bool {
		for _, n := range names(t, p.dir) {
			if strings.HasPrefix(n, "target.conflict-") {
				beside = n
			}
		}
		return beside != ""
	})
	p.holdsObject(beside, "source")
	if _, there := p.object("source"); there {
		t.Error("the bucket still has the old name")
	}

	p.remove("removed")
	f := open(t, p.path("removed"), os.O_WRONLY|os.O_APPEND)
	_, err := f.WriteString(", changed")
	ok(t, "write", err)
	ok(t, "close", f.Close())
	p.holdsObject("removed", "removed, changed")

	p.put("cut", "theirs, which is long")
	ok(t, "truncate", os.Truncate(p.path("cut"), 2))
	isErr(t, "fsync of the directory", d.Sync(), syscall.ESTALE)
	p.holdsObject("cut", "theirs, which is long")
}

// With durability=close the call itself says that what it is about was changed
// elsewhere: unlink(2) is EBUSY and leaves their content where it is; done again,
// knowing it, it succeeds. (Not ESTALE: the kernel would then repeat the call by
// itself.)
func TestRemovalsWithDurabilityClose(t *testing.T) {
	t.Parallel()
	server := s3test.Versitygw(t)
	m := startS3(t, server, "", nil, "durability", "close", "ttl", ttl.String())
	write(t, m.path("f"), "ours")
	holds(t, m.path("f"), "ours")
	server.Put(t, keyPrefix+"f", "theirs")
	isErr(t, "unlink", syscall.Unlink(m.path("f")), syscall.EBUSY)
	m.holdsObject("f", "theirs")
	within(t, 2*ttl, "theirs", func() bool { b, err := os.ReadFile(m.path("f")); return err == nil && string(b) == "theirs" })
	ok(t, "unlink again", os.Remove(m.path("f")))
	if _, there := getObject(t, server, keyPrefix+"f"); there {
		t.Error("the bucket still has it")
	}
}

// rmdir(2) believes a listing for as long as the ttl. What another client has put
// into the directory in that time stays, and the directory with it: both are there
// again when the ttl has passed. After the ttl rmdir(2) asks, and is ENOTEMPTY.
func TestRmdirBelievesTheListing(t *testing.T) {
	t.Parallel()
	p := onS3(t)
	mkdir(t, p.path("d"))
	mkdir(t, p.path("e"))
	p.sync()
	for _, d := range []string{"d", "e"} {
		if got := names(t, p.path(d)); len(got) != 0 {
			t.Fatalf("listed: %q", got)
		}
	}
	p.put("d/theirs", "theirs")
	ok(t, "rmdir", syscall.Rmdir(p.path("d")))
	p.holdsObject("d/theirs", "theirs")
	within(t, 3*ttl, "there again", func() bool { b, err := os.ReadFile(p.path("d/theirs")); return err == nil && string(b) == "theirs" })
	p.put("e/theirs", "theirs")
	settle()
	isErr(t, "rmdir", syscall.Rmdir(p.path("e")), syscall.ENOTEMPTY)
	holds(t, p.path("e/theirs"), "theirs")
}
