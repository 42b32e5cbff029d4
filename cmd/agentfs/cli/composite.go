package cli

import (
	"github.com/agentfs/agentfs/backends"
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
// around the router here and nowhere else.
func compose(routes []router.Route) (*composite, error) {
	rt, err := router.New(routes)
	if err != nil {
		return nil, usage(err)
	}
	return &composite{store: rt, files: rt.FileSystem()}, nil
}
