package crash_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Whatever is done to a tree, the cache shows what the model holds after every
// operation, after a barrier the store holds it as well, and after the cache was
// closed and opened again both still do. With faults, an operation that fails has
// happened or not; where somebody else changes the same file, both contents
// survive.
func FuzzTree(f *testing.F) {
	f.Add([]byte{0, 40, 1, 2, 3, 70, 2, 1, 1})
	for i := range byte(8) {
		f.Add(append([]byte{i}, fill(uint64(i), 400)...))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := runSequence(data); err != nil {
			t.Fatal(err)
		}
	})
}

// TestTreeRandom is FuzzTree with random bytes, for some seconds. What fails is
// made shorter and saved among FuzzTree's seeds, where every later run of the
// tests repeats it.
func TestTreeRandom(t *testing.T) {
	s := seed(t)
	length := 8 * time.Second
	if testing.Short() {
		length = time.Second
	}
	end := time.Now().Add(length)
	var next atomic.Int64
	var stop atomic.Bool
	var once sync.Once
	var failing []byte
	var wg sync.WaitGroup
	for range 2 * runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for !stop.Load() {
				n := int(next.Add(1)) - 1
				if *sequences > 0 && n >= *sequences || *sequences == 0 && time.Now().After(end) {
					return
				}
				r := newRandom(s, uint64(n))
				data := fill(r.Uint64(), int64(50+r.IntN(500)))
				if err := runSequence(data); err != nil {
					stop.Store(true)
					once.Do(func() { failing = data })
					return
				}
			}
		})
	}
	wg.Wait()
	if failing == nil {
		t.Logf("%d sequences", int(next.Load())-2*runtime.GOMAXPROCS(0))
		return
	}
	data, err := shorten(failing, runSequence(failing), 20*time.Second)
	name, werr := saveSeed(data)
	t.Fatalf("%v\n%d bytes, to repeat: -run FuzzTree/%s (%v)", err, len(data), name, werr)
}

// shorten takes pieces out of bytes that fail for as long as they still fail.
func shorten(data []byte, err error, patience time.Duration) ([]byte, error) {
	end := time.Now().Add(patience)
	for size := len(data) / 2; size > 0; size /= 2 {
		for at := 1; at+size <= len(data) && time.Now().Before(end); {
			less := append(append([]byte{}, data[:at]...), data[at+size:]...)
			if e := runSequence(less); e != nil {
				data, err = less, e
			} else {
				at += size
			}
		}
	}
	return data, err
}

// saveSeed writes bytes as go test wants a seed of FuzzTree.
func saveSeed(data []byte) (name string, err error) {
	s := sha256.Sum256(data)
	name = hex.EncodeToString(s[:8])
	dir := filepath.Join("testdata", "fuzz", "FuzzTree")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return name, err
	}
	return name, os.WriteFile(filepath.Join(dir, name), fmt.Appendf(nil, "go test fuzz v1\n[]byte(%q)\n", data), 0o644)
}
