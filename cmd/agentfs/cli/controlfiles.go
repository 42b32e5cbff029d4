package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"

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
	files := map[string]control.File{
		"status": {Read: func(ctx context.Context) ([]byte, error) {
			b, err := json.MarshalIndent(m.status(ctx), "", "  ")
			return append(b, '\n'), err
		}},
		"routes":     table(writeRoutes),
		"pending":    table(writePending),
		"conflicts":  table(writeConflicts),
		"errors":     table(writeErrors),
		"stats":      table(writeStats),
		"last-error": {Read: m.lastErrorPage},
		"policy":     {Read: m.policyPage},
		"README.md":  {Read: m.agentsPage},
		"AGENTS.md":  {Read: m.agentsPage},
	}
	if m.audit != nil {
		// The kernel keeps all but the owner and root out.
		files["audit"] = control.File{Mode: 0o400, Read: func(context.Context) ([]byte, error) { return m.audit.Recent(), nil }}
	}
	return control.New(files, control.Config{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())})
}
