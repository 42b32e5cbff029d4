package fs

import (
	"sync"

	"github.com/agentfs/agentfs/backends"
)

// changes passes on to the kernel what the file system learns from outside. A
// notification waits for locks that the kernel holds while it waits for us, so
// it is sent by a goroutine of its own.
type changes struct {
	m *mount

	mu      sync.Mutex
	queue   map[change]struct{} // each once, however often it changes meanwhile
	stopped bool
	more    chan struct{} // has an element if the queue may have one
}

type change struct {
	dir  uint64
	name string
}

// watchChanges sets up notifications if the file system has any. It is called
// before any other call of the file system.
func (m *mount) watchChanges() *changes {
	cn, ok := m.fsys.(backends.ChangeNotifier)
	if !ok {
		return nil
	}
	c := &changes{m: m, more: make(chan struct{}, 1)}
	cn.OnChange(func(parent backends.Node, name string) { c.add(change{parent.ID(), name}) })
	return c
}

func (c *changes) add(ch change) {
	// The kernel knows no names in a directory that it has never looked into.
	if _, ok := c.m.dirs.Load(ch.dir); !ok {
		return
	}
	c.mu.Lock()
	if !c.stopped {
		if c.queue == nil {
			c.queue = map[change]struct{}{}
		}
		c.queue[ch] = struct{}{}
	}
	c.mu.Unlock()
	c.wake()
}

func (c *changes) wake() {
	select {
	case c.more <- struct{}{}:
	default:
	}
}

// stop ends run.
func (c *changes) stop() {
	c.mu.Lock()
	c.stopped = true
	c.queue = nil
	c.mu.Unlock()
	c.wake()
}

// run sends notifications until stop is called.
func (c *changes) run() {
	for range c.more {
		c.mu.Lock()
		queue, stopped := c.queue, c.stopped
		c.queue = nil
		c.mu.Unlock()
		if stopped {
			return
		}
		for ch := range queue {
			c.m.notify(ch)
		}
	}
}

// notify makes the kernel forget a name, what it keeps of its directory, and
// the attributes of the node that it knew there. Not that node's pages: a
// changed content comes with a new node, and who has the old one open goes on
// reading the old content. What the kernel doesn't know any more it answers
// with ENOENT, which is as good.
func (m *mount) notify(ch change) {
	v, ok := m.dirs.Load(ch.dir)
	if !ok {
		return
	}
	dir := v.(*inode)
	child := dir.GetChild(ch.name)
	dir.NotifyEntry(ch.name)
	dir.NotifyContent(0, 0)
	if child != nil {
		child.NotifyContent(-1, 0)
	}
}

// watched makes n known to notify. It is called by what the kernel asks of
// the directory itself, because only then n is surely the inode that go-fuse
// has chosen for the node.
func (n *inode) watched() {
	if n.inDirs.Load() {
		return
	}
	n.inDirs.Store(true)
	n.m.dirs.Store(n.node.ID(), n)
}

// unwatch undoes watched.
func (n *inode) unwatch() {
	if n.inDirs.Load() {
		n.m.dirs.CompareAndDelete(n.node.ID(), n)
		n.inDirs.Store(false)
	}
}
