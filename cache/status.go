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
	// Pending are the changes that the store does not have: the first
	// maxShown by name. PendingCount and PendingBytes count all.
	Pending      []Pending  `json:"pending"`
	PendingCount int64      `json:"pending_count"`
	PendingBytes int64      `json:"pending_bytes"`
	Conflicts    []Conflict `json:"conflicts"`
	// Errors are the changes whose last attempt failed; each is tried again.
	Errors []Problem `json:"errors"`
	// CacheBytes of CacheBudget are taken by contents on disk.
	CacheBytes  int64 `json:"cache_bytes"`
	CacheBudget int64 `json:"cache_budget"`
	// Nodes is the number of names known.
	Nodes int64 `json:"nodes"`
	Stats Stats `json:"stats"`
	// Damage says what of the journal was damaged when it was opened.
	Damage string `json:"damage,omitempty"`
}

// maxShown is how many pending changes a Status shows one by one.
const maxShown = 1000

// Pending is one change that the store does not have yet.
type Pending struct {
	Name string `json:"name"`
	// Op is what has to be done: put, copy, remove, mkdir, attributes.
	Op   string `json:"op"`
	Size int64  `json:"size"`
	// Open says that somebody has the file open.
	Open bool `json:"open,omitempty"`
	// Running says that it is on its way.
	Running bool `json:"running,omitempty"`
	// Error is why the last attempt failed, "" if there was none.
	Error string `json:"error,omitempty"`
}

// Problem is a change whose last attempt failed.
type Problem struct {
	Name string `json:"name"`
	Op   string `json:"op"`
	// Kind tells an outage (tried again, nothing to do) from what somebody
	// has to see to: permission, quota, name, or other.
	Kind     string    `json:"kind"`
	Error    string    `json:"error"`
	Since    time.Time `json:"since"`
	Attempts int       `json:"attempts"`
	Next     time.Time `json:"next"`
}

// Stats count what a cache has done since it was opened.
type Stats struct {
	Uploads        int64 `json:"uploads"`       // files put, whole or in parts
	UploadBytes    int64 `json:"upload_bytes"`  // bytes sent for them
	Copies         int64 `json:"copies"`        // made inside the store
	Removals       int64 `json:"removals"`      // names removed from the store
	Failures       int64 `json:"failures"`      // attempts that failed
	Conflicts      int64 `json:"conflicts"`     // contents put beside others'
	FetchBytes     int64 `json:"fetch_bytes"`   // bytes read from the store
	Cancelled      int64 `json:"cancelled"`     // changes that ended before the store heard of them
	JournalBytes   int64 `json:"journal_bytes"` // size of the journal on disk
	RunningJobs    int64 `json:"running_jobs"`  // under way now
	MaxRunningJobs int64 `json:"max_running_jobs"`
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
		p := Pending{Name: name, Op: "put", Size: f.sizeLocked(), Open: f.handles > 0}
		if f.failed != nil {
			p.Error = f.failed.Error()
		}
		f.mu.Unlock()
		s.Pending = append(s.Pending, p)
		s.PendingBytes += p.Size
	}
	s.PendingCount = int64(len(s.Pending))
	slices.SortFunc(s.Pending, func(a, b Pending) int { return strings.Compare(a.Name, b.Name) })
	c.mu.Lock()
	s.Conflicts = slices.Clone(c.conflicts)
	c.mu.Unlock()
	return s
}
