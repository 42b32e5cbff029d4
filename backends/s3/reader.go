package s3

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"sync"

	"github.com/agentfs/agentfs/backends"
)

// reader delivers the bytes from off to end of one version of an object. The
// bytes come from body; in a long section the parts after the first are
// fetched side by side and delivered in their order. Not for concurrent use.
type reader struct {
	s      *Store
	ctx    context.Context
	cancel context.CancelFunc
	name   string
	obj    object
	off    int64 // of the next byte to deliver
	end    int64
	body   io.ReadCloser
	stop   int64 // body is used up to here; beyond it come the parts
	began  int64
	// parts under way, in order; the channel has the part when it is there.
	ahead  []chan part
	fetch  int64 // where the next part to ask for begins
	tail   []byte
	err    error
	closed sync.Once
}

type part struct {
	data []byte
	err  error
}

func (s *Store) newReader(ctx context.Context, name string, obj object, body io.ReadCloser, off, end int64) *reader {
	ctx, cancel := context.WithCancel(ctx)
	r := &reader{s: s, ctx: ctx, cancel: cancel, name: name, obj: obj, off: off, end: end, body: body, stop: end, began: off, fetch: end}
	if end-off > s.parallelFrom() && obj.version != "" {
		r.stop = off + s.cfg.PartSize
		r.fetch = r.stop
	}
	return r
}

// Read implements [io.Reader].
func (r *reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if r.off >= r.end {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	var n int
	var err error
	if r.off < r.stop {
		n, err = r.readBody(p)
	} else {
		n, err = r.readParts(p)
	}
	r.off += int64(n)
	if err != nil {
		r.err = r.s.fail(r.ctx, "read", r.name, err)
		if n > 0 {
			return n, nil
		}
		return 0, r.err
	}
	r.lookAhead()
	return n, nil
}

// readBody reads from the first body, and resumes it where it is cut short.
func (r *reader) readBody(p []byte) (int, error) {
	p = p[:min(int64(len(p)), r.stop-r.off)]
	for try := 1; ; try++ {
		n, err := r.readOnce(p)
		switch {
		case n > 0:
			if r.off+int64(n) == r.stop {
				err = r.finishBody(err)
				return n, err
			}
			return n, nil
		case err == nil:
			continue
		}
		r.closeBody()
		if err := r.mayResume(err, try); err != nil {
			return 0, err
		}
	}
}

// readOnce reads from the body, which it opens if there is none.
func (r *reader) readOnce(p []byte) (int, error) {
	if r.body == nil {
		body, _, err := r.s.get(r.ctx, r.s.keys.file(r.name), backends.Range{Off: r.off, Len: r.stop - r.off}, r.obj.version)
		if err != nil {
			return 0, &finalError{gone(err, r.obj.version)}
		}
		r.body = body
	}
	n, err := r.body.Read(p)
	if n == 0 && err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// finalError is an error of a request that had its retries already.
type finalError struct{ err error }

func (e *finalError) Error() string { return e.err.Error() }
func (e *finalError) Unwrap() error { return e.err }

// mayResume waits before a body that failed with err is asked for again, or
// returns why it is not.
func (r *reader) mayResume(err error, try int) error {
	var final *finalError
	switch {
	case errors.As(err, &final):
		return final.err
	case r.ctx.Err() != nil:
		return r.ctx.Err()
	case r.obj.version == "":
		return err // nothing says that the rest is of the same content
	case try >= r.s.cfg.MaxAttempts:
		return err
	}
	return sleep(r.ctx, backoff(try))
}

// finishBody is called with the last byte of the body, to hear of a checksum
// that does not fit: the SDK compares it when it meets the end.
func (r *reader) finishBody(err error) error {
	if err == nil && r.stop == r.obj.size {
		var more [1]byte
		_, err = r.body.Read(more[:])
	}
	r.closeBody()
	var broken net.Error
	if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &broken) {
		return nil // all bytes are here; how the connection ended doesn't matter
	}
	return err
}

func (r *reader) closeBody() {
	if r.body != nil {
		r.body.Close()
		r.body = nil
	}
}

// lookAhead asks for further parts once the consumer has shown that it reads
// on, as many as may be under way.
func (r *reader) lookAhead() {
	if r.fetch >= r.end || r.off < r.began+r.s.cfg.PartSize/4 {
		return
	}
	for r.fetch < r.end && len(r.ahead) < r.s.cfg.Concurrency {
		sec := backends.Range{Off: r.fetch, Len: min(r.s.cfg.PartSize, r.end-r.fetch)}
		ch := make(chan part, 1)
		go func() {
			data, err := r.s.fetchPart(r.ctx, r.s.keys.file(r.name), sec, r.obj.version)
			ch <- part{data, err}
		}()
		r.ahead = append(r.ahead, ch)
		r.fetch += sec.Len
	}
}

// readParts reads from the parts that were fetched ahead.
func (r *reader) readParts(p []byte) (int, error) {
	if len(r.tail) == 0 {
		r.lookAhead()
		select {
		case got := <-r.ahead[0]:
			if got.err != nil {
				return 0, got.err
			}
			r.tail, r.ahead = got.data, r.ahead[1:]
		case <-r.ctx.Done():
			return 0, r.ctx.Err()
		}
	}
	n := copy(p, r.tail)
	r.tail = r.tail[n:]
	return n, nil
}

// Close implements [io.Closer].
func (r *reader) Close() error {
	r.closed.Do(func() {
		r.cancel()
		r.closeBody()
		r.ahead, r.tail = nil, nil
		if r.err == nil {
			r.err = &fs.PathError{Op: "read", Path: r.name, Err: fs.ErrClosed}
		}
	})
	return nil
}

// fetchPart reads section sec of version v of a key into memory.
func (s *Store) fetchPart(ctx context.Context, key string, sec backends.Range, v backends.Version) ([]byte, error) {
	select {
	case s.parts <- struct{}{}:
		defer func() { <-s.parts }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	buf := make([]byte, sec.Len)
	have := int64(0)
	for try := 1; ; try++ {
		body, _, err := s.get(ctx, key, backends.Range{Off: sec.Off + have, Len: sec.Len - have}, v)
		if err != nil {
			return nil, gone(err, v)
		}
		n, err := io.ReadFull(body, buf[have:])
		body.Close()
		if err == nil {
			return buf, nil
		}
		if n > 0 {
			have, try = have+int64(n), 1
		}
		if try >= s.cfg.MaxAttempts {
			return nil, err
		}
		if err := sleep(ctx, backoff(try)); err != nil {
			return nil, err
		}
	}
}
