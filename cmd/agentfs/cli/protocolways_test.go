package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/cmd/agentfs/protocol"
)

// goCalls is a Go program.
func goCalls(t *testing.T, tree []string) wayIn {
	p := &program{backends: Backends(), err: io.Discard, log: logFlags{level: "error", format: "text"}}
	var s source
	for i := 0; i < len(tree); i += 2 {
		switch tree[i] {
		case "--mount":
			s.mount = tree[i+1]
		case "--config":
			s.stores.config = tree[i+1]
		default:
			s.stores.routes = append(s.stores.routes, tree[i+1])
		}
	}
	o, err := p.openSource(t.Context(), &s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.close)
	return func(t *testing.T, op string, in toolArgs) (string, *callFailure) {
		var a goArgs
		decode(t, string(encode(t, in)), &a)
		out, err := a.call(t.Context(), o.Tree, op)
		if err != nil {
			return "", &callFailure{string(protocol.KindOf(err)), protocol.Describe(err), -1}
		}
		return string(encode(t, out)), nil
	}
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func decode(t *testing.T, text string, v any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
}

// goArgs are the arguments of all operations.
type goArgs struct {
	protocol.FileWrite
	Paths                           []string
	Old, New, Pattern, Glob, Output string
	From, To, Binary                string
	Offset, Limit                   int64
	Before                          int
	Numbers, Hidden, Fixed, Replace bool
	Recursive                       bool
	ReplaceAll                      bool `json:"replace_all"`
	DryRun                          bool `json:"dry_run"`
	IgnoreCase                      bool `json:"ignore_case"`
}

func (a goArgs) call(ctx context.Context, tree *protocol.Tree, op string) (any, error) {
	out := map[string]any{}
	switch op {
	case "ls":
		items := []protocol.Item{}
		_, err := tree.List(ctx, a.Path, protocol.ListOptions{}, keep(&items))
		out["items"] = items
		return out, err
	case "stat":
		var all []protocol.Outcome[protocol.Item]
		err := tree.StatMany(ctx, a.Paths, keep(&all))
		out["outcomes"] = all
		return out, err
	case "read":
		return tree.ReadText(ctx, a.Path, protocol.ReadOptions{Offset: a.Offset, Limit: a.Limit, Numbers: a.Numbers, Binary: a.Binary, CountBytes: -1})
	case "write":
		return tree.WriteFile(ctx, a.FileWrite)
	case "edit":
		return tree.Edit(ctx, a.Path, a.Old, a.New, protocol.EditOptions{All: a.ReplaceAll, DryRun: a.DryRun, IfVersion: a.IfVersion})
	case "glob":
		items := []protocol.Item{}
		res, err := tree.Glob(ctx, a.Pattern, a.Path, protocol.GlobOptions{Hidden: a.Hidden, Limit: a.Limit}, keep(&items))
		if out["items"] = items; res.Truncated {
			out["truncated"] = true
		}
		return out, err
	case "grep":
		found := []protocol.Match{}
		res, err := tree.Grep(ctx, a.Pattern, a.Path, protocol.GrepOptions{
			IgnoreCase: a.IgnoreCase, Fixed: a.Fixed, Glob: a.Glob, Before: a.Before, Output: a.Output, Limit: a.Limit}, keep(&found))
		if out["found"] = found; res.Truncated {
			out["truncated"] = true
		}
		return out, err
	case "mkdir":
		return tree.Mkdir(ctx, a.Path)
	case "mv":
		return tree.Move(ctx, a.From, a.To, protocol.MoveOptions{Replace: a.Replace})
	case "rm":
		return tree.Remove(ctx, a.Path, protocol.RemoveOptions{Recursive: a.Recursive, IfVersion: a.IfVersion})
	}
	return nil, errors.New("no such operation")
}

func keep[T any](to *[]T) func(T) error {
	return func(v T) error {
		*to = append(*to, v)
		return nil
	}
}

// positional are the arguments that commands take without a flag.
var positional = map[string][]string{
	"ls": {"path"}, "stat": {"paths"}, "read": {"path"}, "write": {"path"}, "edit": {"path", "old", "new"}, "glob": {"pattern", "path"},
	"grep": {"pattern", "path"}, "mkdir": {"path"}, "mv": {"from", "to"}, "rm": {"path"},
}

// commands is a shell.
func commands(t *testing.T, tree []string) wayIn {
	return func(t *testing.T, op string, in toolArgs) (string, *callFailure) {
		cmd := command(t, slices.Concat([]string{op}, commandLine(op, in), []string{"--json"}, tree)...)
		if _, many := in["encoding"]; many {
			cmd = command(t, append([]string{op, "--many", "--json"}, tree...)...)
			cmd.Stdin = bytes.NewReader(encode(t, in))
		}
		var out, errOut bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errOut
		var exit *exec.ExitError
		if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		status := cmd.ProcessState.ExitCode()
		noMatch := op == "grep" && status == exitFailed && errOut.Len() == 0
		if status != 0 && op != "stat" && !noMatch {
			_, message, _ := strings.Cut(errOut.String(), "agentfs: ") // the log may come before
			found := ""
			if op == "glob" || op == "grep" { // a part of the tree may have failed
				found = fromLines(t, op, out.String())
			}
			return found, &callFailure{"", strings.TrimSpace(message), status}
		}
		return fromLines(t, op, out.String()), nil
	}
}

// commandLine returns the arguments as a shell gives them.
func commandLine(op string, in toolArgs) (argv []string) {
	left := maps.Clone(in)
	for _, k := range positional[op] {
		switch v := in[k].(type) {
		case string:
			argv = append(argv, v)
		case []any:
			for _, e := range v {
				argv = append(argv, fmt.Sprint(e))
			}
		}
		delete(left, k)
	}
	for k, v := range left {
		switch flag := "--" + strings.ReplaceAll(k, "_", "-"); {
		case v == true:
			argv = append(argv, flag)
		case k == "output":
			argv = append(argv, fmt.Sprint("--", v))
		default:
			argv = append(argv, fmt.Sprint(flag, "=", v))
		}
	}
	return argv
}

// fromLines makes what a command prints into what a tool returns.
func fromLines(t *testing.T, op, printed string) string {
	lists := map[string]string{"ls": "items", "glob": "items", "grep": "found", "stat": "outcomes"}
	list := []any{}
	out := map[string]any{}
	for line := range strings.Lines(printed) {
		v := map[string]any{}
		decode(t, line, &v)
		switch result, many := v["result"]; {
		case v["truncated"] == true:
			out["truncated"] = true
		case lists[op] != "":
			list = append(list, v)
		case many:
			return string(encode(t, result))
		default:
			return strings.TrimSpace(line)
		}
	}
	out[lists[op]] = list
	return string(encode(t, out))
}

// mcpStdio is an MCP client that has started the server.
func mcpStdio(t *testing.T, tree []string) wayIn {
	return mcpClient(t, &sdk.CommandTransport{Command: command(t, append([]string{"mcp"}, tree...)...)})
}

// mcpHTTP is an MCP client of a server that was there before.
func mcpHTTP(t *testing.T, tree []string) wayIn {
	url, token := startMCP(t, tree...)
	return mcpClient(t, &sdk.StreamableClientTransport{Endpoint: url, HTTPClient: &http.Client{Transport: bearer(token)}})
}

// startMCP starts a server on a port and returns its address and its token.
func startMCP(t *testing.T, tree ...string) (url, token string) {
	tokenFile := filepath.Join(t.TempDir(), "token")
	cmd := command(t, append([]string{"mcp", "--http", "127.0.0.1:0", "--token-file", tokenFile}, tree...)...)
	out := &syncBuffer{}
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(unix.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
	address := regexp.MustCompile(`http://\S+:\d+`)
	for deadline := time.Now().Add(20 * time.Second); url == ""; time.Sleep(10 * time.Millisecond) {
		if url = address.FindString(out.String()); time.Now().After(deadline) {
			t.Fatalf("not ready: %s", out)
		}
	}
	return url, strings.TrimSpace(readFile(t, tokenFile))
}

// bearer sends a token along.
type bearer string

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(b))
	return http.DefaultTransport.RoundTrip(r)
}

func mcpClient(t *testing.T, transport sdk.Transport) wayIn {
	client := sdk.NewClient(&sdk.Implementation{Name: "test", Version: "1"}, nil)
	session, err := client.Connect(t.Context(), transport, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })
	return func(t *testing.T, op string, in toolArgs) (string, *callFailure) {
		res, err := session.CallTool(t.Context(), &sdk.CallToolParams{Name: op, Arguments: in})
		if err != nil {
			t.Fatal(err)
		}
		if res.IsError {
			kind, message, _ := strings.Cut(res.Content[0].(*sdk.TextContent).Text, ": ")
			return "", &callFailure{kind, message, -1}
		}
		return string(encode(t, res.StructuredContent)), nil
	}
}
