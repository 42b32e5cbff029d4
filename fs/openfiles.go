package fs

import (
	"context"
	"sync"
)

// openFiles are the files that the kernel has open. It releases them some time
// after their last close(2), and drops what it has not released when the mount
// ends. The zero value is ready for use.
type openFiles struct {
	mu  sync.Mutex
	all map[*fileHandle]struct{}
}

func (o *openFiles) add(h *fileHandle) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.all == nil {
		o.all = map[*fileHandle]struct{}{}
	}
	o.all[h] = struct{}{}
}

// remove reports whether h was still open.
func (o *openFiles) remove(h *fileHandle) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, ok := o.all[h]
	delete(o.all, h)
	return ok
}

// closeAll closes what is left when the kernel's connection has ended.
func (o *openFiles) closeAll() {
	o.mu.Lock()
	left := o.all
	o.all = nil
	o.mu.Unlock()
	for h := range left {
		h.close(context.Background())
	}
}
