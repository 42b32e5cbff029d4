package cli

import (
	"github.com/agentfs/agentfs/backends"
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
// around the router here and nowhere else. rules is nil if there are none.
func compose(routes []router.Route, rules *policy.Policy) (*composite, error) {
	rt, err := router.New(routes)
	if err != nil {
		return nil, usage(err)
	}
	c := &composite{store: rt, files: rt.FileSystem()}
	if rules == nil {
		return c, nil
	}
	c.store = policy.Store(c.store, rules)
	if c.files != nil {
		tracked, paths := names.FileSystem(c.files)
		c.files = policy.FileSystem(tracked, c.files, paths, rules)
	}
	return c, nil
}
