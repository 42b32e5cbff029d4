package cache

import "github.com/agentfs/agentfs/backends"

var _ backends.Descriptor = (*handle)(nil)

// Descriptor implements [backends.Descriptor]: the kernel may read a content by
// itself that is all here and right, in a file of its own, if the store takes no
// changes. Otherwise it would write by itself, too: all handles of a node are alike
// to it.
func (h *handle) Descriptor() (fd int, ok bool) {
	c := h.c
	if !c.fs.cfg.ReadOnly {
		return 0, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.layer == nil || c.layer.slot != nil || len(c.unchecked) > 0 {
		return 0, false
	}
	if _, err := c.local(); err != nil || !c.ext.complete() || c.layer.file == nil {
		return 0, false
	}
	if st, err := c.layer.file.Stat(); err != nil || st.Size() != c.length {
		return 0, false
	}
	if h.lent == nil {
		h.lent = c.layer
		h.lent.fixed++
	}
	return int(h.lent.file.Fd()), true
}

// takeBack ends what Descriptor began.
func (h *handle) takeBack() {
	if h.lent == nil {
		return
	}
	h.c.mu.Lock()
	defer h.c.mu.Unlock()
	h.lent.fixed--
	h.lent = nil
}
