package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/tree"
)

// Conflict is one case in which the store held another content than the one
// that a change of this machine derives from.
type Conflict struct {
	Name string `json:"name"`
	// Ours is the name under which this machine's content is now; a path of
	// the cache directory if the old version was gone before all of it was here.
	Ours string    `json:"ours"`
	Time time.Time `json:"time"`
}

// conflict gives way: the store's version keeps the name, and f moves beside
// it, open handles and all. The error says so; it matches ErrChanged.
func (c *FS) conflict(ctx context.Context, f *file) error {
	c.names.RLock()
	defer c.names.RUnlock()
	p, name, ok := c.tree.Where(f.node)
	if !ok {
		return c.uploadStray(ctx, f)
	}
	d := dirOf(p)
	d.op.Lock()
	defer d.op.Unlock()
	f.up.Lock()
	defer f.up.Unlock()
	if now, n, ok := c.tree.Where(f.node); !ok || now != p || n != name {
		return backends.ErrChanged // it moved meanwhile; the next close will tell
	}
	from, err := c.path(p, name)
	if err != nil {
		return err
	}
	if err := c.complete(ctx, f); errors.Is(err, backends.ErrChanged) {
		return c.lostBase(p, name, from, f, err)
	} else if err != nil {
		return err
	}
	for attempt := range 10 {
		ours := conflictName(name, time.Now(), attempt)
		to, err := c.checkNew(p, ours)
		if err != nil {
			return fmt.Errorf("%s: changed elsewhere, and no name beside it can be had: %w", from, err)
		}
		d.begin(name)
		d.begin(ours)
		err = c.stepAside(ctx, f, to)
		if err == nil {
			_, err = c.tree.Rename(p, name, p, ours, backends.RenameNoReplace, nil)
		}
		d.end(ours)
		d.end(name)
		if errors.Is(err, fs.ErrExist) || errors.Is(err, backends.ErrChanged) {
			continue // that name is taken too
		}
		if err != nil {
			return err
		}
		c.forgetName(p, name)
		c.changed(p, name)
		c.changed(p, ours)
		c.mu.Lock()
		c.conflicts = append(c.conflicts, Conflict{Name: from, Ours: to, Time: time.Now()})
		c.mu.Unlock()
		c.log.Warn("changed elsewhere meanwhile; this machine's content is beside it", "name", from, "ours", to)
		return fmt.Errorf("%s: this machine's content is now in %s: %w", from, to, backends.ErrChanged)
	}
	return fmt.Errorf("%s: changed elsewhere, and every name beside it is taken: %w", from, backends.ErrChanged)
}

// complete fetches what is not here of f.
func (c *FS) complete(ctx context.Context, f *file) error {
	f.mu.Lock()
	content := f.content()
	content.use()
	f.mu.Unlock()
	defer content.done()
	return content.fetchAll(ctx)
}

// lostBase ends a conflict in which the version that f derives from is gone
// before all of it was here: there is no whole content to put beside. What was
// written goes to the room's kept files, and the name to the store's version.
func (c *FS) lostBase(p *tree.Node, name, from string, f *file, why error) error {
	f.mu.Lock()
	kept, err := c.keepLocked(f, from, why)
	f.mu.Unlock()
	if err != nil {
		return err
	}
	d := dirOf(p)
	d.begin(name)
	c.tree.Drop(p, name)
	c.detached(f.node)
	d.end(name)
	c.forgetName(p, name)
	c.changed(p, name)
	c.mu.Lock()
	c.conflicts = append(c.conflicts, Conflict{Name: from, Ours: kept.File, Time: time.Now()})
	c.mu.Unlock()
	c.log.Warn("changed elsewhere before all of the old version was here; what was written here is kept", "name", from, "kept", kept.File)
	return fmt.Errorf("%s: %s: %w", from, kept.where(), backends.ErrChanged)
}

// uploadStray ends what was written to a file whose name the store has taken
// away meanwhile: it is put beside the name, or kept if parts of it are only in
// a version that is gone. A file that this machine has removed has nothing to
// end. The error matches ErrChanged once the bytes are safe.
func (c *FS) uploadStray(ctx context.Context, f *file) error {
	f.up.Lock()
	defer f.up.Unlock()
	f.mu.Lock()
	from := f.astray
	done := from == "" || !f.changedLocked()
	f.mu.Unlock()
	if done {
		return nil
	}
	ours := ""
	err := c.complete(ctx, f)
	switch {
	case errors.Is(err, backends.ErrChanged):
		f.mu.Lock()
		var kept Kept
		if kept, err = c.keepLocked(f, from, err); err == nil {
			f.sent = f.change
			f.dropLocked()
		}
		f.mu.Unlock()
		ours = kept.File
	case err == nil:
		dir, base := path.Split(from)
		for attempt := range 10 {
			ours = dir + conflictName(base, time.Now(), attempt)
			if err = c.stepAside(ctx, f, ours); !errors.Is(err, fs.ErrExist) && !errors.Is(err, backends.ErrChanged) {
				break
			}
		}
		f.mu.Lock()
		f.dropLocked()
		f.mu.Unlock()
	}
	if err != nil {
		f.mu.Lock()
		f.failed = err
		f.mu.Unlock()
		return err
	}
	c.mu.Lock()
	c.conflicts = append(c.conflicts, Conflict{Name: from, Ours: ours, Time: time.Now()})
	c.mu.Unlock()
	c.log.Warn("removed or replaced elsewhere while it was written here; this machine's content is beside it", "name", from, "ours", ours)
	return fmt.Errorf("%s: removed or replaced elsewhere; this machine's content is now in %s: %w", from, ours, backends.ErrChanged)
}

// stepAside uploads f, which is complete, under a name that nobody has. f.up
// is held.
func (c *FS) stepAside(ctx context.Context, f *file, to string) error {
	f.mu.Lock()
	content := f.content()
	content.use()
	f.mu.Unlock()
	defer content.done()
	f.mu.Lock()
	base, replaces := f.base, f.replaces
	f.base, f.replaces = nil, ""
	f.mu.Unlock()
	err := c.uploadTo(ctx, f, to)
	if err != nil {
		f.mu.Lock()
		f.base, f.replaces = base, replaces
		f.mu.Unlock()
	}
	return err
}

// conflictName returns NAME.conflict-HOST-TIME, cut to what a name may have.
func conflictName(name string, t time.Time, attempt int) string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "unknown"
	}
	host, _, _ = strings.Cut(host, ".")
	suffix := fmt.Sprintf(".conflict-%.32s-%s", strings.ReplaceAll(host, "/", "_"), t.UTC().Format("20060102T150405.000"))
	if attempt > 0 {
		suffix += fmt.Sprintf("-%d", attempt)
	}
	name = path.Base(name)
	if over := len(name) + len(suffix) - backends.MaxNameLen; over > 0 {
		name = strings.ToValidUTF8(name[:len(name)-over], "")
	}
	return name + suffix
}
