package mcp

import (
	"context"
	"fmt"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/agentfs/agentfs/cmd/agentfs/protocol"
)

// What an answer has at most.
const (
	listDefault, listMost = 1000, 10_000
	grepDefault, grepMost = 200, 5000
	linesDefault          = 2000
	readBytes             = 256 << 10
	readManyBytes         = 64 << 10
	manyFiles             = 64
	countBytes            = 16 << 20
	grepText              = 2000 // of a line
	contextMost           = 1000 // lines around a match
)

type listIn struct {
	Path  string `json:"path,omitempty" jsonschema:"the directory; the root if left out"`
	After string `json:"after,omitempty" jsonschema:"the next of an earlier answer, to go on where it ended"`
	Limit int64  `json:"limit,omitempty" jsonschema:"how many at most; 1000 if left out"`
}

type listOut struct {
	Items []protocol.Item `json:"items"`
	protocol.ListResult
}

type statIn struct {
	Paths []string `json:"paths" jsonschema:"files and directories"`
}

type manyOut[T any] struct {
	Outcomes []protocol.Outcome[T] `json:"outcomes" jsonschema:"one for each path, in their order"`
}

type readIn struct {
	Path    string `json:"path" jsonschema:"the file"`
	Offset  int64  `json:"offset,omitempty" jsonschema:"lines to skip, from 0; bytes if the file is binary"`
	Limit   int64  `json:"limit,omitempty" jsonschema:"how many lines at most, 2000 if left out; bytes if the file is binary"`
	Numbers bool   `json:"numbers,omitempty" jsonschema:"put the number of each line, from 1, and a tab before it"`
	Binary  string `json:"binary,omitempty" jsonschema:"what to do with a file that is no text: base64 (the default) returns it in base64, refuse is an error"`
}

type readManyIn struct {
	Paths []string `json:"paths" jsonschema:"the files, at most 64"`
	Limit int64    `json:"limit,omitempty" jsonschema:"how many lines of each at most; 2000 if left out"`
}

type globIn struct {
	Pattern string `json:"pattern" jsonschema:"* ? [a-z] {a,b}, and ** for any number of directories; without a slash it is compared with names at any depth, with one at the beginning with the whole path"`
	Path    string `json:"path,omitempty" jsonschema:"the directory to search in; the root if left out"`
	Hidden  bool   `json:"hidden,omitempty" jsonschema:"let any pattern match names that begin with a dot"`
	Sort    string `json:"sort,omitempty" jsonschema:"path (the default) or time, the last changed first"`
	Limit   int64  `json:"limit,omitempty" jsonschema:"how many at most; 1000 if left out"`
}

type globOut struct {
	Items []protocol.Item `json:"items"`
	protocol.GlobResult
}

type grepIn struct {
	Pattern    string `json:"pattern" jsonschema:"regular expression (RE2), matched line by line"`
	Path       string `json:"path,omitempty" jsonschema:"the directory or file to search in; the root if left out"`
	Glob       string `json:"glob,omitempty" jsonschema:"look only into files that match this pattern, as glob does"`
	IgnoreCase bool   `json:"ignore_case,omitempty" jsonschema:"take upper and lower case as the same"`
	Fixed      bool   `json:"fixed,omitempty" jsonschema:"take the pattern as a text, not as a regular expression"`
	Before     int    `json:"before,omitempty" jsonschema:"how many lines to return before each match, at most 1000"`
	After      int    `json:"after,omitempty" jsonschema:"how many lines to return after each match, at most 1000"`
	Output     string `json:"output,omitempty" jsonschema:"content (the default: matching lines), files (paths with a match) or count (matching lines per file)"`
	Limit      int64  `json:"limit,omitempty" jsonschema:"how many matches at most, in all; 200 if left out"`
}

type grepOut struct {
	Found []protocol.Match `json:"found"`
	protocol.GrepResult
}

// addReading adds the tools that change nothing.
func (h tools) addReading(s *sdk.Server) {
	add(s, h, &sdk.Tool{Name: "ls", Annotations: reads(),
		Description: "List the direct children of a directory: full paths (directories end in a slash), sizes, times and versions."}, h.list)
	add(s, h, &sdk.Tool{Name: "stat", Annotations: reads(),
		Description: "Say what is at each path: type, size, time of the last change and version, without reading it. One that fails does not keep it from the others."}, h.stat)
	add(s, h, &sdk.Tool{Name: "read", Annotations: reads(),
		Description: "Read a file, or some of its lines. The answer says how many lines there are, whether there is more, and at which offset to go on. Line ends are kept as they are."}, h.read)
	add(s, h, &sdk.Tool{Name: "read_many", Annotations: reads(),
		Description: "Read several small files at once. One that fails does not keep it from the others. Each answer is cut at 64 KiB; read the rest of such a file with read."}, h.readMany)
	add(s, h, &sdk.Tool{Name: "glob", Annotations: reads(),
		Description: "Find files and directories by a pattern of their names. truncated says that there are more; failures names what could not be looked into."}, h.glob)
	add(s, h, &sdk.Tool{Name: "grep", Annotations: reads(),
		Description: "Find lines in files by a regular expression, in a whole tree at once. Binary files are skipped. truncated says that there are more; failures names what could not be looked into."}, h.grep)
}

func (h tools) list(ctx context.Context, in listIn) (out listOut, err error) {
	o := protocol.ListOptions{After: in.After}
	if o.Limit, err = bound(in.Limit, listDefault, listMost); err != nil {
		return out, err
	}
	out.Items = []protocol.Item{}
	out.ListResult, err = h.t.List(ctx, in.Path, o, appendTo(&out.Items))
	return out, err
}

// appendTo returns a function that keeps what it is given.
func appendTo[T any](to *[]T) func(T) error {
	return func(v T) error {
		*to = append(*to, v)
		return nil
	}
}

func (h tools) stat(ctx context.Context, in statIn) (out manyOut[protocol.Item], err error) {
	if err := few(len(in.Paths), listMost); err != nil {
		return out, err
	}
	out.Outcomes = []protocol.Outcome[protocol.Item]{}
	err = h.t.StatMany(ctx, in.Paths, appendTo(&out.Outcomes))
	return out, err
}

// few returns an error if there are more than most of something.
func few(n, most int) error {
	if n > most {
		return fmt.Errorf("%d paths are too many for one call; give at most %d", n, most)
	}
	return nil
}

func (h tools) read(ctx context.Context, in readIn) (protocol.Text, error) {
	o := protocol.ReadOptions{
		Offset: in.Offset, Limit: in.Limit, Numbers: in.Numbers, Binary: in.Binary,
		MaxBytes: readBytes, CountBytes: countBytes,
	}
	if o.Binary == protocol.BinaryRaw { // JSON holds none
		o.Binary = protocol.BinaryBase64
	}
	if o.Limit == 0 {
		o.DefaultLines = linesDefault
	}
	return h.t.ReadText(ctx, in.Path, o)
}

func (h tools) readMany(ctx context.Context, in readManyIn) (out manyOut[protocol.Text], err error) {
	if err := few(len(in.Paths), manyFiles); err != nil {
		return out, err
	}
	o := protocol.ReadOptions{Limit: in.Limit, DefaultLines: linesDefault, MaxBytes: readManyBytes, CountBytes: countBytes}
	out.Outcomes = []protocol.Outcome[protocol.Text]{}
	err = h.t.ReadMany(ctx, in.Paths, o, appendTo(&out.Outcomes))
	return out, err
}

func (h tools) glob(ctx context.Context, in globIn) (out globOut, err error) {
	o := protocol.GlobOptions{Hidden: in.Hidden, Sort: in.Sort}
	if o.Limit, err = bound(in.Limit, listDefault, listMost); err != nil {
		return out, err
	}
	out.Items = []protocol.Item{}
	out.GlobResult, err = h.t.Glob(ctx, in.Pattern, in.Path, o, appendTo(&out.Items))
	return out, err
}

func (h tools) grep(ctx context.Context, in grepIn) (out grepOut, err error) {
	o := protocol.GrepOptions{
		IgnoreCase: in.IgnoreCase, Fixed: in.Fixed, Glob: in.Glob,
		Before: min(in.Before, contextMost), After: min(in.After, contextMost), Output: in.Output, MaxText: grepText, MaxBytes: readBytes,
	}
	if o.Limit, err = bound(in.Limit, grepDefault, grepMost); err != nil {
		return out, err
	}
	out.Found = []protocol.Match{}
	out.GrepResult, err = h.t.Grep(ctx, in.Pattern, in.Path, o, appendTo(&out.Found))
	return out, err
}

// contentOf returns what the model sees of an answer that is better seen in
// another form than JSON, else nil.
func contentOf(out any) *sdk.CallToolResult {
	text, ok := out.(protocol.Text)
	if !ok || text.Encoding != "text" {
		return nil
	}
	note := fmt.Sprintf("[%s from %d", count(text.Count, text.Unit), text.Offset)
	if text.Total != nil {
		note += fmt.Sprintf(", of %d", *text.Total)
	}
	if text.More {
		note += fmt.Sprintf("; read on with offset %d", text.Next)
	}
	if text.Cut {
		note += "; the line is too long, and its end was left out"
	}
	note += fmt.Sprintf("; version %s]", text.Version)
	return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: text.Content}, &sdk.TextContent{Text: note}}}
}

func count(n int64, unit string) string { return fmt.Sprintf("%d %s", n, unit) }
