package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/middleware"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"

	"github.com/agentfs/agentfs/backends"
)

// write is one Put, or the last step of one.
type write struct {
	name string
	key  string
	body *io.SectionReader
	cond backends.If
	h    headers
	// op is the operation id, in h.meta too once the write is identified; ""
	// for a write that nobody needs to recognize.
	op string
	// named: op is the caller's, and an earlier process may have sent it.
	named bool
	// earlier are ids of earlier writes of the key whose outcome the caller
	// doesn't know.
	earlier []string
	// unknown: the write failed, and may have taken effect all the same.
	unknown bool
}

// newWrite returns the write of name that opts describe, without body and
// headers.
func (s *Store) newWrite(name string, opts backends.PutOptions) *write {
	return &write{
		name: name, key: s.keys.file(name), cond: opts.If,
		op: opts.Operation, named: opts.Operation != "", earlier: opts.Earlier,
	}
}

// written is what is known of an object after a write.
type written struct {
	version backends.Version
	at      time.Time
}

// Put implements [backends.Store]: one PUT up to the part size, else a
// parallel multipart upload. A LIST of one key finds out whether a directory
// has the name, unless opts.If.Match says that a file has or the Store is
// lean: before the PUT of a Put without condition, beside it where the name
// has to be absent (what was put is then taken away again).
func (s *Store) Put(ctx context.Context, name string, body *io.SectionReader, opts backends.PutOptions) (backends.Entry, error) {
	const op = "put"
	if name == "." {
		return backends.Entry{}, &fs.PathError{Op: op, Path: name, Err: backends.ErrIsDir}
	}
	if err := s.checkPut(op, name, opts.If); err != nil {
		return backends.Entry{}, err
	}
	if body.Size() > maxParts*maxPartSize {
		return backends.Entry{}, &fs.PathError{Op: op, Path: name, Err: backends.ErrTooLarge}
	}
	isDir := func() (bool, error) { return false, nil }
	switch {
	case s.lean || opts.If.Match != "":
	case opts.If.Absent:
		isDir = s.probeDir(ctx, name)
	default:
		if err := s.noDir(ctx, name); err != nil {
			return backends.Entry{}, s.fail(ctx, op, name, err)
		}
	}
	w := s.newWrite(name, opts)
	w.body = body
	var err error
	if w.h, err = s.headersFor(ctx, w.key, name, opts); err != nil {
		return backends.Entry{}, s.fail(ctx, op, name, gone(err, opts.If.Match))
	}
	done, err := s.write(ctx, w)
	if is, _ := isDir(); is {
		if err == nil {
			s.takeBack(ctx, w, done)
		}
		return backends.Entry{}, &fs.PathError{Op: op, Path: name, Err: fmt.Errorf("%w (%w)", fs.ErrExist, backends.ErrIsDir)}
	}
	if err != nil {
		return backends.Entry{}, s.fail(ctx, op, name, err)
	}
	o := object{version: done.version, size: body.Size(), modTime: done.at, headers: w.h}
	s.seen.put(w.key, o)
	return o.entry(name), nil
}

// noDir returns an error if a directory has the name. Who may not list is not
// asked for more.
func (s *Store) noDir(ctx context.Context, name string) error {
	is, err := s.probeDir(ctx, name)()
	switch {
	case is:
		return backends.ErrIsDir
	case err != nil && !errors.Is(s.explain(ctx, err), fs.ErrPermission):
		return err
	}
	return nil
}

func (s *Store) checkPut(op, name string, cond backends.If) error {
	if err := s.keys.checkNew(op, name); err != nil {
		return err
	}
	if cond.Match != "" && cond.Absent {
		return &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	return nil
}

// takeBack removes what a Put has just made beside a directory.
func (s *Store) takeBack(ctx context.Context, w *write, done written) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.RequestTimeout)
	defer cancel()
	if err := s.deleteKey(ctx, w.key, done.version); err != nil {
		s.cfg.Log.Warn("a file was left beside a directory of the same name", "key", quote(w.key), "err", err)
	}
}

// write makes w's body the content of its key, under its condition, in the
// way that the endpoint can keep the condition.
func (s *Store) write(ctx context.Context, w *write) (written, error) {
	multipart := w.body.Size() > s.cfg.PartSize
	native, err := s.keeps(ctx, w, &multipart)
	if err != nil {
		return written{}, err
	}
	if multipart {
		return s.putMultipart(ctx, w, native)
	}
	return s.settled(ctx, w, func(c *call) (written, error) { return s.putOnce(ctx, c, w, native) })
}

// keeps decides how w's condition is kept: by the request itself (native), or
// by looking before it. An upload in parts becomes a single PUT where only
// that is conditional.
func (s *Store) keeps(ctx context.Context, w *write, multipart *bool) (native bool, err error) {
	if w.cond == (backends.If{}) {
		return false, nil
	}
	if *multipart {
		if native, err = s.honours(ctx, condMultipart); err != nil || native {
			return native, err
		}
		if w.body.Size() > maxSinglePut {
			s.notHonoured(condMultipart)
			return false, nil
		}
	}
	if native, err = s.honours(ctx, condPut); err != nil {
		return false, err
	}
	if native {
		*multipart = false
	} else {
		s.notHonoured(condPut)
	}
	return native, nil
}

// putOnce sends one PUT.
func (s *Store) putOnce(ctx context.Context, c *call, w *write, native bool) (written, error) {
	if err := s.look(ctx, w, native); err != nil {
		return written{}, err
	}
	in := &s3.PutObjectInput{
		Bucket: s.bucket(), Key: &w.key, Body: io.NewSectionReader(w.body, 0, w.body.Size()), ContentLength: ptr(w.body.Size()),
		Metadata: w.h.meta, ContentType: w.h.contentType, ContentEncoding: w.h.encoding, ContentDisposition: w.h.disposition,
		ContentLanguage: w.h.language, CacheControl: w.h.cacheControl, Expires: expires(w.h.expires), StorageClass: w.h.class,
		Tagging: w.h.tagging, RequestPayer: s.payer(),
	}
	in.ServerSideEncryption, in.SSEKMSKeyId = s.encryption()
	if native {
		in.IfMatch, in.IfNoneMatch = conditions(w.cond)
	}
	out, err := s.api.PutObject(ctx, in, c.use)
	if err != nil {
		return written{}, err
	}
	return s.wrote(ctx, w, version(out.ETag), out.ResultMetadata)
}

// wrote returns what a write left, asking for the version where the answer did
// not have it.
func (s *Store) wrote(ctx context.Context, w *write, v backends.Version, m middleware.Metadata) (written, error) {
	if v == "" {
		o, err := s.head(ctx, w.key, "")
		return written{o.version, o.modTime}, err
	}
	at, ok := awsmiddleware.GetServerTime(m)
	if !ok {
		at = time.Now()
	}
	return written{v, at.Truncate(time.Second)}, nil
}

// look checks w's condition before a request that can't carry it.
func (s *Store) look(ctx context.Context, w *write, native bool) error {
	if native || w.cond == (backends.If{}) {
		return nil
	}
	return s.holds(ctx, w.key, w.cond)
}

// holds returns an error unless cond holds now.
func (s *Store) holds(ctx context.Context, key string, cond backends.If) error {
	o, err := s.head(ctx, key, "")
	switch {
	case missing(err):
		if cond.Match != "" {
			return backends.ErrChanged
		}
		return nil
	case err != nil:
		return err
	case cond.Absent:
		return fs.ErrExist
	case cond.Match != "" && o.version != cond.Match:
		return backends.ErrChanged
	}
	return nil
}

// conditions returns the If-Match and If-None-Match of cond.
func conditions(cond backends.If) (match, noneMatch *string) {
	if cond.Match != "" {
		match = etag(cond.Match)
	}
	if cond.Absent {
		noneMatch = ptr("*")
	}
	return match, noneMatch
}

// encryption returns what the configuration says of new objects.
func (s *Store) encryption() (types.ServerSideEncryption, *string) {
	var key *string
	if s.cfg.SSEKMSKeyID != "" {
		key = &s.cfg.SSEKMSKeyID
	}
	return types.ServerSideEncryption(s.cfg.SSE), key
}

// expires turns an Expires header into the time that the SDK wants to send.
func expires(h *string) *time.Time {
	if h == nil {
		return nil
	}
	t, err := http.ParseTime(*h)
	if err != nil {
		return nil // not a date: nothing to keep
	}
	return &t
}

func ptr[T any](v T) *T { return &v }
