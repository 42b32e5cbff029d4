package cache

import (
	"context"
	"errors"
	"time"

	"github.com/agentfs/agentfs/backends"
)

// The background tries failed uploads again, first after retryFirst and then
// at growing intervals up to retryMax.
const (
	retryFirst = time.Second
	retryMax   = time.Minute
	// retryLimit bounds one attempt, which may have a large file to send.
	retryLimit = time.Hour
)

// retry uploads, until ctx ends, what could not be uploaded when it was
// closed.
func (c *FS) retry(ctx context.Context) {
	wait := retryFirst
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		failed, left := false, false
		for _, f := range c.waiting() {
			f.mu.Lock()
			// What is open for the first time is its writer's business.
			due := f.failed != nil && f.changedLocked()
			f.mu.Unlock()
			if !due || ctx.Err() != nil {
				continue
			}
			failed = true
			attempt, cancel := context.WithTimeout(ctx, retryLimit)
			err := c.upload(attempt, f)
			cancel()
			if err != nil && !errors.Is(err, backends.ErrChanged) {
				left = true
				name, _ := c.tree.Path(f.node)
				c.log.Warn("upload failed again; its bytes are kept here", "name", name, "error", err, "next", wait*2)
				break // the others would fare alike
			}
		}
		switch {
		case !failed || !left:
			wait = retryFirst
		default:
			wait = min(2*wait, retryMax)
		}
	}
}

// drain uploads everything that waits, again and again until ctx ends.
func (c *FS) drain(ctx context.Context) error {
	wait := retryFirst
	for {
		err := c.uploadAll(ctx, func(*file) bool { return true })
		if err == nil || ctx.Err() != nil {
			return err
		}
		if len(c.waiting()) == 0 {
			return nil // conflicts: both contents are in the store
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
			wait = min(2*wait, retryMax)
		}
	}
}
