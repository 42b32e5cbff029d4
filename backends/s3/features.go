package s3

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agentfs/agentfs/backends"
)

// condition is a kind of request whose precondition an endpoint may or may
// not enforce.
type condition int

const (
	condPut condition = iota
	condMultipart
	condDelete
	condCopySource
	condCopyDest
	condDeleteMany
	numConditions
)

// conditionTexts are for people: what it is, and what happens without it.
var conditionTexts = [numConditions]struct{ name, without string }{
	condPut:        {"conditional put", "the object is looked at before each write; a change in between is overwritten"},
	condMultipart:  {"conditional multipart upload", "conditional writes up to 5 GiB are one request each"},
	condDelete:     {"conditional delete", "the object is looked at before each removal; a change in between is lost"},
	condCopySource: {"conditional copy (source)", "the source is looked at before each copy"},
	condCopyDest:   {"conditional copy (destination)", "conditional copies are made as multipart uploads"},
	condDeleteMany: {"conditional delete of many", "conditional removals are one request each, or looked up and then removed together"},
}

// features holds what an endpoint honours, as far as it was found out.
type features struct {
	probes [numConditions]probe
	// completion is whether the ETag that ends a multipart upload can be
	// believed: etagUntried, etagTrue or etagFalse.
	completion atomic.Int32
	// noPartCopy: the endpoint has no UploadPartCopy.
	noPartCopy atomic.Bool
}

type probe struct {
	mu      sync.Mutex
	known   bool
	ok      bool
	note    string
	told    bool
	running *finding // by which it will be known, else nil
}

// finding is a probe that runs, for all who wait for it.
type finding struct {
	done chan struct{} // closed when ok and err are set
	ok   bool
	err  error
}

const (
	// probeTimeout bounds one probe.
	probeTimeout = 30 * time.Second
	// probeTries is how often a probe is made that lost answers spoil.
	probeTries = 3
)

// honours reports whether the endpoint enforces c. The first call finds it out
// by scratch objects under a reserved name, and by their content: a status
// code proves nothing. AWS is taken at its word.
//
// Who asks meanwhile waits for the same answer, and each no longer than its own
// ctx lets it.
func (s *Store) honours(ctx context.Context, c condition) (bool, error) {
	if s.aws {
		return true, nil
	}
	p := &s.features.probes[c]
	p.mu.Lock()
	if p.known {
		defer p.mu.Unlock()
		return p.ok, nil
	}
	f := p.running
	if f == nil {
		f = &finding{done: make(chan struct{})}
		p.running = f
		go s.find(context.WithoutCancel(ctx), c, f)
	}
	p.mu.Unlock()
	select {
	case <-f.done:
		return f.ok, f.err
	case <-ctx.Done():
		return false, s.explain(ctx, ctx.Err())
	}
}

// find finds out whether the endpoint enforces c. It tries again what a lost
// answer spoiled: a change that is sent once more is refused for what it did
// itself, and an error that says so must not reach who asked about c.
func (s *Store) find(ctx context.Context, c condition, f *finding) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	for range probeTries {
		if f.ok, f.err = s.try(ctx, c); f.err == nil || !refused(f.err) {
			break
		}
	}
	var note string
	if err := f.err; err != nil {
		err = s.explain(ctx, err)
		switch {
		case untriable(err):
			note, err = fmt.Sprintf("could not be tried: %s", err), nil
		case refused(f.err):
			err = &Error{Text: fmt.Sprintf("finding out whether %s enforces preconditions: %s", s.where(), err)}
		}
		f.ok, f.err = false, err
	}
	p := &s.features.probes[c]
	p.mu.Lock()
	p.running = nil
	if f.err == nil {
		p.known, p.ok, p.note = true, f.ok, note
	}
	p.mu.Unlock()
	close(f.done)
}

func (s *Store) try(ctx context.Context, c condition) (bool, error) {
	t := &trial{s: s, ctx: ctx, key: s.keys.prefix + reserved + "-probe-" + strings.ToLower(rand.Text())}
	defer t.clean()
	switch c {
	case condPut:
		return t.put()
	case condMultipart:
		return t.multipart()
	case condDelete:
		return t.remove()
	case condCopySource:
		return t.copySource()
	case condCopyDest:
		return t.copyDest()
	}
	return t.removeMany()
}

// notHonoured warns once that c is not enforced.
func (s *Store) notHonoured(c condition) {
	p := &s.features.probes[c]
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.told {
		return
	}
	p.told = true
	args := []any{"endpoint", s.where(), "feature", conditionTexts[c].name, "instead", conditionTexts[c].without}
	if p.note != "" {
		args = append(args, "note", p.note)
	}
	s.cfg.Log.Warn("the endpoint does not enforce a precondition", append(args, "bucket", s.cfg.Bucket)...)
}

// untriable reports whether a trial's error will be the same next time: who may
// not write scratch objects, or asks for what the server doesn't have, can't
// rely on conditions. A wrong key or a missing bucket is nothing of the kind.
func untriable(err error) bool {
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code {
	case "AccessDenied", "Forbidden", "NotImplemented", "NotSupported", "MethodNotAllowed", "MissingContentLength", "InvalidRequest", "InvalidArgument":
		return true
	}
	return e.Status == http.StatusMethodNotAllowed || e.Status == http.StatusLengthRequired || e.Status == http.StatusNotImplemented
}

// Features implements [backends.FeatureReporter].
func (s *Store) Features(ctx context.Context) ([]backends.Feature, error) {
	var fe []backends.Feature
	for c := range numConditions {
		ok, err := s.honours(ctx, c)
		if err != nil {
			return nil, err
		}
		f := backends.Feature{Name: conditionTexts[c].name, Honored: ok}
		if !ok {
			f.Note = conditionTexts[c].without
			if note := s.features.probes[c].note; note != "" {
				f.Note += "; " + note
			}
		}
		fe = append(fe, f)
	}
	return fe, nil
}

// trial finds out one thing by scratch objects.
type trial struct {
	s    *Store
	ctx  context.Context
	key  string
	made bool
}

// wrong is an ETag that no scratch object has.
const wrong = backends.Version("00000000000000000000000000000000")

func (t *trial) clean() {
	if !t.made {
		return
	}
	for _, key := range []string{t.key, t.key + "-to"} {
		if err := t.s.deleteKey(t.ctx, key, ""); err != nil && !missing(err) {
			t.s.notices.warn("scratch", "a scratch object is left in the bucket", "key", quote(key), "err", t.s.explain(t.ctx, err))
		}
	}
}

func (t *trial) write(key, content string, cond backends.If) (written, error) {
	t.made = true
	w := &write{name: key, key: key, cond: cond, body: io.NewSectionReader(strings.NewReader(content), 0, int64(len(content)))}
	return t.s.putOnce(t.ctx, t.s.call(t.ctx), w, true)
}

// has reports whether the key has the content; "" stands for no object.
func (t *trial) has(key, content string) (bool, error) {
	body, _, err := t.s.get(t.ctx, key, backends.Range{}, "")
	if missing(err) {
		return content == "", nil
	}
	if err != nil {
		return false, err
	}
	defer body.Close()
	got, err := io.ReadAll(body)
	return bytes.Equal(got, []byte(content)) && content != "", err
}

// refuses makes a change that the endpoint should refuse, and reports whether
// content stayed. The error of the change itself says nothing more.
func (t *trial) refuses(key, content string, change func() error) (bool, error) {
	err := change()
	if err != nil && !refused(err) && (status(err) == 0 || status(err) >= 500) && !errors.Is(t.s.explain(t.ctx, err), errors.ErrUnsupported) {
		return false, err
	}
	same, herr := t.has(key, content)
	if herr != nil {
		return false, herr
	}
	return same && err != nil, nil
}

func (t *trial) put() (bool, error) {
	v, err := t.write(t.key, "one", backends.If{Absent: true})
	if err != nil {
		return false, err
	}
	for _, cond := range []backends.If{{Absent: true}, {Match: wrong}} {
		ok, err := t.refuses(t.key, "one", func() error {
			_, err := t.write(t.key, "two", cond)
			return err
		})
		if !ok || err != nil {
			return false, err
		}
	}
	if _, err := t.write(t.key, "three", backends.If{Match: v.version}); err != nil {
		return false, err
	}
	return t.has(t.key, "three")
}

func (t *trial) multipart() (bool, error) {
	v, err := t.write(t.key, "one", backends.If{})
	if err != nil {
		return false, err
	}
	upload := func(content string, cond backends.If) error {
		u, err := t.s.begin(t.ctx, &write{name: t.key, key: t.key, cond: cond})
		if err != nil {
			return err
		}
		part, err := u.putPart(t.ctx, 1, io.NewSectionReader(strings.NewReader(content), 0, int64(len(content))))
		if err == nil {
			_, err = u.completeOnce(t.ctx, t.s.call(t.ctx), []backends.Part{part}, true)
		}
		if err != nil {
			u.giveUp(t.ctx)
		}
		return err
	}
	for _, cond := range []backends.If{{Absent: true}, {Match: wrong}} {
		ok, err := t.refuses(t.key, "one", func() error { return upload("two", cond) })
		if !ok || err != nil {
			return false, err
		}
	}
	if err := upload("three", backends.If{Match: v.version}); err != nil {
		return false, err
	}
	return t.has(t.key, "three")
}

func (t *trial) remove() (bool, error) {
	v, err := t.write(t.key, "one", backends.If{})
	if err != nil {
		return false, err
	}
	ok, err := t.refuses(t.key, "one", func() error { return t.s.deleteKey(t.ctx, t.key, wrong) })
	if !ok || err != nil {
		return false, err
	}
	if err := t.s.deleteKey(t.ctx, t.key, v.version); err != nil {
		return false, err
	}
	return t.has(t.key, "")
}

func (t *trial) copySource() (bool, error) {
	if _, err := t.write(t.key, "one", backends.If{}); err != nil {
		return false, err
	}
	return t.refuses(t.key+"-to", "", func() error {
		_, err := t.s.copyObject(t.ctx, t.s.call(t.ctx), &copying{from: t.key, to: t.key + "-to", src: wrong})
		return err
	})
}

func (t *trial) copyDest() (bool, error) {
	v, err := t.write(t.key, "one", backends.If{})
	if err != nil {
		return false, err
	}
	if _, err := t.write(t.key+"-to", "two", backends.If{}); err != nil {
		return false, err
	}
	for _, cond := range []backends.If{{Absent: true}, {Match: wrong}} {
		ok, err := t.refuses(t.key+"-to", "two", func() error {
			_, err := t.s.copyObject(t.ctx, t.s.call(t.ctx), &copying{from: t.key, to: t.key + "-to", src: v.version, cond: cond, native: true})
			return err
		})
		if !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

func (t *trial) removeMany() (bool, error) {
	v, err := t.write(t.key, "one", backends.If{})
	if err != nil {
		return false, err
	}
	remove := func(v backends.Version) error {
		errs, _ := t.s.deleteKeys(t.ctx, []deletion{{key: t.key, match: v}})
		return errs[0]
	}
	ok, err := t.refuses(t.key, "one", func() error { return remove(wrong) })
	if !ok || err != nil {
		return false, err
	}
	if err := remove(v.version); err != nil {
		return false, err
	}
	return t.has(t.key, "")
}
