// Package memory is the backend that keeps everything in memory and forgets
// it at the end: the default for the root of a mount, and scratch space for
// agents.
//
// Contents lie in one of two places. With the privilege to mount
// (CAP_SYS_ADMIN) they are files of a detached tmpfs, which the kernel can
// read and write directly (FUSE passthrough) and whose limit it keeps itself.
// Without, they are chunks outside Go's heap, counted against the limit. No
// descriptor is held for a file that is not open.
package memory

import (
	"context"
	"io/fs"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/tree"
	"github.com/agentfs/agentfs/backends/unixmode"
)

// Config says how a memory store is made. The zero Config is a good one.
type Config struct {
	// Size limits the contents, in bytes; 0 is half of the machine's memory.
	Size int64
	// UID, GID and Mode are those of the root directory; Mode 0 is 0755.
	UID, GID uint32
	Mode     fs.FileMode
	// NoTmpfs keeps contents in the process even if a tmpfs could be had.
	NoTmpfs bool
	// MinPart and GoodPart are what the store says of the parts of uploads, in
	// bytes: the least size of all but the last, 5 MiB by default, and the size
	// that is worth while, 8 MiB by default.
	MinPart, GoodPart int64
}

// bytesPerNode is what a node is counted for against the limit on the number
// of files, about what its name and attributes take.
const bytesPerNode = 1 << 10

// Store is a memory backend, at both depths.
type Store struct {
	tree  *tree.Tree
	tmpfs *tmpfs // nil: contents are on the heap
	arena *arena // used when tmpfs is nil

	size     int64
	maxNodes int64
	extra    atomic.Int64 // bytes in extended attributes and link targets
	uploads  *uploads

	notifyMu sync.Mutex
	notify   func(parent backends.Node, name string)
}

var (
	_ backends.Store          = (*Store)(nil)
	_ backends.Filer          = (*Store)(nil)
	_ backends.Closer         = (*Store)(nil)
	_ backends.Renamer        = (*Store)(nil)
	_ backends.ManyRemover    = (*Store)(nil)
	_ backends.Uploader       = (*Store)(nil)
	_ backends.AttrSetter     = (*Store)(nil)
	_ backends.StoreSymlinker = (*Store)(nil)
	_ backends.UsageReporter  = (*Store)(nil)
)

// Open is the [backends.Opener] of memory. Options: size, uid, gid, dir_mode.
func Open(_ context.Context, o *backends.Options) (backends.Store, error) {
	c := Config{
		Size: o.Bytes("size", 0),
		UID:  uint32(o.Int("uid", int64(unix.Geteuid()), 0, 1<<32-2)),
		GID:  uint32(o.Int("gid", int64(unix.Getegid()), 0, 1<<32-2)),
		Mode: unixmode.From(o.Mode("dir_mode", 0o755)),
	}
	if err := o.Close(); err != nil {
		return nil, err
	}
	return New(c)
}

// New returns an empty store.
func New(c Config) (*Store, error) {
	if c.Size <= 0 {
		var info unix.Sysinfo_t
		if err := unix.Sysinfo(&info); err != nil {
			return nil, err
		}
		c.Size = int64(uint64(info.Totalram) * uint64(info.Unit) / 2)
	}
	if c.Mode == 0 {
		c.Mode = 0o755
	}
	s := &Store{size: c.Size, maxNodes: max(c.Size/bytesPerNode, 64), uploads: newUploads(c)}
	if !c.NoTmpfs {
		// Any error here means that this process may not; the arena is as
		// right, only slower.
		s.tmpfs, _ = newTmpfs(c.Size)
	}
	if s.tmpfs == nil {
		s.arena = &arena{limit: c.Size}
	}
	s.tree = tree.New(backends.CreateAttr{Mode: c.Mode, UID: c.UID, GID: c.GID}, nil)
	return s, nil
}

// FileSystem implements [backends.Filer].
func (s *Store) FileSystem() backends.FileSystem { return (*fileSystem)(s) }

// Close gives the memory back. Nothing may be open.
func (s *Store) Close() error {
	if s.tmpfs != nil {
		return s.tmpfs.close()
	}
	s.arena.close()
	return nil
}

// Usage implements [backends.UsageReporter].
func (s *Store) Usage(context.Context) (backends.Usage, error) {
	u := backends.Usage{
		TotalBytes: uint64(s.size),
		TotalFiles: uint64(s.maxNodes),
		FreeFiles:  uint64(max(0, s.maxNodes-s.tree.Nodes())),
	}
	if s.tmpfs == nil {
		u.FreeBytes = uint64(max(0, s.size-s.arena.used.Load()))
		return u, nil
	}
	free, err := s.tmpfs.free()
	u.FreeBytes = free
	return u, err
}

// newNode returns a nameless node with a content if it is a regular file.
func (s *Store) newNode(a backends.CreateAttr) (*tree.Node, error) {
	if s.tree.Nodes() >= s.maxNodes {
		return nil, backends.ErrNoSpace
	}
	if !a.Mode.IsRegular() {
		return s.tree.NewNode(a, nil), nil
	}
	f := &file{}
	n := s.tree.NewNode(a, f)
	if s.tmpfs != nil {
		f.body = &hostBody{tmpfs: s.tmpfs, id: n.ID()}
	} else {
		f.body = &chunkBody{arena: s.arena}
	}
	return n, nil
}

// grow counts bytes of extended attributes and link targets against the limit.
func (s *Store) grow(n int64) error {
	if now := s.extra.Add(n); n > 0 && now > s.size {
		s.extra.Add(-n)
		return backends.ErrNoSpace
	}
	return nil
}

// unnamed ends what a node without a name no longer needs.
func (s *Store) unnamed(n *tree.Node) {
	if sum := s.tree.XattrBytes(n); sum > 0 {
		s.extra.Add(-sum)
	}
	if target, err := s.tree.Readlink(n); err == nil {
		s.extra.Add(-int64(len(target)))
	}
	if f, ok := n.Data.(*file); ok {
		f.unlinked()
	}
}

// changed tells the mount about a change that did not come through it.
func (s *Store) changed(parent *tree.Node, name string) {
	s.notifyMu.Lock()
	notify := s.notify
	s.notifyMu.Unlock()
	if notify != nil {
		notify(parent, name)
	}
}
