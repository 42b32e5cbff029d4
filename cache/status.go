package cache

import (
	"slices"
	"strings"
	"time"

	"github.com/agentfs/agentfs/backends"
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
	// Errors are the changes whose last attempt failed: the first maxShown by
	// name. Each is tried again. ErrorKinds counts all, by Problem.Kind.
	Errors     []Problem        `json:"errors"`
	ErrorKinds map[string]int64 `json:"error_kinds,omitempty"`
	// CacheBytes of CacheBudget are taken by contents on disk.
	CacheBytes  int64 `json:"cache_bytes"`
	CacheBudget int64 `json:"cache_budget"`
	// Nodes is the number of names known.
	Nodes int64 `json:"nodes"`
	Stats Stats `json:"stats"`
	// Damage says what of the journal was damaged when it was opened.
	Damage string `json:"damage,omitempty"`
}

// maxShown is how many pending changes, and how many errors, a Status shows one
// by one.
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
	Uploads        int64 `json:"uploads"`          // files put, whole or in parts
	UploadBytes    int64 `json:"upload_bytes"`     // bytes sent for them
	Copies         int64 `json:"copies"`           // made inside the store
	Removals       int64 `json:"removals"`         // names removed from the store
	Failures       int64 `json:"failures"`         // attempts that failed
	Conflicts      int64 `json:"conflicts"`        // contents put beside others'
	FetchBytes     int64 `json:"fetch_bytes"`      // bytes read from the store
	FetchUsedBytes int64 `json:"fetch_used_bytes"` // those of them that somebody has read
	AheadBytes     int64 `json:"ahead_bytes"`      // of small files fetched ahead of a walk
	AheadUsed      int64 `json:"ahead_used"`       // of those that were opened then
	AheadWasted    int64 `json:"ahead_wasted"`     // of those that the walk did not come to
	Hits           int64 `json:"hits"`             // reads answered from here; what the kernel has it does not ask
	Misses         int64 `json:"misses"`           // reads that waited for the store
	Adopted        int64 `json:"adopted"`          // contents of earlier mounts that were used
	Damaged        int64 `json:"damaged"`          // pieces of cache files that were not what they should be
	Indexed        int64 `json:"indexed"`          // contents that the next mount will find
	Hedged         int64 `json:"hedged"`           // reads that the store was asked for twice, because the first took long
	HedgesWon      int64 `json:"hedges_won"`       // those whose second answer came first
	SlowDowns      int64 `json:"slow_downs"`       // answers of the store that asked for fewer requests
	RequestLimit   int64 `json:"request_limit"`    // how many may be under way because of them; 0 is no limit
	Cancelled      int64 `json:"cancelled"`        // changes that ended before the store heard of them
	JournalBytes   int64 `json:"journal_bytes"`    // size of the journal on disk
	RunningJobs    int64 `json:"running_jobs"`     // under way now
	MaxRunningJobs int64 `json:"max_running_jobs"`
}

// Status returns the state of the cache at this moment; its type is [Status].
func (c *FS) Status() any { return c.State() }

// State is Status with its type.
func (c *FS) State() Status {
	s := Status{
		Store: c.ids, Room: c.room.dir, TTL: c.cfg.TTL, Durability: c.cfg.Durability,
		Nodes: c.tree.Nodes(), Damage: c.journal.Damage(), Stats: c.counted(),
	}
	s.CacheBytes, s.CacheBudget = c.room.usage()
	c.ns.Lock()
	jobs := c.q.jobs()
	for _, j := range jobs {
		p, problem, ok := c.show(j)
		if !ok {
			continue
		}
		s.PendingCount++
		s.PendingBytes += p.Size
		s.Pending = append(s.Pending, p)
		if problem != nil {
			s.Errors = append(s.Errors, *problem)
			if s.ErrorKinds == nil {
				s.ErrorKinds = map[string]int64{}
			}
			s.ErrorKinds[problem.Kind]++
		}
	}
	c.ns.Unlock()
	slices.SortFunc(s.Pending, func(a, b Pending) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(s.Errors, func(a, b Problem) int { return strings.Compare(a.Name, b.Name) })
	s.Pending = s.Pending[:min(len(s.Pending), maxShown)]
	s.Errors = s.Errors[:min(len(s.Errors), maxShown)]
	c.mu.Lock()
	s.Conflicts = slices.Clone(c.conflicts)
	c.mu.Unlock()
	return s
}

// show describes a job. c.ns is held.
func (c *FS) show(j *job) (p Pending, problem *Problem, ok bool) {
	p.Name = c.nameLocked(j)
	if p.Name == "" {
		return p, nil, false
	}
	switch j.kind {
	case jobFile:
		f := j.f
		f.mu.Lock()
		p.Op, p.Open = "put", f.handles > 0
		if f.changedLocked() {
			p.Size = f.sizeLocked()
		} else {
			p.Op = "copy"
		}
		f.mu.Unlock()
	case jobGhost:
		p.Op = "remove"
		if n := c.nodeAt(j.g.key); n != nil && !j.g.dir {
			return p, nil, false // whatever is put there replaces it
		}
	case jobDir:
		p.Op = "mkdir"
	case jobAttrs:
		p.Op = "attributes"
		if !c.anyAttrs(j.d) {
			return p, nil, false // they go after what is shown anyway
		}
	}
	c.q.mu.Lock()
	defer c.q.mu.Unlock()
	p.Running = j.running
	if j.err != nil {
		p.Error = j.err.Error()
		problem = &Problem{
			Name: p.Name, Op: p.Op, Kind: kindOf(j.err), Error: p.Error, Since: j.since, Attempts: j.failures, Next: j.due,
		}
	}
	return p, problem, true
}

func (c *FS) counted() Stats {
	c.walks.mu.Lock()
	c.walks.forget(c, time.Now())
	c.walks.mu.Unlock()
	s := Stats{
		Uploads: c.stats.uploads.Load(), UploadBytes: c.stats.uploadBytes.Load(), Copies: c.stats.copies.Load(),
		Removals: c.stats.removals.Load(), Failures: c.stats.failures.Load(), Conflicts: c.stats.conflicts.Load(),
		FetchBytes: c.stats.fetchBytes.Load(), FetchUsedBytes: c.stats.fetchUsed.Load(), Cancelled: c.stats.cancelled.Load(),
		AheadBytes: c.stats.aheadBytes.Load(), AheadUsed: c.stats.aheadUsed.Load(), AheadWasted: c.stats.aheadWasted.Load(),
		Hits: c.stats.hits.Load(), Misses: c.stats.misses.Load(),
		Adopted: c.stats.adopted.Load(), Damaged: c.stats.damaged.Load(), Indexed: c.shelf.indexed(), JournalBytes: c.journal.Size(),
	}
	load := backends.LoadOf(c.store)
	s.Hedged, s.HedgesWon, s.SlowDowns, s.RequestLimit = load.Hedged, load.HedgesWon, load.SlowDowns, load.Limit
	c.q.mu.Lock()
	defer c.q.mu.Unlock()
	s.RunningJobs, s.MaxRunningJobs = int64(c.q.count), int64(c.q.most)
	return s
}
