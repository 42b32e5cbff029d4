package router_test

import (
	"errors"
	"os"
	"testing"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/local"
	"github.com/agentfs/agentfs/backends/memory"
	"github.com/agentfs/agentfs/backends/memory/memorytest"
	"github.com/agentfs/agentfs/backends/readonly"
	"github.com/agentfs/agentfs/backends/router"
)

// A range is copied within a route that can, and by the caller between routes.
func TestCopyRange(t *testing.T) {
	m := memorytest.New(t, memory.Config{NoTmpfs: true})
	routes := []router.Route{{Path: "/", Store: m}}
	for _, path := range []string{"/a", "/b", "/ro"} {
		dir := t.TempDir()
		if err := os.WriteFile(dir+"/f", []byte("0123456789"), 0o644); err != nil {
			t.Fatal(err)
		}
		s, err := local.New(dir)
		if err != nil {
			t.Fatal(err)
		}
		if path == "/ro" {
			routes = append(routes, router.Route{Path: path, Store: readonly.Store(s)})
			continue
		}
		routes = append(routes, router.Route{Path: path, Store: s})
	}
	rt, err := router.New(routes)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rt.Close() })
	f, ctx := rt.FileSystem(), t.Context()
	open := func(flags int, names ...string) backends.File {
		file, err := f.Open(ctx, walkTo(t, f, names...), flags)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { file.Close(ctx) })
		return file
	}
	a, b, ro := open(os.O_RDWR, "a", "f"), open(os.O_RDWR, "b", "f"), open(os.O_RDONLY, "ro", "f")
	if n, err := backends.CopyRangeAt(ctx, f, a, 0, a, 10, 4); n != 4 || err != nil {
		t.Errorf("within a route: %d, %v", n, err)
	}
	if n, err := backends.CopyRangeAt(ctx, f, b, 0, b, 10, 4); n != 4 || err != nil {
		t.Errorf("within another route: %d, %v", n, err)
	}
	for what, pair := range map[string][2]backends.File{"between routes": {a, b}, "from a read-only route": {ro, a}} {
		if _, err := backends.CopyRangeAt(ctx, f, pair[0], 0, pair[1], 0, 4); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: %v, want ErrUnsupported", what, err)
		}
	}
	if _, err := backends.CopyRangeAt(ctx, f, ro, 0, ro, 0, 4); !errors.Is(err, backends.ErrReadOnly) {
		t.Errorf("to a read-only route: %v", err)
	}
}
