package semantics

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agentfs/agentfs/backends/s3/s3test"
)

// asUser runs a shell script as another user, with the mount's directory in $D,
// and returns what it says.
func asUser(t testing.TB, uid, dir, script string) (string, error) {
	t.Helper()
	cmd := exec.Command("setpriv", "--reuid="+uid, "--regid="+uid, "--clear-groups", "sh", "-c", script)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "D="+dir, "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// A rule with users is about them alone, by user id. It holds at each open, also
// of a file or directory that another user has just read and the kernel still
// holds, and at every change; who has a file open keeps it. Names and attributes
// are the same for all users, because the kernel shares them, and so may be what a
// symbolic link says. A rule that hides for some users is refused at the start.
func TestRulesOfUsers(t *testing.T) {
	needRoot(t)
	need(t, "setpriv", "util-linux")
	withRules(t, `
- {path: "/*/priv/**", access: none, users: [65534]}
- {path: "/*/ro/**", access: read, users: [65534, 4711]}
- {path: "/*/log/**", access: append, users: 4711}
`, []string{"priv/f", "ro/f", "log/f"}, func(t *testing.T, p ruled) {
		// What root reads is in the kernel afterwards: listing, attributes, pages.
		for range 2 {
			holds(t, p.path("priv/f"), "content of priv/f")
			listing(t, p.path("priv"))
		}
		for script, want := range map[string]string{
			"cat $D/priv/f":              "",
			"ls $D/priv":                 "",
			"stat -c %s $D/priv/f":       "17",
			"cat $D/ro/f":                "content of ro/f",
			"echo x > $D/ro/f":           "",
			"echo x >> $D/log/f":         "",
			"mkdir $D/ro/d":              "",
			"mv $D/ro/f $D/f":            "",
			"ln $D/log/f $D/log/f2":      "",
			"exec 3< $D/priv/f; cat <&3": "",
		} {
			got, err := asUser(t, "65534", p.dir, script)
			switch {
			case want != "" && (err != nil || got != want):
				t.Errorf("%s: %q, %v", script, got, err)
			case want == "" && script == "echo x >> $D/log/f":
				ok(t, script, err)
			case want == "" && strings.HasPrefix(script, "ln "):
				if p.s3 {
					continue // there are no hard links, whatever rules say
				}
				ok(t, script, err)
			case want == "" && (err == nil || !strings.Contains(got, "ermission denied")):
				t.Errorf("%s: allowed, or not for want of rights: %q, %v", script, got, err)
			}
		}
		for _, script := range []string{"echo x > $D/log/f", "rm -f $D/log/f", "truncate -s 0 $D/log/f"} {
			if got, err := asUser(t, "4711", p.dir, script); err == nil || !strings.Contains(got, "ermission denied") {
				t.Errorf("%s: %q, %v", script, got, err)
			}
		}
		if got, err := asUser(t, "4711", p.dir, "echo y >> $D/log/f && tail -1 $D/log/f"); err != nil || got != "y" {
			t.Errorf("appending: %q, %v", got, err)
		}
		write(t, p.path("ro/f"), "root is no user of the rule")
	})
	config := filepath.Join(t.TempDir(), "agentfs.yaml")
	ok(t, "config", os.WriteFile(config, []byte("policy:\n- {path: /x, access: hide, users: 5}\n"), 0o644))
	out, err := exec.Command(program(t), "mount", "--config", config, publicTempDir(t)).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "agentfs.yaml:2: hide is for everybody") {
		t.Errorf("hide for users: %s, %v", out, err)
	}
}

// The control directory shows each reader what the rules let that reader read:
// changes that wait, errors and conflicts elsewhere are counted and not named,
// hidden routes are left out, and so are rules that hide, and those about others,
// except for root and who mounted.
func TestControlShowsWhatMayBeSeen(t *testing.T) {
	needRoot(t)
	need(t, "setpriv", "util-linux")
	server := startOwnServer(t)
	config := filepath.Join(t.TempDir(), "agentfs.yaml")
	ok(t, "config", os.WriteFile(config, []byte(`routes:
  /: {backend: memory}
  /away: {backend: memory, access: hide}
policy:
- {path: "/s3/priv/**", access: none, users: [65534]}
- {path: "/s3/never/**", access: hide}
- {path: "/s3/theirs/**", access: read, users: [4711]}
`), 0o644))
	m := start(t, setup{server: server.Server, routes: []string{"/s3=" + s3URL(server.Server, "retry_timeout", "1s", "ttl", "1h")},
		flags: []string{"--config", config, "--allow-other"}})
	mkdir(t, m.dir+"/s3/priv")
	syncDir(t, m.dir)
	listing(t, m.dir+"/s3")
	server.kill()
	for _, name := range []string{"priv/secret", "open"} {
		write(t, m.dir+"/s3/"+name, "x")
	}
	f, err := os.Open(m.dir + "/s3/priv/secret")
	ok(t, "open", err)
	if f.Sync() == nil {
		t.Error("fsync without a store")
	}
	f.Close()
	all := "cd $D/.agentfs && cat pending errors conflicts status routes stats policy AGENTS.md"
	mine, err := asUser(t, "0", m.dir, all)
	ok(t, "cat", err)
	for _, s := range []string{"priv/secret", "s3/open", "/s3/never", "`/s3/theirs/**`: read, for user 4711"} {
		if !strings.Contains(mine, s) {
			t.Errorf("root does not see %s", s)
		}
	}
	theirs, err := asUser(t, "65534", m.dir, all)
	ok(t, "cat", err)
	for _, s := range []string{"priv/secret", "never", "4711", "away"} {
		if strings.Contains(theirs, s) {
			t.Errorf("others see %s:\n%s", s, theirs)
		}
	}
	for _, s := range []string{"s3/open", "... and 1 more", "/s3/priv/**"} {
		if !strings.Contains(theirs, s) {
			t.Errorf("others don't see %s:\n%s", s, theirs)
		}
	}
	server.start()
	syncDir(t, m.dir)
}

// The rules hold for the commands, too, on a mount and directly on the stores,
// with the same kinds of errors; agentfs explain says which rule it is, to
// everybody as far as it is theirs to know.
func TestRulesHoldForCommands(t *testing.T) {
	needRoot(t)
	need(t, "setpriv", "util-linux")
	server := s3test.Versitygw(t)
	config := filepath.Join(publicTempDir(t), "agentfs.yaml")
	ok(t, "config", os.WriteFile(config, []byte("routes:\n  /s3: {backend: s3, bucket: "+server.Bucket+", prefix: "+keyPrefix+", endpoint: "+server.Endpoint+
		", region: "+server.Region+`, path_style: true, file_mode: 0666, dir_mode: 0777}
policy:
- {path: "/s3/none/**", access: none}
- {path: "/s3/ro/**", access: read}
- {path: "/s3/log/**", access: append}
- {path: "/s3/hide/**", access: hide}
- {path: "/s3/theirs/**", access: read, users: [65534]}
`), 0o644))
	for _, d := range []string{"none", "ro", "log", "hide", "theirs", "free"} {
		server.Put(t, keyPrefix+d+"/f", d)
	}
	m := start(t, setup{server: server, flags: []string{"--config", config, "--allow-other"}})
	for args, want := range map[string]string{
		"read /s3/ro/f":                     "ro",
		"read /s3/none/f":                   "permission denied",
		"read /s3/hide/f":                   "does not exist",
		"write /s3/ro/f --content x":        "permission denied",
		"write /s3/ro/new --content x":      "permission denied",
		"write /s3/log/f --content x":       "permission denied",
		"write /s3/hide/new --content x":    "permission denied",
		"edit /s3/ro/f ro rw":               "permission denied",
		"rm /s3/log/f":                      "permission denied",
		"rm -r /s3/ro":                      "permission denied",
		"mv /s3/ro/f /s3/free/g":            "permission denied",
		"mv /s3/free /s3/ro/free":           "permission denied",
		"mkdir /s3/ro/d":                    "permission denied",
		"ls /s3/none":                       "permission denied",
		"grep hide /s3/hide":                "does not exist",
		"stat /s3/hide":                     "does not exist",
		"read /s3/NONE/../none/f":           "permission denied",
		"explain /s3/ro/f --need write":     "agentfs.yaml:5",
		"explain /s3/theirs/f --user 65534": "users: [65534]",
	} {
		said := map[string]string{}
		for way, flags := range map[string][]string{"mount": {"--mount", m.dir}, "stores": {"--config", config}} {
			cmd := exec.Command(program(t), append(strings.Fields(args), flags...)...)
			cmd.Env = setup{server: server}.env()
			out, err := cmd.CombinedOutput()
			said[way] = strings.ToLower(string(out))
			if !strings.Contains(said[way], want) {
				t.Errorf("%s, %s: %v: %s, want %q", args, way, err, out, want)
			}
			if (err == nil) != (want == "ro" || strings.Contains(args, "--user")) {
				t.Errorf("%s, %s: %v", args, way, err)
			}
		}
	}
	syncDir(t, m.dir)
	for _, d := range []string{"none", "ro", "log", "hide", "theirs", "free"} {
		if got, there := server.Get(t, keyPrefix+d+"/f"); !there || got != d {
			t.Errorf("%s/f is %q, %v", d, got, there)
		}
	}
	// The tests' own program is where other users can't get at it.
	bin := filepath.Join(publicTempDir(t), "agentfs")
	run(t, "/", "cp", program(t), bin)
	got, err := asUser(t, "65534", m.dir, bin+" explain --mount $D /s3/theirs/f --need write --json")
	var x struct {
		Access   string
		Complete bool
		Enough   bool
	}
	if jerr := json.Unmarshal([]byte(got), &x); jerr != nil || err == nil || x.Access != "read" || x.Complete || x.Enough {
		t.Errorf("explain for a user: %s, %v", got, err)
	}
	if got, err := asUser(t, "4711", m.dir, bin+" explain --mount $D /s3/theirs/f --user 65534"); err == nil || strings.Contains(got, "read for user") {
		t.Errorf("explain about another user: %s, %v", got, err)
	}
	if got, err := asUser(t, "4711", m.dir, bin+" explain --mount $D /s3/hide/f"); strings.Contains(got, "/s3/hide/**") {
		t.Errorf("explain of what is hidden: %s, %v", got, err)
	}
}
