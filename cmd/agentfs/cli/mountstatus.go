package cli

import (
	"context"
	"os"
	"path"
	"strings"
	"time"

	"github.com/agentfs/agentfs/backends/policy"
	"github.com/agentfs/agentfs/cache"
	"github.com/agentfs/agentfs/cmd/agentfs/auditlog"
)

// mountStatus is the content of .agentfs/status.
type mountStatus struct {
	PID int `json:"pid"`
	// StartTicks is the process's start time as /proc/PID/stat has it: with it
	// a pid can't mean another process.
	StartTicks uint64    `json:"start_ticks"`
	MountPoint string    `json:"mount_point"`
	Version    string    `json:"version"`
	Started    time.Time `json:"started"`
	ReadOnly   bool      `json:"read_only"`
	CacheDir   string    `json:"cache_dir"`
	Outcome    string    `json:"outcome_socket,omitempty"`
	// Pending and PendingBytes are what the stores do not have yet, Conflicts
	// and Errors what somebody should look at: sums over the routes.
	Pending      int64         `json:"pending"`
	PendingBytes int64         `json:"pending_bytes"`
	Conflicts    int64         `json:"conflicts"`
	Errors       int64         `json:"errors"`
	Routes       []routeStatus `json:"routes"`
	// Audit is nil if nothing is recorded.
	Audit *auditlog.Status `json:"audit,omitempty"`
	// Left are rooms of ended mounts whose changes nobody sends. The mount does
	// not look at them; agentfs status does.
	Left []cache.RoomStatus `json:"left,omitempty"`
}

// routeStatus is one route in .agentfs/status.
type routeStatus struct {
	Path     string `json:"path"`
	Backend  string `json:"backend"`
	Store    string `json:"store"`
	Identity string `json:"identity"`
	Source   string `json:"source"`
	ReadOnly bool   `json:"read_only"`
	// Access is what may be done where no rule matches, if that is not write.
	Access     string `json:"access,omitempty"`
	Durability string `json:"durability,omitempty"` // empty: close(2) has nothing to wait for
	TTL        string `json:"ttl,omitempty"`
	TotalBytes uint64 `json:"total_bytes,omitempty"`
	FreeBytes  uint64 `json:"free_bytes,omitempty"`
	// Pending, Conflicts and Errors are numbers, taken from Cache.
	Pending   int64 `json:"pending"`
	Conflicts int64 `json:"conflicts"`
	Errors    int64 `json:"errors"`
	// Cache is nil where the store has its file depth by nature.
	Cache *cache.Status `json:"cache,omitempty"`
}

// status returns what who asks may see of the mount's state.
func (m *mounted) status(ctx context.Context) mountStatus {
	st := mountStatus{
		PID:        os.Getpid(),
		MountPoint: m.point,
		Version:    version(),
		Started:    m.started.UTC().Truncate(time.Second),
		ReadOnly:   m.readOnly,
		CacheDir:   m.cacheDir,
	}
	if m.outcome != nil {
		st.Outcome = m.outcome.name
	}
	if m.audit != nil {
		a := m.audit.Status()
		st.Audit = &a
	}
	st.StartTicks, _ = startTicks(st.PID)
	for _, r := range m.routes {
		rs := r.status(ctx)
		st.Pending += rs.Pending
		st.Conflicts += rs.Conflicts
		st.Errors += rs.Errors
		if rs.Cache != nil {
			st.PendingBytes += rs.Cache.PendingBytes
		}
		st.Routes = append(st.Routes, rs)
	}
	m.censor(ctx, &st)
	return st
}

func (r mountedRoute) status(ctx context.Context) routeStatus {
	rs := routeStatus{
		Path: r.path, Backend: r.backend, Store: r.String(), Identity: r.identity, Source: r.source, ReadOnly: r.readOnly,
	}
	if v := r.values[accessKey].Value; v != policy.Write.String() {
		rs.Access = v
	}
	if u, err := r.inner.StatFS(ctx, r.inner.Root()); err == nil && u.TotalBytes > 0 {
		rs.TotalBytes, rs.FreeBytes = u.TotalBytes, u.FreeBytes
	}
	if r.cache == nil {
		return rs
	}
	c := r.cache.State()
	rs.Cache, rs.TTL, rs.Durability = &c, r.ttl.String(), c.Durability
	if r.readOnly {
		rs.Durability = ""
	}
	rs.Pending, rs.Conflicts = c.PendingCount, int64(len(c.Conflicts))
	for _, n := range c.ErrorKinds {
		rs.Errors += n // more than are listed
	}
	return rs
}

// closeWaitsFor returns the durability of r as its cache has it; "" where
// there is nothing to wait for.
func (r mountedRoute) closeWaitsFor() string {
	if r.cache == nil || r.readOnly {
		return ""
	}
	return r.cache.State().Durability
}

// on returns the path on the mount of name in r.
func (r routeStatus) on(point, name string) string { return path.Join(point, r.Path, name) }

// isBelow reports whether the path p, which is clean, is dir or lies below it.
func isBelow(p, dir string) bool {
	return p == dir || dir == "/" || strings.HasPrefix(p, dir+"/")
}

// workBelow sums up what is pending at and below p, a path of the mount as its
// root sees it. Of a route with more changes than its status shows one by one,
// it is the work of the whole route.
func (st mountStatus) workBelow(p string) work {
	var w work
	for _, r := range st.Routes {
		c := r.Cache
		switch {
		case c == nil:
		case isBelow(r.Path, p), isBelow(p, r.Path) && int64(len(c.Pending)) < c.PendingCount:
			w.add(*c)
		case isBelow(p, r.Path):
			for _, x := range c.Pending {
				if isBelow(path.Join(r.Path, x.Name), p) {
					w.pending++
					w.bytes += x.Size
				}
			}
			for _, x := range c.Errors {
				if isBelow(path.Join(r.Path, x.Name), p) {
					w.problem(x)
				}
			}
			w.sent += c.Stats.UploadBytes
		}
	}
	return w
}
