package policy

import (
	"context"
	"errors"
	"sync"

	"github.com/agentfs/agentfs/backends"
)

// file is an open file. Its rights are those of the open, but for what its
// writes may change: that depends on where the file is now.
type file struct {
	backends.ForwardFile
	f     *files
	n     backends.Node
	class int
	write bool
	// append is whether the file's route has files that may only grow. Then
	// all writes have to come here.
	append bool
	direct bool // it was opened to be appended to

	mu    sync.Mutex
	floor int64 // no write may begin below it; -1 if none was needed so far
}

// opened wraps a file that was opened with these rights.
func (f *files) opened(ctx context.Context, n backends.Node, v *verdict, class int, in backends.File, flags int) (backends.File, error) {
	h := &file{
		ForwardFile: backends.ForwardFile{File: in},
		f:           f, n: n, class: class, write: writes(flags),
		append: f.p.routes[v.route].append,
		floor:  -1,
	}
	if h.write && v.access(class) == Append {
		h.direct = true
		a, err := f.FileSystem.Attr(ctx, n)
		if err != nil {
			return nil, errors.Join(err, in.Close(ctx))
		}
		h.floor = a.Size
	}
	return h, nil
}

// mayWrite returns an error if nothing may be changed at off.
func (h *file) mayWrite(ctx context.Context, op string, off int64) error {
	if !h.append {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.floor >= 0 && off >= h.floor {
		return nil
	}
	v, err := h.f.node(ctx, op, h.n, h.class)
	if err != nil {
		return err
	}
	if h.floor < 0 && v.access(h.class) == Write {
		return nil
	}
	// Renamed to where it may only grow, or shortened by somebody who may.
	a, err := h.f.FileSystem.Attr(ctx, h.n)
	if err != nil {
		return err
	}
	if h.floor < 0 || a.Size < h.floor {
		h.floor = a.Size
	}
	if off < h.floor {
		return h.f.p.deny(op, v, h.class)
	}
	return nil
}

func (h *file) WriteAt(ctx context.Context, p []byte, off int64) (int, error) {
	if err := h.mayWrite(ctx, "write", off); err != nil {
		return 0, err
	}
	return h.File.WriteAt(ctx, p, off)
}

func (h *file) Allocate(ctx context.Context, off, length int64, mode uint32) error {
	if err := h.mayWrite(ctx, "fallocate", off); err != nil {
		return err
	}
	return h.ForwardFile.Allocate(ctx, off, length, mode)
}

// Descriptor offers none where writes have to come here: once the kernel
// writes to a file by itself it does so for every handle.
func (h *file) Descriptor() (int, bool) {
	if h.append {
		return -1, false
	}
	return h.ForwardFile.Descriptor()
}

// DirectIO makes every write come here as it was made, and the kernel refuse
// shared writable mappings, which would write whole pages.
func (h *file) DirectIO() bool { return h.direct || h.ForwardFile.DirectIO() }

// CopyRange copies to where a write would be allowed.
func (f *files) CopyRange(ctx context.Context, src backends.File, srcOff int64, dst backends.File, dstOff, n int64) (int64, error) {
	from, ok1 := src.(*file)
	to, ok2 := dst.(*file)
	if !ok1 || !ok2 || from.f != f || to.f != f {
		return 0, errors.ErrUnsupported
	}
	if err := to.mayWrite(ctx, "copy_file_range", dstOff); err != nil {
		return 0, err
	}
	return f.ForwardFiles.CopyRange(ctx, from.File, srcOff, to.File, dstOff, n)
}
