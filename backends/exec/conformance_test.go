package exec_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/backendtest"
	"github.com/agentfs/agentfs/backends/exec"
	"github.com/agentfs/agentfs/backends/faulty"
	"github.com/agentfs/agentfs/backends/prefix"
	"github.com/agentfs/agentfs/backends/readonly"
	"github.com/agentfs/agentfs/cache"
)

// TestStore runs the contract over a program that has every feature and
// answers many requests at once.
func TestStore(t *testing.T) {
	backendtest.Store(t, func(t *testing.T) backends.Store { return newStore(t, program(t, "memory")) })
}

// TestWrappers runs it through all wrappers of stores at once, over the example
// in Python.
func TestWrappers(t *testing.T) {
	s := newStore(t, exec.Config{Command: python(t)})
	n := 0
	backendtest.ReadOnlyStore(t, func(t *testing.T) (r, w backends.Store) {
		n++
		dir := fmt.Sprintf("a/%d", n)
		if err := s.Mkdir(t.Context(), dir, backends.AttrChange{}); err != nil {
			t.Fatal(err)
		}
		w, err := prefix.Store(faulty.Store(s), dir)
		if err != nil {
			t.Fatal(err)
		}
		return readonly.Store(w), w
	})
}

// TestFileSystem runs the contract of the file depth, which the cache gives to
// the example in Python.
func TestFileSystem(t *testing.T) {
	command := python(t)
	backendtest.FileSystem(t, func(t *testing.T) backends.FileSystem {
		s := newStore(t, exec.Config{Command: command})
		f, err := cache.New(t.Context(), s, cache.Config{Dir: t.TempDir(), TTL: 5 * time.Second, Durability: "close"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if err := f.Close(ctx); err != nil {
				t.Error(err)
			}
		})
		return f
	},
		backendtest.Exception{Test: "Rename/Exchange", Reason: "the cache has no moment in which two names change"},
		backendtest.Exception{Test: "Link", Reason: "a name of a store is a file of its own"},
		backendtest.Exception{Test: "Mknod", Reason: "a store has regular files"},
	)
}
