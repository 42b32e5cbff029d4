package exec_test

import (
	"testing"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/backendtest"
	"github.com/agentfs/agentfs/backends/exec"
	"github.com/agentfs/agentfs/backends/faulty"
	"github.com/agentfs/agentfs/backends/prefix/prefixtest"
	"github.com/agentfs/agentfs/backends/readonly"
	"github.com/agentfs/agentfs/cache/cachetest"
)

// TestStore runs the contract over a program that has every feature and
// answers many requests at once, through the wrappers of stores.
func TestStore(t *testing.T) {
	backendtest.Store(t, prefixtest.Directories(faulty.Store(newStore(t, program(t, "memory")))))
}

// TestReadOnly runs it over the one that takes no changes.
func TestReadOnly(t *testing.T) {
	next := prefixtest.Directories(newStore(t, program(t, "memory")))
	backendtest.ReadOnlyStore(t, func(t *testing.T) (r, w backends.Store) {
		w = next(t)
		return readonly.Store(w), w
	})
}

// TestFileSystem runs the contract of the file depth, which the cache gives to
// the example in Python.
func TestFileSystem(t *testing.T) {
	command := python(t)
	cachetest.FileSystem(t, func(t *testing.T) backends.Store {
		return newStore(t, exec.Config{Command: command})
	})
}
