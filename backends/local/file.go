package local

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
)

// file is an open regular file of the host.
type file struct {
	n    *node // kept known while the file is open
	f    *os.File
	fd   int
	keep bool
}

var (
	_ backends.File       = (*file)(nil)
	_ backends.Allocator  = (*file)(nil)
	_ backends.Seeker     = (*file)(nil)
	_ backends.Descriptor = (*file)(nil)
	_ backends.PageCacher = (*file)(nil)
)

// openFlags returns what of flags is the host's business: not O_APPEND, under
// which pwrite(2) would ignore its offset, nor O_SYNC, for which the kernel
// calls Sync itself.
func openFlags(flags int) int {
	return flags&(unix.O_ACCMODE|unix.O_TRUNC) | unix.O_CLOEXEC
}

// Open opens a regular file. Other types are the kernel's business and
// [fs.ErrInvalid] here.
func (f *FileSystem) Open(_ context.Context, n backends.Node, flags int) (opened backends.File, err error) {
	err = f.withNode("open", n, func(own *node, _ int) error {
		file, err := own.open(flags)
		if err == nil {
			opened = file
		}
		return err
	})
	return opened, err
}

// open opens n, whatever its name is by now.
func (n *node) open(flags int) (*file, error) {
	switch {
	case n.kind.IsDir():
		return nil, backends.ErrIsDir
	case !n.kind.IsRegular():
		return nil, fs.ErrInvalid
	}
	path, done, err := n.use()
	if err != nil {
		return nil, err
	}
	defer done()
	fd, err := openAt(unix.AT_FDCWD, procPath(path), openFlags(flags), 0)
	if err != nil {
		return nil, err
	}
	return n.newFile(fd), nil
}

func (n *node) newFile(fd int) *file {
	f := &file{n: n, f: os.NewFile(uintptr(fd), "file"), fd: fd, keep: n.pages.renew(fd)}
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err == nil && flags&unix.O_ACCMODE != unix.O_RDONLY {
		n.writers.add(f)
	}
	return f
}

// writers is a set of open files.
type writers struct {
	mu    sync.Mutex
	files map[*file]struct{}
}

func (w *writers) add(f *file) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.files == nil {
		w.files = map[*file]struct{}{}
	}
	w.files[f] = struct{}{}
}

func (w *writers) remove(f *file) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.files, f)
}

// truncate gives n's file another length. Who has it open for writing may do
// that whatever its mode says by now, as with ftruncate(2); who may call it by
// the mode was asked by the kernel.
func (n *node) truncate(path string, size int64) error {
	err := truncate(path, size)
	if err != unix.EACCES {
		return err
	}
	n.writers.mu.Lock() // none is closed meanwhile
	defer n.writers.mu.Unlock()
	for f := range n.writers.files {
		if err = retry(func() error { return unix.Ftruncate(f.fd, size) }); err == nil {
			break
		}
	}
	return err
}

// pageStamp remembers what a file looked like at its last open.
type pageStamp struct {
	mu           sync.Mutex
	size         int64
	mtime, ctime unix.Timespec
	trusted      bool
}

// tick is longer than the granularity of any host file system's times: a
// change within it can leave them as they are.
const tick = 2 * time.Second

// renew reports whether the file looks as at its last open, and remembers how
// it looks now.
func (p *pageStamp) renew(fd int) bool {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	same := p.trusted && p.size == st.Size && p.mtime == st.Mtim && p.ctime == st.Ctim
	p.size, p.mtime, p.ctime = st.Size, st.Mtim, st.Ctim
	p.trusted = time.Since(timeOf(st.Ctim)) > tick && time.Since(timeOf(st.Mtim)) > tick
	return same
}

// ReadAt reads from off.
func (f *file) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	n, err := f.f.ReadAt(p, off)
	if err == io.EOF {
		err = nil
	}
	return n, Wrap("read", "", err)
}

// WriteAt writes at off.
func (f *file) WriteAt(_ context.Context, p []byte, off int64) (int, error) {
	n, err := f.f.WriteAt(p, off)
	return n, Wrap("write", "", err)
}

// Flush closes a duplicate of the descriptor, because there are hosts (NFS,
// quotas) that tell of failed writes at close(2).
func (f *file) Flush(context.Context) error {
	fd, err := unix.FcntlInt(uintptr(f.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err == unix.EMFILE {
		return nil // the last close will be one, too
	}
	if err != nil {
		return Wrap("flush", "", err)
	}
	return Wrap("flush", "", unix.Close(fd))
}

// Sync is the host's fsync(2).
func (f *file) Sync(context.Context) error { return Wrap("fsync", "", f.f.Sync()) }

// Close closes the host's file.
func (f *file) Close(context.Context) error {
	f.n.writers.remove(f)
	return Wrap("close", "", f.f.Close())
}

// Descriptor returns the host's descriptor; it may always be used.
func (f *file) Descriptor() (int, bool) { return f.fd, true }

// KeepPages reports whether the file looked at this open as at the one before.
func (f *file) KeepPages() bool { return f.keep }

// Allocate is the host's fallocate(2).
func (f *file) Allocate(_ context.Context, off, length int64, mode uint32) error {
	return Wrap("fallocate", "", retry(func() error { return unix.Fallocate(f.fd, mode, off, length) }))
}

// SeekData returns the first offset from off on that has data.
func (f *file) SeekData(_ context.Context, off int64) (int64, error) {
	return f.seek(off, unix.SEEK_DATA)
}

// SeekHole returns the first offset from off on that is in a hole.
func (f *file) SeekHole(_ context.Context, off int64) (int64, error) {
	return f.seek(off, unix.SEEK_HOLE)
}

// seek moves the descriptor's own position, which nobody else uses.
func (f *file) seek(off int64, whence int) (int64, error) {
	if off < 0 {
		return 0, Wrap("lseek", "", backends.ErrNoData)
	}
	at, err := unix.Seek(f.fd, off, whence)
	if errors.Is(err, unix.EINVAL) {
		err = errors.ErrUnsupported // a host file system without holes
	}
	return at, Wrap("lseek", "", err)
}
