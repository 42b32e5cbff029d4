package router

import (
	"strings"
	"testing"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/memory"
	"github.com/agentfs/agentfs/backends/memory/memorytest"
)

// FuzzLocate checks a route's choice against the definition: the longest path
// that is a prefix of whole segments. No name leads out of it.
func FuzzLocate(f *testing.F) {
	mem := memorytest.New(f, memory.Config{NoTmpfs: true})
	paths := []string{"/", "/data", "/data/deep/er", "/x/y/z", "/.agentfs", "/d\xff"}
	var routes []Route
	for _, p := range paths {
		routes = append(routes, Route{Path: p, Store: mem})
	}
	rt, err := New(routes)
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{".", "data", "data2", "data/../x", "data//deep", "/data", "data/", "x/y/z/f", "data/deep/er/..", "d\xff/f", "", "a\x00/data"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if backends.CheckName("", name) != nil {
			if _, err := rt.Stat(t.Context(), name); err == nil {
				t.Fatalf("%q was accepted", name)
			}
			return
		}
		best := "."
		point := name == "."
		for _, p := range paths {
			p = p[1:]
			if p == "" {
				continue
			}
			if name == p || strings.HasPrefix(name, p+"/") {
				if best == "." || len(p) > len(best) {
					best = p
				}
			}
			if p == name || strings.HasPrefix(p, name+"/") {
				point = true
			}
		}
		r, rest, at := rt.locate(name)
		if r.path != best || (at != nil) != point {
			t.Fatalf("%q: route %s, point %v; want %s, %v", name, r.path, at, best, point)
		}
		if err := backends.CheckName("", rest); err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		if r.full(rest) != name || r.rel(name) != rest || at != nil && at.path != name {
			t.Fatalf("%q: %q in %s is %q", name, rest, r.path, r.full(rest))
		}
	})
}

// FuzzRoutePath checks that what New accepts is one clean path.
func FuzzRoutePath(f *testing.F) {
	for _, s := range []string{"/a", "/a/", "//", "/a/../b", "a", "/.", "/a\x00", "/a/b/c"} {
		f.Add(s)
	}
	mem := memorytest.New(f, memory.Config{NoTmpfs: true})
	f.Fuzz(func(t *testing.T, p string) {
		rt, err := New([]Route{{Path: "/", Store: mem, Source: "one"}, {Path: p, Store: mem, Source: "two"}})
		if err != nil {
			if !strings.HasPrefix(err.Error(), "two: ") {
				t.Fatalf("%q: %v", p, err)
			}
			return
		}
		name := rt.routes[1].path
		if backends.CheckName("", name) != nil || name == "." || display(name) != strings.TrimSuffix(p, "/") {
			t.Fatalf("%q became %q", p, name)
		}
	})
}
