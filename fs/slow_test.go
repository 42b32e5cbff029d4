package fs

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/agentfs/agentfs/backends"
)

// slowFS is a file system whose reads and directory creations, and the lookups
// of "slow", wait like those of a network.
type slowFS struct {
	backends.FileSystem
	wait time.Duration
	// release ends every wait when it is closed.
	release chan struct{}
	// ended takes the error with which a wait ended early.
	ended chan error
	// waiting counts the operations that wait.
	waiting atomic.Int32
}

func newSlow(fsys backends.FileSystem, wait time.Duration) *slowFS {
	return &slowFS{FileSystem: fsys, wait: wait, release: make(chan struct{}), ended: make(chan error, 16)}
}

func (s *slowFS) sleep(ctx context.Context) error {
	s.waiting.Add(1)
	defer s.waiting.Add(-1)
	select {
	case <-time.After(s.wait):
		return nil
	case <-s.release:
		return nil
	case <-ctx.Done():
		s.ended <- ctx.Err()
		return ctx.Err()
	}
}

func (s *slowFS) Open(ctx context.Context, n backends.Node, flags int) (backends.File, error) {
	f, err := s.FileSystem.Open(ctx, n, flags)
	if err != nil {
		return nil, err
	}
	return &slowFile{f, s}, nil
}

func (s *slowFS) Lookup(ctx context.Context, parent backends.Node, name string) (backends.Node, backends.Attr, error) {
	if name == "slow" {
		if err := s.sleep(ctx); err != nil {
			return nil, backends.Attr{}, err
		}
	}
	return s.FileSystem.Lookup(ctx, parent, name)
}

func (s *slowFS) Mkdir(ctx context.Context, parent backends.Node, name string, a backends.CreateAttr) (backends.Node, backends.Attr, error) {
	if err := s.sleep(ctx); err != nil {
		return nil, backends.Attr{}, err
	}
	return s.FileSystem.Mkdir(ctx, parent, name, a)
}

// slowFile hides the descriptor of the file that it wraps.
type slowFile struct {
	backends.File
	s *slowFS
}

func (f *slowFile) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if err := f.s.sleep(ctx); err != nil {
		return 0, err
	}
	return f.File.ReadAt(ctx, p, off)
}
