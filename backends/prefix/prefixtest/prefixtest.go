// Package prefixtest lets many tests share a store that takes long to start.
package prefixtest

import (
	"fmt"
	"testing"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/prefix"
)

// Directories returns a function that returns an empty directory of s as a
// store, another one at each call. Not for concurrent use.
func Directories(s backends.Store) func(t *testing.T) backends.Store {
	n := 0
	return func(t *testing.T) backends.Store {
		t.Helper()
		n++
		dir := fmt.Sprintf("tests/%d", n)
		if err := s.Mkdir(t.Context(), dir, backends.AttrChange{}); err != nil {
			t.Fatal(err)
		}
		d, err := prefix.Store(s, dir)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
}
