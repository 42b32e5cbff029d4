package faulty

import (
	"context"
	"errors"
	"io"

	"github.com/agentfs/agentfs/backends"
)

// file is an open file with faults.
type file struct {
	backends.File
	w    *Files
	name string
}

var (
	_ backends.Allocator  = (*file)(nil)
	_ backends.Seeker     = (*file)(nil)
	_ backends.Descriptor = (*file)(nil)
	_ backends.PageCacher = (*file)(nil)
)

func (f *file) ReadAt(ctx context.Context, p []byte, off int64) (n int, err error) {
	err = f.w.call(ctx, "ReadAt", f.name, func() (err error) {
		n, err = f.File.ReadAt(ctx, p, off)
		return err
	})
	return n, err
}

// WriteAt with CutBody writes that much and then fails, as a disk that is full
// does.
func (f *file) WriteAt(ctx context.Context, p []byte, off int64) (int, error) {
	fate, err := f.w.begin(ctx, "WriteAt", f.name)
	if err != nil {
		return 0, err
	}
	if fate.cut >= 0 && fate.cut < int64(len(p)) {
		n, err := f.File.WriteAt(ctx, p[:fate.cut], off)
		if err == nil {
			err = fate.wrap(io.ErrShortWrite)
		}
		return n, err
	}
	n, err := f.File.WriteAt(ctx, p, off)
	return n, fate.end(err)
}

func (f *file) Flush(ctx context.Context) error {
	return f.w.call(ctx, "Flush", f.name, func() error { return f.File.Flush(ctx) })
}

func (f *file) Sync(ctx context.Context) error {
	return f.w.call(ctx, "Sync", f.name, func() error { return f.File.Sync(ctx) })
}

// Close is always made, so that a fault leaks nothing.
func (f *file) Close(ctx context.Context) error {
	fate, err := f.w.begin(ctx, "Close", f.name)
	return fate.end(errors.Join(err, f.File.Close(ctx)))
}

func (f *file) Allocate(ctx context.Context, off, length int64, mode uint32) error {
	a, ok := f.File.(backends.Allocator)
	if !ok {
		return errors.ErrUnsupported
	}
	return f.w.call(ctx, "Allocate", f.name, func() error { return a.Allocate(ctx, off, length, mode) })
}

func (f *file) SeekData(ctx context.Context, off int64) (int64, error) {
	if s, ok := f.File.(backends.Seeker); ok {
		return s.SeekData(ctx, off)
	}
	return 0, errors.ErrUnsupported
}

func (f *file) SeekHole(ctx context.Context, off int64) (int64, error) {
	if s, ok := f.File.(backends.Seeker); ok {
		return s.SeekHole(ctx, off)
	}
	return 0, errors.ErrUnsupported
}

// Descriptor offers none: what the kernel does itself can't be made to fail.
func (f *file) Descriptor() (int, bool) { return -1, false }

func (f *file) KeepPages() bool {
	p, ok := f.File.(backends.PageCacher)
	return ok && p.KeepPages()
}
