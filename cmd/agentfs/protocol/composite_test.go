package protocol_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/router"
	"github.com/agentfs/agentfs/cmd/agentfs/protocol"
)

// down is a store that can't be reached.
type down struct{ backends.Store }

var errDown = errors.New("connection refused")

func (down) Stat(_ context.Context, name string) (backends.Entry, error) {
	return backends.Entry{}, &fs.PathError{Op: "stat", Path: name, Err: errDown}
}

func (down) List(_ context.Context, dir, _ string) iter.Seq2[backends.Entry, error] {
	return func(yield func(backends.Entry, error) bool) {
		yield(backends.Entry{}, &fs.PathError{Op: "list", Path: dir, Err: errDown})
	}
}

func (down) Open(_ context.Context, name string, _ backends.Range, _ backends.If) (io.ReadCloser, backends.Entry, error) {
	return nil, backends.Entry{}, &fs.PathError{Op: "open", Path: name, Err: errDown}
}

// newComposite returns a tree of three routes, of which one is down.
func newComposite(t *testing.T) *protocol.Tree {
	root := newStore(t, map[string]string{"top.md": "needle\n", "data/shadowed.md": "needle\n", "team": "a file where a route begins: needle\n"})
	data := newStore(t, map[string]string{"a.md": "needle\n", "deep/er/b.md": "needle\n"})
	rt, err := router.New([]router.Route{
		{Path: "/", Store: root}, {Path: "/data", Store: data}, {Path: "/team/x", Store: newStore(t, map[string]string{"c.md": "needle\n"})},
		{Path: "/down", Store: down{newStore(t, nil)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return &protocol.Tree{Store: rt, Fixed: []string{"data", "team/x", "down"}}
}

// On the composite, nested routes appear in their parents, what they hide never
// appears, and a route that fails is reported beside the others.
func TestComposite(t *testing.T) {
	tr := newComposite(t)
	var listed []string
	if _, err := tr.List(t.Context(), "/", protocol.ListOptions{}, func(it protocol.Item) error {
		listed = append(listed, it.Path)
		return nil
	}); err != nil || !slices.Equal(listed, []string{"/data/", "/down/", "/team/", "/top.md"}) {
		t.Errorf("ls /: %q, %v", listed, err)
	}
	all := []string{"/data/a.md", "/data/deep/er/b.md", "/team/x/c.md", "/top.md"}
	for _, c := range []struct {
		glob, dir string
		want      []string
		fails     bool
	}{
		{"*.md", "/", all, true},
		{"**/*.md", "/", all, true},
		{"*/*.md", "/", all[:1], true},
		{"data/**/*.md", "/", all[:2], false},
		{"/data/*.md", "/team", all[:1], false},
		{"{data,team}/**/*.md", "/", all[:3], false},
		{"{team/x,data}/*.md", "/", []string{all[0], all[2]}, false},
		{"x/*.md", "/team", all[2:3], false},
		{"*.md", "/data", all[:2], false},
		{"shadowed.md", "/data", nil, false},
	} {
		var got []string
		res, err := tr.Glob(t.Context(), c.glob, c.dir, protocol.GlobOptions{}, func(it protocol.Item) error {
			got = append(got, it.Path)
			return nil
		})
		if err != nil || !slices.Equal(got, c.want) || res.FailedCount > 0 != c.fails {
			t.Errorf("glob %s in %s: %q, %+v, %v; want %q", c.glob, c.dir, got, res.Failures, err, c.want)
		}
		if c.fails && (res.Failed[0].Path != "/down" || !errors.Is(res.Err(), errDown)) {
			t.Errorf("glob %s: the failure is %+v", c.glob, res.Failed[0])
		}
	}
	for dir, want := range map[string][]string{"/": all, "/data": all[:2], "/data/deep": all[1:2], "/team": all[2:3]} {
		var got []string
		res, err := tr.Grep(t.Context(), "needle", dir, protocol.GrepOptions{}, func(m protocol.Match) error {
			got = append(got, m.Path)
			return nil
		})
		if err != nil || !slices.Equal(got, want) || res.FailedCount > 0 != (dir == "/") {
			t.Errorf("grep in %s: %q, %+v, %v; want %q", dir, got, res.Failures, err, want)
		}
	}
	if _, err := tr.Grep(t.Context(), "x", "/down", protocol.GrepOptions{}, nil); err != nil && !errors.Is(err, errDown) {
		t.Errorf("grep in a route that is down: %v", err)
	}
}

// The root of a route, and what it lies in, can't be removed or moved, and
// nothing in it is touched.
func TestRouteRootStays(t *testing.T) {
	tr := newComposite(t)
	for _, path := range []string{"/", "/data", "/team", "/team/x"} {
		if _, err := tr.Remove(t.Context(), path, protocol.RemoveOptions{Recursive: true}); !errors.Is(err, backends.ErrBusy) {
			t.Errorf("rm -r %s: %v", path, err)
		}
		if _, err := tr.Move(t.Context(), path, "/elsewhere", protocol.MoveOptions{}); !errors.Is(err, backends.ErrBusy) {
			t.Errorf("mv %s: %v", path, err)
		}
	}
	if got := content(t, tr.Store, "data/deep/er/b.md") + content(t, tr.Store, "team/x/c.md"); got != "needle\nneedle\n" {
		t.Errorf("left: %q", got)
	}
}

// A move between routes copies, and then removes; one that fails midway removes
// nothing.
func TestMoveBetweenRoutes(t *testing.T) {
	tr := newComposite(t)
	res, err := tr.Move(t.Context(), "/data/deep", "/team/x/new/deep", protocol.MoveOptions{})
	if err != nil || res.Moved != 1 || content(t, tr.Store, "team/x/new/deep/er/b.md") != "needle\n" {
		t.Errorf("%+v, %v", res, err)
	}
	if _, err := tr.Stat(t.Context(), "/data/deep"); protocol.KindOf(err) != protocol.KindNotExist {
		t.Errorf("what was moved is still there: %v", err)
	}
	files := map[string]string{}
	for i := range 30 {
		files[fmt.Sprintf("d/f%02d", i)] = "x"
	}
	s := newStore(t, files)
	tr = tree(keysOnly{unreadable{s, "d/f17"}}) // which has no renames
	if _, err = tr.Move(t.Context(), "/d", "/e", protocol.MoveOptions{}); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "nothing is removed") {
		t.Errorf("a move that fails: %v", err)
	}
	for name := range files {
		if content(t, s, name) != "x" {
			t.Errorf("%s is gone", name)
		}
	}
}

func TestMove(t *testing.T) {
	s := newStore(t, map[string]string{"a": "A", "b": "B", "d/x": "X"})
	tr := tree(s)
	for _, c := range []struct {
		from, to string
		o        protocol.MoveOptions
		kind     protocol.Kind
	}{
		{"a", "b", protocol.MoveOptions{}, protocol.KindExist},
		{"a", "d", protocol.MoveOptions{Replace: true}, protocol.KindExist},
		{"d", "b", protocol.MoveOptions{Replace: true}, protocol.KindExist},
		{"d", "d/e", protocol.MoveOptions{}, protocol.KindInvalid},
		{"a", "/a", protocol.MoveOptions{}, protocol.KindInvalid},
		{"none", "c", protocol.MoveOptions{}, protocol.KindNotExist},
		{"none", "new/c", protocol.MoveOptions{}, protocol.KindNotExist},
		{"a", "b", protocol.MoveOptions{Replace: true}, ""},
		{"b", "new/dir/b", protocol.MoveOptions{}, ""},
		{"d", "new/d", protocol.MoveOptions{}, ""},
	} {
		if _, err := tr.Move(t.Context(), c.from, c.to, c.o); protocol.KindOf(err) != c.kind {
			t.Errorf("mv %s %s: %v, want %q", c.from, c.to, err, c.kind)
		}
	}
	if got := content(t, s, "new/dir/b") + content(t, s, "new/d/x"); got != "AX" {
		t.Errorf("the contents are %q", got)
	}
}

// shut is a store with a directory that can't be listed, and no walk of its own.
type shut struct {
	backends.Store
	dir string
}

func (s shut) List(ctx context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	if dir != s.dir {
		return s.Store.List(ctx, dir, after)
	}
	return func(yield func(backends.Entry, error) bool) {
		yield(backends.Entry{}, &fs.PathError{Op: "list", Path: dir, Err: fs.ErrPermission})
	}
}

// A directory that can't be listed, as a route on a mount whose store is down, is
// reported beside what lies before and behind it.
func TestSearchPastClosedDirectory(t *testing.T) {
	s := shut{newStore(t, map[string]string{"a/1.md": "needle\n", "a/shut/x.md": "needle\n", "a/z.md": "needle\n", "b.md": "needle\n"}), "a/shut"}
	rt, err := router.New([]router.Route{{Path: "/", Store: s}, {Path: "/c", Store: newStore(t, map[string]string{"d.md": "needle\n"})}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		s    backends.Store
		want []string
	}{
		{s, []string{"/a/1.md", "/a/z.md", "/b.md"}},
		{rt, []string{"/a/1.md", "/a/z.md", "/b.md", "/c/d.md"}},
	} {
		var got []string
		res, err := tree(c.s).Glob(t.Context(), "*.md", "/", protocol.GlobOptions{}, func(it protocol.Item) error {
			got = append(got, it.Path)
			return nil
		})
		if err != nil || !slices.Equal(got, c.want) || res.FailedCount != 1 || res.Failed[0].Path != "/a/shut" {
			t.Errorf("glob: %q, %+v, %v; want %q", got, res.Failures, err, c.want)
		}
		got = nil
		found, err := tree(c.s).Grep(t.Context(), "needle", "/", protocol.GrepOptions{}, func(m protocol.Match) error {
			got = append(got, m.Path)
			return nil
		})
		if err != nil || !slices.Equal(got, c.want) || found.FailedCount != 1 || found.Failed[0].Path != "/a/shut" {
			t.Errorf("grep: %q, %+v, %v; want %q", got, found.Failures, err, c.want)
		}
	}
}
