package local

import (
	"errors"
	"hash/maphash"
	"io/fs"
	"runtime"
	"sync"
	"time"
	"weak"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/unixmode"
)

// inodeKey is what the host knows an inode by.
type inodeKey struct{ dev, ino uint64 }

// node is one inode of the host. It holds a descriptor (O_PATH: it opens
// nothing and needs no permission), so that the inode can be reached without
// its name, and so that the host doesn't give its number to another inode
// while the node is known.
type node struct {
	fsys *FileSystem
	key  inodeKey
	id   uint64
	kind fs.FileMode // type bits; an inode never changes them

	// mu guards fd against being closed while it is used: readers use it,
	// Forget closes it. Forget only tries the lock, so that no reader of two
	// nodes can wait for a writer.
	mu sync.RWMutex
	fd int // -1 once closed

	// writers are the open files that may be written.
	writers writers

	// pages is what the inode looked like when it was last opened.
	pages pageStamp

	cleanup runtime.Cleanup
}

// ID returns the inode's number: the host's own, if the inode lies on the
// device of the root and the number fits.
func (n *node) ID() uint64 { return n.id }

// use returns n's descriptor, valid until done is called.
func (n *node) use() (fd int, done func(), err error) {
	n.mu.RLock()
	if n.fd < 0 {
		n.mu.RUnlock()
		return -1, nil, fs.ErrNotExist
	}
	return n.fd, func() {
		n.mu.RUnlock()
		// Not collected, its descriptor not closed, before the call is over.
		runtime.KeepAlive(n)
	}, nil
}

// nodeTable has the nodes that somebody knows: one per inode.
type nodeTable struct {
	rootDev uint64
	seed    maphash.Seed

	mu    sync.Mutex
	nodes map[inodeKey]weak.Pointer[node]
	// far has the live nodes with ids that are not the host's.
	far map[uint64]weak.Pointer[node]
}

// farID is the bit that ids have which are not the host's numbers.
const farID = 1 << 47

// idOf returns the id that an inode has, or has first choice of.
func (t *nodeTable) idOf(key inodeKey) uint64 {
	if key.dev == t.rootDev && key.ino < farID && key.ino != 0 {
		return key.ino
	}
	return farID | maphash.Comparable(t.seed, key)&(farID-1)
}

// known returns the node of an inode if there is one. A known inode holds its
// number, so the one that was found under it is the same.
func (t *nodeTable) known(key inodeKey) *node {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.nodes[key].Value()
}

// intern returns the node of the inode that fd, opened with O_PATH, refers
// to. It takes fd over.
func (t *nodeTable) intern(fsys *FileSystem, fd int, st *unix.Stat_t) *node {
	key := inodeKey{st.Dev, st.Ino}
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.nodes[key].Value(); n != nil {
		_ = unix.Close(fd)
		return n
	}
	n := &node{fsys: fsys, key: key, id: t.idOf(key), kind: unixmode.From(st.Mode).Type(), fd: fd}
	w := weak.Make(n)
	if n.id&farID != 0 {
		for t.far[n.id].Value() != nil {
			n.id = farID | (n.id+1)&(farID-1)
		}
		t.far[n.id] = w
	}
	t.nodes[key] = w
	n.cleanup = runtime.AddCleanup(n, func(g grave) { t.bury(g) }, grave{key, n.id, fd, w})
	return n
}

// grave is what is left of a node that nobody knows any more.
type grave struct {
	key inodeKey
	id  uint64
	fd  int
	w   weak.Pointer[node]
}

// bury closes a node's descriptor and takes it off the table, unless another
// node of the same inode is there by now.
func (t *nodeTable) bury(g grave) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.nodes[g.key] == g.w {
		delete(t.nodes, g.key)
	}
	if t.far[g.id] == g.w {
		delete(t.far, g.id)
	}
	_ = unix.Close(g.fd)
}

// forget lets an inode without a name go at once, instead of when the node is
// collected: until then the host keeps its content.
func (t *nodeTable) forget(n *node) {
	if !n.mu.TryLock() {
		return // in use; then the collector does it
	}
	defer n.mu.Unlock()
	var st unix.Stat_t
	if n.fd < 0 || unix.Fstat(n.fd, &st) != nil || st.Nlink > 0 {
		return
	}
	t.drop(n)
}

// drop closes n's descriptor now. The caller holds n.mu for writing.
func (t *nodeTable) drop(n *node) {
	if n.fd < 0 {
		return
	}
	n.cleanup.Stop()
	t.bury(grave{n.key, n.id, n.fd, weak.Make(n)})
	n.fd = -1
}

// spare repeats open when a signal interrupted it, and when the process has no
// descriptor left: nodes that nobody knows hold theirs until they are
// collected.
func spare(open func() error) error {
	err := retry(open)
	for try := 0; try < 3 && (err == unix.EMFILE || err == unix.ENFILE); try++ {
		runtime.GC()
		// Cleanups run beside the collector.
		time.Sleep(10 * time.Millisecond)
		err = retry(open)
	}
	return err
}

// asNode returns n if it is a node of f.
func (f *FileSystem) asNode(n backends.Node) (*node, error) {
	own, ok := n.(*node)
	if !ok || own.fsys != f {
		return nil, errors.ErrUnsupported
	}
	return own, nil
}

func newNodeTable(rootDev uint64) nodeTable {
	return nodeTable{
		rootDev: rootDev,
		seed:    maphash.MakeSeed(),
		nodes:   map[inodeKey]weak.Pointer[node]{},
		far:     map[uint64]weak.Pointer[node]{},
	}
}
