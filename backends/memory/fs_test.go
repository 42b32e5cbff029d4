package memory_test

import (
	"testing"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/backendtest"
	"github.com/agentfs/agentfs/backends/memory/memorytest"
)

func TestFileSystem(t *testing.T) {
	for name, c := range kinds {
		t.Run(name, func(t *testing.T) {
			backendtest.FileSystem(t, func(t *testing.T) backends.FileSystem { return memorytest.New(t, c).FileSystem() })
		})
	}
}
