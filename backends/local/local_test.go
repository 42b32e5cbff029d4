package local_test

import (
	"testing"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/backendtest"
)

func TestStore(t *testing.T) {
	backendtest.Store(t, func(t *testing.T) backends.Store { s, _ := newStore(t); return s },
		backendtest.Exception{Test: "Operation", Reason: "a host file has no place for what made it"})
}

func TestFileSystem(t *testing.T) {
	backendtest.FileSystem(t, func(t *testing.T) backends.FileSystem { s, _ := newStore(t); return s.FileSystem() })
}
