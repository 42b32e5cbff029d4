package s3

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/agentfs/agentfs/backends"
)

// copying is one copy inside the bucket, by keys.
type copying struct {
	from, to string
	src      backends.Version
	cond     backends.If
	native   bool     // the request itself carries cond
	replace  *headers // instead of the source's
	class    types.StorageClass
}

// Copy implements [backends.Copier]: a CopyObject, bound to the version of the
// source. A condition on the destination goes with it where the endpoint
// honours that; else into the completion of a multipart upload whose parts are
// copies; where neither is honoured, Copy is [errors.ErrUnsupported] and the
// caller's GET and conditional PUT remain. Metadata, storage class and tags
// are the source's.
func (s *Store) Copy(ctx context.Context, from string, src backends.If, to string, opts backends.PutOptions) (backends.Entry, error) {
	const op = "copy"
	if err := s.checkCopy(op, from, to, opts.If); err != nil {
		return backends.Entry{}, err
	}
	if err := s.noDirs(ctx, op, from, src, to, opts.If); err != nil {
		return backends.Entry{}, err
	}
	e, err := s.copyFile(ctx, from, src, to, opts)
	if opts.Operation != "" && (errors.Is(err, backends.ErrChanged) || errors.Is(err, fs.ErrNotExist)) {
		// An earlier process may have made the copy, and the source may be
		// gone since then.
		if o, herr := s.head(ctx, s.keys.file(to), ""); herr == nil && o.headers.meta[metaOperation] == opts.Operation {
			return o.entry(to), nil
		}
	}
	return e, err
}

// copyFile is Copy of what may be copied.
func (s *Store) copyFile(ctx context.Context, from string, src backends.If, to string, opts backends.PutOptions) (backends.Entry, error) {
	const op = "copy"
	obj, small, err := s.sourceOf(ctx, from, src, opts.If)
	if err != nil {
		return backends.Entry{}, s.fail(ctx, op, from, gone(err, src.Match))
	}
	if from == to && opts.Attr.Set == 0 {
		return s.copyToItself(op, to, obj, opts.If)
	}
	w := s.newWrite(to, opts)
	w.h = obj.headers.withMeta(func(m map[string]string) { delete(m, metaOperation) })
	if opts.Attr.Set != 0 {
		w.h = w.h.withAttr(opts.Attr)
	}
	var done written
	if small != nil && obj.tags == 0 {
		w.body = io.NewSectionReader(bytes.NewReader(small), 0, obj.size)
		done, err = s.write(ctx, w)
	} else {
		done, err = s.copy(ctx, w, s.keys.file(from), obj, opts.Attr.Set != 0)
	}
	if err != nil {
		name := to
		if missing(err) {
			name = from
		}
		return backends.Entry{}, s.fail(ctx, op, name, gone(err, obj.version))
	}
	made := object{version: done.version, size: obj.size, modTime: done.at, headers: w.h, tags: obj.tags}
	s.seen.put(w.key, made)
	return made.entry(to), nil
}

// copyToItself changes nothing, and S3 refuses it.
func (s *Store) copyToItself(op, name string, obj object, cond backends.If) (backends.Entry, error) {
	switch {
	case cond.Absent:
		return backends.Entry{}, &fs.PathError{Op: op, Path: name, Err: fs.ErrExist}
	case cond.Match != "" && cond.Match != obj.version:
		return backends.Entry{}, &fs.PathError{Op: op, Path: name, Err: backends.ErrChanged}
	}
	return obj.entry(name), nil
}

func (s *Store) checkCopy(op, from, to string, cond backends.If) error {
	for _, name := range []string{from, to} {
		if name == "." {
			return &fs.PathError{Op: op, Path: name, Err: backends.ErrIsDir}
		}
	}
	if err := s.keys.checkFile(op, from); err != nil {
		return err
	}
	return s.checkPut(op, to, cond)
}

// noDirs refuses directories at both ends, where the caller doesn't know that
// they are none.
func (s *Store) noDirs(ctx context.Context, op, from string, src backends.If, to string, cond backends.If) error {
	if s.lean {
		return nil
	}
	var names []string
	var answers []func() (bool, error)
	if src.Match == "" {
		names, answers = append(names, from), append(answers, s.probeDir(ctx, from))
	}
	if cond.Match == "" {
		names, answers = append(names, to), append(answers, s.probeDir(ctx, to))
	}
	for i, answer := range answers {
		is, err := answer()
		if is {
			err = backends.ErrIsDir
		}
		if err != nil && !errors.Is(s.explain(ctx, err), fs.ErrPermission) {
			return s.fail(ctx, op, names[i], err)
		}
	}
	return nil
}

// smallCopy is the size up to which a conditional copy is a GET and a
// conditional PUT, where the endpoint has no conditional copy: that is two
// requests instead of five, and a few bytes.
const smallCopy = 256 << 10

// sourceOf returns the object to copy from, and its bytes if it is small and
// they are to be put.
func (s *Store) sourceOf(ctx context.Context, from string, src, cond backends.If) (object, []byte, error) {
	if cond != (backends.If{}) && src.Match != "" {
		native, err := s.honours(ctx, condCopyDest)
		if err != nil {
			return object{}, nil, err
		}
		key := s.keys.file(from)
		if seen, ok := s.seen.get(key, src.Match); !native && (!ok || seen.size > 0 && seen.size <= smallCopy) {
			body, obj, err := s.get(ctx, key, backends.Range{Len: smallCopy}, src.Match)
			if err == nil {
				defer body.Close()
				if obj.size > smallCopy {
					return obj, nil, nil
				}
				b, err := io.ReadAll(body)
				if err == nil && int64(len(b)) == obj.size {
					return obj, b, nil
				}
				// Cut short: the copy is made in the other way.
			}
		}
	}
	obj, err := s.source(ctx, from, src)
	return obj, nil, err
}

// source returns the object to copy from.
func (s *Store) source(ctx context.Context, from string, src backends.If) (object, error) {
	key := s.keys.file(from)
	if src.Match != "" {
		pinned, err := s.honours(ctx, condCopySource)
		if err != nil {
			return object{}, err
		}
		if obj, ok := s.seen.get(key, src.Match); ok && pinned {
			return obj, nil
		}
		if !pinned {
			s.notHonoured(condCopySource)
		}
	}
	return s.head(ctx, key, src.Match)
}

// copy makes the copy that w describes in the way that keeps its condition.
func (s *Store) copy(ctx context.Context, w *write, from string, obj object, replace bool) (written, error) {
	conditional := w.cond != (backends.If{})
	native, parts := false, obj.size > largeCopy
	var err error
	if conditional && !parts {
		if native, err = s.honours(ctx, condCopyDest); err != nil {
			return written{}, err
		}
		parts = !native
	}
	if conditional && parts {
		if native, err = s.honours(ctx, condMultipart); err != nil {
			return written{}, err
		}
		if !native && obj.size <= largeCopy {
			return written{}, &Error{Kind: errors.ErrUnsupported, Text: "the endpoint has no conditional copy"}
		}
	}
	if parts && obj.tags > 0 {
		if w.h.tagging, err = s.tagging(ctx, from); err != nil {
			return written{}, err
		}
	}
	switch {
	case parts && obj.size == 0: // there is no part of nothing
		w.body = io.NewSectionReader(strings.NewReader(""), 0, 0)
		return s.write(ctx, w)
	case parts:
		return s.copyParts(ctx, w, from, obj, native)
	}
	return s.settled(ctx, w, func(c *call) (written, error) {
		cp := &copying{from: from, to: w.key, src: obj.version, cond: w.cond, native: native, class: obj.headers.class}
		if replace || w.op != "" {
			cp.replace = &w.h
		}
		return s.copyObject(ctx, c, cp)
	})
}

// copyObject sends one CopyObject.
func (s *Store) copyObject(ctx context.Context, c *call, cp *copying) (written, error) {
	in := &s3.CopyObjectInput{
		Bucket: s.bucket(), Key: &cp.to, CopySource: s.copySource(cp.from), CopySourceIfMatch: etag(cp.src),
		StorageClass: cp.class, RequestPayer: s.payer(),
	}
	in.ServerSideEncryption, in.SSEKMSKeyId = s.encryption()
	if h := cp.replace; h != nil {
		in.MetadataDirective = types.MetadataDirectiveReplace
		in.Metadata, in.ContentType, in.ContentEncoding = h.meta, h.contentType, h.encoding
		in.ContentDisposition, in.ContentLanguage = h.disposition, h.language
		in.CacheControl, in.Expires = h.cacheControl, expires(h.expires)
	}
	if cp.native {
		in.IfMatch, in.IfNoneMatch = conditions(cp.cond)
	}
	out, err := s.api.CopyObject(ctx, in, c.use)
	if err != nil {
		return written{}, err
	}
	r := out.CopyObjectResult
	if r == nil || r.ETag == nil {
		return s.wrote(ctx, &write{key: cp.to}, "", out.ResultMetadata)
	}
	return written{version(r.ETag), modTime(r.LastModified)}, nil
}

const (
	// largeCopy is the size from which a copy is made in parts: side by side
	// they are quicker, and a server that copies byte by byte stays silent for
	// less than RequestTimeout. S3 itself wants parts from 5 GiB.
	largeCopy = 1 << 30
	// copyPartSize is the size of these parts: no byte of them comes here, so
	// they are large.
	copyPartSize = 128 << 20
)

// copyParts makes the copy as a multipart upload.
func (s *Store) copyParts(ctx context.Context, w *write, from string, obj object, native bool) (written, error) {
	partSize := max(copyPartSize, s.partSizeFor(obj.size))
	return s.multipart(ctx, w, native, obj.size, partSize, func(ctx context.Context, u *upload, n int, r backends.Range) (backends.Part, error) {
		return u.copyPart(ctx, n, from, obj.version, r)
	})
}

// copySource is the header of that name: bucket and key, escaped. "+" is
// escaped too, because some servers read it as a space.
func (s *Store) copySource(key string) *string {
	segments := strings.Split(key, "/")
	for i := range segments {
		segments[i] = strings.ReplaceAll(url.PathEscape(segments[i]), "+", "%2B")
	}
	return ptr(s.cfg.Bucket + "/" + strings.Join(segments, "/"))
}
