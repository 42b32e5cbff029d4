package cache

import (
	"context"
	"crypto/rand"
	"io"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/agentfs/agentfs/backends"
)

const (
	// streamParts is how many good parts a growing file has when the first of
	// them are sent.
	streamParts = 2
	// streamAtOnce is how many parts of growing files are on their way at once.
	streamAtOnce = 8
	// streamIdle is how long an upload waits for its file to grow on.
	streamIdle = 3 * time.Minute
	// staleParts is how many parts may be overwritten after they were sent
	// before no more are sent early, and staleShare of how many it is one.
	staleParts, staleShare = 2, 4
)

// stream is an upload of a file that is still being written: parts that lie
// wholly behind its end are sent while it grows. It is the content's for as long
// as it may be of use to the next attempt, which completes it if it is the one
// that the upload was begun for: see [FS.takeStream].
type stream struct {
	c       *FS
	f       *file
	content *content

	// Set before it has begun.
	key    string
	cond   backends.If
	attr   backends.AttrChange
	op     string
	upload backends.Upload
	layer  *layer // in use

	ctx    context.Context
	cancel context.CancelFunc
	wake   chan struct{} // the file has grown
	ended  chan struct{} // closed when nothing is sent early any more

	// Guarded by content.mu.
	parts  []*streamPart // from the beginning of the file
	stale  int           // of them
	begun  bool          // the upload is there
	taken  bool          // an attempt has it, which sends what is left
	failed bool          // a part could not be sent: the attempt does that
}

// streamPart is a part that was sent early.
type streamPart struct {
	stale  bool // overwritten since; guarded by content.mu
	cancel context.CancelFunc
	done   chan struct{} // closed when the rest is there
	part   backends.Part
	err    error
}

// streamSizes says how large the parts of streams are: they grow with their
// number, so that there are enough of them for any file.
type streamSizes struct{ good, most, step int64 }

func newStreamSizes(lim backends.PartLimits) (z streamSizes) {
	if lim.MaxParts < 20 {
		return z
	}
	z.most = lim.MaxSize
	if z.most <= 0 {
		z.most = maxSize
	}
	z.good = min(max(lim.Good, lim.MinSize, 1), z.most)
	z.step = int64(lim.MaxParts / 10)
	return z
}

// part returns where part k lies, from 0.
func (z streamSizes) part(k int) (off, end int64) {
	size := z.good
	for n := int64(k); ; n -= z.step {
		if n < z.step {
			return off + n*size, off + (n+1)*size
		}
		off += z.step * size
		size = min(2*size, z.most)
	}
}

// front returns up to where a content is here without a gap.
func (c *content) front() int64 {
	if len(c.ext) == 0 || c.ext[0].off > 0 || c.ext[0].remote() {
		return 0
	}
	return c.ext[0].end
}

// grown is called when n was written to. It sees to it that what is complete of
// a file that grows is sent.
func (c *FS) grown(f *file, n *content) {
	z := c.streams
	if z.good == 0 {
		return
	}
	n.mu.Lock()
	st, front := n.stream, n.front()
	switch {
	case st != nil:
		if _, end := z.part(len(st.parts)); end <= front && !st.taken && !st.failed {
			st.poke()
		}
		n.mu.Unlock()
		return
	case front < max(streamParts*z.good, n.streamFrom), len(n.ext) != 1, len(n.twin) > 0, len(n.seals) > 0, n.freed:
		// An object has some of it, or somebody waits for what there is.
		n.mu.Unlock()
		return
	}
	st = &stream{c: c, f: f, content: n, wake: make(chan struct{}, 1), ended: make(chan struct{})}
	st.ctx, st.cancel = context.WithCancel(c.q.ctx)
	n.stream, n.streamFrom = st, 2*front // the next one, if there is one
	n.mu.Unlock()
	if !c.noParts.Load() && !temporary(f) && c.q.background(func() { c.runStream(st) }) {
		return
	}
	st.drop()
}

// temporary reports whether f's name says that it gets another one before it is
// of use: what was sent for the old one would be sent in vain.
func temporary(f *file) bool {
	at, ok := f.fs.tree.Path(f.node)
	if !ok {
		return true
	}
	name := path.Base(at)
	return strings.HasPrefix(name, ".") || strings.HasPrefix(name, "tmp") || strings.HasSuffix(name, "~") ||
		slices.Contains([]string{".tmp", ".temp", ".part", ".partial", ".crdownload"}, path.Ext(name))
}

// background runs do beside the jobs, and reports whether it does: not once the
// queue is stopped, nor while the store is not there.
func (q *queue) background(do func()) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.stopped || q.down.After(time.Now()) {
		return false
	}
	q.c.flushed.Go(do)
	return true
}

// away reports whether the store could not be reached just now.
func (q *queue) away() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.down.After(time.Now())
}

func (st *stream) poke() {
	select {
	case st.wake <- struct{}{}:
	default:
	}
}

// drop gives st up, if no attempt has it. A nil stream is fine.
func (st *stream) drop() {
	if st == nil {
		return
	}
	st.content.mu.Lock()
	defer st.content.mu.Unlock()
	if !st.taken {
		st.dropLocked()
	}
}

// dropLocked ends st, whoever has it. content.mu is held.
func (st *stream) dropLocked() {
	if st.content.stream == st {
		st.content.stream = nil
	}
	st.cancel()
}

// dropStream gives up what is sent of f early: it has no such name any more.
func (f *file) dropStream() {
	f.mu.Lock()
	n := f.c
	f.mu.Unlock()
	if n == nil {
		return
	}
	n.mu.Lock()
	st := n.stream
	n.mu.Unlock()
	st.drop()
}

// overwritten says that what was sent of [off, end) is not what is there any
// more. content.mu is held. A nil stream is fine.
func (st *stream) overwritten(off, end int64) {
	if st == nil {
		return
	}
	for k, p := range slices.Backward(st.parts) {
		from, to := st.c.streams.part(k)
		if to <= off {
			break
		}
		if from < end && !p.stale {
			p.stale = true
			p.cancel()
			st.stale++
		}
	}
	if st.stale > staleParts+len(st.parts)/staleShare && !st.taken {
		st.dropLocked() // it is not written from beginning to end
	}
}

// runStream begins the upload and sends parts until an attempt takes it or
// nobody needs it.
func (c *FS) runStream(st *stream) {
	defer close(st.ended)
	defer st.cancel()
	var sending sync.WaitGroup
	if c.beginStream(st) {
		st.send(&sending)
	} else {
		st.drop()
	}
	sending.Wait()
	n := st.content
	n.mu.Lock()
	taken := st.taken
	if !taken {
		st.dropLocked()
	}
	if l := st.layer; l != nil {
		l.users--
		l.rest()
		c.descriptors.left(n)
		l.drop()
	}
	n.mu.Unlock()
	if st.upload != nil && !taken {
		c.abandon(st.upload.ID(), st.upload)
	}
}

// beginStream begins the upload as the next attempt would, if that has nothing
// to wait for.
func (c *FS) beginStream(st *stream) bool {
	n := st.content
	var ok bool
	if st.key, st.cond, st.attr, ok = c.streamPlace(st); !ok {
		return false
	}
	st.op = rand.Text()
	ctx, cancel := context.WithTimeout(st.ctx, storeTimeout)
	defer cancel()
	u, err := c.beginUpload(ctx, st.key, backends.PutOptions{If: st.cond, Attr: st.attr, Operation: st.op})
	if err != nil {
		return false
	}
	st.upload = u
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stream != st || n.layer == nil {
		return false
	}
	st.layer = n.layer
	st.layer.refs++
	st.layer.users++
	st.begun = true
	return true
}

// streamPlace returns under which key and condition, and with which attributes,
// the next attempt would bring the file to the store; ok is false if there is
// something else first.
func (c *FS) streamPlace(st *stream) (key string, cond backends.If, attr backends.AttrChange, ok bool) {
	c.ns.Lock()
	defer c.ns.Unlock()
	f := st.f
	at, ok := c.tree.Path(f.node)
	if !ok {
		return "", cond, attr, false
	}
	if wait, fetch := c.inTheWay(at); wait != nil || fetch != nil {
		return "", cond, attr, false
	}
	f.mu.Lock()
	base, j := f.base, f.job
	busy := j == nil || f.c != st.content || f.gone || f.sealed != nil || f.sending != nil || len(f.ops) > 0
	f.mu.Unlock()
	if busy {
		return "", cond, attr, false
	}
	prior := c.prior(base, at)
	if wait, fetch := c.freeBytes(prior, f, j); wait != nil || fetch != nil {
		return "", cond, attr, false
	}
	return at, condition(prior), c.streamAttr(f), true
}

// prior returns what the store has under at, the path of a file of that base.
// c.ns is held.
func (c *FS) prior(base *stored, at string) *stored {
	if base != nil && base.key == at {
		return base
	}
	if g := c.ghosts[at]; g != nil {
		return g.st
	}
	return nil
}

// condition is that of a change that derives from prior.
func condition(prior *stored) backends.If {
	if prior == nil {
		return backends.If{Absent: true}
	}
	return backends.If{Match: prior.version}
}

// streamAttr returns the attributes that go with an upload that is begun now:
// when the file will have been written last, the store knows better.
func (c *FS) streamAttr(f *file) backends.AttrChange {
	a := c.putAttr(f.node)
	a.Set &^= backends.SetMtime
	a.Mtime = time.Time{}
	return a
}

// send sends parts as they become complete.
func (st *stream) send(sending *sync.WaitGroup) {
	c := st.c
	idle := time.NewTimer(c.streamIdle)
	defer idle.Stop()
	for {
		if c.q.away() || !st.sendNext(sending) {
			select {
			case <-st.wake:
			case <-idle.C:
				st.drop()
				return
			case <-st.ctx.Done():
				return
			}
		}
		idle.Reset(c.streamIdle)
		st.content.mu.Lock()
		taken := st.taken
		st.content.mu.Unlock()
		if taken {
			return
		}
	}
}

// sendNext sends the next part in the background, if there is one.
func (st *stream) sendNext(sending *sync.WaitGroup) bool {
	c, n := st.c, st.content
	next := func() (k int, off, end int64, ok bool) {
		k = len(st.parts)
		off, end = c.streams.part(k)
		return k, off, end, end <= n.front() && k < c.streams.count() && !st.taken && !st.failed && n.stream == st && n.layer == st.layer
	}
	n.mu.Lock()
	_, _, _, ok := next()
	n.mu.Unlock()
	if !ok {
		return false
	}
	select {
	case c.streaming <- struct{}{}:
	case <-st.ctx.Done():
		return false
	}
	n.mu.Lock()
	k, off, end, ok := next()
	var file localFile
	if ok {
		var err error
		file, err = n.open()
		ok = err == nil
	}
	if !ok {
		n.mu.Unlock()
		<-c.streaming
		return false
	}
	st.layer.fixed++
	ctx, cancel := context.WithCancel(st.ctx)
	p := &streamPart{cancel: cancel, done: make(chan struct{})}
	st.parts = append(st.parts, p)
	n.mu.Unlock()
	sending.Go(func() {
		defer func() { <-c.streaming }()
		defer cancel()
		p.part, p.err = st.upload.Put(ctx, k+1, io.NewSectionReader(file, off, end-off))
		if p.err == nil {
			c.stats.uploadBytes.Add(end - off)
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		st.layer.fixed--
		st.failed = st.failed || p.err != nil && !p.stale
		close(p.done)
	})
	return true
}

// sent returns part k of a seal if it was sent early and has the sealed bytes.
func (st *stream) sent(ctx context.Context, k int, of part, s *seal) (backends.Part, bool) {
	n := st.content
	_, end := st.c.streams.part(k)
	n.mu.Lock()
	if k >= len(st.parts) || end != of.end {
		n.mu.Unlock()
		return backends.Part{}, false
	}
	p := st.parts[k]
	// What was overwritten neither since it was read nor since it was sealed is
	// the same.
	same := func() bool {
		e, ok := s.same.at(of.off, of.end)
		return ok && e.end == of.end && !p.stale
	}
	ok := same()
	n.mu.Unlock()
	if !ok {
		return backends.Part{}, false
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		return backends.Part{}, false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return p.part, p.err == nil && same()
}

// takeStream gives s what was sent early of its file if it is of use for it,
// and ends it otherwise: the upload has to be for the same name and condition,
// and no attempt may have been made since. c.ns is held, and f.mu.
func (c *FS) takeStream(s *sending) {
	n := s.f.c
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	st := n.stream
	switch {
	case st == nil || st.taken:
	case st.begun && s.seal != nil && s.seal.c == n && s.key == st.key && s.cond == st.cond && !s.repeat && len(st.parts) > 0 &&
		s.seal.ext.complete() && c.streams.fits(s.seal.length) && c.sameStreamAttr(c.streamAttr(s.f), st.attr):
		st.taken = true
		n.streamFrom = 0
		st.poke()
		s.stream, s.op = st, st.op
	default:
		st.dropLocked()
	}
}

// sameStreamAttr reports whether an upload that was begun with was is good for a
// file with now. A mode that somebody has set since is recorded anyway.
func (c *FS) sameStreamAttr(now, was backends.AttrChange) bool {
	if !c.cfg.NoAttributes {
		now.Set, now.Mode = now.Set&^backends.SetMode, 0
		was.Set, was.Mode = was.Set&^backends.SetMode, 0
	}
	return now == was
}

// count is how many parts there may be.
func (z streamSizes) count() int { return int(10 * z.step) }

// fits reports whether a file of that length is worth the parts, and can be made
// of them.
func (z streamSizes) fits(length int64) bool {
	limit, _ := z.part(z.count())
	return length >= streamParts*z.good && length <= limit
}

// of returns the parts of a content of that length.
func (z streamSizes) of(length int64) (parts []part) {
	for off := int64(0); off < length; {
		_, end := z.part(len(parts))
		end = min(end, length)
		parts = append(parts, part{off: off, end: end})
		off = end
	}
	return parts
}

// endStream ends an upload that s has taken: what it lacks is sent, and it is
// completed. With done false nothing has happened, and the content is to be
// sent in another way.
func (c *FS) endStream(ctx context.Context, s *sending) (e backends.Entry, done bool, err error) {
	st := s.stream
	parts, err := c.makeStream(ctx, s)
	if err != nil {
		s.dropStream()
		// That the upload is gone is no reason to fail, nor is what parts alone
		// meet.
		return e, ctx.Err() != nil || kindOf(err) == kindOutage, err
	}
	s.final.Store(true)
	if e, err = st.upload.Complete(ctx, parts); err != nil {
		s.dropStream()
		return e, true, uploadGone(err)
	}
	s.stream = nil
	st.content.mu.Lock()
	st.dropLocked()
	st.content.mu.Unlock()
	c.forgetUpload(st.upload.ID())
	return e, true, nil
}

// dropStream gives up the upload that s has taken, if it has one.
func (s *sending) dropStream() {
	st := s.stream
	if st == nil {
		return
	}
	s.stream = nil
	st.content.mu.Lock()
	st.dropLocked()
	st.content.mu.Unlock()
	st.c.flushed.Go(func() {
		<-st.ended // a part that arrives later would stay
		st.c.abandon(st.upload.ID(), st.upload)
	})
}

// makeStream sends what the upload lacks of the seal, several parts at once.
func (c *FS) makeStream(ctx context.Context, s *sending) ([]backends.Part, error) {
	st := s.stream
	parts := c.streams.of(s.seal.length)
	made := make([]backends.Part, len(parts))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(partsAtOnce)
	// The last ones first: the others are there, or on their way.
	for k, p := range slices.Backward(parts) {
		g.Go(func() (err error) {
			early, ok := st.sent(ctx, k, p, s.seal)
			if ok {
				made[k] = early
				return nil
			}
			if made[k], err = st.upload.Put(ctx, k+1, s.seal.section(ctx, p.off, p.end)); err == nil {
				c.stats.uploadBytes.Add(p.size())
			}
			return err
		})
	}
	return made, g.Wait()
}
