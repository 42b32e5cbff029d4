package cache_test

import (
	"context"
	"fmt"
	"iter"
	"runtime"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/cache"
)

// manyNames is a store whose root has n files, which it makes up.
type manyNames struct {
	backends.Store
	n int
}

func (s manyNames) List(_ context.Context, _, _ string) iter.Seq2[backends.Entry, error] {
	when := time.Unix(1_700_000_000, 0)
	return func(yield func(backends.Entry, error) bool) {
		for i := range s.n {
			e := backends.Entry{Name: fmt.Sprintf("file%08d.txt", i), Size: 4096, Mode: 0o644, ModTime: when, Version: backends.Version(fmt.Sprintf("%032x", i))}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// BenchmarkList lists a directory of a million names: what an entry costs in
// time, and in memory as long as the cache knows it.
func BenchmarkList(b *testing.B) {
	const names = 1_000_000
	for range b.N {
		b.StopTimer()
		f, err := cache.New(context.Background(), manyNames{newMemory(b), names}, cache.Config{Dir: b.TempDir(), Identity: "bench", TTL: time.Hour, NoAttributes: true})
		if err != nil {
			b.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		b.StartTimer()
		all, err := f.ReadDir(context.Background(), f.Root())
		b.StopTimer()
		if err != nil || len(all) != names {
			b.Fatalf("%d names, %v", len(all), err)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/names, "bytes/entry")
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/names/float64(b.N), "ns/entry")
		runtime.KeepAlive(all)
		if err := f.Close(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}
