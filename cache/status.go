package cache

import (
	"slices"
	"strings"
	"time"
)

// Status is what a mount shows of one cache.
type Status struct {
	Store      string        `json:"store"`
	Room       string        `json:"room"`
	TTL        time.Duration `json:"ttl_ns"`
	Durability string        `json:"durability"`
	// Pending are the files that the store does not have as they are here.
	Pending      []Pending  `json:"pending"`
	PendingBytes int64      `json:"pending_bytes"`
	Conflicts    []Conflict `json:"conflicts"`
	// CacheBytes of CacheBudget are taken by contents on disk.
	CacheBytes  int64 `json:"cache_bytes"`
	CacheBudget int64 `json:"cache_budget"`
	// Nodes is the number of names known.
	Nodes int64 `json:"nodes"`
}

// Pending is one file that waits to be uploaded.
type Pending struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
	// Open says that somebody has it open; it is uploaded when it is closed.
	Open bool `json:"open"`
	// Error is why the last attempt failed, "" if there was none.
	Error string `json:"error,omitempty"`
}

// Status returns the state of the cache at this moment; its type is [Status].
func (c *FS) Status() any { return c.State() }

// State is Status with its type.
func (c *FS) State() Status {
	s := Status{
		Store: c.ids, Room: c.room.dir, TTL: c.cfg.TTL, Durability: "close",
		Nodes: c.tree.Nodes(),
	}
	s.CacheBytes, s.CacheBudget = c.room.usage()
	for _, f := range c.waiting() {
		name, ok := c.tree.Path(f.node)
		if !ok {
			continue
		}
		f.mu.Lock()
		p := Pending{Name: name, Size: f.sizeLocked(), Open: f.handles > 0}
		if f.failed != nil {
			p.Error = f.failed.Error()
		}
		f.mu.Unlock()
		s.Pending = append(s.Pending, p)
		s.PendingBytes += p.Size
	}
	slices.SortFunc(s.Pending, func(a, b Pending) int { return strings.Compare(a.Name, b.Name) })
	c.mu.Lock()
	s.Conflicts = slices.Clone(c.conflicts)
	c.mu.Unlock()
	return s
}
