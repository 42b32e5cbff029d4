package mcp

import (
	"context"
	"fmt"
	"strings"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/agentfs/agentfs/cmd/agentfs/protocol"
)

type writeManyIn struct {
	Files []protocol.FileWrite `json:"files" jsonschema:"the files, at most 64"`
}

type editIn struct {
	Path       string           `json:"path" jsonschema:"the file"`
	Old        string           `json:"old" jsonschema:"the text to replace, byte for byte as read returned it, without line numbers; it must be there once"`
	New        string           `json:"new" jsonschema:"what to put in its place"`
	ReplaceAll bool             `json:"replace_all,omitempty" jsonschema:"replace every occurrence"`
	IfVersion  protocol.Version `json:"if_version,omitempty" jsonschema:"edit only if the file still has this version"`
	DryRun     bool             `json:"dry_run,omitempty" jsonschema:"change nothing and return the difference"`
}

type pathIn struct {
	Path string `json:"path" jsonschema:"the directory"`
}

type moveIn struct {
	From    string `json:"from" jsonschema:"the file or directory"`
	To      string `json:"to" jsonschema:"its full new path"`
	Replace bool   `json:"replace,omitempty" jsonschema:"replace a file that is there"`
}

type removeIn struct {
	Path      string           `json:"path" jsonschema:"the file or directory"`
	Recursive bool             `json:"recursive,omitempty" jsonschema:"remove a directory with everything in it"`
	IfVersion protocol.Version `json:"if_version,omitempty" jsonschema:"remove the file only if it still has this version"`
}

// addChanging adds the tools that change something.
func (h tools) addChanging(s *sdk.Server) {
	add(s, h, &sdk.Tool{Name: "write", Annotations: changes(true),
		Description: "Write a whole file, all or nothing; missing directories are made. create_only and if_version protect what others wrote."},
		h.t.WriteFile)
	add(s, h, &sdk.Tool{Name: "write_many", Annotations: changes(true),
		Description: "Write several files at once, each all or nothing. One that fails does not keep it from the others."}, h.writeMany)
	add(s, h, &sdk.Tool{Name: "edit", Annotations: changes(true),
		Description: "Replace a text in a file that has it exactly once; if it is there more often, the error shows the lines. A file that changes between reading and writing is left alone. Mode and line ends are kept."}, h.edit)
	add(s, h, &sdk.Tool{Name: "mkdir", Annotations: changes(false),
		Description: "Make a directory, and those above it. One that is there already is no error."},
		func(ctx context.Context, in pathIn) (protocol.MkdirResult, error) { return h.t.Mkdir(ctx, in.Path) })
	add(s, h, &sdk.Tool{Name: "mv", Annotations: changes(true),
		Description: "Move a file or a directory to a new path; missing directories are made. What is at the new path stays, unless a file replaces a file."},
		func(ctx context.Context, in moveIn) (protocol.MoveResult, error) {
			return h.t.Move(ctx, in.From, in.To, protocol.MoveOptions{Replace: in.Replace})
		})
	add(s, h, &sdk.Tool{Name: "rm", Annotations: changes(true),
		Description: "Remove a file or an empty directory, or with recursive a directory with everything in it. There is no way back."},
		func(ctx context.Context, in removeIn) (protocol.RemoveResult, error) {
			return h.t.Remove(ctx, in.Path, protocol.RemoveOptions{Recursive: in.Recursive, IfVersion: in.IfVersion})
		})
}

func (h tools) writeMany(ctx context.Context, in writeManyIn) (out manyOut[protocol.Item], err error) {
	if err := few(len(in.Files), manyFiles); err != nil {
		return out, err
	}
	out.Outcomes = []protocol.Outcome[protocol.Item]{}
	err = h.t.WriteMany(ctx, in.Files, appendTo(&out.Outcomes))
	return out, err
}

func (h tools) edit(ctx context.Context, in editIn) (protocol.EditResult, error) {
	res, err := h.t.Edit(ctx, in.Path, in.Old, in.New, protocol.EditOptions{All: in.ReplaceAll, DryRun: in.DryRun, IfVersion: in.IfVersion})
	if len(res.Diff) > readBytes {
		end := strings.LastIndexByte(res.Diff[:readBytes], '\n') + 1
		res.Diff = fmt.Sprintf("%s[%d more bytes of the difference are left out]\n", res.Diff[:end], len(res.Diff)-end)
	}
	return res, err
}
