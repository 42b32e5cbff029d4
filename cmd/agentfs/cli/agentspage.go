package cli

import (
	"bytes"
	"context"
	_ "embed"
	"strings"
	"text/template"

	"github.com/agentfs/agentfs/backends/sql"
	"github.com/agentfs/agentfs/cmd/agentfs/auditlog"
)

//go:embed agents.md
var agentsText string

var agentsTemplate = template.Must(template.New("agents").Parse(agentsText))

// maxKey is how many bytes a key of S3, prefix included, has at most.
const maxKey = 1024

// agentsRoute is a route on the page for agents.
type agentsRoute struct {
	Path, Store       string
	ReadOnly, Scratch bool
	// Durability is "" where close(2) has nothing to wait for.
	Durability string
	// TTL is "" where nobody asks a store.
	TTL  string
	Size string // where it is limited
	// Cached: an object store is behind it.
	Cached       bool
	NoAttributes bool
	// PathLimit is how many bytes a path below the route has, 0 without limit.
	PathLimit int
}

// agentsPage is one page for agents on what this mount can do, made of its
// configuration, as far as who reads it may know.
func (m *mounted) agentsPage(ctx context.Context) ([]byte, error) {
	var data struct {
		MountPoint          string
		ReadOnly            bool
		Routes              []agentsRoute
		Writeback, Close    bool // there is a route with it
		Cached              bool
		Disk, Timeout       string
		Audit, AuditRefuses bool
		Rules               []string // as who reads may see them
	}
	data.MountPoint, data.ReadOnly, data.Timeout = m.point, m.readOnly, m.timeout.String()
	if m.config.cacheSize > 0 {
		data.Disk = bytesOf(m.config.cacheSize)
	}
	data.Audit = m.audit != nil
	data.AuditRefuses = data.Audit && m.audit.Status().WhenFull == auditlog.Refuse
	data.Rules = m.policyView(ctx).lines()
	seen := m.sees(ctx)
	for _, r := range m.routes {
		if !seen(r.path) {
			continue
		}
		d := r.closeWaitsFor()
		a := agentsRoute{
			Path: r.path, Store: r.String(), ReadOnly: r.readOnly, Scratch: r.backend == "memory", Durability: d,
			Cached: r.cache != nil, NoAttributes: r.noAttributes,
		}
		if a.Scratch {
			a.Size = r.values["size"].Value
		}
		if a.Cached {
			a.TTL = r.ttl.String()
		}
		switch r.backend {
		case "sql":
			a.PathLimit = sql.MaxName
		case "s3":
			a.PathLimit = maxKey
			if p := strings.Trim(r.values["prefix"].Value, "/"); p != "" {
				a.PathLimit -= len(p) + 1
			}
		}
		data.Writeback = data.Writeback || d == durabilityWriteback
		data.Close = data.Close || d == durabilityClose
		data.Cached = data.Cached || a.Cached
		data.Routes = append(data.Routes, a)
	}
	if !data.Cached {
		data.Disk = ""
	}
	var b bytes.Buffer
	err := agentsTemplate.Execute(&b, data)
	return b.Bytes(), err
}
