package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/agentfs/agentfs/backends"
)

// Open implements [backends.Store]: a GET. Without cond.Match a LIST of one
// key, side by side with it, finds out whether a directory has the name; who
// has a version knows that it is a file. A section of more than two parts is
// fetched by parallel ranged GETs of the same version.
func (s *Store) Open(ctx context.Context, name string, r backends.Range, cond backends.If) (io.ReadCloser, backends.Entry, error) {
	const op = "open"
	if name == "." {
		return nil, backends.Entry{}, &fs.PathError{Op: op, Path: name, Err: backends.ErrIsDir}
	}
	if err := s.keys.checkFile(op, name); err != nil {
		return nil, backends.Entry{}, err
	}
	if r.Off < 0 || r.Len < 0 {
		return nil, backends.Entry{}, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	isDir := func() (bool, error) { return false, nil }
	if cond.Match == "" && !s.lean {
		isDir = s.probeDir(ctx, name)
	}
	g, err := s.openKey(ctx, name, r, cond.Match)
	is, dirErr := isDir()
	if dirErr != nil && (err == nil && errors.Is(s.explain(ctx, dirErr), fs.ErrPermission) || err != nil && !missing(err)) {
		dirErr = nil // who may not list sees files; and err says more
	}
	if is || dirErr != nil {
		if err == nil {
			g.Close()
		}
		if is {
			if err == nil {
				s.hides(name)
			}
			dirErr = backends.ErrIsDir
		}
		return nil, backends.Entry{}, s.fail(ctx, op, name, dirErr)
	}
	if err != nil {
		return nil, backends.Entry{}, s.fail(ctx, op, name, err)
	}
	return g, g.obj.entry(name), nil
}

// openKey begins to read section r of a key.
func (s *Store) openKey(ctx context.Context, name string, r backends.Range, match backends.Version) (*reader, error) {
	key := s.keys.file(name)
	for try := 1; ; try++ {
		first := r
		if r.Len > s.parallelFrom() {
			first.Len = s.cfg.PartSize
		}
		body, obj, err := s.get(ctx, key, first, match)
		switch {
		case err == nil:
			s.seen.put(key, obj)
			end := obj.size
			if r.Len > 0 && r.Len < end-r.Off {
				end = r.Off + r.Len
			}
			return s.newReader(ctx, name, obj, body, r.Off, end), nil
		case status(err) != http.StatusRequestedRangeNotSatisfiable:
			return nil, gone(err, match)
		}
		// The section begins at or beyond the end.
		obj, err = s.head(ctx, key, match)
		if err != nil {
			return nil, gone(err, match)
		}
		if obj.size <= r.Off {
			return s.newReader(ctx, name, obj, nil, r.Off, r.Off), nil
		}
		if try == s.cfg.MaxAttempts {
			return nil, backends.ErrChanged // it grows and shrinks as we look
		}
	}
}

// gone makes a missing object ErrChanged where a version was asked for.
func gone(err error, match backends.Version) error {
	if match != "" && (missing(err) || preconditionFailed(err)) {
		return backends.ErrChanged
	}
	return err
}

// parallelFrom is the length up to which one GET is enough.
func (s *Store) parallelFrom() int64 { return 2 * s.cfg.PartSize }

// getOnce sends one GET for section r of a key and returns its body, which may
// be cut short, and the object. A server that ignores the condition or the
// range is found out here.
func (s *Store) getOnce(ctx context.Context, key string, r backends.Range, match backends.Version, opts ...func(*s3.Options)) (io.ReadCloser, object, error) {
	in := &s3.GetObjectInput{Bucket: s.bucket(), Key: &key, RequestPayer: s.payer()}
	switch {
	case r.Len > 0:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-%d", r.Off, r.Off+r.Len-1))
	case r.Off > 0:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-", r.Off))
	}
	if match != "" {
		in.IfMatch = etag(match)
	}
	out, err := s.api.GetObject(ctx, in, append(opts, s.call(ctx).use)...)
	if err != nil {
		return nil, object{}, err
	}
	size := aws.ToInt64(out.ContentLength)
	if in.Range != nil {
		from, total, ok := contentRange(aws.ToString(out.ContentRange))
		if !ok || from != r.Off {
			out.Body.Close()
			return nil, object{}, fmt.Errorf("%s ignores ranges: asked for %s, got %q", s.where(), *in.Range, aws.ToString(out.ContentRange))
		}
		size = total
	}
	obj := objectOfGet(out, size)
	if match != "" && obj.version != match {
		out.Body.Close()
		return nil, object{}, backends.ErrChanged
	}
	return out.Body, obj, nil
}

// contentRange reads "bytes FROM-TO/TOTAL".
func contentRange(h string) (from, total int64, ok bool) {
	h, found := strings.CutPrefix(h, "bytes ")
	span, all, slash := strings.Cut(h, "/")
	first, _, dash := strings.Cut(span, "-")
	if !found || !slash || !dash {
		return 0, 0, false
	}
	from, err1 := strconv.ParseInt(first, 10, 64)
	total, err2 := strconv.ParseInt(all, 10, 64)
	return from, total, err1 == nil && err2 == nil
}
