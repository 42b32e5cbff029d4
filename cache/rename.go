package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/tree"
)

// Rename implements [backends.FileSystem]. An object store has no rename: a
// file is put or copied under the new name and then removed from the old one,
// a directory file by file. The tree changes between the two, so that a reader
// finds the bytes at every moment.
func (c *FS) Rename(ctx context.Context, oldParent backends.Node, oldName string, newParent backends.Node, newName string, flags backends.RenameFlags) error {
	from, err := c.ownDir(oldParent)
	if err != nil {
		return err
	}
	to, err := c.ownDir(newParent)
	if err != nil {
		return err
	}
	if flags == backends.RenameExchange {
		return errors.ErrUnsupported // there is no moment in which both could change
	}
	n, err := c.lookup(ctx, from, oldName)
	if err != nil {
		return err
	}
	if _, err := c.lookup(ctx, to, newName); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if n.IsDir() {
		return c.renameDir(ctx, from, oldName, to, newName, flags)
	}
	return c.renameFile(ctx, from, oldName, to, newName, flags)
}

// enterTwo is enter for two names.
func (c *FS) enterTwo(a *tree.Node, aName string, b *tree.Node, bName string) (leave func()) {
	c.names.RLock()
	first, second := a, b
	if first.ID() > second.ID() {
		first, second = second, first
	}
	dirOf(first).op.Lock()
	if second != first {
		dirOf(second).op.Lock()
	}
	dirOf(a).begin(aName)
	dirOf(b).begin(bName)
	return func() {
		dirOf(b).end(bName)
		dirOf(a).end(aName)
		if second != first {
			dirOf(second).op.Unlock()
		}
		dirOf(first).op.Unlock()
		c.names.RUnlock()
	}
}

// planRename returns what a rename will do and the store's names for both ends.
// With mv.Same nothing is to be done.
func (c *FS) planRename(from *tree.Node, oldName string, to *tree.Node, newName string, flags backends.RenameFlags) (mv tree.Move, oldPath, newPath string, err error) {
	mv, err = c.tree.CheckRename(from, oldName, to, newName, flags)
	if err != nil || mv.Same {
		return mv, "", "", err
	}
	if oldPath, err = c.path(from, oldName); err != nil {
		return mv, "", "", err
	}
	newPath, err = c.checkNew(to, newName)
	return mv, oldPath, newPath, err
}

func (c *FS) renameFile(ctx context.Context, from *tree.Node, oldName string, to *tree.Node, newName string, flags backends.RenameFlags) error {
	leave := c.enterTwo(from, oldName, to, newName)
	defer leave()
	mv, oldPath, newPath, err := c.planRename(from, oldName, to, newName, flags)
	if err != nil || mv.Same {
		return err
	}
	f, ok := mv.Node.Data.(*file)
	if !ok {
		return c.renameOther(ctx, mv, from, oldName, oldPath, to, newName, newPath, flags)
	}
	target, _ := targetOf(mv)
	unlock := lockUploads(f, target)
	defer unlock()

	// What the new name holds in the store now.
	var replaced backends.Version
	if target != nil {
		target.mu.Lock()
		replaced = target.replaces
		if target.base != nil {
			replaced = target.base.version
		}
		target.mu.Unlock()
		if err := c.keepForReaders(ctx, target); err != nil {
			return err
		}
	}

	f.mu.Lock()
	base, unsent, open := f.base, f.changedLocked(), f.handles > 0
	// What the store has under the old name: f's own version, or that of the
	// file that f has replaced without being uploaded since.
	old := f.replaces
	if base != nil {
		old = base.version
	}
	f.mu.Unlock()
	if from != to && old != "" {
		if err := c.keepDir(ctx, from); err != nil {
			return err
		}
	}
	if base == nil && open {
		// Still being written for the first time: it goes to the store under
		// its new name when it is closed, in the place of what is there.
		if _, err := c.tree.Rename(from, oldName, to, newName, flags, nil); err != nil {
			return err
		}
		f.mu.Lock()
		f.replaces = replaced
		f.mu.Unlock()
		c.lost(mv)
		if old == "" {
			return nil
		}
		return c.removeOld(ctx, from, oldName, oldPath, old)
	}

	e, err := c.storeUnder(ctx, f, unsent, oldPath, newPath, replaced)
	if err != nil {
		if errors.Is(err, backends.ErrChanged) || errors.Is(err, fs.ErrExist) {
			c.forgetName(to, newName)
			c.forgetName(from, oldName)
			c.changed(to, newName)
			c.changed(from, oldName)
			if flags != backends.RenameNoReplace {
				err = &unseenError{newPath}
			}
		}
		return err
	}
	if _, err := c.tree.Rename(from, oldName, to, newName, flags, nil); err != nil {
		return err
	}
	f.mu.Lock()
	if e != nil {
		// A copy: the content is the same under its new version.
		base.version = e.Version
		f.seen = time.Now()
	}
	f.mu.Unlock()
	c.lost(mv)
	if old == "" {
		return nil
	}
	return c.removeOld(ctx, from, oldName, oldPath, old)
}

// targetOf returns the file that a rename replaces, if it is one.
func targetOf(mv tree.Move) (*file, bool) {
	if mv.Target == nil {
		return nil, false
	}
	f, ok := mv.Target.Data.(*file)
	return f, ok
}

// lockUploads locks up of both files, in the order of their nodes.
func lockUploads(a, b *file) (unlock func()) {
	if b == nil || a == b {
		a.up.Lock()
		return a.up.Unlock
	}
	if a.node.ID() > b.node.ID() {
		a, b = b, a
	}
	a.up.Lock()
	b.up.Lock()
	return func() { b.up.Unlock(); a.up.Unlock() }
}

// lost ends what the replaced node of a rename no longer needs.
func (c *FS) lost(mv tree.Move) {
	if mv.Target != nil {
		c.detached(mv.Target)
	}
}

// storeUnder makes the store hold f's content under newPath, in the place of
// the version replaced. It returns the entry of a server-side copy, or nil
// after an upload, which has updated f itself. f.up is held.
func (c *FS) storeUnder(ctx context.Context, f *file, unsent bool, oldPath, newPath string, replaced backends.Version) (*backends.Entry, error) {
	cond := backends.If{Match: replaced, Absent: replaced == ""}
	f.mu.Lock()
	base, replaces := f.base, f.replaces
	// A small content that is here is put: that is one request whose
	// condition every server honours, while none does for a copy's target.
	small := f.c != nil && f.c.size() <= wholeMax && f.c.complete()
	if unsent || small {
		f.base, f.replaces = nil, replaced
		if !unsent {
			f.change++ // so that uploadTo has something to do
		}
		bumped := f.change
		f.mu.Unlock()
		err := c.uploadTo(ctx, f, newPath)
		if err != nil {
			f.mu.Lock()
			f.base, f.replaces = base, replaces
			if !unsent && f.change == bumped {
				// Nobody has written meanwhile: what the store has is still it.
				f.sent = f.change
				f.failed = nil
				c.settled(f)
			}
			f.mu.Unlock()
		}
		return nil, err
	}
	src := backends.If{Match: base.version}
	f.mu.Unlock()
	e, err := backends.Copy(ctx, c.store, oldPath, src, newPath, backends.PutOptions{If: cond})
	if err != nil {
		return nil, err
	}
	return &e, nil
}

// removeOld removes the old name of a renamed file. What somebody else has put
// there meanwhile stays.
func (c *FS) removeOld(ctx context.Context, from *tree.Node, oldName, oldPath string, old backends.Version) error {
	err := c.store.Remove(ctx, oldPath, backends.If{Match: old})
	switch {
	case err == nil, errors.Is(err, fs.ErrNotExist):
		dirOf(from).gone(oldName)
		return nil
	case errors.Is(err, backends.ErrChanged):
		c.forgetName(from, oldName)
		c.changed(from, oldName)
		return nil
	}
	c.forgetName(from, oldName)
	c.changed(from, oldName)
	return fmt.Errorf("renamed, but the old name could not be removed: %w", err)
}

// renameOther renames what is neither file nor directory, where the store can.
func (c *FS) renameOther(ctx context.Context, mv tree.Move, from *tree.Node, oldName, oldPath string, to *tree.Node, newName, newPath string, flags backends.RenameFlags) error {
	if err := backends.Rename(ctx, c.store, oldPath, backends.If{}, newPath, backends.If{Absent: mv.Target == nil}); err != nil {
		return err
	}
	_, err := c.tree.Rename(from, oldName, to, newName, flags, nil)
	if err == nil {
		c.lost(mv)
	}
	return err
}

// copyParallel is how many objects of a directory are copied at once.
const copyParallel = 32

// namesPatience is how long a directory rename waits for a gap between the
// operations of others before it makes them wait.
const namesPatience = 5 * time.Second

// lockNames locks names for writing. A writer who waits in line would keep
// everybody out for as long as the upload of one large file takes, so it looks
// for a gap first.
func (c *FS) lockNames(ctx context.Context) error {
	patience := time.After(namesPatience)
	for wait := time.Millisecond; !c.names.TryLock(); wait = min(2*wait, 50*time.Millisecond) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-patience:
			c.names.Lock()
			return nil
		case <-time.After(wait):
		}
	}
	return nil
}

func (c *FS) renameDir(ctx context.Context, from *tree.Node, oldName string, to *tree.Node, newName string, flags backends.RenameFlags) error {
	if err := c.lockNames(ctx); err != nil {
		return err
	}
	defer c.names.Unlock()
	d1, d2 := dirOf(from), dirOf(to)
	d1.begin(oldName)
	d2.begin(newName)
	defer func() {
		d2.end(newName)
		d1.end(oldName)
	}()
	mv, oldPath, newPath, err := c.planRename(from, oldName, to, newName, flags)
	if err != nil || mv.Same {
		return err
	}
	if err := c.emptyTarget(ctx, newPath); err != nil {
		return err
	}
	if from != to {
		if err := c.keepDir(ctx, from); err != nil {
			return err
		}
	}
	err = backends.Rename(ctx, c.store, oldPath, backends.If{}, newPath, backends.If{})
	if err == nil || !errors.Is(err, errors.ErrUnsupported) {
		if err == nil {
			err = c.moveInTree(func() {}, from, oldName, to, newName, flags)
			c.lost(mv)
		}
		return err
	}
	return c.moveTree(ctx, mv, from, oldName, oldPath, to, newName, newPath, flags)
}

// emptyTarget refuses a target directory in which the store has something
// that the tree doesn't know of.
func (c *FS) emptyTarget(ctx context.Context, path string) error {
	for _, err := range c.store.List(ctx, path, "") {
		switch {
		case err == nil:
			return backends.ErrNotEmpty
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, backends.ErrNotDir):
			return nil
		}
		return err
	}
	return nil
}

// moveTree renames a directory in a store that can't: everything below is
// copied, then the tree changes, then the old names go. c.names is held for
// writing. If copying fails, the copies are removed again; a crash leaves them
// beside the originals, of which none is touched before all are copied.
func (c *FS) moveTree(ctx context.Context, mv tree.Move, from *tree.Node, oldName, oldPath string, to *tree.Node, newName, newPath string, flags backends.RenameFlags) error {
	var files, dirs []backends.Entry
	for e, err := range backends.Walk(ctx, c.store, oldPath, "") {
		if errors.Is(err, fs.ErrNotExist) {
			break // nothing of it is in the store yet
		}
		if err != nil {
			return err
		}
		if err := backends.ValidName(c.store, newPath+strings.TrimPrefix(e.Name, oldPath)); err != nil {
			return err
		}
		if e.IsDir() {
			dirs = append(dirs, e)
		} else {
			files = append(files, e)
		}
	}
	moved := func(name string) string { return newPath + strings.TrimPrefix(name, oldPath) }

	if err := c.store.Mkdir(ctx, newPath, backends.AttrChange{}); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	copies := make([]backends.Entry, len(files))
	var g errgroup.Group
	g.SetLimit(copyParallel)
	for i, e := range files {
		g.Go(func() error {
			var err error
			copies[i], err = backends.Copy(ctx, c.store, e.Name, backends.If{Match: e.Version}, moved(e.Name), backends.PutOptions{If: backends.If{Absent: true}})
			return err
		})
	}
	for _, e := range dirs {
		g.Go(func() error {
			err := c.store.Mkdir(ctx, moved(e.Name), backends.AttrChange{})
			if errors.Is(err, fs.ErrExist) {
				return nil
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		c.undoCopies(ctx, copies, dirs, moved, newPath, mv.Target == nil)
		return err
	}

	// The nodes below keep their contents under the copies' versions.
	versions := make(map[string]moveVersion, len(files))
	for i, e := range files {
		versions[e.Name] = moveVersion{e.Version, copies[i].Version}
	}
	err := c.moveInTree(func() { c.rebase(mv.Node, oldPath, versions) }, from, oldName, to, newName, flags)
	if err != nil {
		return err
	}
	c.lost(mv)
	return c.removeTree(ctx, oldPath, files, dirs)
}

// moveInTree gives a directory its new place. Answers of the store to what was
// asked before don't count any more.
func (c *FS) moveInTree(before func(), from *tree.Node, oldName string, to *tree.Node, newName string, flags backends.RenameFlags) error {
	c.moving.Lock()
	defer c.moving.Unlock()
	c.moves++
	before()
	_, err := c.tree.Rename(from, oldName, to, newName, flags, nil)
	return err
}

type moveVersion struct{ old, now backends.Version }

// rebase gives the files below n the versions that their copies have.
func (c *FS) rebase(n *tree.Node, path string, versions map[string]moveVersion) {
	c.tree.Children(n, func(name string, child *tree.Node) {
		p := path + "/" + name
		switch x := child.Data.(type) {
		case *dir:
			c.rebase(child, p, versions)
		case *file:
			x.mu.Lock()
			if v, ok := versions[p]; ok && x.base != nil && x.base.version == v.old {
				x.base.version = v.now
			} else if ok && x.base == nil && x.replaces == v.old {
				x.replaces = v.now
			}
			x.mu.Unlock()
		}
	})
}

// undoCopies removes what a failed move has copied. What can't be removed is
// logged: it is a copy of something that is still there.
func (c *FS) undoCopies(ctx context.Context, copies, dirs []backends.Entry, moved func(string) string, newPath string, top bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	var rs []backends.Removal
	for _, e := range copies {
		if e.Name != "" {
			rs = append(rs, backends.Removal{Name: e.Name, If: backends.If{Match: e.Version}})
		}
	}
	errs := backends.RemoveMany(ctx, c.store, rs)
	for i := len(dirs) - 1; i >= 0; i-- {
		errs = append(errs, c.store.Remove(ctx, moved(dirs[i].Name), backends.If{}))
	}
	if top { // else the empty directory was there before
		errs = append(errs, c.store.Remove(ctx, newPath, backends.If{}))
	}
	for _, err := range errs {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			c.log.Warn("a copy left by a failed rename of a directory could not be removed", "error", err)
		}
	}
}

// removeTree removes the originals of a move: files at once, then the
// directories from the deepest up. What somebody else has changed or added
// meanwhile stays, and with it its directories.
func (c *FS) removeTree(ctx context.Context, top string, files, dirs []backends.Entry) error {
	rs := make([]backends.Removal, len(files))
	for i, e := range files {
		rs[i] = backends.Removal{Name: e.Name, If: backends.If{Match: e.Version}}
	}
	var failed []error
	note := func(err error) {
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, backends.ErrChanged) && !errors.Is(err, backends.ErrNotEmpty) {
			failed = append(failed, err)
		}
	}
	for _, err := range backends.RemoveMany(ctx, c.store, rs) {
		note(err)
	}
	for i := len(dirs) - 1; i >= 0; i-- {
		note(c.store.Remove(ctx, dirs[i].Name, backends.If{}))
	}
	note(c.store.Remove(ctx, top, backends.If{}))
	if len(failed) > 0 {
		return fmt.Errorf("renamed, but %d old names below %s could not be removed: %w", len(failed), top, failed[0])
	}
	return nil
}
