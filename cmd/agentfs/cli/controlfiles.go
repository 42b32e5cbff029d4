package cli

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"text/template"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/control"
)

const (
	// controlDir is the name of the control directory at the root of a mount.
	controlDir  = ".agentfs"
	controlPath = "/" + controlDir
)

// mountStatus is the content of .agentfs/status.
type mountStatus struct {
	PID int `json:"pid"`
	// StartTicks is the process's start time as /proc/PID/stat has it: with it
	// a pid can't mean another process.
	StartTicks uint64        `json:"start_ticks"`
	MountPoint string        `json:"mount_point"`
	Version    string        `json:"version"`
	Started    time.Time     `json:"started"`
	ReadOnly   bool          `json:"read_only"`
	CacheDir   string        `json:"cache_dir"`
	Outcome    string        `json:"outcome_socket,omitempty"`
	Pending    int64         `json:"pending"`
	Conflicts  int64         `json:"conflicts"`
	Routes     []routeStatus `json:"routes"`
}

// routeStatus is one route in .agentfs/status.
type routeStatus struct {
	Path       string `json:"path"`
	Backend    string `json:"backend"`
	Store      string `json:"store"`
	Identity   string `json:"identity"`
	Source     string `json:"source"`
	ReadOnly   bool   `json:"read_only"`
	Durability string `json:"durability,omitempty"` // empty: the store is a local file system of its own
	TTL        string `json:"ttl,omitempty"`
	TotalBytes uint64 `json:"total_bytes,omitempty"`
	FreeBytes  uint64 `json:"free_bytes,omitempty"`
	// Pending and Conflicts are numbers of files, taken from Cache.
	Pending   int64 `json:"pending"`
	Conflicts int64 `json:"conflicts"`
	// Cache is what the route's file system says of itself, if anything.
	Cache json.RawMessage `json:"cache,omitempty"`
}

// statuser is implemented by file systems that have more to say than the
// contract asks: the cache about its staged files.
type statuser interface{ Status() any }

// controlStore makes the store of the control directory. Its files must not
// touch the mount, which waits for them.
func (m *mounted) controlStore() (backends.Store, error) {
	page := func(context.Context) ([]byte, error) { return m.agentsPage() }
	return control.New(map[string]control.File{
		"status": {Read: func(ctx context.Context) ([]byte, error) {
			b, err := json.MarshalIndent(m.status(ctx), "", "  ")
			return append(b, '\n'), err
		}},
		"routes": {Read: func(ctx context.Context) ([]byte, error) {
			var b bytes.Buffer
			writeRoutes(&b, m.status(ctx))
			return b.Bytes(), nil
		}},
		"README.md": {Read: page},
		"AGENTS.md": {Read: page},
	}, control.Config{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())})
}

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
	st.StartTicks, _ = startTicks(st.PID)
	for _, r := range m.routes {
		rs := r.status(ctx)
		st.Pending += rs.Pending
		st.Conflicts += rs.Conflicts
		st.Routes = append(st.Routes, rs)
	}
	return st
}

func (r mountedRoute) status(ctx context.Context) routeStatus {
	rs := routeStatus{
		Path: r.path, Backend: r.backend, Store: r.String(), Identity: r.identity, Source: r.source, ReadOnly: r.readOnly,
	}
	if r.cached {
		rs.Durability, rs.TTL = r.durability, r.ttl.String()
		if r.readOnly {
			rs.Durability = ""
		}
	}
	if u, err := r.inner.StatFS(ctx, r.inner.Root()); err == nil && u.TotalBytes > 0 {
		rs.TotalBytes, rs.FreeBytes = u.TotalBytes, u.FreeBytes
	}
	rs.Cache, rs.Pending, rs.Conflicts = r.cacheStatus()
	return rs
}

// cacheStatus returns what the route's file system says of itself, and the
// numbers of its pending files and conflicts.
func (r mountedRoute) cacheStatus() (all json.RawMessage, pending, conflicts int64) {
	s, ok := r.inner.(statuser)
	if !ok {
		return nil, 0, 0
	}
	b, err := json.Marshal(s.Status())
	if err != nil {
		return nil, 0, 0
	}
	return b, countIn(b, "pending"), countIn(b, "conflicts")
}

// countIn returns the number that a status has under key, or the length of
// the list there.
func countIn(status []byte, key string) int64 {
	var all map[string]json.RawMessage
	if json.Unmarshal(status, &all) != nil {
		return 0
	}
	for k, v := range all {
		if !strings.EqualFold(k, key) {
			continue
		}
		var n int64
		if json.Unmarshal(v, &n) == nil {
			return n
		}
		var list []json.RawMessage
		if json.Unmarshal(v, &list) == nil {
			return int64(len(list))
		}
	}
	return 0
}

// writeRoutes prints the routes as a table.
func writeRoutes(w interface{ Write([]byte) (int, error) }, st mountStatus) {
	tw := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(tw, "PATH\tSTORE\tACCESS\tCLOSED FILES ARE\tSPACE\tPENDING")
	for _, r := range st.Routes {
		access, stored, room := "read and write", "in the store", "-"
		if r.ReadOnly {
			access, stored = "read only", "-"
		} else if r.Backend == "local" {
			stored = "on this host"
		} else if r.Durability == "" {
			stored = "in " + r.Backend
		}
		if r.TotalBytes > 0 {
			room = humanize.IBytes(r.FreeBytes) + " of " + humanize.IBytes(r.TotalBytes) + " free"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%d\n", r.Path, r.Store, access, stored, room, r.Pending)
	}
	_ = tw.Flush()
}

//go:embed agents.md
var agentsText string

var agentsTemplate = template.Must(template.New("agents").Parse(agentsText))

// agentsPage is one page for agents on what this mount can do.
func (m *mounted) agentsPage() ([]byte, error) {
	type route struct {
		Path, Store             string
		ReadOnly, Cached, Flash bool
		TTL                     string
	}
	var data struct {
		MountPoint string
		Routes     []route
		Cached     bool
	}
	data.MountPoint = m.point
	for _, r := range m.routes {
		data.Cached = data.Cached || r.cached
		data.Routes = append(data.Routes, route{
			Path: r.path, Store: r.String(), ReadOnly: r.readOnly, Cached: r.cached, Flash: r.backend == "memory", TTL: r.ttl.String(),
		})
	}
	var b bytes.Buffer
	err := agentsTemplate.Execute(&b, data)
	return b.Bytes(), err
}
