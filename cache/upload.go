package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/tree"
)

// await puts f among those that wait to be uploaded.
func (c *FS) await(f *file) {
	c.mu.Lock()
	c.pending[f] = struct{}{}
	c.mu.Unlock()
}

// settled takes f from those that wait.
func (c *FS) settled(f *file) {
	c.mu.Lock()
	delete(c.pending, f)
	c.mu.Unlock()
}

// waiting returns the files that wait to be uploaded.
func (c *FS) waiting() []*file {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]*file, 0, len(c.pending))
	for f := range c.pending {
		all = append(all, f)
	}
	return all
}

// upload brings what f has that the store has not to the store, and returns
// when it is there. A file without a name has nowhere to go, and is fine.
func (c *FS) upload(ctx context.Context, f *file) error {
	f.mu.Lock()
	clean := !f.changedLocked()
	f.mu.Unlock()
	if clean {
		return nil
	}
	c.names.RLock()
	f.up.Lock()
	path, ok := c.tree.Path(f.node)
	if !ok {
		f.up.Unlock()
		c.names.RUnlock()
		return c.uploadStray(ctx, f)
	}
	f.mu.Lock()
	before := f.failed
	f.mu.Unlock()
	err := c.uploadTo(ctx, f, path)
	if refused(err) && before != nil && !refused(before) && c.isOurs(ctx, f, path) {
		err = nil
	}
	f.up.Unlock()
	c.names.RUnlock()
	if refused(err) {
		return c.conflict(ctx, f)
	}
	return err
}

// refused reports whether the store holds another version than the one that a
// put derives from.
func refused(err error) bool {
	return errors.Is(err, backends.ErrChanged) || errors.Is(err, fs.ErrExist)
}

// isOurs looks whether the store has, under path, just what an upload would
// put there: then an earlier attempt has taken effect although its answer was
// lost. f.up is held.
func (c *FS) isOurs(ctx context.Context, f *file, path string) bool {
	f.mu.Lock()
	content := f.content()
	content.use()
	f.mu.Unlock()
	defer content.done()
	thaw := content.freeze()
	defer thaw()
	f.mu.Lock()
	change := f.change
	f.mu.Unlock()
	r, e, err := c.store.Open(ctx, path, backends.Range{}, backends.If{})
	if err != nil {
		return false
	}
	defer r.Close()
	if e.Size != content.size() {
		return false
	}
	theirs, ours := make([]byte, 128<<10), make([]byte, 128<<10)
	for off := int64(0); off < e.Size; {
		n, err := io.ReadFull(r, theirs[:min(int64(len(theirs)), e.Size-off)])
		if err != nil {
			return false
		}
		if m, err := content.readAt(ctx, ours[:n], off); err != nil || m != n || !bytes.Equal(ours[:n], theirs[:n]) {
			return false
		}
		off += int64(n)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.storedAs(e, change)
	return true
}

// uploadTo puts f's content under path, which is its name or is going to be.
// f.up is held, and names for reading.
func (c *FS) uploadTo(ctx context.Context, f *file, path string) error {
	f.mu.Lock()
	if !f.changedLocked() {
		f.mu.Unlock()
		return nil
	}
	content := f.content()
	content.use()
	f.mu.Unlock()
	defer content.done()

	parent, name, _ := c.tree.Where(f.node)
	if parent != nil {
		d := dirOf(parent)
		d.begin(name)
		defer d.end(name)
	}

	// Frozen first, counted then: a write in between is sent now and once
	// more, but never left out.
	thaw := content.freeze()
	defer thaw()
	f.mu.Lock()
	change := f.change
	cond := backends.If{Match: f.replaces}
	if f.base != nil {
		cond.Match = f.base.version
	}
	cond.Absent = cond.Match == ""
	f.mu.Unlock()

	size := content.size()
	body := io.NewSectionReader(bytesOf{ctx, content}, 0, size)
	e, err := c.store.Put(ctx, path, body, backends.PutOptions{If: cond, Attr: c.putAttr(f.node)})

	f.mu.Lock()
	defer f.mu.Unlock()
	f.failed = err
	if err != nil {
		f.tried, f.triedAt = change, time.Now()
		if !refused(err) {
			c.noteFailed(f, path, err)
		}
		return err
	}
	f.storedAs(e, change)
	return nil
}

// noteFailed leaves a note of f's content beside it. f.mu is held.
func (c *FS) noteFailed(f *file, path string, why error) {
	k := c.describe(f, path, why)
	var err error
	if k.Parts, err = f.c.materialize(); err == nil {
		err = c.room.note(f.c.path, k)
	}
	if err != nil {
		c.log.Error("the bytes of a failed upload would not survive this process", "name", path, "error", err)
		return
	}
	f.noted = true
}

// unnote takes the note away. f.mu is held.
func (c *FS) unnote(f *file) {
	if f.noted {
		f.noted = false
		if err := os.Remove(notePath(f.c.path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			c.log.Warn("the note of an upload that has succeeded is left", "error", err)
		}
	}
}

// storedAs says that the store has f's content of that change as e. f.mu is
// held.
func (f *file) storedAs(e backends.Entry, change uint64) {
	f.base = &stored{version: e.Version, size: e.Size}
	f.replaces = ""
	f.failed = nil
	f.seen = time.Now()
	f.sent = change
	if f.c != nil {
		f.c.settle(f.fetchFrom(f.base), !f.changedLocked())
	}
	if !f.changedLocked() {
		f.fs.settled(f)
	}
	f.fs.unnote(f)
}

// SyncDir implements [backends.DirSyncer]: everything below dir is uploaded.
func (c *FS) SyncDir(ctx context.Context, n backends.Node) error {
	top, err := c.ownDir(n)
	if err != nil {
		return err
	}
	return c.uploadAll(ctx, func(f *file) bool { return c.below(f.node, top) })
}

// below reports whether n lies below top.
func (c *FS) below(n, top *tree.Node) bool {
	for {
		if n == top {
			return true
		}
		p, _, ok := c.tree.Where(n)
		if !ok || p == n {
			return false
		}
		n = p
	}
}

// uploadParallel is how many uploads a barrier runs at once.
const uploadParallel = 64

// uploadAll uploads what waits and is wanted. It goes on after an error and
// returns all of them.
func (c *FS) uploadAll(ctx context.Context, want func(*file) bool) error {
	var g errgroup.Group
	g.SetLimit(uploadParallel)
	all := c.waiting()
	errs := make([]error, len(all))
	for i, f := range all {
		if !want(f) {
			continue
		}
		g.Go(func() error {
			if err := c.upload(ctx, f); err != nil {
				name, _ := c.tree.Path(f.node)
				errs[i] = fmt.Errorf("upload of %s: %w", name, err)
			}
			return nil
		})
	}
	_ = g.Wait() // the errors are in errs
	return errors.Join(errs...)
}
