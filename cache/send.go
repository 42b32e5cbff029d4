package cache

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/agentfs/agentfs/backends"
)

// sending is one attempt to bring a file to the store.
type sending struct {
	f       *file
	key     string  // its path now
	prior   *stored // what the key holds
	cond    backends.If
	seal    *seal   // what is put; nil for a copy
	from    *stored // what is copied; nil for a put
	op      string
	earlier []string
	attr    backends.AttrChange
	repeat  bool    // an earlier attempt may have taken effect
	stream  *stream // what was sent early
	// final: the request that makes the object is on its way.
	final  atomic.Bool
	unmark func()
}

// runFile brings a file that differs from the store there.
func (c *FS) runFile(ctx context.Context, j *job) outcome {
	s, o := c.planFile(ctx, j.f, j)
	if s == nil {
		return o
	}
	if s.seal != nil {
		s.seal.use()
	}
	var e backends.Entry
	var err error
	sent := int64(0)
	if s.from != nil {
		s.final.Store(true)
		e, err = backends.Copy(ctx, c.store, s.from.key, backends.If{Match: s.from.version}, s.key, s.options())
	} else {
		e, sent, err = c.sendSeal(ctx, s)
	}
	if err != nil && refused(err) && s.repeat {
		if found, ok := c.isOurs(ctx, s); ok {
			e, err = found, nil
		}
	}
	if err == nil {
		if s.from != nil {
			c.stats.copies.Add(1)
		} else {
			c.stats.uploads.Add(1)
			c.stats.uploadBytes.Add(sent)
		}
		if c.cfg.Stored != nil {
			c.cfg.Stored(s.key, s.prior.versionOf(), e.Version)
		}
	}
	return c.concludeFile(ctx, s, e, err)
}

func (s *sending) options() backends.PutOptions {
	return backends.PutOptions{If: s.cond, Attr: s.attr, Operation: s.op, Earlier: s.earlier}
}

// planFile decides what is to be done for f now. With nothing to do, or
// something else first, the sending is nil.
func (c *FS) planFile(ctx context.Context, f *file, j *job) (*sending, outcome) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, outcome{err: err}
		}
		s, fetch, o := c.tryPlan(f, j)
		if fetch == nil {
			return s, o
		}
		if err := c.fetchHeld(ctx, fetch); err != nil {
			if errors.Is(err, backends.ErrChanged) {
				if o := c.lostBytes(ctx, fetch, err); fetch == f || o.err != nil {
					return nil, o
				}
				continue // that one is settled, and f still to be sent
			}
			return nil, outcome{err: fmt.Errorf("bytes that are needed elsewhere: %w", err)}
		}
	}
}

// tryPlan is planFile up to the point where the content of fetch has to be
// fetched first.
func (c *FS) tryPlan(f *file, j *job) (s *sending, fetch *file, o outcome) {
	c.ns.Lock()
	defer c.ns.Unlock()
	if f.job != j {
		return nil, nil, outcome{}
	}
	at, ok := c.tree.Path(f.node)
	if !ok {
		return nil, nil, outcome{}
	}
	if wait, fetch := c.inTheWay(at); wait != nil || fetch != nil {
		return nil, fetch, outcome{wait: wait}
	}

	f.mu.Lock()
	base, changed := f.base, f.changedLocked()
	inPlace := base != nil && base.key == at
	if !changed && inPlace {
		f.mu.Unlock()
		var b batch
		clean := c.inSync(&b, f)
		c.commitLate(&b)
		return nil, nil, outcome{soon: !clean}
	}
	content := f.c
	f.mu.Unlock()

	prior := c.prior(base, at)
	if wait, fetch := c.freeBytes(prior, f, j); wait != nil || fetch != nil {
		return nil, fetch, outcome{wait: wait}
	}

	f.mu.Lock()
	s = &sending{f: f, key: at, prior: prior, cond: condition(prior), op: rand.Text()}
	changed = f.changedLocked()
	// A small content that is here is put: that is one request whose
	// condition every server honours, while few do for a copy's target. Under a
	// writer it may be changing just now.
	small := content != nil && content.size() <= wholeMax && content.complete() && f.writing == 0
	switch {
	case !changed && !small && base != nil:
		s.from = base
	case f.sealed != nil:
		s.seal, f.sealed = f.sealed, nil
	case f.writing > 0 && changed && (f.syncing == 0 || f.syncedLocked(f.wanted)):
		f.mu.Unlock()
		return nil, nil, outcome{} // its writer's close is still to come
	default:
		// Also under a writer, if there is an fsync whose own seal was of no use
		// any more.
		s.seal = f.content().seal(f.change)
	}
	change := f.sent
	if s.seal != nil {
		change = s.seal.change
	}
	if n := len(f.ops); n > 0 && f.ops[n-1].Change == change && string(f.ops[n-1].Key) == at {
		s.op = f.ops[n-1].Op
		f.ops = f.ops[:n-1]
		s.repeat = true
	}
	for _, a := range f.ops {
		if string(a.Key) == at {
			s.earlier = append(s.earlier, a.Op)
			s.repeat = true
		}
	}
	if g := c.ghosts[at]; g != nil && g.late != nil {
		s.earlier = append(s.earlier, g.late.all()...)
	}
	if late := c.stragglers.by[at]; late != nil {
		s.earlier = append(s.earlier, late.ops...)
	}
	c.takeStream(s)
	f.ops = append(f.ops, attempt{Op: s.op, Key: text(at), Change: change})
	if s.seal != nil {
		s.attr = c.putAttr(f.node)
	}
	f.sending = s
	c.active[at] = s
	f.mu.Unlock() // dir.mu comes before it

	s.unmark = c.mark(at)
	c.sendingBelow(f.node)
	var b batch
	c.record(&b, f.node, nil, "")
	if err := c.commit(&b); err != nil {
		f.sending = nil
		delete(c.active, at)
		s.unmark()
		s.dropStream()
		f.mu.Lock()
		if s.seal != nil && f.sealed == nil {
			f.sealed, s.seal = s.seal, nil
		}
		f.mu.Unlock()
		s.seal.release()
		return nil, nil, outcome{err: err}
	}
	return s, nil, outcome{}
}

// inSync ends the pending of a file that the store has as it is, and reports
// whether it has: a write needs only f.mu. c.ns is held.
func (c *FS) inSync(b *batch, f *file) bool {
	f.mu.Lock()
	if f.changedLocked() {
		f.mu.Unlock()
		return false
	}
	f.pending = false
	j := f.job
	f.job = nil
	f.ops = nil
	f.mu.Unlock()
	if p, name, ok := c.tree.Where(f.node); ok {
		c.noteAttrs(f.node, p, name)
	}
	c.forgetRecord(b, f.node)
	if at := f.attrs.in; at != nil {
		c.record(b, f.node, nil, "")
		c.attrsArrived(at)
	}
	f.rehold()
	if j != nil {
		c.q.drop(j)
	}
	return true
}

// concludeFile records how an attempt has ended.
func (c *FS) concludeFile(ctx context.Context, s *sending, e backends.Entry, err error) outcome {
	f := s.f
	c.ns.Lock()
	f.sending = nil
	delete(c.active, s.key)
	s.unmark()
	var b batch
	if err == nil {
		o := c.concludeWell(&b, s, e)
		c.commitLate(&b)
		c.ns.Unlock()
		s.seal.release()
		return o
	}
	// The name may have gone meanwhile: then what is left there is the ghost's
	// matter.
	if g := c.ghosts[s.key]; g != nil && g.maybe != nil && g.maybe.running == s {
		g.maybe.running = nil
		if refused(err) && len(s.earlier) == 0 && len(g.maybe.Earlier) == 0 {
			c.dropMaybe(&b, g.maybe)
			g.maybe = nil
			if g.st == nil {
				c.lay(&b, s.key)
			} else {
				c.recordGhost(&b, g)
				c.q.released(g.job)
			}
		}
		c.q.kick()
	}
	if refused(err) {
		f.ops = nil
	}
	at, named := c.tree.Path(f.node)
	moved := !named || at != s.key
	f.mu.Lock()
	if s.seal != nil && f.sealed == nil && named {
		f.sealed, s.seal = s.seal, nil // to be sent again as it is
	}
	f.mu.Unlock()
	c.commitLate(&b)
	c.ns.Unlock()
	s.seal.release()
	o := outcome{err: err}
	switch {
	case !named:
		return outcome{}
	case moved && refused(err):
		return outcome{soon: true}
	case sourceGone(err):
		o = c.lostBytes(ctx, f, err)
	case refused(err):
		o = c.conflict(ctx, s, err)
	}
	if o.err == nil {
		return o
	}
	c.stats.failures.Add(1)
	f.mu.Lock()
	f.fails(o.err)
	f.mu.Unlock()
	c.complain(s.key, "upload", o.err)
	return o
}

// concludeWell records that the store has what was sent. c.ns is held.
func (c *FS) concludeWell(b *batch, s *sending, e backends.Entry) outcome {
	f := s.f
	now := &stored{key: s.key, version: e.Version, size: e.Size}
	at, named := c.tree.Path(f.node)
	unheard := s.earlier
	if s.repeat && s.prior == nil {
		unheard = append(unheard, s.op)
	}
	c.straggle(b, s.key, unheard, e.Version)
	if named && at == s.key {
		c.lay(b, s.key) // what was there before is replaced
	}
	f.ops = nil
	f.mu.Lock()
	old := f.base
	f.base = now
	f.recovers()
	f.seen = time.Now()
	if s.seal != nil {
		f.sent = s.seal.change
		if f.gone {
			f.sent = f.change
		}
		if f.c != nil {
			f.c.settle(now, s.seal, !f.changedLocked())
		}
		if f.sealed != nil && f.sealed.change == f.sent {
			// A second close while this was on its way. Sent later, it would
			// put back what has been replaced by then.
			f.sealed.release()
			f.sealed = nil
		}
	} else if f.c != nil {
		f.c.rebase(s.from, now)
	}
	clean := !f.changedLocked()
	f.mu.Unlock()
	if clean {
		c.rest(f) // it can be evicted, also if nobody has opened it in this mount
	}

	if old != nil && old.key != s.key && c.ghosts[old.key] == nil && !c.isBase(old) {
		c.addGhost(b, &ghost{key: old.key, st: old})
	}
	if old != nil && old.key != s.key {
		if g := c.ghosts[old.key]; g != nil {
			c.q.follow(g.job)
		}
	}
	if !named || at != s.key {
		// The name has gone meanwhile, and now it is known what it leaves. The
		// ghost has the job of the one before, for which somebody may wait.
		g := &ghost{key: s.key, st: now}
		c.addGhosts(b, g)
		c.q.released(g.job)
		c.q.follow(g.job)
	}
	s.seal.release() // it holds nothing any more
	f.rehold()
	c.q.kick()
	if !named {
		return outcome{}
	}
	if at == s.key {
		if parent, _, ok := c.tree.Where(f.node); ok {
			c.arrivedIn(b, parent)
		}
	}
	if clean && at == s.key && c.inSync(b, f) {
		return outcome{}
	}
	c.record(b, f.node, nil, "")
	f.mu.Lock()
	waits := f.changedLocked() && f.sealed == nil && f.writing > 0
	f.mu.Unlock()
	return outcome{soon: !waits}
}

// isBase reports whether s is what the file under its key has. c.ns is held.
func (c *FS) isBase(s *stored) bool {
	n := c.nodeAt(s.key)
	if n == nil {
		return false
	}
	f, ok := n.Data.(*file)
	if !ok {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.base != nil && f.base.key == s.key
}

// isOurs looks whether the store has just what an attempt would put there:
// then an earlier one has taken effect although its answer was lost. Stores
// that know operations have looked already, and better.
func (c *FS) isOurs(ctx context.Context, s *sending) (backends.Entry, bool) {
	var ours io.ReaderAt
	var size int64
	if s.seal != nil {
		ours, size = s.seal.reader(ctx), s.seal.length
	} else {
		size = s.from.size
	}
	r, e, err := c.store.Open(ctx, s.key, backends.Range{}, backends.If{})
	if err != nil {
		return e, false
	}
	defer r.Close()
	if e.Size != size || s.prior != nil && e.Version == s.prior.version {
		return e, false
	}
	if s.seal == nil {
		src, _, err := c.store.Open(ctx, s.from.key, backends.Range{}, backends.If{Match: s.from.version})
		if err != nil {
			return e, false
		}
		defer src.Close()
		same, err := sameBytes(r, src)
		return e, same && err == nil
	}
	same, err := sameBytes(r, io.NewSectionReader(ours, 0, size))
	return e, same && err == nil
}

// sameAsLayer compares an object with a file of the room.
func (c *FS) sameAsLayer(ctx context.Context, s *stored, layer string) (bool, error) {
	f, err := os.Open(c.room.layerPath(layer))
	if err != nil {
		return false, nil
	}
	defer f.Close()
	r, _, err := c.store.Open(ctx, s.key, backends.Range{}, backends.If{Match: s.version})
	if err != nil {
		return false, err
	}
	defer r.Close()
	return sameBytes(r, io.NewSectionReader(f, 0, s.size))
}

// sameBytes reports whether both give the same bytes to the end.
func sameBytes(a, b io.Reader) (bool, error) {
	x, y := make([]byte, 128<<10), make([]byte, 128<<10)
	for {
		n, aerr := io.ReadFull(a, x)
		m, berr := io.ReadFull(b, y)
		for _, err := range []error{aerr, berr} {
			if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				return false, err
			}
		}
		if n != m || !bytes.Equal(x[:n], y[:m]) {
			return false, nil
		}
		if aerr != nil {
			return true, nil
		}
	}
}

// complain logs a failed change.
func (c *FS) complain(name, what string, err error) {
	kind := kindOf(err)
	c.warn(kind, what+" failed; it is tried again, and its bytes are kept here", "name", name, "kind", kind, "err", err)
}

// warn logs what may happen thousands of times, for each kind at most once a
// minute.
func (c *FS) warn(kind, msg string, args ...any) {
	c.mu.Lock()
	last := c.complained[kind]
	due := time.Since(last) > time.Minute
	if due {
		c.complained[kind] = time.Now()
	}
	c.mu.Unlock()
	if due {
		c.log.Warn(msg, args...)
	}
}
