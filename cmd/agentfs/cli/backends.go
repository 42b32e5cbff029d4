package cli

import (
	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/exec"
	"github.com/agentfs/agentfs/backends/local"
	"github.com/agentfs/agentfs/backends/memory"
	"github.com/agentfs/agentfs/backends/s3"
	"github.com/agentfs/agentfs/backends/sql"
)

// Backends returns the backends that agentfs brings, by the name that routes
// use for them. The map is the caller's to change.
func Backends() map[string]backends.Opener {
	return map[string]backends.Opener{
		"exec":   exec.Open,
		"local":  local.Open,
		"memory": memory.Open,
		"s3":     s3.Open,
		"sql":    sql.Open,
	}
}
