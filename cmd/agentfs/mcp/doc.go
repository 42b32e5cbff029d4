// Package mcp offers the agent protocol as tools of an MCP server (Model Context
// Protocol), with the official SDK. It translates arguments and results and
// knows no operation of its own: what a tool does is what the method of
// [protocol.Tree] does.
//
// Answers are bounded, because a model has to read them: a tool that has more to
// say returns where to go on. Errors are tool errors, which the model sees, and
// say what to do next.
package mcp

import (
	"context"
	"errors"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/agentfs/agentfs/cmd/agentfs/protocol"
)

// Options modify a server.
type Options struct {
	// Version is that of the program, for clients to show.
	Version string
	// About says what the tree is, for the model to read.
	About string
	// ReadOnly offers no tool that changes anything.
	ReadOnly bool
	// Sync makes changes wait for the store, as [protocol.WithSync].
	Sync bool
}

// New returns a server with the tools over t. It may serve several sessions.
func New(t *protocol.Tree, o Options) *sdk.Server {
	s := sdk.NewServer(&sdk.Implementation{Name: "agentfs", Title: "agentfs file system", Version: o.Version},
		&sdk.ServerOptions{Instructions: instructions + o.About})
	h := tools{t: t, sync: o.Sync}
	h.addReading(s)
	if !o.ReadOnly {
		h.addChanging(s)
	}
	return s
}

const instructions = `Files of several stores as one tree. Paths begin with a slash; those of directories end in one. ` +
	`Find with glob and grep instead of reading much; read in pieces (offset, limit). ` +
	`To change a file, use edit for a part and write for the whole. Give the version that read or stat returned as if_version ` +
	`to change nothing that somebody else changed meanwhile. An error says what to do next. `

// tools are the handlers.
type tools struct {
	t    *protocol.Tree
	sync bool
}

// call is what a tool does.
type call[In, Out any] func(ctx context.Context, in In) (Out, error)

// add adds a tool. Its input and output have their schemas from the types.
func add[In, Out any](s *sdk.Server, h tools, tool *sdk.Tool, do call[In, Out]) {
	closed := false
	tool.Annotations.OpenWorldHint = &closed
	sdk.AddTool(s, tool, func(ctx context.Context, _ *sdk.CallToolRequest, in In) (*sdk.CallToolResult, Out, error) {
		if h.sync {
			ctx = protocol.WithSync(ctx)
		}
		out, err := do(ctx, in)
		if err != nil {
			return nil, out, toolError{err}
		}
		return contentOf(out), out, nil
	})
}

// reads are the hints of a tool that changes nothing.
func reads() *sdk.ToolAnnotations {
	return &sdk.ToolAnnotations{ReadOnlyHint: true, IdempotentHint: true}
}

// changes are the hints of a tool that changes something; destroys says that what
// was there may be gone afterwards.
func changes(destroys bool) *sdk.ToolAnnotations {
	return &sdk.ToolAnnotations{DestructiveHint: &destroys}
}

// toolError is an error as the model sees it: its kind, what is wrong, what to
// do.
type toolError struct{ err error }

func (e toolError) Error() string {
	return string(protocol.KindOf(e.err)) + ": " + protocol.Describe(e.err)
}

func (e toolError) Unwrap() error { return e.err }

// bound returns a limit: def if none is asked for.
func bound(asked, def, most int64) (int64, error) {
	switch {
	case asked == 0:
		return def, nil
	case asked < 0:
		return 0, errors.New("the limit is not negative")
	}
	return min(asked, most), nil
}
