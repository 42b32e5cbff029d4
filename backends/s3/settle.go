package s3

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"github.com/agentfs/agentfs/backends"
)

// identify gives w an operation id, if the caller gave none, and puts it into
// the metadata that the object will have.
func (w *write) identify() {
	if w.op == "" {
		w.op = newOperation()
	}
	w.h = w.h.withMeta(func(m map[string]string) { m[metaOperation] = w.op })
}

// settled runs a write until its outcome is known, as far as looking can tell:
// a condition that fails on an object of our own making has not failed. An
// object with the write's own id is its success. One with an id of an earlier
// write whose outcome nobody knew is what the caller meant to replace, without
// knowing its version.
func (s *Store) settled(ctx context.Context, w *write, send func(*call) (written, error)) (written, error) {
	if w.cond != (backends.If{}) || w.op != "" {
		w.identify()
	}
	for {
		c := s.call(ctx)
		done, err := send(c)
		w.unknown = c.unknown
		switch {
		case err == nil:
			s.lost.forget(w.key)
			return done, nil
		case w.op == "":
			return written{}, err
		case !refused(err):
			if c.unknown {
				s.lost.add(w.key, w.op)
			}
			return written{}, err
		case !s.suspicious(c, w, err):
			return written{}, w.refusal(err)
		}
		o, herr := s.head(ctx, w.key, "")
		if herr != nil && !missing(herr) {
			// Whose object it is stays unknown: no conflict, and no success.
			w.unknown = true
			s.lost.add(w.key, w.op)
			return written{}, herr
		}
		op := o.headers.meta[metaOperation]
		switch {
		case herr == nil && op == w.op:
			s.lost.forget(w.key)
			return written{o.version, o.modTime}, nil
		case herr == nil && w.cond != (backends.If{}) && o.version != w.cond.Match && s.mine(w.key, op, w.earlier):
			w.cond = backends.If{Match: o.version}
			continue
		case code(err) == "NoSuchUpload" && o.meets(w.cond, herr == nil):
			return written{}, err // it was given up: no one's change is in the way
		}
		return written{}, w.refusal(err)
	}
}

// suspicious reports whether the object on which w failed with err may be our
// own: put by an attempt of this very call whose answer was lost, by an earlier
// call, or by an earlier process that the caller speaks for.
func (s *Store) suspicious(c *call, w *write, err error) bool {
	return c.unknown || w.named || len(w.earlier) > 0 || s.lost.any(w.key) || code(err) == "NoSuchUpload"
}

// mine reports whether op is the id of a write of key whose outcome this
// process or, by what it says in earlier, the caller doesn't know.
func (s *Store) mine(key, op string, earlier []string) bool {
	return op != "" && (slices.Contains(earlier, op) || s.lost.has(key, op))
}

// meets reports whether cond holds for what a HEAD has found: o, if exists.
func (o object) meets(cond backends.If, exists bool) bool {
	switch {
	case cond.Absent:
		return !exists
	case cond.Match != "":
		return exists && o.version == cond.Match
	}
	return true
}

// refused reports whether a request failed because of its condition, as far as
// the error can tell. An upload that is gone was completed or aborted.
func refused(err error) bool {
	return preconditionFailed(err) || missing(err) || code(err) == "NoSuchUpload" ||
		status(err) == 0 && (errors.Is(err, backends.ErrChanged) || errors.Is(err, fs.ErrExist))
}

// refusal gives err, with which w's condition failed, the kind that it has
// here.
func (w *write) refusal(err error) error {
	kind := backends.ErrChanged
	switch {
	case status(err) == 0 || w.cond == (backends.If{}):
		return err
	case w.cond.Absent && (!missing(err) || code(err) == "NoSuchUpload"):
		kind = fs.ErrExist
	}
	return &Error{Kind: kind, Code: code(err), Status: status(err), RequestID: requestID(err), Text: kind.Error()}
}
