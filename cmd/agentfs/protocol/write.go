package protocol

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/agentfs/agentfs/backends"
)

// WriteOptions are the preconditions of a Write.
type WriteOptions struct {
	// CreateOnly writes only if there is nothing under the path yet.
	CreateOnly bool
	// IfVersion writes only if the file still holds this version.
	IfVersion backends.Version
}

// Write makes all of r the content of the file p, all or nothing. Missing
// directories are made. An unmet precondition is [fs.ErrExist] or
// [backends.ErrChanged].
func Write(ctx context.Context, s backends.Store, p string, r io.Reader, o WriteOptions) (Item, error) {
	name, err := Name(p)
	if err != nil {
		return Item{}, err
	}
	if o.CreateOnly && o.IfVersion != "" {
		return Item{}, &fs.PathError{Op: "write", Path: name, Err: fmt.Errorf("%w: create-only and if-version exclude each other", fs.ErrInvalid)}
	}
	tmp, err := scratch()
	if err != nil {
		return Item{}, err
	}
	defer tmp.Close()
	n, err := io.Copy(tmp, r)
	if err != nil {
		return Item{}, fmt.Errorf("reading what to write to %s: %w", Path(name, false), err)
	}
	e, err := s.Put(ctx, name, io.NewSectionReader(tmp, 0, n), backends.PutOptions{
		If: backends.If{Absent: o.CreateOnly, Match: o.IfVersion},
	})
	if err != nil {
		return Item{}, err
	}
	return itemOf(e), nil
}

// scratch returns a temporary file without a name, for content that a Put
// must be able to read more than once.
func scratch() (*os.File, error) {
	f, err := os.CreateTemp("", "agentfs-*")
	if err != nil {
		return nil, fmt.Errorf("room for the content (set TMPDIR to a directory with space): %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
