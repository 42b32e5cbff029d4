package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/agentfs/agentfs/backends"
)

const (
	// partsAtOnce is how many parts of one file are on their way at once.
	partsAtOnce = 16
	// mixedAtOnce is how many of those that bytes have to be fetched for.
	mixedAtOnce = 3
	// abortTimeout bounds one try to give an upload up.
	abortTimeout = 15 * time.Second
)

// sendSeal brings what an attempt has sealed to the store, and returns how many
// bytes went through this machine for it: what the store has already, it is
// told to copy.
func (c *FS) sendSeal(ctx context.Context, s *sending) (e backends.Entry, sent int64, err error) {
	if s.stream != nil {
		if e, done, err := c.endStream(ctx, s); done {
			return e, 0, err // counted already
		}
	}
	if s.repeat && !s.seal.complete() {
		if e, done, err := c.settleEarlier(ctx, s); done || err != nil {
			return e, 0, err
		}
	}
	_, lies := s.seal.maps()
	e, sent, done, err := c.sendCopied(ctx, s, lies)
	if done && sourceGone(err) {
		// Some of it was to be copied only because that is cheaper: it is here.
		ext, _ := s.seal.maps()
		e, sent, done, err = c.sendCopied(ctx, s, ext)
	}
	if done {
		return e, sent, err
	}
	if err := c.wholeSeal(ctx, s); err != nil {
		return e, 0, &sourceError{err}
	}
	s.final.Store(true)
	e, err = c.store.Put(ctx, s.key, s.seal.reader(ctx), s.options())
	return e, s.seal.length, err
}

// sendCopied is sendSeal for a content of which the store has some, as x says.
// With done false nothing was to be copied.
func (c *FS) sendCopied(ctx context.Context, s *sending, x extents) (e backends.Entry, sent int64, done bool, err error) {
	if e, done, err = c.copySeal(ctx, s, x); done {
		return e, 0, true, err
	}
	parts := c.partsOf(s, x)
	if parts == nil {
		return e, 0, false, nil
	}
	e, sent, err = c.assemble(ctx, s, parts)
	if errors.Is(err, errors.ErrUnsupported) {
		return e, 0, false, nil
	}
	return e, sent, true, err
}

// wholeSeal brings what the sealed content lacks here, once, before the store
// reads it perhaps several times.
func (c *FS) wholeSeal(ctx context.Context, s *sending) error {
	if s.seal.complete() {
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
		s.seal.use()
	}
	return nil
}

// lies returns the sealed map with the objects that have its bytes, those that
// are here too included. c.mu is held.
func (s *seal) lies() extents { return s.ext.over(s.twin) }

// maps returns the sealed map, and lies, as they are now: who finds out that an
// object was replaced by an attempt of our own (see [FS.replacedByUs]) changes them
// beside the attempt that sends the seal.
func (s *seal) maps() (ext, lies extents) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return cloneExtents(s.ext), s.lies()
}

// complete reports whether all that is sealed is here.
func (s *seal) complete() bool {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.ext.complete()
}

// remotes returns the parts of [off, end) that have to be fetched.
func (s *seal) remotes(off, end int64) []extent {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.ext.remotes(off, end)
}

// over returns x with the parts of twin in the place of what is local.
func (x extents) over(twin extents) extents {
	all := cloneExtents(x)
	for _, t := range twin {
		for i := x.find(t.off); i < len(x) && x[i].off < t.end; i++ {
			if x[i].remote() {
				continue
			}
			e := t.from(max(t.off, x[i].off))
			e.end = min(t.end, x[i].end)
			all = all.set(e)
		}
	}
	return all
}

// settleEarlier finds out whether an earlier attempt, whose answer was lost,
// has taken effect: then the object that this one would copy from is gone, and
// what replaced it is our own.
func (c *FS) settleEarlier(ctx context.Context, s *sending) (e backends.Entry, done bool, err error) {
	e, err = c.store.Stat(ctx, s.key)
	if errors.Is(err, fs.ErrNotExist) {
		return e, false, nil
	}
	switch {
	case err != nil:
		return e, false, err
	case e.Operation == "" || s.prior != nil && e.Version == s.prior.version:
		return e, false, nil
	case e.Operation == s.op:
		return e, true, nil
	case slices.Contains(s.earlier, e.Operation):
		return e, false, c.follow(s, &stored{key: s.key, version: e.Version, size: e.Size})
	}
	return e, false, nil
}

// follow makes s derive from now, which an earlier attempt has put in the place
// of the file's base. What still refers to the base was part of that attempt,
// because nothing comes to refer to it while an attempt is open (see
// [FS.settled]): so now has it, at its own place.
func (c *FS) follow(s *sending, now *stored) error {
	c.ns.Lock()
	defer c.ns.Unlock()
	f := s.f
	f.mu.Lock()
	old := f.base
	if old == nil || old != s.prior {
		f.mu.Unlock()
		return nil
	}
	f.base = now
	content := s.seal.c
	content.mu.Lock()
	moved := func(x extents) (all extents) {
		for _, e := range x {
			if e.src == old {
				e.src, e.at = now, e.off
			}
			all = all.set(e)
		}
		return all
	}
	content.ext, content.twin = moved(content.ext), nil
	for _, t := range content.seals {
		t.ext, t.twin = moved(t.ext), nil
	}
	content.mu.Unlock()
	f.mu.Unlock()
	s.prior, s.cond = now, backends.If{Match: now.version}
	f.rehold()
	var b batch
	c.record(&b, f.node, nil, "")
	return c.commit(&b)
}

// copySeal lets the store copy a content that is all of one object.
func (c *FS) copySeal(ctx context.Context, s *sending, x extents) (e backends.Entry, done bool, err error) {
	if len(x) != 1 || x[0].src == nil {
		return e, false, nil
	}
	src := x[0].src
	copier, ok := c.store.(backends.Copier)
	if !ok || x[0].off != 0 || x[0].at != 0 || x[0].end != s.seal.length || src.size != s.seal.length || src.key == s.key ||
		s.seal.length <= wholeMax && s.seal.complete() {
		return e, false, nil
	}
	e, err = copier.Copy(ctx, src.key, backends.If{Match: src.version}, s.key, s.options())
	switch {
	case err == nil:
		c.stats.copies.Add(1)
		return e, true, nil
	case errors.Is(err, errors.ErrUnsupported):
		return e, false, nil
	case errors.Is(err, backends.ErrChanged), errors.Is(err, fs.ErrNotExist):
		if gone := c.whyNotCopied(ctx, src, err); sourceGone(gone) {
			err = gone
		}
	}
	return e, true, err
}

// partsOf returns the parts that s is to be made of, nil if it is put.
func (c *FS) partsOf(s *sending, x extents) []part {
	lim := backends.PartLimitsOf(c.store)
	if lim.MaxParts == 0 || c.noParts.Load() || c.noCopies.Load() || s.seal.length < 2*lim.MinSize {
		return nil
	}
	parts := planParts(x, s.seal.length, lim)
	if copiedOf(parts) < lim.MinSize {
		return nil
	}
	return parts
}

// assemble makes a file of parts.
func (c *FS) assemble(ctx context.Context, s *sending, parts []part) (e backends.Entry, sent int64, err error) {
	u, err := c.beginUpload(ctx, s.key, s.options())
	if err != nil {
		return e, 0, err
	}
	done, sent, err := c.makeParts(ctx, s, u, parts)
	if err == nil {
		s.final.Store(true)
		e, err = u.Complete(ctx, done)
		err = uploadGone(err)
	}
	if err != nil {
		c.abandon(u.ID(), u)
		return e, sent, err
	}
	c.forgetUpload(u.ID())
	return e, sent, nil
}

// uploadGone hides from an error of an upload that something does not exist:
// the upload is what doesn't, which says nothing of the file.
func uploadGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) && !errors.Is(err, backends.ErrChanged) {
		return fmt.Errorf("the store has given the upload up, it is begun again: %v", err)
	}
	return err
}

// makeParts makes all parts, several at once.
func (c *FS) makeParts(ctx context.Context, s *sending, u backends.Upload, parts []part) ([]backends.Part, int64, error) {
	var sent atomic.Int64
	done := make([]backends.Part, len(parts))
	mixed := make(chan struct{}, mixedAtOnce)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(partsAtOnce)
	for i, p := range parts {
		g.Go(func() (err error) {
			if p.src != nil {
				done[i], err = u.Copy(ctx, i+1, p.src.key, backends.If{Match: p.src.version}, backends.Range{Off: p.at, Len: p.size()})
				switch {
				case errors.Is(err, errors.ErrUnsupported):
					c.noCopies.Store(true)
				case errors.Is(err, backends.ErrChanged), errors.Is(err, fs.ErrNotExist):
					err = c.whyNotCopied(ctx, p.src, err)
				}
				return err
			}
			if far := s.seal.remotes(p.off, p.end); len(far) > 0 {
				select {
				case mixed <- struct{}{}:
					defer func() { <-mixed }()
				case <-ctx.Done():
					return ctx.Err()
				}
				done[i], err = c.putMixed(ctx, s, u, i+1, p, far)
			} else {
				done[i], err = u.Put(ctx, i+1, s.seal.section(ctx, p.off, p.end))
			}
			if err == nil {
				sent.Add(p.size())
			}
			return uploadGone(err)
		})
	}
	err := g.Wait()
	return done, sent.Load(), err
}

// replacing waits, once s has been found to be gone, for the end of an attempt
// of our own that may have replaced it: the contents refer to the new object
// then.
func (c *FS) replacing(s *stored) {
	for end := time.Now().Add(storeTimeout); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		c.ns.Lock()
		a := c.active[s.key]
		busy := a != nil && a.final.Load()
		c.ns.Unlock()
		if !busy {
			return
		}
	}
}

// whyNotCopied tells, after a copy has found that something is not there,
// whether it was the source: then the error is a sourceError.
func (c *FS) whyNotCopied(ctx context.Context, src *stored, why error) error {
	e, err := c.store.Stat(ctx, src.key)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && e.Version != src.version:
		return &sourceError{fmt.Errorf("%s: the version that is needed is gone from the store: %w", src.key, backends.ErrChanged)}
	case err != nil:
		return err
	}
	return fmt.Errorf("not copied: %v", why)
}

// putMixed puts a part of which the store has far already: these bytes are
// fetched once, the store may read the part several times.
func (c *FS) putMixed(ctx context.Context, s *sending, u backends.Upload, n int, p part, far []extent) (backends.Part, error) {
	m := mixed{sealed: sealed{ctx, s.seal}, off: p.off}
	for _, e := range far {
		b := make([]byte, e.end-e.off)
		if err := c.readStored(ctx, e.src, b, e.at); err != nil {
			return backends.Part{}, &sourceError{err}
		}
		c.stats.fetchBytes.Add(int64(len(b)))
		m.far, m.bytes = append(m.far, e), append(m.bytes, b)
	}
	return u.Put(ctx, n, io.NewSectionReader(m, 0, p.size()))
}

// mixed is the part at off of a seal of which some is in memory.
type mixed struct {
	sealed
	off   int64
	far   extents
	bytes [][]byte // of far
}

// ReadAt implements io.ReaderAt.
func (m mixed) ReadAt(p []byte, off int64) (int, error) {
	for n := 0; n < len(p); {
		at := m.off + off + int64(n)
		to := m.off + off + int64(len(p))
		i := m.far.find(at)
		if i < len(m.far) && m.far[i].off <= at {
			n += copy(p[n:], m.bytes[i][at-m.far[i].off:])
			continue
		}
		if i < len(m.far) {
			to = min(to, m.far[i].off)
		}
		k, err := m.sealed.ReadAt(p[n:n+int(to-at)], at)
		if n += k; err != nil {
			return n, err
		}
	}
	return len(p), nil
}

// uploadRecord is an upload in the journal, so that it can be aborted whatever
// becomes of this process.
type uploadRecord struct {
	Key text `json:"k"`
	ID  text `json:"id"`
}

// beginUpload begins an upload and puts it into the journal.
func (c *FS) beginUpload(ctx context.Context, key string, opts backends.PutOptions) (backends.Upload, error) {
	u, err := backends.BeginUpload(ctx, c.store, key, opts)
	if errors.Is(err, errors.ErrUnsupported) {
		c.noParts.Store(true)
	}
	if err != nil {
		return nil, err
	}
	var b batch
	b.Put("u/"+u.ID(), mustJSON(uploadRecord{Key: text(key), ID: text(u.ID())}))
	if err := c.put(&b.Batch); err != nil {
		c.abandon(u.ID(), u)
		return nil, err
	}
	return u, nil
}

// forgetUpload takes an upload that has ended out of the journal.
func (c *FS) forgetUpload(id string) {
	var b batch
	b.Delete("u/" + id)
	if err := c.put(&b.Batch); err != nil {
		c.log.Warn("the journal can't be written", "err", err) // the next mount looks for it in vain
	}
}

// abandon gives an upload up, in the background; what can't be given up before
// the mount ends is in the journal for the next one.
func (c *FS) abandon(id string, u backends.Upload) {
	c.flushed.Go(func() {
		for pause := retryFirst; ; pause = min(2*pause, retryMax) {
			ctx, cancel := context.WithTimeout(context.Background(), abortTimeout)
			err := u.Abort(ctx)
			cancel()
			if err == nil {
				c.forgetUpload(id)
				return
			}
			select {
			case <-c.q.ctx.Done():
				return
			case <-time.After(pause):
			}
		}
	})
}

// abortLeft gives up what an earlier process has begun.
func (c *FS) abortLeft() {
	for _, r := range c.begun {
		if u, ok := backends.ResumeUpload(c.store, string(r.Key), string(r.ID), backends.PutOptions{}); ok {
			c.abandon(string(r.ID), u)
		}
	}
	c.begun = nil
}
