// Package memorytest makes memory stores for tests of what works over a store.
package memorytest

import (
	"testing"

	"github.com/agentfs/agentfs/backends/memory"
)

// New returns a store that is closed when the test ends.
func New(t testing.TB, c memory.Config) *memory.Store {
	t.Helper()
	s, err := memory.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("closing the memory store: %v", err)
		}
	})
	return s
}
