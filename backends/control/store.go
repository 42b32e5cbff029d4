package control

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"iter"
	"time"

	"github.com/agentfs/agentfs/backends"
)

var (
	_ backends.Store = (*Store)(nil)
	_ backends.Filer = (*Store)(nil)
)

// Stat implements [backends.Store]. A file that can't be computed now is there
// with size 0 and no version; Open tells why.
func (s *Store) Stat(ctx context.Context, name string) (backends.Entry, error) {
	n, err := s.find("stat", name)
	if err != nil {
		return backends.Entry{}, err
	}
	return n.entry(ctx), nil
}

func (n *node) entry(ctx context.Context) backends.Entry {
	if n.file == nil {
		return backends.Entry{Name: n.name, Mode: n.mode(), ModTime: n.s.born}
	}
	b, err := n.content(ctx)
	if err != nil {
		return backends.Entry{Name: n.name, Mode: n.mode(), ModTime: time.Now()}
	}
	return n.entryOf(b)
}

// entryOf returns the entry of n with content b.
func (n *node) entryOf(b []byte) backends.Entry {
	sum := sha256.Sum256(b)
	return backends.Entry{
		Name: n.name, Mode: n.mode(), Size: int64(len(b)), ModTime: time.Now(),
		Version: backends.Version(hex.EncodeToString(sum[:16])),
	}
}

// List implements [backends.Store].
func (s *Store) List(ctx context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	return func(yield func(backends.Entry, error) bool) {
		n, err := s.find("list", dir)
		if err == nil && n.file != nil {
			err = &fs.PathError{Op: "list", Path: dir, Err: backends.ErrNotDir}
		}
		if err != nil {
			yield(backends.Entry{}, err)
			return
		}
		for _, c := range n.order {
			if c.key() > after && !yield(c.entry(ctx), nil) {
				return
			}
		}
	}
}

// Open implements [backends.Store]: the reader has the content of now.
func (s *Store) Open(ctx context.Context, name string, r backends.Range, cond backends.If) (io.ReadCloser, backends.Entry, error) {
	n, err := s.find("open", name)
	if err != nil {
		return nil, backends.Entry{}, err
	}
	if n.file == nil {
		return nil, backends.Entry{}, &fs.PathError{Op: "open", Path: name, Err: backends.ErrIsDir}
	}
	b, err := n.content(ctx)
	if err != nil {
		return nil, backends.Entry{}, err
	}
	e := n.entryOf(b)
	if cond.Match != "" && cond.Match != e.Version {
		return nil, backends.Entry{}, &fs.PathError{Op: "open", Path: name, Err: backends.ErrChanged}
	}
	if r.Off < 0 || r.Len < 0 {
		return nil, backends.Entry{}, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	b = b[min(r.Off, e.Size):]
	if r.Len > 0 {
		b = b[:min(r.Len, int64(len(b)))]
	}
	return io.NopCloser(bytes.NewReader(b)), e, nil
}

// Put implements [backends.Store] and is [backends.ErrReadOnly].
func (s *Store) Put(_ context.Context, name string, _ *io.SectionReader, _ backends.PutOptions) (backends.Entry, error) {
	return backends.Entry{}, readOnly("put", name)
}

// Mkdir implements [backends.Store] and is [backends.ErrReadOnly].
func (s *Store) Mkdir(_ context.Context, name string, _ backends.AttrChange) error {
	return readOnly("mkdir", name)
}

// Remove implements [backends.Store] and is [backends.ErrReadOnly].
func (s *Store) Remove(_ context.Context, name string, _ backends.If) error {
	return readOnly("remove", name)
}

// FileSystem implements [backends.Filer].
func (s *Store) FileSystem() backends.FileSystem { return files{s} }
