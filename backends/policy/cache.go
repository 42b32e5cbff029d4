package policy

import "sync"

// cacheSize is how many verdicts of directories are kept at most, twice: each
// is about a kilobyte with a few rules.
const cacheSize = 4096

// cache keeps what was used lately. When the young half is full it becomes the
// old one, and what was not used meanwhile is gone with the old one before.
type cache struct {
	mu         sync.Mutex
	young, old map[string]*verdict
}

func (c *cache) get(path string) *verdict {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, ok := c.young[path]; ok {
		return v
	}
	v := c.old[path]
	if v != nil {
		c.add(path, v)
	}
	return v
}

func (c *cache) put(path string, v *verdict) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(path, v)
}

func (c *cache) add(path string, v *verdict) {
	if len(c.young) >= cacheSize || c.young == nil {
		c.old, c.young = c.young, make(map[string]*verdict, 64)
	}
	c.young[path] = v
}
