// Package cachetest runs the conformance suite of the file depth over a cache.
package cachetest

import (
	"context"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/backendtest"
	"github.com/agentfs/agentfs/cache"
)

// FileSystem runs the suite over the file depth that the cache gives to a store,
// without what the cache has nothing for. open returns an empty one at each call.
func FileSystem(t *testing.T, open func(t *testing.T) backends.Store) {
	t.Helper()
	backendtest.FileSystem(t, func(t *testing.T) backends.FileSystem {
		f, err := cache.New(t.Context(), open(t), cache.Config{Dir: t.TempDir(), TTL: 5 * time.Second, Durability: "close"})
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
