package cache

import (
	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/tree"
)

// news is what the kernel has still to be told: names of which what it knows is no
// longer so. They are found out with locks held, and perhaps while the kernel waits for
// us, so a goroutine tells them. It is one for all: of a large directory somebody else
// may have removed a million names. Guarded by FS.mu.
type news struct {
	tell    func(parent backends.Node, name string) // nil: nobody is to be told
	names   []newsOf
	telling bool
}

type newsOf struct {
	dir  *tree.Node
	name string
}

// OnChange implements [backends.ChangeNotifier].
func (c *FS) OnChange(f func(backends.Node, string)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.news.tell = f
}

// changed says that what Lookup has answered for name is no longer so.
func (c *FS) changed(dir *tree.Node, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := &c.news
	if n.tell == nil {
		return
	}
	n.names = append(n.names, newsOf{dir, name})
	if !n.telling {
		n.telling = true
		go c.tellNews()
	}
}

// tellNews tells all that there is to tell.
func (c *FS) tellNews() {
	for {
		c.mu.Lock()
		n := &c.news
		tell, names := n.tell, n.names
		n.names = nil
		n.telling = len(names) > 0
		c.mu.Unlock()
		if len(names) == 0 {
			return
		}
		for _, x := range names {
			tell(x.dir, x.name)
		}
	}
}
