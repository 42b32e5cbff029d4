package cache_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/backendtest"
	"github.com/agentfs/agentfs/backends/memory"
	"github.com/agentfs/agentfs/backends/memory/memorytest"
	"github.com/agentfs/agentfs/cache"
)

// plain hides all that a store can do beyond the six methods, as an author's
// first backend would be.
type plain struct{ backends.Store }

func newMemory(t testing.TB) *memory.Store {
	t.Helper()
	return memorytest.New(t, memory.Config{NoTmpfs: true, Size: 1 << 30})
}

func newCache(t *testing.T, s backends.Store, c cache.Config) *cache.FS {
	t.Helper()
	if c.Dir == "" {
		c.Dir = t.TempDir()
	}
	if c.Durability == "" {
		// Most tests look into the store after a close.
		c.Durability = "close"
	}
	if c.Identity == "" {
		c.Identity = "test:" + t.Name()
	}
	f, err := cache.New(t.Context(), s, c)
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
}

// missing are the parts of the suite that this storey of the cache has nothing
// for.
var missing = []backendtest.Exception{
	{Test: "Rename/Exchange", Reason: "an object store has no moment in which two names change"},
	{Test: "Link", Reason: "an object has one name"},
	{Test: "Mknod", Reason: "an object is a regular file"},
}

// TestFileSystem runs the conformance suite with answers that are believed
// and with answers that never are.
func TestFileSystem(t *testing.T) {
	for _, c := range []cache.Config{
		{TTL: 5 * time.Second, Durability: "writeback"},
		{TTL: 0, Durability: "writeback", Grace: -1},
		{TTL: 5 * time.Second, Durability: "close"},
	} {
		t.Run(fmt.Sprintf("%s,ttl=%s", c.Durability, c.TTL), func(t *testing.T) {
			backendtest.FileSystem(t, func(t *testing.T) backends.FileSystem {
				return newCache(t, plain{newMemory(t)}, c)
			}, missing...)
		})
	}
	t.Run("listed in pages", func(t *testing.T) {
		backendtest.FileSystem(t, func(t *testing.T) backends.FileSystem {
			return newCache(t, &paged{Store: plain{newMemory(t)}, size: 2}, cache.Config{TTL: 5 * time.Second, Durability: "writeback"})
		}, missing...)
	})
}
