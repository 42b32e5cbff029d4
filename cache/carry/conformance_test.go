package carry_test

import (
	"testing"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/backendtest"
	"github.com/agentfs/agentfs/cache/carry"
)

func TestConformance(t *testing.T) {
	backendtest.Store(t, func(t *testing.T) backends.Store { return carry.Store(newMemory(t)) })
}
