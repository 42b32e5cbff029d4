package journal

import (
	"fmt"
	"sync"
	"testing"
)

// benchKey spreads n over a table like that of a mount with some thousand
// files that differ.
func benchKey(n int) string { return fmt.Sprintf("node/%016x", uint64(n%5000)*0x9e3779b97f4a7c15) }

func openForBench(b *testing.B) *Journal {
	b.Helper()
	j, err := Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := j.Close(); err != nil {
			b.Error(err)
		}
	})
	return j
}

// BenchmarkCommit commits a record of 200 bytes at a time, from one goroutine
// and from several.
func BenchmarkCommit(b *testing.B) {
	value := make([]byte, 200)
	for _, goroutines := range []int{1, 16} {
		b.Run(fmt.Sprintf("goroutines=%d", goroutines), func(b *testing.B) {
			j := openForBench(b)
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for g := range goroutines {
				wg.Go(func() {
					var batch Batch
					for i := g; i < b.N; i += goroutines {
						batch.Reset()
						batch.Put(benchKey(i), value)
						if err := j.Commit(&batch); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

// BenchmarkCommitSync commits a record and waits for the disk.
func BenchmarkCommitSync(b *testing.B) {
	j := openForBench(b)
	value := make([]byte, 200)
	for i := 0; b.Loop(); i++ {
		var batch Batch
		batch.Put(benchKey(i), value)
		if err := j.Commit(&batch); err != nil {
			b.Fatal(err)
		}
		if err := j.Sync(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCommit1000 commits batches of 1000 records of 200 bytes.
func BenchmarkCommit1000(b *testing.B) {
	j := openForBench(b)
	value := make([]byte, 200)
	for i := 0; b.Loop(); i++ {
		var batch Batch
		for k := range 1000 {
			batch.Put(fmt.Sprintf("node/%016x", (i*1000+k)%100_000), value)
		}
		if err := j.Commit(&batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/1000, "µs/record")
}

// fill puts n records into j.
func fill(tb testing.TB, j *Journal, n int) {
	tb.Helper()
	value := make([]byte, 200)
	for i := 0; i < n; i += 1000 {
		var batch Batch
		for k := i; k < min(n, i+1000); k++ {
			batch.Put(fmt.Sprintf("node/%016x", k), value)
		}
		if err := j.Commit(&batch); err != nil {
			tb.Fatal(err)
		}
	}
}

// BenchmarkAll reads 100,000 records.
func BenchmarkAll(b *testing.B) {
	j := openForBench(b)
	fill(b, j, 100_000)
	for b.Loop() {
		n := 0
		if err := j.All(func(string, []byte) error { n++; return nil }); err != nil || n != 100_000 {
			b.Fatal(n, err)
		}
	}
}

// BenchmarkOpen opens a journal, empty and with 100,000 records, that was
// closed.
func BenchmarkOpen(b *testing.B) {
	for _, n := range []int{0, 100_000} {
		b.Run(fmt.Sprintf("records=%d", n), func(b *testing.B) {
			dir := b.TempDir()
			j, err := Open(dir)
			if err != nil {
				b.Fatal(err)
			}
			fill(b, j, n)
			for b.Loop() {
				if err := j.Close(); err != nil {
					b.Fatal(err)
				}
				if j, err = Open(dir); err != nil {
					b.Fatal(err)
				}
			}
			j.Close()
		})
	}
}
