package protocol_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/local"
	"github.com/agentfs/agentfs/backends/memory"
	"github.com/agentfs/agentfs/backends/memory/memorytest"
	"github.com/agentfs/agentfs/backends/readonly"
	"github.com/agentfs/agentfs/cmd/agentfs/protocol"
)

// newStore returns a memory store with these files.
func newStore(t *testing.T, files map[string]string) backends.Store {
	t.Helper()
	s := memorytest.New(t, memory.Config{Size: 256 << 20})
	for name, text := range files {
		put(t, s, name, text)
	}
	return s
}

// tree is what the operations work on.
func tree(s backends.Store) *protocol.Tree { return &protocol.Tree{Store: s} }

func put(t *testing.T, s backends.Store, name, text string) backends.Entry {
	t.Helper()
	e, err := s.Put(context.Background(), name, io.NewSectionReader(strings.NewReader(text), 0, int64(len(text))), backends.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func content(t *testing.T, s backends.Store, name string) string {
	t.Helper()
	r, _, err := s.Open(context.Background(), name, backends.Range{}, backends.If{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestName(t *testing.T) {
	for in, want := range map[string]string{
		"": ".", "/": ".", "a": "a", "/a/b/": "a/b", "a//b": "a/b", "../../etc": "etc", "/a/./x/../b": "a/b",
	} {
		if got, err := protocol.Name(in); err != nil || got != want {
			t.Errorf("Name(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	if _, err := protocol.Name("a\x00b"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("NUL: %v, want ErrInvalid", err)
	}
}

func TestList(t *testing.T) {
	s := newStore(t, map[string]string{"a.txt": "12345", "d/x/y": "", "d/z": "1"})
	for _, c := range []struct {
		path string
		want []string
	}{
		{"/", []string{"/a.txt 5", "/d/ 0"}},
		{"d", []string{"/d/x/ 0", "/d/z 1"}},
		{"/d/z", []string{"/d/z 1"}},
	} {
		var got []string
		_, err := tree(s).List(t.Context(), c.path, protocol.ListOptions{}, func(it protocol.Item) error {
			got = append(got, fmt.Sprintf("%s %d", it.Path, it.Size))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("List(%s) = %q, want %q", c.path, got, c.want)
		}
	}
	if _, err := tree(s).List(t.Context(), "/none", protocol.ListOptions{}, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	// Page after page it is the same.
	var pages []string
	for after, n := "", 0; n == 0 || after != ""; n++ {
		res, err := tree(s).List(t.Context(), "/", protocol.ListOptions{After: after, Limit: 1}, func(it protocol.Item) error {
			pages = append(pages, it.Path)
			return nil
		})
		if err != nil || n > 2 {
			t.Fatal(n, err)
		}
		after = res.Next
	}
	if !slices.Equal(pages, []string{"/a.txt", "/d/"}) {
		t.Errorf("page after page: %q", pages)
	}
}

func TestRead(t *testing.T) {
	long := strings.Repeat("x", 300_000) // longer than any buffer
	s := newStore(t, map[string]string{"f": "one\ntwo\n" + long + "\nlast", "empty": ""})
	for _, c := range []struct {
		path          string
		offset, limit int64
		want          string
		lines         int64
		more          bool
	}{
		{"f", 0, 0, "one\ntwo\n" + long + "\nlast", 4, false},
		{"f", 1, 1, "two\n", 1, true},
		{"f", 2, 1, long + "\n", 1, true},
		{"f", 3, 5, "last", 1, false},
		{"f", 3, 1, "last", 1, false},
		{"f", 9, 1, "", 0, false},
		{"empty", 0, 0, "", 0, false},
	} {
		var b strings.Builder
		res, err := tree(s).Read(t.Context(), c.path, &b, protocol.ReadOptions{Offset: c.offset, Limit: c.limit})
		if err != nil || b.String() != c.want || res.Count != c.lines || res.More != c.more {
			t.Errorf("Read(%s, %d, %d): %d bytes, %d lines, more %v, %v; want %d bytes, %d lines, more %v",
				c.path, c.offset, c.limit, b.Len(), res.Count, res.More, err, len(c.want), c.lines, c.more)
		}
	}
	if _, err := tree(s).Read(t.Context(), "/", io.Discard, protocol.ReadOptions{}); !errors.Is(err, backends.ErrIsDir) {
		t.Errorf("reading a directory: %v, want ErrIsDir", err)
	}
}

// What is no file is said to be what it is.
func TestNotRegular(t *testing.T) {
	host := t.TempDir()
	if err := errors.Join(unix.Mkfifo(filepath.Join(host, "pipe"), 0o600), os.Symlink("a.txt", filepath.Join(host, "link"))); err != nil {
		t.Fatal(err)
	}
	onHost, err := local.New(host)
	if err != nil {
		t.Fatal(err)
	}
	defer onHost.Close()
	inMemory := newStore(t, map[string]string{"a.txt": "x"})
	if err := backends.Symlink(t.Context(), inMemory, "a.txt", "link"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		s          backends.Store
		path, want string
	}{
		{onHost, "link", "link: is a symbolic link to a.txt; read that path"},
		{onHost, "pipe", "pipe: is not a regular file"},
		{inMemory, "link", "link: is a symbolic link to a.txt; read that path"},
		{readonly.Store(inMemory), "link", "link: is a symbolic link to a.txt; read that path"},
	} {
		_, err := tree(c.s).Read(t.Context(), c.path, io.Discard, protocol.ReadOptions{})
		if err == nil || err.Error() != "read "+c.want {
			t.Errorf("read: %v", err)
		}
		_, err = tree(c.s).Edit(t.Context(), c.path, "a", "b", protocol.EditOptions{})
		if err == nil || err.Error() != "edit "+c.want {
			t.Errorf("edit: %v", err)
		}
		_, err = grep(t, c.s, "x", c.path, protocol.GrepOptions{})
		if err == nil || err.Error() != "grep "+c.want {
			t.Errorf("grep: %v", err)
		}
	}
}

func TestWrite(t *testing.T) {
	s := newStore(t, nil)
	write := func(text string, o protocol.WriteOptions) (protocol.Item, error) {
		return tree(s).Write(t.Context(), "/a/b/c.txt", strings.NewReader(text), o)
	}
	first, err := write("1", protocol.WriteOptions{CreateOnly: true})
	if err != nil || first.Path != "/a/b/c.txt" || first.Size != 1 {
		t.Fatalf("%+v, %v", first, err)
	}
	if _, err := write("2", protocol.WriteOptions{CreateOnly: true}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("create-only over a file: %v, want ErrExist", err)
	}
	second, err := write("22", protocol.WriteOptions{IfVersion: first.Version})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := write("3", protocol.WriteOptions{IfVersion: first.Version}); !errors.Is(err, backends.ErrChanged) {
		t.Errorf("if-version of an old version: %v, want ErrChanged", err)
	}
	if got := content(t, s, "a/b/c.txt"); got != "22" {
		t.Errorf("content %q, want 22", got)
	}
	if _, err := write("", protocol.WriteOptions{CreateOnly: true, IfVersion: second.Version}); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("both conditions: %v, want ErrInvalid", err)
	}
}

func TestEdit(t *testing.T) {
	// An occurrence lies across the border of what is read at once.
	big := strings.Repeat("abcdefgh\n", 40_000)
	at := 256<<10 - 3
	big = big[:at] + "NEEDLE" + big[at:]
	text := "port = 80\nhost = a\nport = 81\nport = 80\n"
	for _, c := range []struct {
		name, text, old, new string
		o                    protocol.EditOptions
		want                 string
		lines                []int64
	}{
		{"once", text, "host = a", "host = b", protocol.EditOptions{}, strings.Replace(text, "host = a", "host = b", 1), []int64{2}},
		{"all", text, "port = 80", "x", protocol.EditOptions{All: true}, strings.ReplaceAll(text, "port = 80", "x"), []int64{1, 4}},
		{"over lines", text, "a\nport = 81\nport", "?", protocol.EditOptions{}, "port = 80\nhost = ? = 80\n", []int64{2}},
		{"dry", text, "host", "guest", protocol.EditOptions{DryRun: true}, text, []int64{2}},
		{"delete", text, "host = a\n", "", protocol.EditOptions{}, strings.Replace(text, "host = a\n", "", 1), []int64{2}},
		{"border", big, "NEEDLE", "N", protocol.EditOptions{}, strings.Replace(big, "NEEDLE", "N", 1), []int64{int64(strings.Count(big[:at], "\n")) + 1}},
		{"adjacent", "aaaa", "aa", "b", protocol.EditOptions{All: true}, "bb", []int64{1, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStore(t, map[string]string{"f": c.text})
			res, err := tree(s).Edit(t.Context(), "f", c.old, c.new, c.o)
			if err != nil {
				t.Fatal(err)
			}
			if got := content(t, s, "f"); got != c.want {
				t.Errorf("content has %d bytes, want %d: %.80q", len(got), len(c.want), got)
			}
			if !slices.Equal(res.Lines, c.lines) || res.Replaced != int64(len(c.lines)) {
				t.Errorf("replaced %d at %v, want %v", res.Replaced, res.Lines, c.lines)
			}
		})
	}
}

func TestEditRefuses(t *testing.T) {
	s := newStore(t, map[string]string{"f": "a\nb\na\n"})
	before, err := s.Stat(t.Context(), "f")
	if err != nil {
		t.Fatal(err)
	}
	var several *protocol.AmbiguousError
	if _, err := tree(s).Edit(t.Context(), "f", "a", "x", protocol.EditOptions{}); !errors.As(err, &several) || several.Count != 2 || !slices.Equal(several.Lines, []protocol.EditLine{{Number: 1, Text: "a"}, {Number: 3, Text: "a"}}) {
		t.Errorf("several: %v", err)
	}
	if _, err := tree(s).Edit(t.Context(), "f", "zz", "x", protocol.EditOptions{All: true}); !errors.Is(err, protocol.ErrNoMatch) {
		t.Errorf("no match: %v", err)
	}
	for _, old := range []string{"", "a"} {
		if _, err := tree(s).Edit(t.Context(), "f", old, "a", protocol.EditOptions{}); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%q by a: %v, want ErrInvalid", old, err)
		}
	}
	// Somebody changes the file between the reading and the writing.
	racing := &changedOnOpen{Store: s, change: func() { put(t, s, "f", "theirs b\n") }}
	if _, err := tree(racing).Edit(t.Context(), "f", "b", "x", protocol.EditOptions{}); !errors.Is(err, backends.ErrChanged) {
		t.Errorf("changed meanwhile: %v, want ErrChanged", err)
	}
	if got := content(t, s, "f"); got != "theirs b\n" {
		t.Errorf("their content is lost: %q", got)
	}
	if before.Version == "" {
		t.Error("the store has no versions, so this proved nothing")
	}
}

// changedOnOpen calls change after a file was opened.
type changedOnOpen struct {
	backends.Store
	change func()
}

func (s *changedOnOpen) Open(ctx context.Context, name string, r backends.Range, cond backends.If) (io.ReadCloser, backends.Entry, error) {
	f, e, err := s.Store.Open(ctx, name, r, cond)
	s.change()
	return f, e, err
}

func TestGlob(t *testing.T) {
	s := newStore(t, map[string]string{
		"a.go": "", "b.txt": "", "src/a.go": "", "src/a_test.go": "", "src/deep/er/c.go": "", "src-2/x.go": "", "other/src/a.go": "",
	})
	for _, c := range []struct {
		glob, dir string
		want      []string
	}{
		{"*.go", "/", []string{"/a.go", "/other/src/a.go", "/src-2/x.go", "/src/a.go", "/src/a_test.go", "/src/deep/er/c.go"}},
		{"*.go", "/src", []string{"/src/a.go", "/src/a_test.go", "/src/deep/er/c.go"}},
		{"/*.go", "/src", []string{"/a.go"}},
		{"./*.go", "/", []string{"/a.go"}},
		{"src/*.go", "/", []string{"/src/a.go", "/src/a_test.go"}},
		{"src/*.go", "/other", []string{"/other/src/a.go"}},
		{"src/**/*.go", "/", []string{"/src/a.go", "/src/a_test.go", "/src/deep/er/c.go"}},
		{"**/src/a.go", "/", []string{"/other/src/a.go", "/src/a.go"}},
		{"src*/{a,x}.go", "/", []string{"/src-2/x.go", "/src/a.go"}},
		{"*/*/", "/", []string{"/other/src/", "/src/deep/"}},
		{"s?c", "/", []string{"/other/src/", "/src/"}},
		{"none/*.go", "/", nil},
		{"b.txt/*", "/", nil},
	} {
		var got []string
		res, err := tree(s).Glob(t.Context(), c.glob, c.dir, protocol.GlobOptions{}, func(it protocol.Item) error {
			got = append(got, it.Path)
			return nil
		})
		if err != nil || res.Matches != int64(len(got)) || res.Truncated || res.FailedCount != 0 {
			t.Fatalf("%s in %s: %+v, %v", c.glob, c.dir, res, err)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("Glob(%s, %s) = %q, want %q", c.glob, c.dir, got, c.want)
		}
	}
	for glob, want := range map[string]error{"[": fs.ErrInvalid, "": fs.ErrInvalid} {
		if _, err := tree(s).Glob(t.Context(), glob, "/", protocol.GlobOptions{}, nil); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", glob, err, want)
		}
	}
	for dir, want := range map[string]error{"/none": fs.ErrNotExist, "/b.txt": backends.ErrNotDir} {
		for _, glob := range []string{"*", "**/x", "a/*"} {
			if _, err := tree(s).Glob(t.Context(), glob, dir, protocol.GlobOptions{}, nil); glob != "a/*" && !errors.Is(err, want) {
				t.Errorf("%s in %s: %v, want %v", glob, dir, err, want)
			}
		}
	}
}

// keysOnly walks without directories, as a store of keys does.
type keysOnly struct{ backends.Store }

func (k keysOnly) Walk(ctx context.Context, dir, after string) func(func(backends.Entry, error) bool) {
	return func(yield func(backends.Entry, error) bool) {
		for e, err := range backends.Walk(ctx, k.Store, dir, after) {
			if err == nil && e.IsDir() {
				continue
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

func TestWalkOfKeysHasDirectories(t *testing.T) {
	s := keysOnly{newStore(t, map[string]string{"a/b/c": "", "a/b-1": "", "d": ""})}
	var got []string
	if _, err := tree(s).Glob(t.Context(), "*", "/", protocol.GlobOptions{}, func(it protocol.Item) error {
		got = append(got, it.Path)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"/a/", "/a/b-1", "/a/b/", "/a/b/c", "/d"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRemove(t *testing.T) {
	files := map[string]string{"keep": "1", "d/a": "1", "d/e/b": "2", "d/e/c": "3"}
	for name, wrap := range map[string]func(backends.Store) backends.Store{
		"directories": func(s backends.Store) backends.Store { return s },
		"keys":        func(s backends.Store) backends.Store { return keysOnly{s} },
	} {
		t.Run(name, func(t *testing.T) {
			s := wrap(newStore(t, files))
			if _, err := tree(s).Remove(t.Context(), "/d", protocol.RemoveOptions{}); !errors.Is(err, backends.ErrNotEmpty) {
				t.Errorf("without -r: %v, want ErrNotEmpty", err)
			}
			if res, err := tree(s).Remove(t.Context(), "/d", protocol.RemoveOptions{Recursive: true}); err != nil || res.Removed != 5 {
				t.Errorf("removed %d, %v; want 5", res.Removed, err)
			}
			if _, err := s.Stat(t.Context(), "d"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("d is still there: %v", err)
			}
			if content(t, s, "keep") != "1" {
				t.Error("keep is gone")
			}
			if _, err := tree(s).Remove(t.Context(), "/", protocol.RemoveOptions{Recursive: true}); !errors.Is(err, backends.ErrBusy) {
				t.Errorf("root: %v, want ErrBusy", err)
			}
			if _, err := tree(s).Remove(t.Context(), "/none", protocol.RemoveOptions{Recursive: true}); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("missing: %v", err)
			}
		})
	}
}
