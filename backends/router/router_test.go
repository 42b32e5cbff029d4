package router_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/memory"
	"github.com/agentfs/agentfs/backends/memory/memorytest"
	"github.com/agentfs/agentfs/backends/router"
)

var ctx = context.Background()

func newMemory(t testing.TB) *memory.Store {
	t.Helper()
	return memorytest.New(t, memory.Config{NoTmpfs: true, Mode: 0o755, UID: 1000, GID: 1000})
}

// stores are the stores of a router by their routes' paths.
type stores map[string]backends.Store

// newRouter makes a router with a memory store at "/" and at each path. A path
// that begins with "-" is hidden.
func newRouter(t testing.TB, paths ...string) (*router.Router, stores) {
	t.Helper()
	ss := stores{"/": newMemory(t)}
	routes := []router.Route{{Path: "/", Store: ss["/"]}}
	for _, p := range paths {
		p, hidden := strings.CutPrefix(p, "-")
		ss[p] = newMemory(t)
		routes = append(routes, router.Route{Path: p, Store: ss[p], Hidden: hidden})
	}
	rt, err := router.New(routes)
	if err != nil {
		t.Fatal(err)
	}
	return rt, ss
}

func put(t testing.TB, s backends.Store, name, content string) {
	t.Helper()
	body := io.NewSectionReader(strings.NewReader(content), 0, int64(len(content)))
	if _, err := s.Put(ctx, name, body, backends.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

func get(t testing.TB, s backends.Store, name string) string {
	t.Helper()
	r, _, err := s.Open(ctx, name, backends.Range{}, backends.If{})
	if err != nil {
		return err.Error()
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// names formats a listing: names with "/" after a directory's.
func names(t testing.TB, es func(func(backends.Entry, error) bool)) string {
	t.Helper()
	var out []string
	for e, err := range es {
		if err != nil {
			out = append(out, "error")
			break
		}
		if e.IsDir() {
			e.Name += "/"
		}
		out = append(out, e.Name)
	}
	return strings.Join(out, " ")
}

func want[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\n got %v\nwant %v", what, got, want)
	}
}

func wantErr(t testing.TB, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) || got == nil && want != nil {
		t.Errorf("%s: got error %v, want %v", what, got, want)
	}
}

func TestNewRefuses(t *testing.T) {
	mem := newMemory(t)
	for _, c := range []struct {
		paths []string
		want  string
	}{
		{nil, "no routes; add one at /"},
		{[]string{"/data"}, "f.yaml:1: no route at /; add one"},
		{[]string{"/", "data"}, `f.yaml:2: route path "data" is not absolute; write it as "/data"`},
		{[]string{"/", ""}, "f.yaml:2: route path \"\" is not absolute"},
		{[]string{"/", "//"}, "f.yaml:2: route path \"//\" is not clean"},
		{[]string{"/", "/a//b"}, `f.yaml:2: route path "/a//b" is not clean; write it as "/a/b"`},
		{[]string{"/", "/a/./b"}, "f.yaml:2: "},
		{[]string{"/", "/a/../b"}, "f.yaml:2: "},
		{[]string{"/", "/.."}, "f.yaml:2: "},
		{[]string{"/", "/a//"}, "f.yaml:2: "},
		{[]string{"/", "/a\x00b"}, "f.yaml:2: route path \"/a\\x00b\" has a NUL byte"},
		{[]string{"/", "/" + strings.Repeat("x", 256)}, "f.yaml:2: "},
		{[]string{"/", "/"}, "f.yaml:2: a second route at / (the first is at f.yaml:1)"},
		{[]string{"/", "/a", "/b", "/a"}, "f.yaml:4: a second route at /a (the first is at f.yaml:2)"},
		{[]string{"/", "/a", "/a/"}, "f.yaml:3: a second route at /a (the first is at f.yaml:2)"},
	} {
		var routes []router.Route
		for i, p := range c.paths {
			routes = append(routes, router.Route{Path: p, Store: mem, Source: fmt.Sprintf("f.yaml:%d", i+1)})
		}
		_, err := router.New(routes)
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("New(%q): %v\nwant %s", c.paths, err, c.want)
		}
	}
	_, err := router.New([]router.Route{{Path: "x", Store: mem, Source: "a:1"}, {Path: "/y/../", Store: mem, Source: "a:2"}, {Path: "/", Source: "a:3"}})
	for i, line := range strings.Split(fmt.Sprint(err), "\n") {
		if !strings.HasPrefix(line, fmt.Sprintf("a:%d: ", i+1)) {
			t.Errorf("line %d of all that is wrong: %s", i+1, line)
		}
	}
	if _, err := router.New([]router.Route{{Path: "/", Store: mem, Hidden: true}}); err == nil {
		t.Error("a hidden root was accepted")
	}
	if _, err := router.New([]router.Route{{Path: "/", Store: mem}, {Path: "/" + strings.Repeat("x", 255) + "/y/", Store: mem}}); err != nil {
		t.Errorf("a name of 255 bytes and a slash at the end: %v", err)
	}
}

func TestLongestPrefixOnWholeSegments(t *testing.T) {
	rt, ss := newRouter(t, "/data", "/data/deep/er", "/x/y/z")
	for name, at := range map[string][2]string{
		"f":               {"/", "f"},
		"data2/f":         {"/", "data2/f"},
		"dat/f":           {"/", "dat/f"},
		"data/f":          {"/data", "f"},
		"data/deep/f":     {"/data", "deep/f"},
		"data/deep/er/f":  {"/data/deep/er", "f"},
		"data/deep/er2/f": {"/data", "deep/er2/f"},
		"data/data/f":     {"/data", "data/f"},
		"x/f":             {"/", "x/f"},
		"x/y/f":           {"/", "x/y/f"},
		"x/y/z/f":         {"/x/y/z", "f"},
		"y/z/f":           {"/", "y/z/f"},
	} {
		put(t, rt, name, name)
		want(t, name+" in its store", get(t, ss[at[0]], at[1]), name)
		e, err := rt.Stat(ctx, name)
		if err != nil || e.Name != name {
			t.Errorf("Stat(%s): %+v %v", name, e, err)
		}
	}
}

func TestListMergesRoutes(t *testing.T) {
	rt, ss := newRouter(t, "/b", "/m/n/o", "/m/z", "-/.agentfs", "-/h/idden")
	root := ss["/"]
	put(t, root, "a", "")
	put(t, root, "b/shadowed", "")
	put(t, root, "m", "a file where a way leads")
	put(t, root, "z/f", "")
	put(t, root, ".agentfs", "a file under a hidden route")
	put(t, rt, "b/in", "")
	put(t, rt, ".agentfs/status", "ok")

	want(t, "root", names(t, rt.List(ctx, ".", "")), "a b/ m/ z/")
	want(t, "root after a", names(t, rt.List(ctx, ".", "a")), "b/ m/ z/")
	want(t, "root after b/", names(t, rt.List(ctx, ".", "b/")), "m/ z/")
	want(t, "root after m", names(t, rt.List(ctx, ".", "m")), "m/ z/")
	want(t, "root after m/", names(t, rt.List(ctx, ".", "m/")), "z/")
	want(t, "root after z/", names(t, rt.List(ctx, ".", "z/")), "")
	want(t, "b", names(t, rt.List(ctx, "b", "")), "b/in")
	want(t, "m", names(t, rt.List(ctx, "m", "")), "m/n/ m/z/")
	want(t, "m/n", names(t, rt.List(ctx, "m/n", "")), "m/n/o/")
	want(t, "h, there for a hidden route only", names(t, rt.List(ctx, "h", "")), "")
	want(t, "hidden", get(t, rt, ".agentfs/status"), "ok")
	for _, dir := range []string{"m", "m/n", "m/n/o", "h", ".agentfs", "b", "."} {
		e, err := rt.Stat(ctx, dir)
		if err != nil || !e.IsDir() || e.Name != dir {
			t.Errorf("Stat(%s): %+v %v", dir, e, err)
		}
	}
	want(t, "walk", names(t, rt.Walk(ctx, ".", "")), "a b/ b/in m/ m/n/ m/n/o/ m/z/ z/ z/f")
	// Every place in the walk is one to resume from.
	all := strings.Fields(names(t, rt.Walk(ctx, ".", "")))
	for i, after := range all {
		want(t, "walk after "+after, names(t, rt.Walk(ctx, ".", after)), strings.Join(all[i+1:], " "))
	}
	want(t, "walk of m", names(t, rt.Walk(ctx, "m", "")), "m/n/ m/n/o/ m/z/")

	// A directory that the store has too is the store's, once.
	if err := root.Remove(ctx, "m", backends.If{}); err != nil {
		t.Fatal(err)
	}
	put(t, rt, "m/n/f", "")
	want(t, "m made real", names(t, rt.List(ctx, "m", "")), "m/n/ m/z/")
	want(t, "m/n made real", names(t, rt.List(ctx, "m/n", "")), "m/n/f m/n/o/")
	want(t, "f", get(t, root, "m/n/f"), "")
	want(t, "walk of m", names(t, rt.Walk(ctx, "m", "")), "m/n/ m/n/f m/n/o/ m/z/")
}

func TestPointsAreBusy(t *testing.T) {
	rt, _ := newRouter(t, "/a/b", "/c")
	put(t, rt, "f", "")
	body := io.NewSectionReader(strings.NewReader(""), 0, 0)
	for _, p := range []string{".", "a", "a/b", "c"} {
		wantErr(t, "remove "+p, rt.Remove(ctx, p, backends.If{}), backends.ErrBusy)
		wantErr(t, "rename "+p, rt.Rename(ctx, p, backends.If{}, "z", backends.If{}), backends.ErrBusy)
		wantErr(t, "rename over "+p, rt.Rename(ctx, "f", backends.If{}, p, backends.If{}), backends.ErrBusy)
		wantErr(t, "mkdir "+p, rt.Mkdir(ctx, p, backends.AttrChange{}), fs.ErrExist)
		_, err := rt.Put(ctx, p, body, backends.PutOptions{})
		wantErr(t, "put "+p, err, backends.ErrIsDir)
		_, _, err = rt.Open(ctx, p, backends.Range{}, backends.If{})
		wantErr(t, "open "+p, err, backends.ErrIsDir)
		wantErr(t, "symlink "+p, rt.Symlink(ctx, "x", p), fs.ErrExist)
	}
	wantErr(t, "rename across", rt.Rename(ctx, "f", backends.If{}, "c/f", backends.If{}), errors.ErrUnsupported)
	for _, bad := range []string{"", "/f", "../f", "c/../f", "c//f", "c/.", "c/", "f\x00"} {
		_, err := rt.Stat(ctx, bad)
		wantErr(t, fmt.Sprintf("stat %q", bad), err, fs.ErrInvalid)
		want(t, fmt.Sprintf("list %q", bad), names(t, rt.List(ctx, bad, "")), "error")
	}
}

func TestAcrossRoutes(t *testing.T) {
	rt, ss := newRouter(t, "/c")
	put(t, rt, "f", "text")
	e, err := backends.Copy(ctx, rt, "f", backends.If{}, "c/d/g", backends.PutOptions{})
	if err != nil || e.Name != "c/d/g" {
		t.Fatalf("copy: %+v %v", e, err)
	}
	want(t, "copy", get(t, ss["/c"], "d/g"), "text")
	e, err = rt.Copy(ctx, "c/d/g", backends.If{}, "c/h", backends.PutOptions{})
	if err != nil || e.Name != "c/h" {
		t.Fatalf("copy within a route: %+v %v", e, err)
	}
	_, err = rt.Copy(ctx, "c/none", backends.If{}, "x", backends.PutOptions{})
	if err == nil || !strings.Contains(err.Error(), "c/none") {
		t.Errorf("an error without the full name: %v", err)
	}
	_, err = rt.Stat(ctx, "c/none")
	if err == nil || !strings.Contains(err.Error(), "c/none") {
		t.Errorf("an error without the full name: %v", err)
	}
	errs := rt.RemoveMany(ctx, []backends.Removal{{Name: "c/h"}, {Name: "none"}, {Name: "f"}, {Name: "c"}, {Name: "c/d/g"}, {Name: "../f"}})
	for i, w := range []error{nil, fs.ErrNotExist, nil, backends.ErrBusy, nil, fs.ErrInvalid} {
		wantErr(t, fmt.Sprint("removal ", i), errs[i], w)
	}
	want(t, "what is left", names(t, rt.Walk(ctx, ".", "")), "c/ c/d/")
}

func TestSetAttrMakesPointReal(t *testing.T) {
	rt, ss := newRouter(t, "/way/there")
	if err := rt.SetAttr(ctx, "way", backends.AttrChange{Set: backends.SetMode, Mode: 0o700}); err != nil {
		t.Fatal(err)
	}
	e, err := ss["/"].Stat(ctx, "way")
	if err != nil || e.Mode != fs.ModeDir|0o700 {
		t.Errorf("in the store: %+v %v", e, err)
	}
	want(t, "root", names(t, rt.List(ctx, ".", "")), "way/")

	if err := ss["/"].Remove(ctx, "way", backends.If{}); err != nil {
		t.Fatal(err)
	}
	put(t, ss["/"], "way", "a file that is never seen")
	err = rt.SetAttr(ctx, "way", backends.AttrChange{Set: backends.SetMode, Mode: 0o600})
	wantErr(t, "setattr of a point that is a file in the store", err, backends.ErrNotDir)
}

func TestUsageFeaturesClose(t *testing.T) {
	root, other := &reporter{name: "root", err: errDown}, &reporter{name: "other", err: errDown}
	rt, err := router.New([]router.Route{{Path: "/other", Store: other}, {Path: "/", Store: root}})
	if err != nil {
		t.Fatal(err)
	}
	u, err := backends.UsageOf(ctx, rt)
	if err != nil || u.TotalFiles != 4 {
		t.Errorf("usage: %+v %v", u, err)
	}
	fe, err := backends.FeaturesOf(ctx, rt)
	wantErr(t, "features", err, errDown)
	if len(fe) != 2 || fe[0].Name != "/: root" || fe[1].Name != "/other: other" {
		t.Errorf("features: %+v", fe)
	}
	err = backends.CloseStore(rt)
	if !root.closed || !other.closed || err == nil || err.Error() != "route /: endpoint down\nroute /other: endpoint down" {
		t.Errorf("close: %v, %v %v", err, root.closed, other.closed)
	}
}

// reporter is a store that reports on itself, and fails doing so.
type reporter struct {
	downStore
	name   string
	err    error
	closed bool
}

func (r *reporter) Usage(context.Context) (backends.Usage, error) {
	return backends.Usage{TotalFiles: uint64(len(r.name))}, nil
}

func (r *reporter) Features(context.Context) ([]backends.Feature, error) {
	return []backends.Feature{{Name: r.name}}, r.err
}

func (r *reporter) Close() error {
	r.closed = true
	return r.err
}

// A store may blame another name than the one it was called with.
func TestErrorsKeepTheNameTheyBlame(t *testing.T) {
	rt, _ := newRouter(t, "/c")
	put(t, rt, "c/d/f", "")
	put(t, rt, "c/from", "")
	err := rt.Rename(ctx, "c/from", backends.If{}, "c/d", backends.If{})
	if err == nil || !strings.Contains(err.Error(), "c/d:") {
		t.Errorf("rename onto a directory: %v", err)
	}
}
