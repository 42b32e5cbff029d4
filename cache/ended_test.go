package cache_test

import (
	"sync"
	"testing"

	"github.com/agentfs/agentfs/backends/memory"
	"github.com/agentfs/agentfs/cache"
)

// The state of a cache can be asked for while it ends, and after that.
func TestStateAfterClose(t *testing.T) {
	dir := t.TempDir()
	for range 5 {
		store, err := memory.New(memory.Config{})
		if err != nil {
			t.Fatal(err)
		}
		c, err := cache.New(t.Context(), store, cache.Config{Dir: dir, Identity: "memory of a test"})
		if err != nil {
			t.Fatal(err)
		}
		stop := make(chan struct{})
		var asking sync.WaitGroup
		asking.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_ = c.State()
				}
			}
		})
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
		close(stop)
		asking.Wait()
		if s := c.State(); s.PendingCount != 0 || s.Room == "" {
			t.Errorf("%+v", s)
		}
	}
}
