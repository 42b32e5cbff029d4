package cli

import (
	"slices"
	"strings"
	"testing"
)

func TestIsHelperCall(t *testing.T) {
	p := &program{}
	for line, want := range map[string]bool{
		"/sbin/mount.agentfs s3://b /mnt":         true,
		"agentfs s3://b /mnt -o rw,allow_other":   true,
		"agentfs /etc/agentfs.yaml /mnt -oro":     true,
		"agentfs mount /mnt":                      false,
		"agentfs mount --route /=memory: /mnt":    false,
		"agentfs grep -i x":                       false,
		"agentfs edit --mount /mnt /a old new":    false,
		"agentfs --log-level debug mount /mnt -o": false,
		"agentfs": false,
	} {
		if got := p.isHelperCall(strings.Fields(line)); got != want {
			t.Errorf("%s: %v, want %v", line, got, want)
		}
	}
}

func TestHelperOptions(t *testing.T) {
	file := writeConfig(t, "routes: {}\n")
	type result struct {
		routes             []string
		config, cache, log string
		ro, other          bool
	}
	for _, c := range []struct {
		args string
		want result
	}{
		{"s3://b/p /mnt -o rw,_netdev,nofail,x-systemd.automount,dev,suid,user", result{routes: []string{"/=s3://b/p"}}},
		{"s3://b /mnt -sn -o ro,allow_other,whatever", result{routes: []string{"/=s3://b"}, ro: true, other: true}},
		{"s3://b /mnt -o ro -o rw", result{routes: []string{"/=s3://b"}}},
		{file + " /mnt -o cache_dir=/c,log_file=/l -t fuse.agentfs", result{config: file, cache: "/c", log: "/l"}},
		{"none /mnt -o route=/=memory:,route=/d=s3://b?ttl=1s", result{routes: []string{"/=memory:", "/d=s3://b?ttl=1s"}}},
		{`memory: /mnt -o "route=/d=s3://b?prefix=a,b",ro`, result{routes: []string{"/=memory:", "/d=s3://b?prefix=a,b"}, ro: true}},
		{"agentfs /mnt -r -oconfig=" + file, result{config: file, ro: true}},
	} {
		call, err := parseHelperCall(strings.Fields(c.args))
		if err != nil {
			t.Errorf("%s: %v", c.args, err)
			continue
		}
		var log logFlags
		f, err := call.flags(&log)
		if err != nil {
			t.Errorf("%s: %v", c.args, err)
			continue
		}
		got := result{f.routes.routes, f.routes.config, f.cacheDir, log.file, f.readOnly, f.allowOther}
		if !slices.Equal(got.routes, c.want.routes) || got.config != c.want.config || got.cache != c.want.cache ||
			got.log != c.want.log || got.ro != c.want.ro || got.other != c.want.other {
			t.Errorf("%s:\ngot  %+v\nwant %+v", c.args, got, c.want)
		}
		if call.point != "/mnt" || !f.background {
			t.Errorf("%s: mount point %q, background %v", c.args, call.point, f.background)
		}
	}
}

func TestHelperErrors(t *testing.T) {
	for args, want := range map[string]string{
		"s3://b /mnt -o bogus=1":    "mount option bogus: unknown; there are ro, rw, allow_other, cache_dir=, config=, route=PATH=URL, log_file=, log_level=",
		"s3://b /mnt -o route":      "mount option route: needs a value: route=VALUE",
		"s3://b /mnt -o":            "mount helper: -o is without its value",
		"s3://b -o ro":              "mount helper: it is agentfs SOURCE MOUNTPOINT -o OPTIONS, with a route's URL or a configuration file as SOURCE",
		"s3://b /mnt -z":            "mount helper: unknown flag -z (it is agentfs SOURCE MOUNTPOINT -o OPTIONS)",
		"none /mnt -o ro":           "mount source none: say what to mount with the options route= or config=",
		"/none.yaml /mnt -o ro":     "mount source /none.yaml: neither a URL such as s3://BUCKET/PREFIX nor a configuration file: no such file or directory",
		"/a.yaml /mnt -o config=/b": "mount source /a.yaml: the option config= names a file already",
	} {
		call, err := parseHelperCall(strings.Fields(args))
		if err == nil {
			_, err = call.flags(&logFlags{})
		}
		if err == nil || err.Error() != want {
			t.Errorf("%s:\ngot  %v\nwant %s", args, err, want)
		}
	}
}

func TestFindMount(t *testing.T) {
	const info = `22 1 0:21 / / rw,relatime shared:1 - ext4 /dev/root rw
30 22 0:40 / /mnt/a\040b rw,nosuid - fuse.agentfs s3://b/ rw,user_id=0
31 30 0:41 / /mnt/a\040b rw - tmpfs tmpfs rw
32 22 0:42 / /mnt/c rw shared:5 master:1 - fuse.agentfs agentfs rw
`
	if m, ok := findMount(info, "/mnt/a b"); !ok || m.fsType != "tmpfs" {
		t.Errorf("uppermost of two: %+v, %v", m, ok)
	}
	if m, ok := findMount(info, "/mnt/c"); !ok || !m.isAgentfs() {
		t.Errorf("with optional fields: %+v, %v", m, ok)
	}
	if _, ok := findMount(info, "/mnt"); ok {
		t.Error("/mnt is no mount point")
	}
}
