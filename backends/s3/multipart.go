package s3

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"github.com/agentfs/agentfs/backends"
)

// putMultipart uploads w in parts, side by side, and completes it under its
// condition. The parts of a failed upload are given up.
func (s *Store) putMultipart(ctx context.Context, c *call, w *write, native bool) (written, error) {
	size := w.body.Size()
	return s.multipart(ctx, c, w, native, size, s.partSizeFor(size), func(ctx context.Context, id string, n int32, off, length int64) (types.CompletedPart, error) {
		out, err := s.api.UploadPart(ctx, &s3.UploadPartInput{
			Bucket: s.bucket(), Key: &w.key, UploadId: &id, PartNumber: &n, ChecksumAlgorithm: s.partChecksum(),
			Body: io.NewSectionReader(w.body, off, length), ContentLength: &length, RequestPayer: s.payer(),
		}, s.call(ctx).use)
		if err != nil {
			return types.CompletedPart{}, err
		}
		return types.CompletedPart{PartNumber: &n, ETag: out.ETag, ChecksumCRC32: out.ChecksumCRC32}, nil
	})
}

// partSizeFor returns the part size for an object: the configured one, or a
// larger one so that the number of parts is within the limit.
func (s *Store) partSizeFor(size int64) int64 {
	const unit = 1 << 20
	need := (size + maxParts - 1) / maxParts
	return min(max(s.cfg.PartSize, (need+unit-1)/unit*unit), maxPartSize)
}

// partChecksum names the algorithm of the parts where the SDK sends checksums
// unasked: it has to be the one that the upload was created with.
func (s *Store) partChecksum() types.ChecksumAlgorithm {
	if s.api.Options().RequestChecksumCalculation == aws.RequestChecksumCalculationWhenRequired {
		return ""
	}
	return types.ChecksumAlgorithmCrc32
}

// partFunc makes part n of an upload.
type partFunc func(ctx context.Context, id string, n int32, off, length int64) (types.CompletedPart, error)

// multipart makes w's object of size bytes of parts.
func (s *Store) multipart(ctx context.Context, c *call, w *write, native bool, size, partSize int64, do partFunc) (written, error) {
	in := &s3.CreateMultipartUploadInput{
		Bucket: s.bucket(), Key: &w.key, ChecksumAlgorithm: s.partChecksum(),
		Metadata: w.h.meta, ContentType: w.h.contentType, ContentEncoding: w.h.encoding, ContentDisposition: w.h.disposition,
		ContentLanguage: w.h.language, CacheControl: w.h.cacheControl, Expires: expires(w.h.expires), StorageClass: w.h.class,
		Tagging: w.h.tagging, RequestPayer: s.payer(),
	}
	in.ServerSideEncryption, in.SSEKMSKeyId = s.encryption()
	created, err := s.api.CreateMultipartUpload(ctx, in, s.call(ctx).use)
	if err != nil {
		return written{}, err
	}
	id := aws.ToString(created.UploadId)
	parts, err := s.sendParts(ctx, id, size, partSize, do)
	if err != nil {
		s.abort(ctx, w.key, id)
		return written{}, s.partError(ctx, err)
	}
	if err := s.look(ctx, w, native); err != nil {
		s.abort(ctx, w.key, id)
		return written{}, err
	}
	done := &s3.CompleteMultipartUploadInput{
		Bucket: s.bucket(), Key: &w.key, UploadId: &id, RequestPayer: s.payer(),
		MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	}
	if native {
		done.IfMatch, done.IfNoneMatch = conditions(w.cond)
	}
	out, err := s.api.CompleteMultipartUpload(ctx, done, c.use)
	if err != nil {
		if !c.unknown {
			s.abort(ctx, w.key, id)
		}
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
	case err != nil || o.headers.meta[metaOperation] != w.op:
		return v // replaced since then: v is nobody's version any more
	case o.version == v:
		s.features.completion.CompareAndSwap(etagUntried, etagTrue)
	default:
		s.features.completion.Store(etagFalse)
	}
	return o.version
}

// sendParts makes all parts, as many at once as the Store may have under way.
func (s *Store) sendParts(ctx context.Context, id string, size, partSize int64, do partFunc) ([]types.CompletedPart, error) {
	count := int((size + partSize - 1) / partSize)
	parts := make([]types.CompletedPart, count)
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(s.cfg.Concurrency)
	for i := range count {
		g.Go(func() error {
			select {
			case s.parts <- struct{}{}:
				defer func() { <-s.parts }()
			case <-gctx.Done():
				return gctx.Err()
			}
			off := int64(i) * partSize
			p, err := do(gctx, id, int32(i+1), off, min(partSize, size-off))
			if err != nil {
				return err
			}
			mu.Lock()
			parts[i] = p
			mu.Unlock()
			return nil
		})
	}
	return parts, g.Wait()
}

// partError is the error of a part: whatever it says of a key or an upload that
// is missing is no answer to the condition of the whole.
func (s *Store) partError(ctx context.Context, err error) error {
	var e *Error
	if code(err) == "NoSuchUpload" && errors.As(s.explain(ctx, err), &e) {
		e.Kind = nil
		return e
	}
	return err
}

// abortTimeout bounds how long giving up an upload may take.
const abortTimeout = 10 * time.Second

// abort gives up an upload, so that its parts are not paid for.
func (s *Store) abort(ctx context.Context, key, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
	defer cancel()
	_, err := s.api.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{
		Bucket: s.bucket(), Key: &key, UploadId: &id, RequestPayer: s.payer(),
	}, s.call(ctx).use)
	if err != nil && code(err) != "NoSuchUpload" {
		s.notices.warn("abort", "parts of a failed upload are left in the bucket", "key", quote(key), "upload", id, "err", s.explain(ctx, err))
	}
}
