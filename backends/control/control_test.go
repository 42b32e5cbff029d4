package control_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/control"
)

var (
	ctx   = context.Background()
	errNo = errors.New("can't be computed")
)

// newStore returns a store with a file that grows with every computation, one
// that fails, and one in a directory.
func newStore(t *testing.T) *control.Store {
	t.Helper()
	var n atomic.Int32
	s, err := control.New(map[string]control.File{
		"counter": {Read: func(context.Context) ([]byte, error) {
			return []byte(strings.Repeat("x", int(n.Add(1)))), nil
		}},
		"broken": {Read: func(context.Context) ([]byte, error) { return nil, errNo }},
		"dir/secret": {Mode: 0o400, Read: func(context.Context) ([]byte, error) {
			return []byte("0123456789"), nil
		}},
	}, control.Config{UID: 7, GID: 8})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func lookup(t *testing.T, f backends.FileSystem, segs ...string) (backends.Node, backends.Attr) {
	t.Helper()
	n := f.Root()
	var a backends.Attr
	for _, s := range segs {
		var err error
		if n, a, err = f.Lookup(ctx, n, s); err != nil {
			t.Fatal(err)
		}
	}
	return n, a
}

func read(t *testing.T, f backends.File) string {
	t.Helper()
	p := make([]byte, 100)
	n, err := f.ReadAt(ctx, p, 0)
	if err != nil {
		t.Fatal(err)
	}
	return string(p[:n])
}

func TestNewRefuses(t *testing.T) {
	ok := func(context.Context) ([]byte, error) { return nil, nil }
	for _, names := range [][]string{{""}, {"."}, {"/a"}, {"a/"}, {"a//b"}, {"../a"}, {"a", "a/b"}, {"a", "a!", "a/b/c"}} {
		files := map[string]control.File{}
		for _, n := range names {
			files[n] = control.File{Read: ok}
		}
		if _, err := control.New(files, control.Config{}); err == nil {
			t.Errorf("%q were accepted", names)
		}
	}
	if _, err := control.New(map[string]control.File{"a": {}}, control.Config{}); err == nil {
		t.Error("a file without Read was accepted")
	}
}

func TestOpenFileIsASnapshot(t *testing.T) {
	f := newStore(t).FileSystem()
	n, a := lookup(t, f, "counter")
	if a.Size != 1 || a.Valid != 0 {
		t.Errorf("attributes: %+v", a)
	}
	first, err := f.Open(ctx, n, os.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	second, err := f.Open(ctx, n, os.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := read(t, first); got != "xx" {
			t.Errorf("first handle: %q", got)
		}
		if got := read(t, second); got != "xxx" {
			t.Errorf("second handle: %q", got)
		}
	}
	if n, err := first.ReadAt(ctx, make([]byte, 9), 5); n != 0 || err != nil {
		t.Errorf("read beyond the end: %d %v", n, err)
	}
	if _, err := first.ReadAt(ctx, make([]byte, 9), -1); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("read before the start: %v", err)
	}
	if first.(backends.PageCacher).KeepPages() || !first.(interface{ DirectIO() bool }).DirectIO() {
		t.Error("reads may be answered by the kernel")
	}
}

func TestAttributes(t *testing.T) {
	f := newStore(t).FileSystem()
	_, a := lookup(t, f, "dir", "secret")
	if a.Mode != 0o400 || a.UID != 7 || a.GID != 8 || a.Size != 10 || a.Nlink != 1 {
		t.Errorf("dir/secret: %+v", a)
	}
	n, a := lookup(t, f, "broken")
	if a.Mode != 0o444 || a.Size != 0 {
		t.Errorf("broken: %+v", a)
	}
	if _, err := f.Open(ctx, n, os.O_RDONLY); !errors.Is(err, errNo) || !strings.Contains(err.Error(), "broken") {
		t.Errorf("open of broken: %v", err)
	}
	_, a = lookup(t, f, "dir")
	if a.Mode != fs.ModeDir|0o555 || a.Nlink != 2 {
		t.Errorf("dir: %+v", a)
	}
	es, err := f.ReadDir(ctx, f.Root())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range es {
		got = append(got, fmt.Sprint(e.Name, e.Mode))
	}
	if fmt.Sprint(got) != "[broken---------- counter---------- dird---------]" {
		t.Errorf("root: %v", got)
	}
}

func TestEveryChangeIsReadOnly(t *testing.T) {
	s := newStore(t)
	f := s.FileSystem()
	root := f.Root()
	n, _ := lookup(t, f, "counter")
	c := backends.CreateAttr{Mode: 0o644}
	body := io.NewSectionReader(strings.NewReader(""), 0, 0)
	for what, do := range map[string]func() error{
		"setattr":     func() error { _, err := f.SetAttr(ctx, n, backends.AttrChange{}); return err },
		"open write":  func() error { _, err := f.Open(ctx, n, os.O_WRONLY); return err },
		"open rdwr":   func() error { _, err := f.Open(ctx, n, os.O_RDWR); return err },
		"open trunc":  func() error { _, err := f.Open(ctx, n, os.O_TRUNC); return err },
		"create":      func() error { _, _, _, err := f.Create(ctx, root, "new", os.O_RDWR, c); return err },
		"create over": func() error { _, _, _, err := f.Create(ctx, root, "counter", os.O_RDWR, c); return err },
		"mkdir":       func() error { _, _, err := f.Mkdir(ctx, root, "new", c); return err },
		"unlink":      func() error { return f.Unlink(ctx, root, "counter") },
		"rmdir":       func() error { return f.Rmdir(ctx, root, "dir") },
		"rename":      func() error { return f.Rename(ctx, root, "counter", root, "new", 0) },
		"symlink":     func() error { _, _, err := backends.SymlinkAt(ctx, f, root, "new", "x", c); return err },
		"link":        func() error { _, err := backends.LinkAt(ctx, f, n, root, "new"); return err },
		"mknod":       func() error { _, _, err := backends.MknodAt(ctx, f, root, "new", c); return err },
		"setxattr":    func() error { return backends.SetXattrAt(ctx, f, n, "user.x", nil, 0) },
		"removexattr": func() error { return backends.RemoveXattrAt(ctx, f, n, "user.x") },
		"put":         func() error { _, err := s.Put(ctx, "new", body, backends.PutOptions{}); return err },
		"store mkdir": func() error { return s.Mkdir(ctx, "new", backends.AttrChange{}) },
		"remove":      func() error { return s.Remove(ctx, "counter", backends.If{}) },
	} {
		if err := do(); !errors.Is(err, backends.ErrReadOnly) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, _, _, err := f.Create(ctx, root, "counter", os.O_RDWR|os.O_EXCL, c); !errors.Is(err, fs.ErrExist) {
		t.Errorf("create exclusive: %v", err)
	}
	if _, err := newStore(t).FileSystem().Attr(ctx, n); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("foreign node: %v", err)
	}
}

func TestStore(t *testing.T) {
	s := newStore(t)
	r, e, err := s.Open(ctx, "dir/secret", backends.Range{Off: 2, Len: 3}, backends.If{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil || string(b) != "234" || e.Size != 10 || e.Name != "dir/secret" || e.Version == "" {
		t.Errorf("open: %q %+v %v", b, e, err)
	}
	if r, _, err = s.Open(ctx, "dir/secret", backends.Range{Off: 20}, backends.If{Match: e.Version}); err != nil {
		t.Fatal(err)
	}
	if b, err = io.ReadAll(r); err != nil || len(b) != 0 {
		t.Errorf("open beyond the end: %q %v", b, err)
	}
	for name, want := range map[string]error{
		"none": fs.ErrNotExist, "dir": backends.ErrIsDir, "counter/x": backends.ErrNotDir, "../x": fs.ErrInvalid,
	} {
		if _, _, err := s.Open(ctx, name, backends.Range{}, backends.If{}); !errors.Is(err, want) {
			t.Errorf("open %s: %v", name, err)
		}
	}
	if _, _, err = s.Open(ctx, "counter", backends.Range{}, backends.If{Match: "other"}); !errors.Is(err, backends.ErrChanged) {
		t.Errorf("open of another version: %v", err)
	}
	list := func(dir, after string) (got string) {
		for e, err := range s.List(ctx, dir, after) {
			if err != nil {
				return err.Error()
			}
			got += " " + e.Name
		}
		return got
	}
	if got := list(".", ""); got != " broken counter dir" {
		t.Errorf("list:%s", got)
	}
	if got := list(".", "counter"); got != " dir" {
		t.Errorf("list after counter:%s", got)
	}
	if got := list("dir", ""); got != " dir/secret" {
		t.Errorf("list of dir:%s", got)
	}
	if got := list("counter", ""); !strings.Contains(got, "not a directory") {
		t.Errorf("list of a file:%s", got)
	}
}
