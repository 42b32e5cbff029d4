package s3test

import (
	"io"
	"log"
	"sync"
)

// buffers is a pool of the proxy's copy buffers.
type buffers struct{ pool sync.Pool }

const bufferSize = 128 << 10

func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return *p
	}
	return make([]byte, bufferSize)
}

func (b *buffers) Put(p []byte) { b.pool.Put(&p) }

func discardLog() *log.Logger { return log.New(io.Discard, "", 0) }
