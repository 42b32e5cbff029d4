package s3

import (
	"context"
	"errors"
	"io"

	"golang.org/x/sync/errgroup"

	"github.com/agentfs/agentfs/backends"
)

// putMultipart uploads w in parts, side by side, and completes it under its
// condition.
func (s *Store) putMultipart(ctx context.Context, w *write, native bool) (written, error) {
	size := w.body.Size()
	return s.multipart(ctx, w, native, size, s.partSizeFor(size), func(ctx context.Context, u *upload, n int, r backends.Range) (backends.Part, error) {
		return u.putPart(ctx, n, io.NewSectionReader(w.body, r.Off, r.Len))
	})
}

// partSizeFor returns the part size for an object: the configured one, or a
// larger one so that the number of parts is within the limit.
func (s *Store) partSizeFor(size int64) int64 {
	const unit = 1 << 20
	need := (size + maxParts - 1) / maxParts
	return min(max(s.cfg.PartSize, (need+unit-1)/unit*unit), maxPartSize)
}

// partFunc makes part n of an upload, which is to be section r of the whole.
type partFunc func(ctx context.Context, u *upload, n int, r backends.Range) (backends.Part, error)

// multipart makes w's object of size bytes of parts. The parts of a failed
// upload are given up.
func (s *Store) multipart(ctx context.Context, w *write, native bool, size, partSize int64, do partFunc) (written, error) {
	u, err := s.begin(ctx, w)
	if err != nil {
		return written{}, err
	}
	parts, err := u.makeParts(ctx, size, partSize, do)
	if err != nil {
		u.giveUp(ctx)
		return written{}, s.partError(ctx, err)
	}
	done, err := u.complete(ctx, parts, native)
	if err != nil && !w.unknown {
		u.giveUp(ctx)
	}
	return done, s.partError(ctx, err)
}

// makeParts makes all parts, side by side.
func (u *upload) makeParts(ctx context.Context, size, partSize int64, do partFunc) ([]backends.Part, error) {
	count := int((size + partSize - 1) / partSize)
	parts := make([]backends.Part, count)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(u.s.cfg.Concurrency)
	for i := range count {
		g.Go(func() error {
			off := int64(i) * partSize
			p, err := do(gctx, u, i+1, backends.Range{Off: off, Len: min(partSize, size-off)})
			parts[i] = p
			return err
		})
	}
	return parts, g.Wait()
}

// partError is the error of an upload inside a Put: that the upload is missing
// doesn't mean that the file is.
func (s *Store) partError(ctx context.Context, err error) error {
	var e *Error
	if code(err) == "NoSuchUpload" && errors.As(s.explain(ctx, err), &e) {
		e.Kind = nil
		return e
	}
	return err
}

// giveUp aborts an upload that failed, so that its parts are not paid for.
func (u *upload) giveUp(ctx context.Context) {
	if err := u.abort(context.WithoutCancel(ctx)); err != nil {
		u.s.notices.warn("abort", "parts of a failed upload are left in the bucket", "key", quote(u.w.key), "upload", u.id, "err", u.s.explain(ctx, err))
	}
}
