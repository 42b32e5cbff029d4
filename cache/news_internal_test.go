package cache

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
)

// Whoever is told of changes hears of each, one after the other, also if it is slow:
// there is no goroutine for each of them.
func TestManyChangesAreTold(t *testing.T) {
	f, _ := newOverMemory(t, time.Hour)
	const changes = 10_000
	slow := make(chan struct{})
	var once, heard sync.WaitGroup
	once.Add(1)
	heard.Add(changes)
	first := true
	f.OnChange(func(backends.Node, string) {
		if first { // no lock: one at a time
			first = false
			once.Done()
			<-slow
		}
		heard.Done()
	})
	before := runtime.NumGoroutine()
	for i := range changes {
		f.changed(f.tree.Root(), fmt.Sprint(i))
	}
	once.Wait()
	if n := runtime.NumGoroutine() - before; n > 10 {
		t.Errorf("%d goroutines wait", n)
	}
	close(slow)
	heard.Wait()
}
