package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agentfs/agentfs/cmd/agentfs/protocol"
)

// wayIn does a call of the protocol and returns its result as JSON, or how it
// failed.
type wayIn func(t *testing.T, op string, in toolArgs) (result string, fail *callFailure)

// callFailure is an error of a call, as far as a way in shows it.
type callFailure struct {
	kind    string // "" where it is not shown
	message string
	status  int // the exit status, -1 where there is none
}

// The same calls give the same bytes and errors by Go calls, by commands and by
// the tools of both transports, on the stores and on a mount of them.
func TestProtocol(t *testing.T) {
	everyWay(t, newTree, runProtocol)
}

// everyWay runs a test by each way in, on the stores of a tree and on a mount of
// them.
func everyWay(t *testing.T, tree func(*testing.T) []string, test func(*testing.T, wayIn)) {
	ways := map[string]func(t *testing.T, tree []string) wayIn{
		"go": goCalls, "commands": commands, "mcp": mcpStdio, "mcp over http": mcpHTTP,
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, way(t, tree(t)))
		})
		t.Run(name+" on a mount", func(t *testing.T) {
			t.Parallel()
			m := startMount(t, append(tree(t), "--cache-dir", t.TempDir())...)
			test(t, way(t, []string{"--mount", m.point}))
			m.stop(t)
		})
	}
}

// What a mount says of itself can be read by every way in, like any file: an
// agent may have nothing but tools.
func TestProtocolControlFiles(t *testing.T) {
	m := startMount(t, "--route", "/=local:"+t.TempDir())
	tree := []string{"--mount", m.point}
	for name, do := range map[string]wayIn{"go": goCalls(t, tree), "commands": commands(t, tree), "mcp": mcpStdio(t, tree)} {
		for path, want := range map[string]string{
			"/.agentfs/AGENTS.md": "# What this directory is", "/.agentfs/last-error": "failed", "/.agentfs/status": m.point, "/.agentfs/pending": "",
		} {
			if got, fail := do(t, "read", toolArgs{"path": path}); fail != nil || !strings.Contains(got, want) {
				t.Errorf("%s: read %s: %s %+v", name, path, got, fail)
			}
		}
		if got, fail := do(t, "grep", toolArgs{"pattern": "What this directory is", "path": "/.agentfs", "output": "files"}); fail != nil || !strings.Contains(got, "/.agentfs/AGENTS.md") {
			t.Errorf("%s: grep: %s %+v", name, got, fail)
		}
		if got, fail := do(t, "read", toolArgs{"path": "/.agentfs"}); fail == nil || fail.message != "/.agentfs: is a directory" {
			t.Errorf("%s: read /.agentfs: %s %+v", name, got, fail)
		}
		if got, fail := do(t, "edit", toolArgs{"path": "/.agentfs/AGENTS.md", "old": "# What this directory is", "new": "x"}); fail == nil {
			t.Errorf("%s: edit: %s", name, got)
		}
	}
	m.stop(t)
}

// newTree returns the flags for a tree as the cases want it.
func newTree(t *testing.T) []string {
	host := t.TempDir()
	if err := os.Mkdir(filepath.Join(host, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(host, "data", "shadowed"), "a shadow\n")
	return []string{"--route", "/=local:" + host, "--route", newS3Server(t, "b").route("/data", "b", "&region=us-east-1")}
}

func runProtocol(t *testing.T, do wayIn) {
	for i, c := range protocolCases {
		in := toolArgs{}
		for k, v := range c.in {
			if path, ok := strings.CutPrefix(fmt.Sprint(v), "$version "); ok {
				v = versionAt(t, do, path)
			}
			in[k] = v
		}
		result, fail := do(t, c.op, in)
		switch {
		case fail == nil && c.fail != "":
			t.Errorf("%d: %s %v:\ngives   %s\ninstead of failing: %s", i, c.op, c.in, result, c.fail)
		case fail == nil:
			if got := essence(t, result); got != c.want {
				t.Errorf("%d: %s %v:\ngives   %s\ninstead %s", i, c.op, c.in, got, c.want)
			}
		default:
			kind, message, _ := strings.Cut(c.fail, ": ")
			if fail.message != message || fail.kind != "" && fail.kind != kind || fail.status >= 0 && fail.status != statusOf(c.op, kind) {
				t.Errorf("%d: %s %v:\nfails   %+v\ninstead %s%s", i, c.op, c.in, *fail, c.fail, c.want)
			}
		}
	}
}

// statusOf returns the exit status of a command that fails so.
func statusOf(op, kind string) int {
	switch kind {
	case "changed", "exists", "no-match", "ambiguous":
		return exitCondition
	case "invalid":
		return exitUsage
	}
	if op == "grep" {
		return exitUsage
	}
	return exitFailed
}

// versionAt returns the version of what is at path.
func versionAt(t *testing.T, do wayIn, path string) string {
	t.Helper()
	result, fail := do(t, "stat", toolArgs{"paths": []any{path}})
	var all struct {
		Outcomes []protocol.Outcome[protocol.Item]
	}
	if err := json.Unmarshal([]byte(result), &all); err != nil || fail != nil || all.Outcomes[0].Result.Version == "" {
		t.Fatalf("version of %s: %v %s %v", path, err, result, fail)
	}
	return string(all.Outcomes[0].Result.Version)
}

// essence leaves out of a result what differs by its nature: times, versions,
// modes (a bucket has none), and what only counts the work.
func essence(t *testing.T, result string) string {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(result), &v); err != nil {
		t.Fatalf("%v: %s", err, result)
	}
	var strip func(any)
	strip = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for _, k := range []string{"mtime", "version", "mode", "moved", "matches", "files", "searched", "binary"} {
				delete(v, k)
			}
			for _, e := range v {
				strip(e)
			}
		case []any:
			for _, e := range v {
				strip(e)
			}
		}
	}
	strip(v)
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(b.String())
}

// A script that has not got the version that it wants to name changes nothing.
func TestEmptyVersionIsNone(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	writeFile(t, name, "theirs")
	for _, args := range [][]string{{"write", "/f", "--content", "ours"}, {"edit", "/f", "theirs", "ours"}, {"rm", "/f"}} {
		_, errOut, status := run(t, append(args, "--if-version", "", "--route", "/=local:"+dir)...)
		if status != exitUsage || !strings.Contains(errOut, "--if-version is empty") {
			t.Errorf("%s: exit status %d: %s", args[0], status, errOut)
		}
		if got := readFile(t, name); got != "theirs" {
			t.Errorf("%s: the file has %q", args[0], got)
		}
	}
}

// A file on a mount is written under a temporary name, which is never one that
// its store keeps for itself.
func TestWriteNamesLikeOurs(t *testing.T) {
	s := newS3Server(t, "b")
	m := startMount(t, "--cache-dir", t.TempDir(), "--route", s.route("/d", "b", ""))
	for _, name := range []string{"agentfs.yaml", "agentfs", "_agentfs-tmp-x"} {
		mustRun(t, "write", "--mount", m.point, "/d/"+name, "--content", "old")
		mustRun(t, "edit", "--mount", m.point, "/d/"+name, "old", "new", "--sync")
		if got := s.object(t, "b", name); got != "new" {
			t.Errorf("%s: the object has %q", name, got)
		}
	}
	m.stop(t)
}
