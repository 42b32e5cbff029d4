package exec

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/agentfs/agentfs/backends"
)

// Put implements [backends.Store].
func (s *Store) Put(ctx context.Context, name string, body *io.SectionReader, opts backends.PutOptions) (backends.Entry, error) {
	if err := checkName("put", name); err != nil {
		return backends.Entry{}, err
	}
	session, err := s.keeper.get(ctx)
	if err != nil {
		return backends.Entry{}, wrap("put", name, err)
	}
	e, err := s.settled(ctx, session, name, opts, func(opts backends.PutOptions) (backends.Entry, error) {
		return session.put(ctx, name, body, opts)
	})
	return e, wrap("put", name, err)
}

// settled makes a change of name, and looks what is there if its condition does
// not hold: an earlier attempt of this change counts as this one, and what an
// earlier change of the caller's left counts as what it has named.
func (s *Store) settled(ctx context.Context, session *session, name string, opts backends.PutOptions, change func(backends.PutOptions) (backends.Entry, error)) (backends.Entry, error) {
	if !session.has(featureOperation) {
		opts.Operation, opts.Earlier = "", nil
	}
	for {
		e, err := change(opts)
		if !errors.Is(err, backends.ErrChanged) && !errors.Is(err, fs.ErrExist) {
			return e, err
		}
		now, statErr := s.Stat(ctx, name)
		switch {
		case statErr != nil || now.Operation == "":
			return e, err
		case now.Operation == opts.Operation:
			return now, nil
		case slices.Contains(opts.Earlier, now.Operation) && now.Version != opts.If.Match:
			opts.If = backends.If{Match: now.Version}
		default:
			return e, err
		}
	}
}

// put sends a content, piece by piece: each when the program has asked for it.
func (s *session) put(ctx context.Context, name string, body *io.SectionReader, opts backends.PutOptions) (backends.Entry, error) {
	size := body.Size()
	// Read before the request is begun, so that one which can't be read is none.
	buf := make([]byte, min(size, MaxBody))
	if err := readPiece(body, buf, 0); err != nil {
		return backends.Entry{}, err
	}
	c, err := s.begin(ctx, "put")
	if err != nil {
		return backends.Entry{}, err
	}
	defer c.end()
	r := request{Op: "put", Name: name, Size: size, If: conditionOf(opts.If), Operation: opts.Operation}
	for off := int64(0); ; {
		off += int64(len(buf))
		r.More = off < size
		a, err := c.exchange(ctx, r, buf)
		if err != nil {
			return backends.Entry{}, err
		}
		if !a.More {
			e, err := a.file(name)
			if err == nil && (r.More || e.Size != size) {
				err = fmt.Errorf("the program answers that it has %d bytes, after %d of %d", e.Size, off, size)
			}
			return e, err
		}
		if !r.More {
			return backends.Entry{}, fmt.Errorf("the program asks for more than the %d bytes that there are", size)
		}
		// A new one: the writer may not have let go of the last, whatever the
		// program answers.
		buf = make([]byte, min(MaxBody, size-off))
		if err := readPiece(body, buf, off); err != nil {
			return backends.Entry{}, err
		}
		r = request{Op: "data"}
	}
}

func readPiece(body *io.SectionReader, buf []byte, off int64) error {
	n, err := body.ReadAt(buf, off)
	if n == len(buf) {
		return nil
	}
	return err
}
