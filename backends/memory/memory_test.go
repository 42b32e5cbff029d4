package memory_test

import (
	"testing"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/backendtest"
	"github.com/agentfs/agentfs/backends/memory"
	"github.com/agentfs/agentfs/backends/memory/memorytest"
)

// kinds are the two places where contents can be.
var kinds = map[string]memory.Config{
	"heap":  {NoTmpfs: true, Size: 1 << 30},
	"tmpfs": {Size: 1 << 30},
}

func TestStore(t *testing.T) {
	for name, c := range kinds {
		t.Run(name, func(t *testing.T) {
			c.MinPart, c.GoodPart = 1000, 2000
			backendtest.Store(t, func(t *testing.T) backends.Store { return memorytest.New(t, c) })
		})
	}
}
