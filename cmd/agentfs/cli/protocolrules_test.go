package cli

import (
	"os"
	"strings"
	"testing"

	"github.com/agentfs/agentfs/cmd/agentfs/protocol"
)

// Rules decide alike by every way in: what they refuse, no call does, whatever
// the path looks like, and what they hide is not there.
func TestRulesByEveryWay(t *testing.T) {
	tree := func(t *testing.T) []string {
		dir := t.TempDir()
		for _, sub := range []string{"/secret", "/logs", "/ref"} {
			if err := os.Mkdir(dir+sub, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		for name, text := range map[string]string{"open": "text\n", "read": "text\n", "log": "text\n", "secret/key": "text\n", "hidden": "text\n", ".dot": "text\n", "z": "text\n", "ref/plan": "text\n"} {
			writeFile(t, dir+"/"+name, text)
		}
		return []string{"--config", writeConfig(t, `routes:
  /: {backend: local, path: `+dir+`}
policy:
  - {path: /read, access: read}
  - {path: /log, access: append}
  - {path: "/secret/**", access: none}
  - {path: /hidden, access: hide}
  - {path: "/logs/**", access: append}
  - {path: /ref/plan, access: write}
  - {path: "/ref/**", access: read}
  - {path: "/**/.*", access: read}
`)}
	}
	everyWay(t, tree, func(t *testing.T, do wayIn) {
		for _, path := range []string{"/open", "/read", "/log", "/.dot"} {
			if got, fail := do(t, "read", toolArgs{"path": path}); fail != nil || !strings.Contains(got, `text\n`) {
				t.Errorf("read %s: %s %v", path, got, fail)
			}
		}
		// That /secret can't be searched is told beside what lies before and behind it.
		for op, in := range map[string]toolArgs{"glob": {"pattern": "**"}, "grep": {"pattern": "text", "output": "files"}} {
			got, fail := do(t, op, in)
			if strings.Contains(got, "hidden") || strings.Contains(got, "/key") || !strings.Contains(got, "/open") || !strings.Contains(got, "/z") {
				t.Errorf("%s: %s %v", op, got, fail)
			}
		}
		// What may be made is made, and what one file may is not hindered by the directory.
		for _, c := range []struct {
			op string
			in toolArgs
		}{
			{"write", toolArgs{"path": "/logs/new", "content": "text"}}, {"write", toolArgs{"path": "/ref/plan", "content": "text 2"}},
			{"edit", toolArgs{"path": "/ref/plan", "old": "2", "new": "3"}},
		} {
			if _, fail := do(t, c.op, c.in); fail != nil {
				t.Errorf("%s %v: %+v", c.op, c.in, fail)
			}
		}
		for _, c := range []struct {
			op   string
			in   toolArgs
			kind protocol.Kind
		}{
			{"write", toolArgs{"path": "/logs/new", "content": "x"}, protocol.KindPermission},
			{"edit", toolArgs{"path": "/logs/new", "old": "text", "new": "x"}, protocol.KindPermission},
			{"write", toolArgs{"path": "/ref/new", "content": "x"}, protocol.KindPermission},
			{"write", toolArgs{"path": "/read", "content": "x"}, protocol.KindPermission},
			{"write", toolArgs{"path": "/.dot", "content": "x"}, protocol.KindPermission},
			{"write", toolArgs{"path": "/log", "content": "x"}, protocol.KindPermission},
			{"write", toolArgs{"path": "/secret/new", "content": "x"}, protocol.KindPermission},
			{"write", toolArgs{"path": "/hidden", "content": "x"}, protocol.KindPermission},
			{"edit", toolArgs{"path": "/read", "old": "text", "new": "x"}, protocol.KindPermission},
			{"edit", toolArgs{"path": "/./x/../read", "old": "text", "new": "x"}, protocol.KindPermission},
			{"edit", toolArgs{"path": "/secret/key", "old": "text", "new": "x"}, protocol.KindPermission},
			{"edit", toolArgs{"path": "/hidden", "old": "text", "new": "x"}, protocol.KindNotExist},
			{"mv", toolArgs{"from": "/read", "to": "/mine"}, protocol.KindPermission},
			{"mv", toolArgs{"from": "/secret/key", "to": "/mine"}, protocol.KindPermission},
			{"mv", toolArgs{"from": "/hidden", "to": "/mine"}, protocol.KindNotExist},
			{"mv", toolArgs{"from": "/secret", "to": "/mine"}, protocol.KindPermission},
		} {
			got, fail := do(t, c.op, c.in)
			if fail == nil || fail.kind != "" && fail.kind != string(c.kind) || strings.Contains(got, "text") {
				t.Errorf("%s %v: %s %+v, want to fail with %s", c.op, c.in, got, fail, c.kind)
			}
		}
		for _, path := range []string{"/secret/key", "/hidden", "/SECRET/key", "/x/../secret/key"} {
			got, fail := do(t, "read", toolArgs{"path": path})
			if strings.Contains(got, "text") || fail == nil && !strings.Contains(got, `"kind"`) {
				t.Errorf("read %s: %s %+v", path, got, fail)
			}
		}
		if _, fail := do(t, "write", toolArgs{"path": "/read", "content": "x"}); fail == nil || !strings.Contains(fail.message, "agentfs explain PATH") {
			t.Errorf("a refusal does not say where to ask: %+v", fail)
		}
		// A refused write leaves nothing behind.
		if got, fail := do(t, "glob", toolArgs{"pattern": "/{logs,ref}/*", "hidden": true}); fail != nil || strings.Count(got, `"path"`) != 2 {
			t.Errorf("there is more than /logs/new and /ref/plan: %s %v", got, fail)
		}
		if got, fail := do(t, "rm", toolArgs{"paths": []any{"/log"}}); fail == nil && !strings.Contains(got, `"permission"`) {
			t.Errorf("rm /log: %s", got)
		}
	})
}
