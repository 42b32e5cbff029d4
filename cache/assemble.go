package cache

import (
	"context"

	"github.com/agentfs/agentfs/backends"
)

// sendSeal puts what an attempt has sealed, and returns how many bytes went
// through this machine for it.
func (c *FS) sendSeal(ctx context.Context, s *sending) (e backends.Entry, sent int64, err error) {
	if err := c.wholeSeal(ctx, s); err != nil {
		return e, 0, &sourceError{err}
	}
	e, err = c.store.Put(ctx, s.key, s.seal.reader(ctx), s.options())
	return e, s.seal.length, err
}

// wholeSeal brings what the sealed content lacks here, once, before the store
// reads it perhaps several times.
func (c *FS) wholeSeal(ctx context.Context, s *sending) error {
	if s.seal.ext.complete() {
		return nil
	}
	f := s.f
	content := s.seal.c
	content.use()
	defer content.done()
	if err := content.fetchAll(ctx); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.change == s.seal.change {
		s.seal.release()
		s.seal = content.seal(f.change)
	}
	return nil
}
