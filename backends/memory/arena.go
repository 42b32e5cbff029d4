package memory

import (
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
)

const (
	chunkSize = 64 << 10
	slabSize  = 4 << 20
)

// arena hands out zeroed chunks that lie outside Go's heap: the collector
// would otherwise let the process grow to twice the data.
type arena struct {
	limit int64
	used  atomic.Int64 // bytes, in chunks and in small contents

	mu    sync.Mutex
	spare [][]byte
	slabs [][]byte
}

// reserve counts n bytes against the limit.
func (a *arena) reserve(n int64) error {
	if a.used.Add(n) > a.limit && n > 0 {
		a.used.Add(-n)
		return backends.ErrNoSpace
	}
	return nil
}

// chunk returns a zeroed chunk, which the caller has reserved.
func (a *arena) chunk() ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.spare) == 0 {
		slab, err := unix.Mmap(-1, 0, slabSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
		if err != nil {
			return nil, fmt.Errorf("memory for a content: %w: %w", backends.ErrNoSpace, err)
		}
		a.slabs = append(a.slabs, slab)
		for i := 0; i < slabSize; i += chunkSize {
			a.spare = append(a.spare, slab[i:i+chunkSize:i+chunkSize])
		}
	}
	c := a.spare[len(a.spare)-1]
	a.spare = a.spare[:len(a.spare)-1]
	return c, nil
}

// release takes a chunk back; its pages go to the kernel, which hands them
// out zeroed again.
func (a *arena) release(c []byte) {
	if err := unix.Madvise(c, unix.MADV_DONTNEED); err != nil {
		clear(c)
	}
	a.mu.Lock()
	a.spare = append(a.spare, c)
	a.mu.Unlock()
}

// close unmaps everything.
func (a *arena) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.slabs {
		_ = unix.Munmap(s)
	}
	a.slabs, a.spare = nil, nil
}
