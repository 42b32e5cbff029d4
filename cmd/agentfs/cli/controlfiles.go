package cli

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"io"
	"os"
	"text/template"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/control"
)

const (
	// controlDir is the name of the control directory at the root of a mount.
	controlDir  = ".agentfs"
	controlPath = "/" + controlDir
)

// controlStore makes the store of the control directory. Its files must not
// touch the mount, which waits for them.
func (m *mounted) controlStore() (backends.Store, error) {
	table := func(write func(io.Writer, mountStatus)) control.File {
		return control.File{Read: func(ctx context.Context) ([]byte, error) {
			var b bytes.Buffer
			write(&b, m.status(ctx))
			return b.Bytes(), nil
		}}
	}
	return control.New(map[string]control.File{
		"status": {Read: func(ctx context.Context) ([]byte, error) {
			b, err := json.MarshalIndent(m.status(ctx), "", "  ")
			return append(b, '\n'), err
		}},
		"routes":    table(writeRoutes),
		"pending":   table(writePending),
		"conflicts": table(writeConflicts),
		"errors":    table(writeErrors),
		"stats":     table(writeStats),
		"policy":    {Read: m.policyPage},
		"README.md": {Read: m.agentsPage},
		"AGENTS.md": {Read: m.agentsPage},
	}, control.Config{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())})
}

//go:embed agents.md
var agentsText string

var agentsTemplate = template.Must(template.New("agents").Parse(agentsText))

// agentsPage is one page for agents on what this mount can do.
func (m *mounted) agentsPage(ctx context.Context) ([]byte, error) {
	type route struct {
		Path, Store       string
		ReadOnly, Scratch bool
		// Durability is "" where close(2) has nothing to wait for.
		Durability string
	}
	var data struct {
		MountPoint       string
		Routes           []route
		Rules            []string // as who reads may see them
		Writeback, Close bool     // there is a route with it
		TTL              string
	}
	data.MountPoint = m.point
	data.Rules = m.policyView(ctx).lines()
	seen := m.sees(ctx)
	for _, r := range m.routes {
		if !seen(r.path) {
			continue
		}
		d := r.closeWaitsFor()
		data.Writeback = data.Writeback || d == durabilityWriteback
		data.Close = data.Close || d == durabilityClose
		if r.cache != nil && data.TTL == "" {
			data.TTL = r.ttl.String()
		}
		data.Routes = append(data.Routes, route{
			Path: r.path, Store: r.String(), ReadOnly: r.readOnly, Scratch: r.backend == "memory", Durability: d,
		})
	}
	var b bytes.Buffer
	err := agentsTemplate.Execute(&b, data)
	return b.Bytes(), err
}
