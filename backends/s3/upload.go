package s3

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/agentfs/agentfs/backends"
)

// upload is a multipart upload of the object that w describes, whose body
// nobody uses.
type upload struct {
	s  *Store
	w  *write
	id string
	// resumed: an earlier process began it, and its headers are not known
	// here.
	resumed bool
}

// BeginUpload implements [backends.Uploader]. The headers of the object are
// settled here, as those of a Put are. Where the endpoint does not honour a
// condition at the end of an upload and opts has one, it answers
// [errors.ErrUnsupported]: a Put still can, up to 5 GiB in one conditional
// request, and beyond by looking just before it completes.
func (s *Store) BeginUpload(ctx context.Context, name string, opts backends.PutOptions) (backends.Upload, error) {
	const op = "upload"
	if name == "." {
		return nil, &fs.PathError{Op: op, Path: name, Err: backends.ErrIsDir}
	}
	if err := s.checkPut(op, name, opts.If); err != nil {
		return nil, err
	}
	if opts.If != (backends.If{}) {
		native, err := s.honours(ctx, condMultipart)
		if err == nil && !native {
			err = &Error{Kind: errors.ErrUnsupported, Text: "the endpoint has no conditional multipart upload"}
		}
		if err != nil {
			return nil, s.fail(ctx, op, name, err)
		}
	}
	if !s.lean && opts.If.Match == "" {
		if err := s.noDir(ctx, name); err != nil {
			return nil, s.fail(ctx, op, name, err)
		}
	}
	w := s.newWrite(name, opts)
	var err error
	if w.h, err = s.headersFor(ctx, w.key, name, opts); err != nil {
		return nil, s.fail(ctx, op, name, gone(err, opts.If.Match))
	}
	u, err := s.begin(ctx, w)
	if err != nil {
		return nil, s.fail(ctx, op, name, err)
	}
	return u, nil
}

// ResumeUpload implements [backends.Uploader].
func (s *Store) ResumeUpload(name, id string, opts backends.PutOptions) backends.Upload {
	return &upload{s: s, w: s.newWrite(name, opts), id: id, resumed: true}
}

// PartLimits implements [backends.Uploader]: S3's, and the size of parts that
// the configuration says.
func (s *Store) PartLimits() backends.PartLimits {
	return backends.PartLimits{MinSize: minPartSize, MaxSize: maxPartSize, Good: s.cfg.PartSize, MaxParts: maxParts}
}

// begin starts the upload of w.
func (s *Store) begin(ctx context.Context, w *write) (*upload, error) {
	w.identify()
	in := &s3.CreateMultipartUploadInput{
		Bucket: s.bucket(), Key: &w.key, ChecksumAlgorithm: s.partChecksum(),
		Metadata: w.h.meta, ContentType: w.h.contentType, ContentEncoding: w.h.encoding, ContentDisposition: w.h.disposition,
		ContentLanguage: w.h.language, CacheControl: w.h.cacheControl, Expires: expires(w.h.expires), StorageClass: w.h.class,
		Tagging: w.h.tagging, RequestPayer: s.payer(),
	}
	in.ServerSideEncryption, in.SSEKMSKeyId = s.encryption()
	out, err := s.api.CreateMultipartUpload(ctx, in, s.call(ctx).use)
	if err != nil {
		return nil, err
	}
	return &upload{s: s, w: w, id: aws.ToString(out.UploadId)}, nil
}

// partChecksum names the algorithm of the parts where the SDK sends checksums
// unasked: it has to be the one that the upload was created with.
func (s *Store) partChecksum() types.ChecksumAlgorithm {
	if s.api.Options().RequestChecksumCalculation == aws.RequestChecksumCalculationWhenRequired {
		return ""
	}
	return types.ChecksumAlgorithmCrc32
}

// ID implements [backends.Upload].
func (u *upload) ID() string { return u.id }

// fail returns the error of one of the upload's calls.
func (u *upload) fail(ctx context.Context, err error) error {
	return u.s.fail(ctx, "upload", u.w.name, err)
}

// Put implements [backends.Upload].
func (u *upload) Put(ctx context.Context, n int, body *io.SectionReader) (backends.Part, error) {
	if err := checkPart(n); err != nil {
		return backends.Part{}, u.fail(ctx, err)
	}
	p, err := u.putPart(ctx, n, body)
	return p, u.fail(ctx, err)
}

func checkPart(n int) error {
	if n < 1 || n > maxParts {
		return fmt.Errorf("part %d: %w: parts have numbers from 1 to %d", n, fs.ErrInvalid, maxParts)
	}
	return nil
}

// slot waits for a place among the Store's parts under way; free gives it back.
func (s *Store) slot(ctx context.Context) (free func(), err error) {
	select {
	case s.parts <- struct{}{}:
		return func() { <-s.parts }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// putPart sends one UploadPart.
func (u *upload) putPart(ctx context.Context, n int, body *io.SectionReader) (backends.Part, error) {
	s, size := u.s, body.Size()
	free, err := s.slot(ctx)
	if err != nil {
		return backends.Part{}, err
	}
	defer free()
	out, err := s.api.UploadPart(ctx, &s3.UploadPartInput{
		Bucket: s.bucket(), Key: &u.w.key, UploadId: &u.id, PartNumber: ptr(int32(n)), ChecksumAlgorithm: s.partChecksum(),
		Body: io.NewSectionReader(body, 0, size), ContentLength: &size, RequestPayer: s.payer(),
	}, s.call(ctx).use)
	if err != nil {
		return backends.Part{}, err
	}
	return backends.Part{N: n, Size: size, Tag: aws.ToString(out.ETag), Sum: aws.ToString(out.ChecksumCRC32)}, nil
}

// Copy implements [backends.Upload]. It is [errors.ErrUnsupported] where the
// endpoint has no UploadPartCopy, which is remembered. A HEAD of the source
// comes first where src has no version, where r has no end, and where the
// endpoint does not honour a condition on the source.
func (u *upload) Copy(ctx context.Context, n int, from string, src backends.If, r backends.Range) (backends.Part, error) {
	s := u.s
	if err := s.keys.checkFile("upload", from); err != nil {
		return backends.Part{}, err
	}
	if err := checkPart(n); err != nil || r.Off < 0 || r.Len < 0 {
		return backends.Part{}, u.fail(ctx, cmp.Or(err, fs.ErrInvalid))
	}
	version, r, err := u.section(ctx, from, src, r)
	if err != nil {
		return backends.Part{}, s.fail(ctx, "upload", from, gone(err, src.Match))
	}
	p, err := u.copyPart(ctx, n, s.keys.file(from), version, r)
	return p, u.fail(ctx, err)
}

// section returns what a part is to be copied from: a version of the file, and
// r with an end.
func (u *upload) section(ctx context.Context, from string, src backends.If, r backends.Range) (backends.Version, backends.Range, error) {
	if src.Match != "" && r.Len > 0 {
		if pinned, err := u.s.honours(ctx, condCopySource); err != nil || pinned {
			return src.Match, r, err
		}
	}
	obj, err := u.s.source(ctx, from, src)
	if err != nil {
		return "", r, err
	}
	left := obj.size - r.Off
	if left <= 0 {
		return "", r, fmt.Errorf("%w: a part that begins at %d of %d bytes", fs.ErrInvalid, r.Off, obj.size)
	}
	if r.Len == 0 || r.Len > left {
		r.Len = left
	}
	return obj.version, r, nil
}

// copyPart sends one UploadPartCopy of section r of the object at key from.
func (u *upload) copyPart(ctx context.Context, n int, from string, v backends.Version, r backends.Range) (backends.Part, error) {
	s := u.s
	if s.features.noPartCopy.Load() {
		return backends.Part{}, noPartCopy(nil)
	}
	free, err := s.slot(ctx)
	if err != nil {
		return backends.Part{}, err
	}
	defer free()
	out, err := s.api.UploadPartCopy(ctx, &s3.UploadPartCopyInput{
		Bucket: s.bucket(), Key: &u.w.key, UploadId: &u.id, PartNumber: ptr(int32(n)), RequestPayer: s.payer(),
		CopySource: s.copySource(from), CopySourceIfMatch: etag(v),
		CopySourceRange: ptr(fmt.Sprintf("bytes=%d-%d", r.Off, r.Off+r.Len-1)),
	}, s.call(ctx).use)
	switch {
	case err == nil && out.CopyPartResult == nil, unknownOperation(err):
		// A server that does not know the header has put an empty part.
		s.features.noPartCopy.Store(true)
		return backends.Part{}, noPartCopy(err)
	case code(err) == "NoSuchUpload":
		return backends.Part{}, err
	case err != nil:
		return backends.Part{}, gone(err, v)
	}
	res := out.CopyPartResult
	return backends.Part{N: n, Size: r.Len, Tag: aws.ToString(res.ETag), Sum: aws.ToString(res.ChecksumCRC32)}, nil
}

// unknownOperation reports whether a request failed because the server has no
// such operation.
func unknownOperation(err error) bool {
	switch status(err) {
	case http.StatusLengthRequired, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return true
	}
	return false
}

func noPartCopy(err error) error {
	return &Error{Kind: errors.ErrUnsupported, Code: code(err), Status: status(err), Text: "the endpoint can't copy parts"}
}

// Complete implements [backends.Upload]. If the upload is gone, a HEAD finds
// out whether it was completed: the object has the operation's id then.
func (u *upload) Complete(ctx context.Context, parts []backends.Part) (backends.Entry, error) {
	native, err := true, error(nil)
	if u.w.cond != (backends.If{}) {
		if native, err = u.s.honours(ctx, condMultipart); err == nil && !native {
			u.s.notHonoured(condMultipart)
		}
	}
	var done written
	if err == nil {
		done, err = u.complete(ctx, parts, native)
	}
	if err != nil {
		return backends.Entry{}, u.fail(ctx, err)
	}
	o := object{version: done.version, modTime: done.at, headers: u.w.h}
	for _, p := range parts {
		o.size += p.Size
	}
	if u.resumed {
		u.s.seen.forget(u.w.key)
	} else {
		u.s.seen.put(u.w.key, o)
	}
	return o.entry(u.w.name), nil
}

// complete ends the upload under w's condition.
func (u *upload) complete(ctx context.Context, parts []backends.Part, native bool) (written, error) {
	if len(parts) == 0 {
		return written{}, fmt.Errorf("%w: an upload without parts", fs.ErrInvalid)
	}
	parts = slices.SortedFunc(slices.Values(parts), func(a, b backends.Part) int { return cmp.Compare(a.N, b.N) })
	return u.s.settled(ctx, u.w, func(c *call) (written, error) { return u.completeOnce(ctx, c, parts, native) })
}

// completeOnce sends one CompleteMultipartUpload of the parts, which are in
// order.
func (u *upload) completeOnce(ctx context.Context, c *call, parts []backends.Part, native bool) (written, error) {
	s, w := u.s, u.w
	if err := s.look(ctx, w, native); err != nil {
		return written{}, err
	}
	in := &s3.CompleteMultipartUploadInput{
		Bucket: s.bucket(), Key: &w.key, UploadId: &u.id, RequestPayer: s.payer(), MultipartUpload: &types.CompletedMultipartUpload{},
	}
	for _, p := range parts {
		done := types.CompletedPart{PartNumber: ptr(int32(p.N)), ETag: &p.Tag}
		if p.Sum != "" {
			done.ChecksumCRC32 = &p.Sum
		}
		in.MultipartUpload.Parts = append(in.MultipartUpload.Parts, done)
	}
	if native {
		in.IfMatch, in.IfNoneMatch = conditions(w.cond)
	}
	out, err := s.api.CompleteMultipartUpload(ctx, in, c.use)
	if err != nil {
		return written{}, err
	}
	return s.wrote(ctx, w, s.completed(ctx, w, version(out.ETag)), out.ResultMetadata)
}

// Whether the ETag that a completion returns is the one that the object has
// from then on: gofakes3 returns another.
const (
	etagUntried = iota
	etagTrue
	etagFalse
)

// completed returns the version of an object that was just completed with the
// answer v. Until a server other than AWS has been seen to tell the truth, the
// object is asked.
func (s *Store) completed(ctx context.Context, w *write, v backends.Version) backends.Version {
	if s.aws || s.features.completion.Load() == etagTrue {
		return v
	}
	o, err := s.head(ctx, w.key, "")
	switch {
	case err != nil || w.op != "" && o.headers.meta[metaOperation] != w.op:
		return v // replaced since then: v is nobody's version any more
	case o.version == v:
		s.features.completion.CompareAndSwap(etagUntried, etagTrue)
	default:
		s.features.completion.Store(etagFalse)
	}
	return o.version
}

// abortTimeout bounds how long giving up an upload may take.
const abortTimeout = 10 * time.Second

// Abort implements [backends.Upload].
func (u *upload) Abort(ctx context.Context) error { return u.fail(ctx, u.abort(ctx)) }

func (u *upload) abort(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, abortTimeout)
	defer cancel()
	_, err := u.s.api.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{
		Bucket: u.s.bucket(), Key: &u.w.key, UploadId: &u.id, RequestPayer: u.s.payer(),
	}, u.s.call(ctx).use)
	if missing(err) || code(err) == "NoSuchUpload" {
		return nil
	}
	return err
}
