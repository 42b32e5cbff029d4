package cli

import (
	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/audit"
	"github.com/agentfs/agentfs/backends/names"
	"github.com/agentfs/agentfs/backends/policy"
	"github.com/agentfs/agentfs/backends/router"
)

// composite is the one tree that the routes make.
type composite struct {
	store backends.Store
	// files is nil if a route has no file depth.
	files backends.FileSystem
}

// compose puts the routes together. The mount, the file commands and the MCP
// server all get their tree here, so what holds for every way in is wrapped
// around the router here and nowhere else. rules is nil if there are none. told
// is told what is done; it is outside of all, so that it hears what callers asked
// for and what they got.
func compose(routes []router.Route, rules *policy.Policy, told audit.Config) (*composite, error) {
	rt, err := router.New(routes)
	if err != nil {
		return nil, usage(err)
	}
	c := &composite{store: rt, files: rt.FileSystem()}
	var raw backends.FileSystem
	telling := told.Log != nil || told.Failed != nil
	if c.files != nil && (rules != nil || telling) {
		raw = c.files
		c.files, told.Paths = names.FileSystem(raw)
	}
	if rules != nil {
		c.store = policy.Store(c.store, rules)
		if c.files != nil {
			c.files = policy.FileSystem(c.files, raw, told.Paths, rules)
		}
	}
	if told.Log != nil {
		c.store = audit.Store(c.store, told)
	}
	if c.files != nil && telling {
		c.files = audit.FileSystem(c.files, told)
	}
	return c, nil
}
