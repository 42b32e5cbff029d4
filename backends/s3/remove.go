package s3

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/agentfs/agentfs/backends"
)

// markerType is the content type that other tools give to directory markers.
const markerType = "application/x-directory"

// Mkdir implements [backends.Store]: it puts a marker, conditionally. attr
// goes into its metadata.
func (s *Store) Mkdir(ctx context.Context, name string, attr backends.AttrChange) error {
	const op = "mkdir"
	if name == "." {
		return &fs.PathError{Op: op, Path: name, Err: fs.ErrExist}
	}
	if err := s.keys.checkNewDir(op, name); err != nil {
		return err
	}
	if !s.lean {
		_, err := s.Stat(ctx, name)
		if err == nil {
			return &fs.PathError{Op: op, Path: name, Err: fs.ErrExist}
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return s.fail(ctx, op, name, errors.Unwrap(err))
		}
	}
	w := s.marker(name)
	w.h = w.h.withAttr(attr)
	w.cond.Absent = true
	_, err := s.write(ctx, w)
	return s.fail(ctx, op, name, err)
}

// marker returns the write of directory name's marker.
func (s *Store) marker(name string) *write {
	return &write{
		name: name, key: s.keys.dir(name), body: io.NewSectionReader(strings.NewReader(""), 0, 0),
		h: headers{contentType: ptr(markerType)},
	}
}

// Remove implements [backends.Store]. With cond.Match it is a HEAD and a
// conditional DELETE, and the DELETE alone if the Store is lean, which then
// counts a name that is gone already as removed, as S3 does. Without cond.Match
// a HEAD and a LIST find out what the name is first. Beside it, unless the
// Store is lean, a LIST of two keys finds out whether the parent directory
// needs a marker to stay.
func (s *Store) Remove(ctx context.Context, name string, cond backends.If) error {
	const op = "remove"
	if name == "." {
		return &fs.PathError{Op: op, Path: name, Err: backends.ErrBusy}
	}
	if err := s.keys.checkFile(op, name); err != nil {
		return err
	}
	if cond.Match != "" && !cond.Absent {
		return s.fail(ctx, op, name, s.removeVersion(ctx, name, cond.Match, nil))
	}
	dir := s.keys.dir(name)
	type answer struct {
		keys []string
		err  error
	}
	below := make(chan answer, 1)
	go func() {
		keys, err := s.keysBelow(ctx, dir, 2)
		below <- answer{keys, err}
	}()
	_, err := s.head(ctx, s.keys.file(name), "")
	a := <-below
	key := s.keys.file(name)
	switch {
	case a.err != nil:
		err = a.err
	case len(a.keys) > 1 || len(a.keys) == 1 && a.keys[0] != dir:
		err = backends.ErrNotEmpty
	case len(a.keys) == 1:
		key, err = dir, nil
	}
	if cond.Absent && (err == nil || errors.Is(err, backends.ErrNotEmpty)) {
		err = fs.ErrExist
	}
	if err == nil {
		keep := s.keepParent(ctx, name)
		if err = s.deleteKey(ctx, key, ""); err == nil || missing(err) {
			keep()
		}
	}
	if errors.Is(err, backends.ErrNotEmpty) {
		return &fs.PathError{Op: op, Path: name, Err: err}
	}
	return s.fail(ctx, op, name, err)
}

// removeVersion removes a file that has to be of version v, or of the version
// that a write of ours left whose outcome nobody knew.
func (s *Store) removeVersion(ctx context.Context, name string, v backends.Version, earlier []string) error {
	key := s.keys.file(name)
	native, err := s.honours(ctx, condDelete)
	if err != nil {
		return err
	}
	if !native {
		s.notHonoured(condDelete)
	}
	keep := s.keepParent(ctx, name)
	err = s.deleteVersion(ctx, key, v, native)
	if err != nil && refused(err) && (len(earlier) > 0 || s.lost.any(key)) {
		o, herr := s.head(ctx, key, "")
		if herr == nil && o.version != v && s.mine(key, o.headers.meta[metaOperation], earlier) {
			err = s.deleteVersion(ctx, key, o.version, native)
		}
	}
	if err == nil {
		keep()
	}
	return gone(err, v)
}

// deleteVersion removes version v of the object at key. Unless the Store is
// lean, an object that is gone already is ErrChanged: a conditional DELETE of
// what is gone is 204, so only looking tells.
func (s *Store) deleteVersion(ctx context.Context, key string, v backends.Version, native bool) error {
	if !native || !s.lean {
		_, err := s.head(ctx, key, v)
		switch {
		case missing(err) && s.lean:
			return nil
		case err != nil:
			return gone(err, v)
		}
	}
	if !native {
		v = ""
	}
	return s.deleteKey(ctx, key, v)
}

// deleteKey removes the object at key, of version match unless that is "".
// That it is gone is success if that may have been us, and for a lean Store.
func (s *Store) deleteKey(ctx context.Context, key string, match backends.Version) error {
	in := &s3.DeleteObjectInput{Bucket: s.bucket(), Key: &key, RequestPayer: s.payer()}
	if match != "" {
		in.IfMatch = etag(match)
	}
	c := s.call(ctx)
	_, err := s.api.DeleteObject(ctx, in, c.use)
	s.seen.forget(key)
	if err != nil && (c.unknown || s.lean) {
		if preconditionFailed(err) {
			// Some servers answer 412 where there is no object.
			if _, herr := s.head(ctx, key, ""); missing(herr) {
				err = nil
			}
		} else if missing(err) {
			err = nil
		}
	}
	if err == nil {
		s.lost.forget(key)
	}
	return err
}

// keepParent begins to find out whether name is the last thing in its parent;
// the function that it returns, to be called after the removal, puts a marker
// then.
func (s *Store) keepParent(ctx context.Context, name string) func() {
	parent := path.Dir(name)
	if s.lean || parent == "." {
		return func() {}
	}
	alive := make(chan bool, 1)
	go func() {
		keys, err := s.keysBelow(ctx, s.keys.dir(parent), 2)
		lives := err != nil
		for _, k := range keys {
			lives = lives || k != s.keys.file(name) && k != s.keys.dir(name)
		}
		alive <- lives
	}()
	return func() {
		if <-alive {
			return
		}
		if err := s.putMarker(ctx, parent); err != nil {
			s.notices.warn("marker", "an empty directory could not be kept", "key", quote(s.keys.dir(parent)), "err", s.explain(ctx, err))
		}
	}
}

// putMarker puts a marker whether there is one or not.
func (s *Store) putMarker(ctx context.Context, name string) error {
	_, err := s.write(ctx, s.marker(name))
	return err
}
