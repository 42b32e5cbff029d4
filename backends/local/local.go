// Package local is a backend over a directory of the host, at both depths of
// package backends.
//
// # What stays inside
//
// No name leads out of the directory: a symbolic link is an entry of its own
// kind and is never followed, neither as the last element nor on the way
// ([backends.ErrNotDir]), and "..", absolute names and NUL are no valid names.
// A host mount below the directory is crossed, because whoever mounted it
// there meant it.
//
// # Against other processes
//
// Put replaces a file by rename(2) and If.Absent is checked by the kernel in
// the same step, so both are atomic for everybody on the host. If.Match is
// checked under a lock of this process just before the step: it holds against
// all users of this [Store], and leaves a window of microseconds against other
// processes, because no file system offers compare-and-swap.
//
// The version of a content is made of inode number, size, mtime and ctime. A
// change in place by another process is seen through the times; two such
// changes of equal size within one tick of the host's clock are not (kernels
// since 6.13 stamp finer where somebody looked). Put gives every content an
// mtime of its own.
//
// # Temporary files
//
// Put writes to a hidden name beside its target, beginning with
// ".agentfs-tmp-". Such names are reserved: they are not listed, not found and
// not made. One that a crash left behind is recognised by its lock, which dies
// with the process, and removed when a listing or a removal of its directory
// comes across it.
package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
)

// Store is a host directory at the object depth.
type Store struct {
	dir   string // as the user gave it, absolute
	root  *os.File
	files *FileSystem

	// renames is held for writing by Rename, which can move a directory under
	// the feet of others, and for reading by every other change.
	renames sync.RWMutex
	// names has the locks under which a precondition is checked and the
	// change that it guards is made, by the hash of the name. Lock order:
	// renames before names; never two of names.
	names [64]sync.Mutex
	// lastMtime is the last mtime that Put gave, in nanoseconds.
	lastMtime atomic.Int64
	closing   sync.Once
}

var (
	_ backends.Store          = (*Store)(nil)
	_ backends.Filer          = (*Store)(nil)
	_ backends.Closer         = (*Store)(nil)
	_ backends.Identifier     = (*Store)(nil)
	_ backends.Copier         = (*Store)(nil)
	_ backends.Renamer        = (*Store)(nil)
	_ backends.AttrSetter     = (*Store)(nil)
	_ backends.StoreSymlinker = (*Store)(nil)
	_ backends.UsageReporter  = (*Store)(nil)
	_ backends.Opener         = Open
)

// Open opens the directory that the option "path" names: an absolute path of
// an existing directory.
func Open(_ context.Context, o *backends.Options) (backends.Store, error) {
	dir := o.Required("path")
	var s *Store
	if dir != "" {
		var err error
		if s, err = New(dir); err != nil {
			o.Fail("path", "%v", err)
		}
	}
	if err := o.Close(); err != nil {
		if s != nil {
			err = errors.Join(err, s.Close())
		}
		return nil, err
	}
	return s, nil
}

// New returns a store over the existing directory dir, an absolute path.
func New(dir string) (*Store, error) {
	if !filepath.IsAbs(dir) {
		return nil, fmt.Errorf("%q is not an absolute path; write it from the root, as /srv/data", dir)
	}
	root, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s does not exist; create it (mkdir -p %s) or correct the path", dir, dir)
	case errors.Is(err, unix.ENOTDIR):
		return nil, fmt.Errorf("%s is not a directory; name the directory to serve", dir)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%s can't be read by user %d; grant access to it or run as another user", dir, os.Getuid())
	case err != nil:
		return nil, err
	}
	s := &Store{dir: filepath.Clean(dir), root: root}
	if s.files, err = newFileSystem(s); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return s, nil
}

// FileSystem returns the file depth over the same directory.
func (s *Store) FileSystem() backends.FileSystem { return s.files }

// Identity returns the directory's path behind all symbolic links.
func (s *Store) Identity() string {
	if real, err := filepath.EvalSymlinks(s.dir); err == nil {
		return "local:" + real
	}
	return "local:" + s.dir
}

// Close releases the directory, at both depths. No call may follow.
func (s *Store) Close() error {
	var err error
	s.closing.Do(func() {
		s.files.release()
		err = s.root.Close()
	})
	return err
}

// rootFD returns the descriptor of the directory.
func (s *Store) rootFD() int { return int(s.root.Fd()) }
