package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/tree"
)

// conflictError is what whoever waits for a content hears when it has been put
// beside somebody else's. It matches ErrChanged.
func conflictError(from, to string) error {
	return fmt.Errorf("%s: changed elsewhere; this machine's content is now in %s: %w", from, to, backends.ErrChanged)
}

// conflict is called when the store has refused what was sent: it holds
// another version than the one that this derives from. Theirs keeps the name,
// ours moves beside it; if there is no theirs any more, ours stays. Its errors don't
// match ErrChanged: nothing is decided, and the change is tried again.
func (c *FS) conflict(ctx context.Context, s *sending, why error) outcome {
	theirs, err := c.store.Stat(ctx, s.key)
	there := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return outcome{err: err}
	}
	sourceLost := false
	if s.from != nil {
		src, err := c.store.Stat(ctx, s.from.key)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return outcome{err: err}
		}
		sourceLost = err != nil || src.Version != s.from.version
	}
	c.ns.Lock()
	defer c.ns.Unlock()
	f := s.f
	at, ok := c.tree.Path(f.node)
	if !ok || at != s.key {
		return outcome{soon: true}
	}
	var b batch
	defer func() { c.commitLate(&b) }()
	switch {
	case sourceLost:
		return c.followSource(&b, s)
	case !there:
		if s.prior == nil {
			return outcome{err: fmt.Errorf("%s: refused, although nothing is there: %v", s.key, why)}
		}
		// Removed elsewhere, changed here: the change stays.
		c.disown(&b, f, s.prior)
		return outcome{soon: true}
	case s.prior != nil && theirs.Version == s.prior.version:
		return outcome{err: fmt.Errorf("%s: refused, although it is unchanged: %v", s.key, why)}
	case theirs.IsDir():
		c.lookBelow(s.key) // if it is only there because of them, the next attempt succeeds
		return outcome{err: fmt.Errorf("%s: a directory has that name in the store: %v", s.key, why)}
	}
	c.disown(&b, f, s.prior)
	if err := c.stepAside(&b, f, theirs); err != nil {
		return outcome{err: err}
	}
	return outcome{soon: true}
}

// disown says that prior is not in the store any more, where f is to be. c.ns
// is held.
func (c *FS) disown(b *batch, f *file, prior *stored) {
	if prior == nil {
		return
	}
	if g := c.ghosts[prior.key]; g != nil && g.st == prior {
		c.lay(b, prior.key)
	}
	f.mu.Lock()
	if f.base == prior {
		f.base = nil
	}
	f.mu.Unlock()
}

// stepAside renames f to a name beside its own, which theirs gets. c.ns is
// held.
func (c *FS) stepAside(b *batch, f *file, theirs backends.Entry) error {
	p, name, _ := c.tree.Where(f.node)
	from, err := c.path(p, name)
	if err != nil {
		return err
	}
	ours, to := "", ""
	for attempt := range 10 {
		ours = conflictName(name, time.Now(), attempt)
		if to, err = c.checkNew(p, ours); err != nil {
			return fmt.Errorf("%s: changed elsewhere, and no name beside it can be had: %w", from, err)
		}
		if _, err = c.tree.Rename(p, name, p, ours, backends.RenameNoReplace, nil); !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	if err != nil {
		return err
	}
	dirOf(p).change(ours)
	dirOf(p).change(name)
	delete(c.limbo, f.node)
	c.tree.Adopt(p, name, c.newStored(theirs, "", time.Now()))
	c.forgetName(p, name)
	c.changed(p, name)
	c.changed(p, ours)
	f.mu.Lock()
	f.fails(conflictError(from, to))
	f.mu.Unlock()
	c.await(f)
	f.rehold()
	c.record(b, f.node, nil, "")
	c.remember(b, Conflict{Name: from, Ours: to, Time: time.Now()})
	c.log.Warn("changed elsewhere meanwhile; this machine's content is beside it", "name", from, "ours", to)
	return nil
}

// followSource ends the renaming of a file which somebody else has changed or
// removed under its old name before the store could follow: what is here of
// it is put; if not all of it is here, the new name goes, and theirs stays what
// it is. c.ns is held.
func (c *FS) followSource(b *batch, s *sending) outcome {
	f := s.f
	if g := c.ghosts[s.from.key]; g != nil && g.st == s.from {
		c.lay(b, s.from.key)
	}
	c.forgetStored(s.from.key)
	f.mu.Lock()
	f.base = nil
	whole := f.c != nil && f.c.complete()
	if whole {
		f.change++
		f.c.mu.Lock()
		f.c.differs()
		f.c.mu.Unlock()
	}
	f.mu.Unlock()
	if whole {
		c.record(b, f.node, nil, "")
		f.rehold()
		return outcome{soon: true}
	}
	p, name, _ := c.tree.Where(f.node)
	c.remember(b, Conflict{Name: s.key, Ours: s.from.key, Time: time.Now()})
	c.log.Warn("renamed here, changed elsewhere under its old name before the store had followed: it is only there", "name", s.key, "old", s.from.key)
	c.takeAway(b, p, name, f)
	return outcome{}
}

// takeAway takes f's name, because its bytes are nowhere any more. What the store
// has of what it was to replace, there or where it was renamed from, stays. c.ns
// is held.
func (c *FS) takeAway(b *batch, p *tree.Node, name string, f *file) {
	if at, err := c.path(p, name); err == nil {
		c.lay(b, at)
	}
	f.mu.Lock()
	base := f.base
	f.mu.Unlock()
	if base != nil {
		if g := c.ghosts[base.key]; g != nil && g.st == base {
			c.lay(b, base.key)
		}
	}
	c.forgetRecord(b, f.node)
	c.tree.Drop(p, name)
	c.detached(f.node)
	dirOf(p).change(name)
	c.forgetName(p, name)
	c.changed(p, name)
}

// replacedByUs reports whether the version that f derives from is gone because
// an attempt of an earlier process has replaced it, of which the journal did not
// hear the end. Then the bytes are in what that has put, in the same places.
func (c *FS) replacedByUs(ctx context.Context, f *file) bool {
	c.ns.Lock()
	f.mu.Lock()
	base, content := f.base, f.c
	f.mu.Unlock()
	ops := map[string]bool{}
	for _, a := range f.ops {
		if base != nil && string(a.Key) == base.key {
			ops[a.Op] = true
		}
	}
	c.ns.Unlock()
	if len(ops) == 0 || content == nil {
		return false
	}
	e, err := c.store.Stat(ctx, base.key)
	if err != nil || e.Operation == "" || !ops[e.Operation] || e.Version == base.version {
		return false
	}
	c.ns.Lock()
	defer c.ns.Unlock()
	if !f.derives(base) {
		return true // somebody else has found out
	}
	now := &stored{key: base.key, version: e.Version, size: e.Size}
	var b batch
	if g := c.ghosts[base.key]; g != nil && g.st == base {
		g.st = now
		c.recordGhost(&b, g)
	}
	c.moveBase(&b, f, now)
	c.commitLate(&b)
	return true
}

// moveBase makes f derive from now, which an attempt of its own has put in the
// place of its base: that has what f needs of the base, in the same places. c.ns
// is held.
func (c *FS) moveBase(b *batch, f *file, now *stored) {
	f.mu.Lock()
	base, content := f.base, f.c
	f.base = now
	f.mu.Unlock()
	if content != nil {
		content.mu.Lock()
		was := slices.Clone(content.ext)
		content.ext = content.ext.stored(was.of(base), now)
		for _, s := range content.seals {
			s.ext = s.ext.stored(s.ext.of(base), now)
		}
		content.mu.Unlock()
	}
	f.rehold()
	c.record(b, f.node, nil, "")
}

// derives reports whether s is f's base.
func (f *file) derives(s *stored) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.base == s
}

// lostBytes ends a change of a file whose other bytes were only in a version
// that is gone: there is no whole content to put anywhere. What was written
// goes to the room's kept files, and the name to what the store has.
func (c *FS) lostBytes(ctx context.Context, f *file, why error) outcome {
	if c.replacedByUs(ctx, f) {
		return outcome{soon: true}
	}
	c.ns.Lock()
	defer c.ns.Unlock()
	p, name, ok := c.tree.Where(f.node)
	if !ok {
		f.rehold()
		return outcome{}
	}
	from, err := c.path(p, name)
	if err != nil {
		return outcome{err: err}
	}
	kept, err := c.keep(f, from, why)
	if err != nil {
		return outcome{err: err}
	}
	var b batch
	c.remember(&b, Conflict{Name: from, Ours: kept.File, Time: time.Now()})
	f.mu.Lock()
	f.fails(fmt.Errorf("%s: %s: %w", from, kept.where(), backends.ErrChanged))
	base := f.base
	f.mu.Unlock()
	if base != nil && base.key != from {
		c.forgetStored(base.key)
	}
	c.takeAway(&b, p, name, f)
	c.commitLate(&b)
	c.log.Warn("changed elsewhere before all of the old version was here; what was written here is kept", "name", from, "kept", kept.File)
	return outcome{}
}

// homeless gives a file that was changed although the store has taken its name
// away a new one beside it. The error, which matches ErrChanged, says so; nil
// if f is no such file.
func (c *FS) homeless(f *file) error {
	f.mu.Lock()
	stray := f.gone && f.astray != "" && f.changedLocked()
	f.mu.Unlock()
	if !stray {
		return nil
	}
	c.ns.Lock()
	defer c.ns.Unlock()
	f.mu.Lock()
	from := f.astray
	f.mu.Unlock()
	if from == "" {
		return nil
	}
	p := c.dirAt(path.Dir(from))
	if p == nil {
		kept, err := c.keep(f, from, backends.ErrChanged)
		if err != nil {
			return err
		}
		f.mu.Lock()
		f.sent, f.astray = f.change, ""
		f.mu.Unlock()
		var b batch
		c.remember(&b, Conflict{Name: from, Ours: kept.File, Time: time.Now()})
		c.commitLate(&b)
		return fmt.Errorf("%s: removed elsewhere with its directory; %s: %w", from, kept.where(), backends.ErrChanged)
	}
	var ours, to string
	var err error
	for attempt := range 10 {
		ours = conflictName(path.Base(from), time.Now(), attempt)
		if to, err = c.checkNew(p, ours); err != nil {
			return err
		}
		if err = c.tree.Insert(p, ours, f.node); !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	if err != nil {
		return err
	}
	dirOf(p).change(ours)
	c.changed(p, ours)
	f.mu.Lock()
	f.gone, f.astray, f.base = false, "", nil
	f.mu.Unlock()
	c.mu.Lock()
	f.retired = false
	c.mu.Unlock()
	c.await(f)
	var b batch
	c.record(&b, f.node, nil, "")
	c.remember(&b, Conflict{Name: from, Ours: to, Time: time.Now()})
	c.commitLate(&b)
	f.rehold()
	f.mu.Lock()
	f.sealLocked()
	j := f.job
	f.mu.Unlock()
	c.q.touch(j)
	c.log.Warn("removed or replaced elsewhere while it was written here; this machine's content is beside it", "name", from, "ours", to)
	return conflictError(from, to)
}

// keep puts what is here of f to the room's kept files. c.ns is held.
func (c *FS) keep(f *file, name string, why error) (Kept, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	k := Kept{Store: c.ids, Name: name, Size: f.sizeLocked(), Time: time.Now()}
	if f.base != nil {
		k.Base = string(f.base.version)
	}
	if why != nil {
		k.Error = why.Error()
	}
	k, err := f.content().keep(k)
	if err != nil {
		return k, fmt.Errorf("%s: not uploaded, and not kept either: %w", name, err)
	}
	return k, nil
}

// where says where the bytes are.
func (k Kept) where() string {
	if len(k.Parts) > 0 {
		return "what was written here is in " + k.File + ", the rest was only in the store"
	}
	return "its bytes are in " + k.File
}

// conflictName returns NAME.conflict-HOST-TIME, cut to what a name may have: the
// host first, because the rules of a policy are about NAME.
func conflictName(name string, t time.Time, attempt int) string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "unknown"
	}
	host, _, _ = strings.Cut(host, ".")
	host = strings.ToValidUTF8(strings.ReplaceAll(host[:min(len(host), 32)], "/", "_"), "")
	when := t.UTC().Format("20060102T150405.000")
	if attempt > 0 {
		when += fmt.Sprintf("-%d", attempt)
	}
	name = path.Base(name)
	for _, cut := range []*string{&host, &name} {
		if over := len(name) + len(".conflict-"+host+"-"+when) - backends.MaxNameLen; over > 0 {
			*cut = strings.ToValidUTF8((*cut)[:max(0, len(*cut)-over)], "")
		}
	}
	return name + ".conflict-" + host + "-" + when
}
