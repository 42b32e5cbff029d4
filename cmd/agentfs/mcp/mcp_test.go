package mcp_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/agentfs/agentfs/backends/memory"
	"github.com/agentfs/agentfs/backends/memory/memorytest"
	"github.com/agentfs/agentfs/cmd/agentfs/mcp"
	"github.com/agentfs/agentfs/cmd/agentfs/protocol"
)

func newTree(t testing.TB) *protocol.Tree {
	return &protocol.Tree{Store: memorytest.New(t, memory.Config{Size: 64 << 20})}
}

// connect returns a client's session with a server over tree.
func connect(t *testing.T, tree *protocol.Tree, o mcp.Options) *sdk.ClientSession {
	t.Helper()
	here, there := sdk.NewInMemoryTransports()
	if _, err := mcp.New(tree, o).Connect(t.Context(), there, nil); err != nil {
		t.Fatal(err)
	}
	s, err := sdk.NewClient(&sdk.Implementation{Name: "test"}, nil).Connect(t.Context(), here, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// call calls a tool and returns the texts that the model sees.
func call(t *testing.T, s *sdk.ClientSession, tool string, args map[string]any) (texts []string, failed bool) {
	t.Helper()
	res, err := s.CallTool(t.Context(), &sdk.CallToolParams{Name: tool, Arguments: args})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range res.Content {
		texts = append(texts, c.(*sdk.TextContent).Text)
	}
	return texts, res.IsError
}

// Every tool says what it is for and describes each of its arguments, and a
// read-only server has none that changes anything.
func TestTools(t *testing.T) {
	for _, readOnly := range []bool{false, true} {
		s := connect(t, newTree(t), mcp.Options{ReadOnly: readOnly})
		var names []string
		for tool, err := range s.Tools(t.Context(), nil) {
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, tool.Name)
			if len(tool.Description) < 40 || tool.Annotations == nil || *tool.Annotations.OpenWorldHint {
				t.Errorf("%s is hardly described: %q", tool.Name, tool.Description)
			}
			if readOnly && !tool.Annotations.ReadOnlyHint {
				t.Errorf("%s is offered by a read-only server", tool.Name)
			}
			var schema struct {
				Properties map[string]struct{ Description string }
				Additional *bool `json:"additionalProperties"`
			}
			b, err := json.Marshal(tool.InputSchema)
			if err == nil {
				err = json.Unmarshal(b, &schema)
			}
			if err != nil || len(schema.Properties) == 0 || schema.Additional == nil || *schema.Additional {
				t.Errorf("%s: %v: schema %s", tool.Name, err, b)
			}
			for arg, p := range schema.Properties {
				if p.Description == "" {
					t.Errorf("%s: the argument %s is not described", tool.Name, arg)
				}
			}
		}
		slices.Sort(names)
		want := "edit glob grep ls mkdir mv read read_many rm stat write write_many"
		if readOnly {
			want = "glob grep ls read read_many stat"
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("read-only %v: %s", readOnly, got)
		}
	}
}

// What the model sees of a file is its text, then where it is and how to go on.
func TestRead(t *testing.T) {
	tree := newTree(t)
	s := connect(t, tree, mcp.Options{})
	if _, err := tree.Write(t.Context(), "/f", strings.NewReader(strings.Repeat("line\n", 3000)), protocol.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	texts, failed := call(t, s, "read", map[string]any{"path": "/f"})
	if failed || len(texts) != 2 || texts[0] != strings.Repeat("line\n", 2000) || !strings.HasPrefix(texts[1], "[2000 lines from 0, of 3000; read on with offset 2000; version ") {
		t.Errorf("%d texts, the last %q", len(texts), texts[len(texts)-1])
	}
	texts, _ = call(t, s, "read", map[string]any{"path": "/f", "offset": 2999})
	if texts[0] != "line\n" || !strings.HasPrefix(texts[1], "[1 lines from 2999, of 3000; version ") {
		t.Errorf("%q", texts)
	}
}

// An answer has a bound, also where lines are long.
func TestAnswersAreBounded(t *testing.T) {
	tree := newTree(t)
	s := connect(t, tree, mcp.Options{})
	line := strings.Repeat("a", 500_000)
	if _, err := tree.Write(t.Context(), "/f", strings.NewReader(strings.Repeat(line+"\n", 4)), protocol.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	many := strings.Repeat("another line with an a, and then some more of it\n", 20_000)
	if _, err := tree.Write(t.Context(), "/g", strings.NewReader(many), protocol.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	short := strings.Repeat("\n", 5000) + "the end\n"
	if _, err := tree.Write(t.Context(), "/h", strings.NewReader(short), protocol.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	for tool, args := range map[string]map[string]any{
		"grep": {"pattern": "a", "before": 100, "after": 100, "limit": 5000},
		"read": {"path": "/f"},
		"edit": {"path": "/g", "old": "a", "new": "b", "replace_all": true, "dry_run": true},
	} {
		texts, failed := call(t, s, tool, args)
		if all := strings.Join(texts, ""); failed || len(all) > 1<<20 || len(all) < 1000 {
			t.Errorf("%s: failed %v, %d bytes: %.300s", tool, failed, len(all), all)
		}
	}
	texts, _ := call(t, s, "grep", map[string]any{"pattern": "a"})
	if !strings.Contains(texts[0], `"truncated":true`) || !strings.Contains(texts[0], `"cut":true`) {
		t.Errorf("the answer does not say that there is more: %.300s", texts[0])
	}
	// So has what is held of the lines before a match.
	texts, failed := call(t, s, "grep", map[string]any{"pattern": "^the end$", "before": 1 << 40, "path": "/h"})
	if n := strings.Count(texts[0], `"context":true`); failed || n != 1000 {
		t.Errorf("%d lines before the match, failed %v: %.300s", n, failed, texts[0])
	}
}

// An error is one of the tool, which the model sees, with what to do next.
func TestErrors(t *testing.T) {
	s := connect(t, newTree(t), mcp.Options{})
	for _, c := range []struct {
		tool string
		args map[string]any
		want string
	}{
		{"read", map[string]any{"path": "/none"}, "not-found: /none: does not exist"},
		{"read", map[string]any{"file": "/none"}, "file"},
		{"read", map[string]any{"path": 7}, "path"},
		{"ls", map[string]any{"limit": -1}, "limit"},
		{"grep", map[string]any{"pattern": "("}, "fixed (-F) takes the pattern as a text"},
		{"read_many", map[string]any{"paths": make([]string, 65)}, "give at most 64"},
		{"write_many", map[string]any{"files": []any{map[string]any{"path": "x"}}}, "content"},
		{"edit", map[string]any{"path": "/none", "old": "", "new": ""}, "the text to replace is empty"},
	} {
		if texts, failed := call(t, s, c.tool, c.args); !failed || !strings.Contains(texts[0], c.want) {
			t.Errorf("%s %v: %q, failed %v; want %q", c.tool, c.args, texts, failed, c.want)
		}
	}
}

// Over HTTP who has not the token, or comes from a page of elsewhere, is refused.
func TestHandler(t *testing.T) {
	server := httptest.NewServer(mcp.Handler(mcp.New(newTree(t), mcp.Options{}), "the secret token", slog.New(slog.DiscardHandler)))
	defer server.Close()
	for _, c := range []struct {
		header map[string]string
		host   string
		want   int
	}{
		{nil, "", http.StatusUnauthorized},
		{map[string]string{"Authorization": "Bearer another token"}, "", http.StatusUnauthorized},
		{map[string]string{"Authorization": "Bearer wrong"}, "", http.StatusUnauthorized},
		{map[string]string{"Authorization": "Basic the secret token"}, "", http.StatusUnauthorized},
		{map[string]string{"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}, "", http.StatusForbidden},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`))
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range c.header {
			req.Header.Set(k, v)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != c.want || strings.Contains(string(body), "secret token") || strings.Contains(string(body), "inputSchema") {
			t.Errorf("%v: %s %s", c.header, resp.Status, body)
		}
	}
}

// Whatever a client sends, the server stays and the file that it may not reach
// is not touched.
func FuzzMessage(f *testing.F) {
	for _, seed := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read","arguments":{"path":"/f"}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"grep","arguments":{"pattern":"(a*)*b","limit":9223372036854775807,"before":-1}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"glob","arguments":{"pattern":"{{{{a,b},c},d}**/[","path":"/../.."}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read","arguments":{"path":"\u0000","offset":1e300}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":null}`, `[]`, `{"jsonrpc":"2.0","id":{},"method":1}`, "\xff", "{",
	} {
		f.Add(seed)
	}
	tree := newTree(f)
	ctx := context.Background()
	if _, err := tree.Write(ctx, "/f", strings.NewReader("aaaaaaaaaaaaaaaaaaaaaaaaaaaaac\n"), protocol.WriteOptions{}); err != nil {
		f.Fatal(err)
	}
	server := mcp.New(tree, mcp.Options{ReadOnly: true})
	f.Fuzz(func(t *testing.T, message string) {
		if strings.Contains(message, "\n") || len(message) > 10_000 {
			return
		}
		in, send := io.Pipe()
		out, reply := io.Pipe()
		session, err := server.Connect(ctx, &sdk.IOTransport{Reader: in, Writer: reply}, nil)
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.Copy(io.Discard, out) }()
		_, _ = io.WriteString(send, `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}`+"\n"+
			`{"jsonrpc":"2.0","method":"notifications/initialized"}`+"\n")
		_, _ = io.WriteString(send, message+"\n")
		_ = send.Close()
		_ = session.Wait() // for calls that are under way, too
		if text, err := tree.ReadText(ctx, "/f", protocol.ReadOptions{}); err != nil || text.Size != 31 {
			t.Fatalf("the file is %+v, %v", text, err)
		}
	})
}
