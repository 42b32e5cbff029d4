package protocol

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/agentfs/agentfs/backends"
)

// open opens the file name. Where there is something else, the error says what
// it is: a store only says that it can't be opened.
func open(ctx context.Context, s backends.Store, op, name string) (io.ReadCloser, backends.Entry, error) {
	r, e, err := s.Open(ctx, name, backends.Range{}, backends.If{})
	if !errors.Is(err, fs.ErrInvalid) {
		return r, e, err
	}
	if e, serr := s.Stat(ctx, name); serr == nil && !e.IsDir() {
		if rerr := regular(ctx, s, op, e); rerr != nil {
			err = rerr
		}
	}
	return nil, backends.Entry{}, err
}

// regular returns an error that says what e is, unless it is a regular file. A
// symbolic link is not followed: its target may be in no store.
func regular(ctx context.Context, s backends.Store, op string, e backends.Entry) error {
	if e.Mode.IsRegular() {
		return nil
	}
	err := errors.New("is not a regular file")
	if e.Mode&fs.ModeSymlink != 0 {
		err = errors.New("is a symbolic link; read what it names")
		if target, lerr := backends.Readlink(ctx, s, e.Name); lerr == nil {
			err = fmt.Errorf("is a symbolic link to %s; read that path", target)
		}
	}
	return &fs.PathError{Op: op, Path: e.Name, Err: err}
}
