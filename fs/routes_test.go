package fs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/memory"
	"github.com/agentfs/agentfs/backends/router"
)

// plainFS has nothing optional, nor have its files.
type plainFS struct{ backends.FileSystem }

type plainFile struct{ backends.File }

func (p plainFS) Create(ctx context.Context, parent backends.Node, name string, flags int, a backends.CreateAttr) (backends.Node, backends.Attr, backends.File, error) {
	n, at, f, err := p.FileSystem.Create(ctx, parent, name, flags, a)
	return n, at, plainFile{f}, err
}

func (p plainFS) Open(ctx context.Context, n backends.Node, flags int) (backends.File, error) {
	f, err := p.FileSystem.Open(ctx, n, flags)
	if err != nil {
		return nil, err
	}
	return plainFile{f}, nil
}

// TestNoErrnoTurnsAnOperationOff asks a route for everything that it can't do
// and then does the same on another.
func TestNoErrnoTurnsAnOperationOff(t *testing.T) {
	able := newStore(t, memory.Config{})
	unable := newStore(t, memory.Config{NoTmpfs: true})
	r, err := router.New([]router.Route{
		{Path: "/", Store: able},
		{Path: "/plain", Store: unable, Files: plainFS{unable.FileSystem()}},
	})
	if err != nil {
		t.Fatal(err)
	}
	root, _ := mountFS(t, r.FileSystem(), Options{})
	plain := filepath.Join(root, "plain")

	ops := []struct {
		name string
		want error // on the route that can't
		do   func(dir string, f *os.File) error
	}{
		{"fsync", nil, func(_ string, f *os.File) error { return f.Sync() }},
		{"fsync of the directory", nil, func(dir string, _ *os.File) error {
			d, err := os.Open(dir)
			if err != nil {
				return err
			}
			defer d.Close()
			return d.Sync()
		}},
		{"symlink", unix.EOPNOTSUPP, func(dir string, _ *os.File) error { return os.Symlink("x", filepath.Join(dir, "symlink")) }},
		{"link", unix.EXDEV, func(dir string, _ *os.File) error {
			return os.Link(filepath.Join(dir, "f"), filepath.Join(dir, "link"))
		}},
		{"mknod", unix.EOPNOTSUPP, func(dir string, _ *os.File) error { return unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600) }},
		{"setxattr", unix.EOPNOTSUPP, func(dir string, _ *os.File) error {
			return unix.Setxattr(filepath.Join(dir, "f"), "user.k", []byte("v"), 0)
		}},
		{"getxattr", unix.EOPNOTSUPP, func(dir string, _ *os.File) error {
			_, err := unix.Getxattr(filepath.Join(dir, "f"), "user.k", make([]byte, 10))
			return err
		}},
		{"listxattr", nil, func(dir string, _ *os.File) error {
			_, err := unix.Listxattr(filepath.Join(dir, "f"), make([]byte, 100))
			return err
		}},
		{"removexattr", unix.EOPNOTSUPP, func(dir string, _ *os.File) error {
			return unix.Removexattr(filepath.Join(dir, "f"), "user.k")
		}},
		{"fallocate", unix.EOPNOTSUPP, func(_ string, f *os.File) error { return unix.Fallocate(int(f.Fd()), 0, 0, 100) }},
		{"lseek", nil, func(_ string, f *os.File) error {
			_, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_HOLE)
			return err
		}},
		{"copy_file_range", nil, func(dir string, f *os.File) error {
			to, err := os.Create(filepath.Join(dir, "copy"))
			if err != nil {
				return err
			}
			defer to.Close()
			from := int64(0)
			_, err = unix.CopyFileRange(int(f.Fd()), &from, int(to.Fd()), nil, 4, 0)
			return err
		}},
		{"renameat2", nil, func(dir string, _ *os.File) error {
			a, b := filepath.Join(dir, "f"), filepath.Join(dir, "renamed")
			if err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_NOREPLACE); err != nil {
				return err
			}
			return os.Rename(b, a)
		}},
	}
	files := map[string]*os.File{}
	for _, dir := range []string{plain, root} {
		f, err := os.Create(filepath.Join(dir, "f"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString("content"); err != nil {
			t.Fatal(err)
		}
		files[dir] = f
	}
	for _, op := range ops {
		if err := op.do(plain, files[plain]); !errors.Is(err, op.want) {
			t.Errorf("%s where it can't be done: %v, want %v", op.name, err, op.want)
		}
		if err := op.do(root, files[root]); err != nil {
			t.Errorf("%s after it failed on another route: %v", op.name, err)
		}
	}
	if err := os.Rename(filepath.Join(root, "f"), filepath.Join(plain, "g")); !errors.Is(err, unix.EXDEV) {
		t.Errorf("rename across routes: %v, want EXDEV", err)
	}
	if err := os.Link(filepath.Join(root, "f"), filepath.Join(plain, "g")); !errors.Is(err, unix.EXDEV) {
		t.Errorf("link across routes: %v, want EXDEV", err)
	}
}

// quietFS doesn't tell of changes.
type quietFS struct{ backends.FileSystem }

// TestCreateOfWhatExists opens a file with O_CREAT that the kernel takes to be
// absent.
func TestCreateOfWhatExists(t *testing.T) {
	s := newStore(t, memory.Config{NoTmpfs: true})
	dir, _ := mountFS(t, quietFS{s.FileSystem()}, Options{})
	for _, name := range []string{"a", "b"} {
		if _, err := os.Stat(filepath.Join(dir, name)); !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		put(t, s, name, "theirs")
	}
	f, err := os.OpenFile(filepath.Join(dir, "a"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatalf("O_CREAT of what exists: %v", err)
	}
	defer f.Close()
	if b, err := io.ReadAll(f); err != nil || string(b) != "theirs" {
		t.Errorf("it has %q, %v", b, err)
	}
	if _, err := os.OpenFile(filepath.Join(dir, "b"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644); !errors.Is(err, os.ErrExist) {
		t.Errorf("O_EXCL of what exists: %v", err)
	}
}

func put(t *testing.T, s backends.Store, name, content string) {
	t.Helper()
	body := io.NewSectionReader(bytes.NewReader([]byte(content)), 0, int64(len(content)))
	if _, err := s.Put(t.Context(), name, body, backends.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

// TestChangesFromOutside changes memory at its object depth: the kernel, which
// may keep everything for an hour, is told.
func TestChangesFromOutside(t *testing.T) {
	s := newStore(t, memory.Config{})
	dir, _ := mountFS(t, s.FileSystem(), Options{})
	name := filepath.Join(dir, "d", "f")
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "d"), 0o755), os.WriteFile(name, []byte("ours"), 0o644)); err != nil {
		t.Fatal(err)
	}
	list := func() (names []string) {
		es, err := os.ReadDir(filepath.Join(dir, "d"))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range es {
			names = append(names, e.Name())
		}
		return names
	}
	if got := list(); len(got) != 1 {
		t.Fatalf("listed %q", got)
	}
	if _, err := os.Stat(name + "2"); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	held, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()

	put(t, s, "d/f", "theirs, and longer")
	put(t, s, "d/f2", "new")
	eventually(t, "the new content is seen", func() bool {
		b, err := os.ReadFile(name)
		return err == nil && string(b) == "theirs, and longer"
	})
	eventually(t, "the new name is seen", func() bool { _, err := os.Stat(name + "2"); return err == nil })
	eventually(t, "the listing has the new name", func() bool { return len(list()) == 2 })
	if b, err := io.ReadAll(held); err != nil || string(b) != "ours" {
		t.Errorf("a handle from before reads %q, %v", b, err)
	}

	if err := s.Remove(t.Context(), "d/f", backends.If{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the removed name is gone", func() bool { _, err := os.Stat(name); return errors.Is(err, os.ErrNotExist) })
	eventually(t, "the listing has lost it", func() bool { return len(list()) == 1 })
}

// forgetFS notes which nodes are forgotten.
type forgetFS struct {
	backends.FileSystem
	forgotten sync.Map
}

func (f *forgetFS) Forget(n backends.Node) {
	f.forgotten.Store(n.ID(), true)
	f.FileSystem.Forget(n)
}

// TestForget: the file system hears of every node that is gone, and of none
// that is open.
func TestForget(t *testing.T) {
	fsys := &forgetFS{FileSystem: newMemory(t, memory.Config{NoTmpfs: true})}
	dir, _ := mountFS(t, fsys, Options{})
	name, other := filepath.Join(dir, "f"), filepath.Join(dir, "g")
	for what, remove := range map[string]func() error{
		"unlinked": func() error { return os.Remove(name) },
		"replaced": func() error {
			if err := os.WriteFile(other, nil, 0o644); err != nil {
				return err
			}
			return os.Rename(other, name)
		},
	} {
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil {
			t.Fatal(err)
		}
		if err := remove(); err != nil {
			t.Fatal(err)
		}
		if _, ok := fsys.forgotten.Load(st.Ino); ok {
			t.Errorf("%s: forgotten while it is open", what)
		}
		f.Close()
		eventually(t, what+" is forgotten", func() bool { _, ok := fsys.forgotten.Load(st.Ino); return ok })
	}
}
