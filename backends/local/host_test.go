package local_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/local"
)

func newStore(t *testing.T) (*local.Store, string) {
	t.Helper()
	dir := t.TempDir()
	s, err := local.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func body(content string) *io.SectionReader {
	return io.NewSectionReader(strings.NewReader(content), 0, int64(len(content)))
}

func TestOpenOptions(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	must(t, os.WriteFile(file, nil, 0o644))
	for _, c := range []struct {
		values map[string]string
		want   []string
	}{
		{map[string]string{"path": dir}, nil},
		{map[string]string{}, []string{"path", "is required"}},
		{map[string]string{"path": "relative"}, []string{"path", "not an absolute path", "/srv/data"}},
		{map[string]string{"path": dir + "/nope"}, []string{"does not exist", "mkdir -p " + dir + "/nope"}},
		{map[string]string{"path": file}, []string{"is not a directory"}},
		{map[string]string{"path": dir, "colour": "red"}, []string{"colour", "unknown option"}},
	} {
		values := map[string]backends.Option{}
		for k, v := range c.values {
			values[k] = backends.Option{Value: v, Source: "test.yaml:3"}
		}
		s, err := local.Open(t.Context(), backends.NewOptions("test.yaml:2", nil, values))
		if err == nil {
			must(t, backends.CloseStore(s))
		}
		if c.want == nil {
			must(t, err)
			continue
		}
		for _, want := range append(c.want, "test.yaml:") {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Open(%v): %v, want %q in it", c.values, err, want)
			}
		}
	}
}

// What somebody on the host put into the directory must not lead out of it, at
// neither depth.
func TestHostLinksAreNotFollowed(t *testing.T) {
	s, dir := newStore(t)
	outside := t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o644))
	must(t, os.Mkdir(filepath.Join(dir, "real"), 0o755))
	for name, target := range map[string]string{
		"file": filepath.Join(outside, "secret"), "dir": outside, "up": "..", "real/up": "../../..", "inside": "real", "proc": "/proc/self/root",
	} {
		must(t, os.Symlink(target, filepath.Join(dir, name)))
	}
	ctx := t.Context()
	for _, name := range []string{"file", "dir", "dir/secret", "up/x", "real/up/etc/passwd", "inside/x", "proc/etc/passwd"} {
		if rc, _, err := s.Open(ctx, name, backends.Range{}, backends.If{}); err == nil {
			rc.Close()
			t.Errorf("Open(%q) follows a link", name)
		}
	}
	for _, name := range []string{"dir/new", "up/new", "inside/new", "real/up/new"} {
		if _, err := s.Put(ctx, name, body("x"), backends.PutOptions{}); !errors.Is(err, backends.ErrNotDir) {
			t.Errorf("Put(%q) through a link: %v, want ErrNotDir", name, err)
		}
		if err := s.Mkdir(ctx, name, backends.AttrChange{}); !errors.Is(err, backends.ErrNotDir) {
			t.Errorf("Mkdir(%q) through a link: %v, want ErrNotDir", name, err)
		}
		if err := s.Remove(ctx, name, backends.If{}); !errors.Is(err, backends.ErrNotDir) {
			t.Errorf("Remove(%q) through a link: %v, want ErrNotDir", name, err)
		}
	}
	// SetAttr is of the link itself.
	want := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	must(t, s.SetAttr(ctx, "file", backends.AttrChange{Set: backends.SetMtime, Mtime: want}))
	if st, err := os.Stat(filepath.Join(outside, "secret")); err != nil || st.ModTime().Equal(want) {
		t.Errorf("SetAttr of a link changed its target: %v, %v", st, err)
	}
	// Put replaces the link and not what it points to.
	_, err := s.Put(ctx, "file", body("mine"), backends.PutOptions{})
	must(t, err)
	if b, err := os.ReadFile(filepath.Join(outside, "secret")); err != nil || string(b) != "secret" {
		t.Errorf("Put wrote through a link: %q, %v", b, err)
	}

	f := s.FileSystem()
	n, _, err := f.Lookup(ctx, f.Root(), "dir")
	must(t, err)
	if _, _, err := f.Lookup(ctx, n, "secret"); !errors.Is(err, backends.ErrNotDir) {
		t.Errorf("Lookup through a link: %v, want ErrNotDir", err)
	}
	if _, err := f.Open(ctx, n, os.O_RDONLY); err == nil {
		t.Error("Open of a link succeeded")
	}
	if _, err := f.ReadDir(ctx, n); !errors.Is(err, backends.ErrNotDir) {
		t.Errorf("ReadDir of a link: %v, want ErrNotDir", err)
	}
	if _, _, _, err := f.Create(ctx, n, "new", os.O_RDWR|os.O_CREATE, backends.CreateAttr{Mode: 0o644}); err == nil {
		t.Error("Create through a link succeeded")
	}
}

// A FIFO must not make anybody wait for its other end.
func TestSpecialFiles(t *testing.T) {
	s, dir := newStore(t)
	must(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o644))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, _, err := s.Open(ctx, "fifo", backends.Range{}, backends.If{}); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("Open of a FIFO: %v, want ErrInvalid", err)
	}
	must(t, os.Symlink("x", filepath.Join(dir, "link")))
	if _, _, err := s.Open(ctx, "link", backends.Range{}, backends.If{}); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("Open of a link: %v, want ErrInvalid", err)
	}
	f := s.FileSystem()
	n, a, err := f.Lookup(ctx, f.Root(), "fifo")
	must(t, err)
	if a.Mode.Type() != fs.ModeNamedPipe {
		t.Errorf("a FIFO is %v", a.Mode)
	}
	if _, err := f.Open(ctx, n, os.O_RDONLY); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("Open of a FIFO's node: %v, want ErrInvalid", err)
	}
}

// A temporary file is never seen; one whose writer is gone is removed.
func TestTemporaryFiles(t *testing.T) {
	s, dir := newStore(t)
	ctx := t.Context()
	must(t, os.Mkdir(filepath.Join(dir, "d"), 0o755))
	left := filepath.Join(dir, "d", ".agentfs-tmp-LEFT")
	leave := func(age time.Duration) *os.File {
		f, err := os.Create(left)
		must(t, err)
		when := time.Now().Add(-age)
		must(t, os.Chtimes(left, when, when))
		return f
	}
	there := func() bool { _, err := os.Lstat(left); return err == nil }
	list := func() {
		t.Helper()
		for e, err := range s.List(ctx, "d", "") {
			t.Errorf("List has %+v, %v", e, err)
		}
		f := s.FileSystem()
		n, _, err := f.Lookup(ctx, f.Root(), "d")
		must(t, err)
		if entries, err := f.ReadDir(ctx, n); err != nil || len(entries) > 0 {
			t.Errorf("ReadDir has %v, %v", entries, err)
		}
		if _, _, err := f.Lookup(ctx, n, ".agentfs-tmp-LEFT"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Lookup of a temporary file: %v", err)
		}
	}

	must(t, leave(0).Close())
	list()
	if !there() {
		t.Error("a temporary file that is new was removed under its writer")
	}
	busy := leave(time.Hour)
	must(t, unix.Flock(int(busy.Fd()), unix.LOCK_EX))
	list()
	if !there() {
		t.Error("a temporary file that is locked was removed under its writer")
	}
	if err := s.Remove(ctx, "d", backends.If{}); !errors.Is(err, backends.ErrNotEmpty) {
		t.Errorf("Remove of a directory in which somebody writes: %v, want ErrNotEmpty", err)
	}
	must(t, busy.Close())
	list()
	if there() {
		t.Error("a temporary file whose writer is gone is still there after a listing")
	}
	must(t, leave(time.Hour).Close())
	must(t, s.Remove(ctx, "d", backends.If{}))

	if _, err := s.Put(ctx, ".agentfs-tmp-x/f", body("x"), backends.PutOptions{}); !errors.Is(err, backends.ErrReserved) {
		t.Errorf("Put of a reserved name: %v, want ErrReserved", err)
	}
}

func TestPutKeepsModeAndOwner(t *testing.T) {
	s, dir := newStore(t)
	path := filepath.Join(dir, "script")
	must(t, os.WriteFile(path, []byte("old"), 0o644))
	must(t, os.Chmod(path, 0o750))
	_, err := s.Put(t.Context(), "script", body("new"), backends.PutOptions{})
	must(t, err)
	st, err := os.Stat(path)
	must(t, err)
	if st.Mode().Perm() != 0o750 {
		t.Errorf("the mode after a Put is %v, want 0750", st.Mode())
	}
}

// Another process's change in place is never mixed with what was there.
func TestChangeInPlace(t *testing.T) {
	s, dir := newStore(t)
	path := filepath.Join(dir, "f")
	must(t, os.WriteFile(path, []byte(strings.Repeat("a", 1<<20)), 0o644))
	rc, e, err := s.Open(t.Context(), "f", backends.Range{}, backends.If{})
	must(t, err)
	defer rc.Close()
	if _, err := io.ReadFull(rc, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond)
	must(t, os.WriteFile(path, []byte(strings.Repeat("b", 1<<20)), 0o644))
	if b, err := io.ReadAll(rc); !errors.Is(err, backends.ErrChanged) || strings.Contains(string(b), "b") {
		t.Errorf("reading on after a change in place: %d bytes, %v, want ErrChanged", len(b), err)
	}
	_, err = s.Put(t.Context(), "f", body("x"), backends.PutOptions{If: backends.If{Match: e.Version}})
	if !errors.Is(err, backends.ErrChanged) {
		t.Errorf("Put over a change by another process: %v, want ErrChanged", err)
	}
}

// Contents of equal size that follow each other at once, and by chance in the
// same inode number, have different versions.
func TestVersionsAreNotReused(t *testing.T) {
	s, _ := newStore(t)
	seen := map[backends.Version]int{}
	for i := range 300 {
		e, err := s.Put(t.Context(), "f", body(fmt.Sprintf("%05d", i)), backends.PutOptions{})
		must(t, err)
		if j, dup := seen[e.Version]; dup {
			t.Fatalf("contents %d and %d have the version %s", j, i, e.Version)
		}
		seen[e.Version] = i
	}
}

func TestKeepPages(t *testing.T) {
	s, dir := newStore(t)
	path := filepath.Join(dir, "f")
	must(t, os.WriteFile(path, []byte("one"), 0o644))
	// Times that lie in the past by more than any clock's granularity. ctime
	// can't be set, so the test waits for it.
	time.Sleep(2100 * time.Millisecond)
	old := time.Now().Add(-time.Hour)
	f := s.FileSystem()
	ctx := t.Context()
	n, _, err := f.Lookup(ctx, f.Root(), "f")
	must(t, err)
	keep := func() bool {
		t.Helper()
		file, err := f.Open(ctx, n, os.O_RDONLY)
		must(t, err)
		defer file.Close(ctx)
		return file.(backends.PageCacher).KeepPages()
	}
	if keep() {
		t.Error("the first open keeps pages")
	}
	if !keep() {
		t.Error("an open of an unchanged file does not keep pages")
	}
	must(t, os.WriteFile(path, []byte("two"), 0o644))
	must(t, os.Chtimes(path, old, old)) // somebody sets the mtime back
	if keep() {
		t.Error("an open after a change from outside keeps pages")
	}
	if keep() {
		t.Error("an open right after a change keeps pages: a second change within a tick would go unseen")
	}
}

// A change by another process is seen at the next call.
func TestChangesFromOutside(t *testing.T) {
	s, dir := newStore(t)
	f := s.FileSystem()
	ctx := t.Context()
	must(t, os.WriteFile(filepath.Join(dir, "f"), []byte("1"), 0o644))
	n, a, err := f.Lookup(ctx, f.Root(), "f")
	must(t, err)
	if a.Valid <= 0 || a.Valid > time.Second {
		t.Errorf("attributes are valid for %v", a.Valid)
	}
	must(t, os.WriteFile(filepath.Join(dir, "tmp"), []byte("22"), 0o644))
	must(t, os.Rename(filepath.Join(dir, "tmp"), filepath.Join(dir, "f")))
	fresh, a, err := f.Lookup(ctx, f.Root(), "f")
	must(t, err)
	if fresh == n || a.Size != 2 {
		t.Errorf("after a replacement from outside the node is the old one: %+v", a)
	}
	if a, err := f.Attr(ctx, n); err != nil || a.Size != 1 || a.Nlink != 0 {
		t.Errorf("the replaced file has %+v, %v", a, err)
	}
}
