package readonly_test

import (
	"testing"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/backendtest"
	"github.com/agentfs/agentfs/backends/memory"
	"github.com/agentfs/agentfs/backends/memory/memorytest"
	"github.com/agentfs/agentfs/backends/readonly"
)

func open(t *testing.T) *memory.Store {
	t.Helper()
	return memorytest.New(t, memory.Config{NoTmpfs: true})
}

func TestStore(t *testing.T) {
	backendtest.ReadOnlyStore(t, func(t *testing.T) (r, w backends.Store) {
		w = open(t)
		return readonly.Store(w), w
	})
}

func TestFileSystem(t *testing.T) {
	backendtest.ReadOnlyFileSystem(t, func(t *testing.T) (r, w backends.FileSystem) {
		w = open(t).FileSystem()
		return readonly.FileSystem(w), w
	})
}

// A store without a file depth has none behind the wrapper either.
func TestNoFileSystem(t *testing.T) {
	plain := struct{ backends.Store }{open(t)}
	if f := backends.FilesOf(readonly.Store(plain)); f != nil {
		t.Errorf("FilesOf = %v, want none", f)
	}
}
