package fs

import (
	"slices"
	"sync"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/agentfs/agentfs/backends"
)

// What the kernel knows is in go-fuse's tree, from the end of the call that
// handed it out until the kernel forgets it. So whoever wants to know what is in
// use has to wait for the calls that are under way.

// flights are the calls under way that may hand out nodes, or use one that the
// kernel does not know.
type flights struct {
	mu   sync.Mutex
	last uint64
	open map[uint64]struct{}
}

func (f *flights) begin() (seq uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last++
	if f.open == nil {
		f.open = map[uint64]struct{}{}
	}
	f.open[f.last] = struct{}{}
	return f.last
}

func (f *flights) end(seq uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.open, seq)
}

// Quiet implements [backends.NodeHolder].
func (f *flights) Quiet() (over func() bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	last := f.last
	return func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		for seq := range f.open {
			if seq <= last {
				return false
			}
		}
		return true
	}
}

// holder implements [backends.NodeHolder] for a mount.
type holder struct {
	*flights
	m *mount
}

// Holds implements [backends.NodeHolder]. In a directory that the kernel has
// never looked into it knows nothing.
func (h holder) Holds(dir backends.Node) func(name string) bool {
	v, ok := h.m.dirs.Load(dir.ID())
	if !ok {
		return func(string) bool { return false }
	}
	n := v.(*inode)
	return func(name string) bool { return n.GetChild(name) != nil }
}

// pruneAtOnce is how many inodes the kernel is told of in one message.
const pruneAtOnce = 512

// Release implements [backends.NodeHolder]: the kernel drops what nobody uses
// (since Linux 6.18; before that, only when it needs the memory), and says so by
// FORGET.
func (h holder) Release(dir backends.Node, names []string) {
	v, ok := h.m.dirs.Load(dir.ID())
	if !ok {
		return
	}
	n := v.(*inode)
	n.unlist()
	var known []*gofs.Inode
	for _, name := range names {
		if child := n.GetChild(name); child != nil {
			known = append(known, child)
		}
	}
	for part := range slices.Chunk(known, pruneAtOnce) {
		if n.NotifyPrune(part) == syscall.ENOSYS {
			return
		}
	}
}

// The calls that hand out nodes, or look for some by themselves.

// Lookup implements [fuse.RawFileSystem].
func (r rawFS) Lookup(cancel <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	defer r.flights.end(r.flights.begin())
	return r.RawFileSystem.Lookup(cancel, in, name, out)
}

// GetAttr implements [fuse.RawFileSystem].
func (r rawFS) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	defer r.flights.end(r.flights.begin())
	return r.RawFileSystem.GetAttr(cancel, in, out)
}

// SetAttr implements [fuse.RawFileSystem].
func (r rawFS) SetAttr(cancel <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	defer r.flights.end(r.flights.begin())
	return r.RawFileSystem.SetAttr(cancel, in, out)
}

// Mknod implements [fuse.RawFileSystem].
func (r rawFS) Mknod(cancel <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	defer r.flights.end(r.flights.begin())
	return r.RawFileSystem.Mknod(cancel, in, name, out)
}

// Mkdir implements [fuse.RawFileSystem].
func (r rawFS) Mkdir(cancel <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	defer r.flights.end(r.flights.begin())
	return r.RawFileSystem.Mkdir(cancel, in, name, out)
}

// Unlink implements [fuse.RawFileSystem].
func (r rawFS) Unlink(cancel <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	defer r.flights.end(r.flights.begin())
	return r.RawFileSystem.Unlink(cancel, in, name)
}

// Rmdir implements [fuse.RawFileSystem].
func (r rawFS) Rmdir(cancel <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	defer r.flights.end(r.flights.begin())
	return r.RawFileSystem.Rmdir(cancel, in, name)
}

// Rename implements [fuse.RawFileSystem].
func (r rawFS) Rename(cancel <-chan struct{}, in *fuse.RenameIn, oldName, newName string) fuse.Status {
	defer r.flights.end(r.flights.begin())
	return r.RawFileSystem.Rename(cancel, in, oldName, newName)
}

// Link implements [fuse.RawFileSystem].
func (r rawFS) Link(cancel <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	defer r.flights.end(r.flights.begin())
	return r.RawFileSystem.Link(cancel, in, name, out)
}

// Symlink implements [fuse.RawFileSystem].
func (r rawFS) Symlink(cancel <-chan struct{}, in *fuse.InHeader, to, name string, out *fuse.EntryOut) fuse.Status {
	defer r.flights.end(r.flights.begin())
	return r.RawFileSystem.Symlink(cancel, in, to, name, out)
}

// ReadDir implements [fuse.RawFileSystem].
func (r rawFS) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	defer r.flights.end(r.flights.begin())
	return r.RawFileSystem.ReadDir(cancel, in, out)
}

// ReadDirPlus implements [fuse.RawFileSystem].
func (r rawFS) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	defer r.flights.end(r.flights.begin())
	return r.RawFileSystem.ReadDirPlus(cancel, in, out)
}
