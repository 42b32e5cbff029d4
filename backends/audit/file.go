package audit

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/agentfs/agentfs/backends"
)

// file is an open file.
type file struct {
	backends.ForwardFile
	w     *fileSystem
	n     backends.Node
	begun Op // the Open or Create; of its path the one at that time

	read, written atomic.Int64

	mu    sync.Mutex
	first error // of what was done with the file
}

// opening makes an Open or a Create. With a Log it keeps room for the Close
// too, so that a file that could be opened has an end on record.
func (w *fileSystem) opening(op *Op, do func() (backends.Node, backends.File, error)) (backends.File, error) {
	if w.c.Log != nil {
		if err := w.c.Log.Reserve(2); err != nil {
			op.Err = err
			w.c.fail(op)
			return nil, err
		}
	}
	n, f, err := do()
	op.Err = err
	if w.c.Log != nil {
		w.c.Log.Record(op)
		if err != nil {
			w.c.Log.Release(1)
		}
	}
	w.c.fail(op)
	if err != nil {
		return nil, err
	}
	return &file{ForwardFile: backends.ForwardFile{File: f}, w: w, n: n, begun: *op}, nil
}

func (w *fileSystem) Open(ctx context.Context, n backends.Node, flags int) (backends.File, error) {
	path := w.path(n)
	if w.c.skips(path) {
		return w.FileSystem.Open(ctx, n, flags)
	}
	op := w.c.begin(ctx, Open, path, "")
	op.Flags, op.Before = flags, w.version(ctx, n)
	return w.opening(op, func() (backends.Node, backends.File, error) {
		f, err := w.FileSystem.Open(ctx, n, flags)
		return n, f, err
	})
}

func (w *fileSystem) Create(ctx context.Context, parent backends.Node, name string, flags int, at backends.CreateAttr) (n backends.Node, a backends.Attr, f backends.File, err error) {
	path := w.child(parent, name)
	if w.c.skips(path) {
		return w.FileSystem.Create(ctx, parent, name, flags, at)
	}
	op := w.c.begin(ctx, Create, path, "")
	op.Flags = flags
	f, err = w.opening(op, func() (_ backends.Node, f backends.File, err error) {
		n, a, f, err = w.FileSystem.Create(ctx, parent, name, flags, at)
		return n, f, err
	})
	if err != nil {
		return nil, backends.Attr{}, nil, err
	}
	w.c.made(path)
	return n, a, f, nil
}

// did notes how something that was done with the file ended.
func (f *file) did(ctx context.Context, k Kind, err error) {
	if err == nil || errors.Is(err, backends.ErrNoData) {
		return
	}
	f.mu.Lock()
	if f.first == nil {
		f.first = err
	}
	f.mu.Unlock()
	op := f.w.c.begin(ctx, k, f.path(), "")
	op.Err = err
	f.w.c.fail(op)
}

// path returns the file's path of now.
func (f *file) path() string {
	if p, ok := f.w.paths.Path(f.n); ok {
		return p
	}
	return f.begun.Path
}

func (f *file) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(ctx, p, off)
	f.read.Add(int64(n))
	f.did(ctx, Read, err)
	return n, err
}

func (f *file) WriteAt(ctx context.Context, p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(ctx, p, off)
	f.written.Add(int64(n))
	f.did(ctx, Write, err)
	return n, err
}

func (f *file) Flush(ctx context.Context) error {
	err := f.File.Flush(ctx)
	f.did(ctx, Flush, err)
	return err
}

func (f *file) Sync(ctx context.Context) error {
	err := f.File.Sync(ctx)
	f.did(ctx, Sync, err)
	return err
}

func (f *file) Allocate(ctx context.Context, off, length int64, mode uint32) error {
	return f.w.node(ctx, Allocate, f.n, func(*Op) {}, func() error {
		return f.ForwardFile.Allocate(ctx, off, length, mode)
	})
}

// Close is told with the caller who opened the file: nobody calls it.
func (f *file) Close(ctx context.Context) error {
	err := f.File.Close(ctx)
	if f.w.c.Log == nil {
		return err
	}
	op := f.w.c.begin(ctx, Close, f.path(), "")
	op.Caller, op.Process, op.Exe = f.begun.Caller, f.begun.Process, f.begun.Exe
	op.Flags, op.Before = f.begun.Flags, f.begun.Before
	op.Read, op.Written = f.read.Load(), f.written.Load()
	op.After = f.w.version(ctx, f.n)
	f.mu.Lock()
	op.Err = f.first
	f.mu.Unlock()
	if op.Err == nil {
		op.Err = err
	}
	f.w.c.Log.Record(op)
	return err
}

// Descriptor offers none where the bytes are to be told.
func (f *file) Descriptor() (int, bool) {
	if f.w.c.Log != nil {
		return -1, false
	}
	return f.ForwardFile.Descriptor()
}

// CopyRange counts as what is read of one file and written to the other.
func (w *fileSystem) CopyRange(ctx context.Context, src backends.File, srcOff int64, dst backends.File, dstOff, n int64) (int64, error) {
	from, ours1 := src.(*file)
	to, ours2 := dst.(*file)
	if !ours1 || !ours2 {
		return 0, errors.ErrUnsupported
	}
	copied, err := w.ForwardFiles.CopyRange(ctx, from.File, srcOff, to.File, dstOff, n)
	from.read.Add(copied)
	to.written.Add(copied)
	if !errors.Is(err, errors.ErrUnsupported) { // the kernel copies by itself then
		to.did(ctx, CopyRange, err)
	}
	return copied, err
}
