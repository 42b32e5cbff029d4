package cli

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestPolicyFile(t *testing.T) {
	file := writeConfig(t, `routes:
  /data: {backend: memory, access: read}
policy:
  - {path: "/logs/**", access: append}
  - path: "*.pem"
    access: none
    users: [root, 1000]
  - {route: /data, access: write, users: 7}
  - {route: /data, path: "/x/**", access: hide}
`)
	c, err := readConfig(file, []string{"/more=memory:?access=none"})
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := c.policyConfig()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range cfg.Rules {
		got = append(got, fmt.Sprint(r.Pattern, " ", r.Route, " ", r.Access, " ", r.Users, " ", strings.TrimPrefix(r.Source, file)))
	}
	for _, r := range cfg.Routes {
		got = append(got, fmt.Sprint(r.Path, " ", r.Default, " ", strings.TrimPrefix(r.Source, file)))
	}
	want := []string{
		"/logs/**  append [] :4",
		"*.pem  none [0 1000] :5",
		"** /data write [7] :8",
		"/x/** /data hide [] :9",
		"/data read :2",
		"/more none --route /more",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// What is wrong with a rule is said with its line, before any store is opened.
func TestPolicyFileErrors(t *testing.T) {
	for text, want := range map[string]string{
		"policy: {path: /x}":                                                  ":1: policy is a list",
		"policy:\n- {path: /x}":                                               ":2: the rule says no access",
		"policy:\n- {access: none}":                                           ":2: the rule says no path",
		"policy:\n- {path: /x, access: rw}":                                   `:2: access: "rw" is not an access`,
		"policy:\n- {path: /x, acess: read}":                                  `:2: unknown key "acess"`,
		"policy:\n- {path: /x, path: /y, access: read}":                       ":2: path comes twice",
		"policy:\n- {path: \"[\", access: read}":                              `:2: "[" is not a pattern`,
		"policy:\n- {path: a/b, access: read}":                                `:2: "a/b": a pattern with a slash begins with one`,
		"policy:\n- {path: /a/../b, access: read}":                            ":2: ",
		"policy:\n- {path: /a/, access: read}":                                ":2: ",
		"policy:\n- path: *.pem\n  access: read":                              ":2: path: a pattern that begins with * stands in quotes",
		"policy:\n- {path: /x, access: hide, users: 5}":                       ":2: hide is for everybody",
		"policy:\n- {path: /x, access: none, users: []}":                      ":2: users is empty",
		"policy:\n- {path: /x, access: none, users: no-such-user}":            `:2: users: there is no user "no-such-user"`,
		"policy:\n- {path: /x, access: none, users: 4294967296}":              `:2: users: "4294967296" is not a user id`,
		"policy:\n- {path: /x, access: none, route: /nowhere}":                ":2: there is no route /nowhere",
		"policy:\n- {path: /x, access: none, route: data}":                    ":2: route: ",
		"routes:\n  /:\n    backend: memory\n    access: some\n":              `:4: access: "some" is not an access`,
		"policy:\n- {path: \"[\", access: read}\n- {path: a/b, access: none}": ":3: ",
	} {
		file := writeConfig(t, text)
		_, err := (&routeFlags{config: file}).read()
		if err == nil || !strings.Contains(err.Error(), file+want) {
			t.Errorf("%s\n: %v, want %s", text, err, want)
		}
		if exitStatus(err) != exitUsage {
			t.Errorf("%s\n: exit status %d", text, exitStatus(err))
		}
	}
}

func TestExplain(t *testing.T) {
	file := writeConfig(t, `routes:
  /data: {backend: memory, access: read}
policy:
  - {path: "/secret/pub/**", access: read}
  - {path: /secret, access: none}
  - {path: "/hidden/**", access: hide}
  - {path: "*.log", access: append, users: 7}
`)
	for _, c := range []struct {
		args   string
		status int
		says   []string
	}{
		{"/secret/pub/x", 0, []string{"/secret/pub/x: read", "rule 1 of 4", file + ":4", "the first that matches"}},
		{"/secret/pub/x --need write", 4, []string{"rule 1"}},
		{"/secret/key", 4, []string{"none", "rule 2", ":5", "the directory /secret/"}},
		{"/SECRET/key", 4, []string{"rule 2", "upper and lower case"}},
		{"/hidden/a/b --need none", 4, []string{"as if it weren't there", "rule 3"}},
		{"/x.log --user 7 --need append", 0, []string{"append for user 7", "rule 4", "users: [7]"}},
		{"/x.log --user 8 --need write", 0, []string{"the default of the route /", "no rule matches"}},
		{"/x.log.conflict-h-1 --user 7 --need write", 4, []string{"rule 4", "it is asked about /x.log"}},
		{"/data/x --need write", 4, []string{"read", "the default of the route /data", ":2"}},
		{"/.agentfs/status", 0, []string{"control directory"}},
		{"/x --need rw", 2, nil},
		{"/x --user no-such-user", 2, nil},
	} {
		out, errText, status := run(t, append(strings.Fields("explain --config "+file), strings.Fields(c.args)...)...)
		if status != c.status {
			t.Errorf("%s: exit status %d, want %d: %s%s", c.args, status, c.status, out, errText)
		}
		contains(t, out, c.says...)
	}
	var x explanation
	out, _, _ := run(t, "explain", "--config", file, "/SECRET/key", "--json")
	if err := json.Unmarshal([]byte(out), &x); err != nil || x.Rule == nil || x.Rule.Path != "/secret" || x.Directory != "/SECRET/" || !x.IgnoringCase || x.Enough {
		t.Errorf("--json: %+v, %v: %s", x, err, out)
	}
	if _, errText, status := run(t, "explain", "/x"); status != exitUsage || !strings.Contains(errText, "--mount DIR") {
		t.Errorf("without rules: %d %s", status, errText)
	}
}

// Without a mount, too, the rules hold for the file commands.
func TestPolicyWithoutAMount(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"a.txt": "text", "secret": "text", "b.log": "text\n"} {
		writeFile(t, dir+"/"+name, text)
	}
	file := writeConfig(t, `routes:
  /: {backend: local, path: `+dir+`}
policy:
  - {path: /secret, access: none}
  - {path: "/b.log", access: append}
  - {path: "/a.txt", access: hide}
`)
	src := func(args ...string) []string { return append(args, "--config", file) }
	out, _, _ := run(t, src("ls", "/")...)
	if strings.Contains(out, "a.txt") || !strings.Contains(out, "secret") {
		t.Errorf("ls: %s", out)
	}
	for _, args := range [][]string{{"read", "/secret"}, {"read", "/a.txt"}, {"write", "/b.log", "--content", "x"}, {"write", "/a.txt", "--content", "x"},
		{"edit", "/b.log", "text", "more"}, {"rm", "/b.log"}, {"rm", "/a.txt"}, {"read", "/SECRET"}, {"read", "/./secret"}, {"read", "/x/../secret"}} {
		if out, errText, status := run(t, src(args...)...); status == 0 || strings.Contains(out, "text") {
			t.Errorf("%s: %s%s", args, out, errText)
		}
	}
	_, errText, _ := run(t, src("read", "/secret")...)
	contains(t, errText, "the rule for /secret", file+":4", "agentfs explain")
	mustRun(t, src("write", "/c.txt", "--content", "x")...)
	for name, want := range map[string]string{"a.txt": "text", "secret": "text", "b.log": "text\n", "c.txt": "x"} {
		if got := readFile(t, dir+"/"+name); got != want {
			t.Errorf("%s is %q", name, got)
		}
	}
}
