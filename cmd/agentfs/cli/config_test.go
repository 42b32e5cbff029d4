package cli

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "agentfs.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// show returns a route as one line.
func show(r routeConfig) string {
	var b strings.Builder
	b.WriteString(r.path + " " + r.backend)
	for _, k := range slices.Sorted(maps.Keys(r.values)) {
		v := r.values[k].Value
		if list := r.values[k].List; list != nil {
			v = fmt.Sprint(list)
		}
		b.WriteString(" " + k + "=" + v)
	}
	return b.String()
}

func TestConfigFile(t *testing.T) {
	t.Setenv("HOME", "/home/ada")
	t.Setenv("BUCKET", "corpus")
	file := writeConfig(t, `# comment
cache: {dir: ~/.cache/agentfs, size: 10GiB}
routes:
  /:      {backend: memory, size: 2GiB}
  /data/: {backend: s3, bucket: $BUCKET, prefix: "v3/${BUCKET}/$$x", read_only: true, ttl: 5s, file_mode: 0640}
  /src:
    backend: local
    path: ~/src
  /rel:   {backend: local, path: sub/dir}
`)
	c, err := readConfig(file, []string{"/more=memory:"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range c.routes {
		got = append(got, show(r))
	}
	want := []string{
		"/ memory size=2GiB",
		"/data s3 bucket=corpus file_mode=0640 prefix=v3/corpus/$x read_only=true ttl=5s",
		"/more memory",
		"/rel local path=" + filepath.Join(filepath.Dir(file), "sub/dir"),
		"/src local path=/home/ada/src",
	}
	if !slices.Equal(got, want) {
		t.Errorf("routes\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if c.cacheDir != "/home/ada/.cache/agentfs" || c.cacheSize != 10<<30 {
		t.Errorf("cache %q %d", c.cacheDir, c.cacheSize)
	}
	if v := c.routes[1].values["ttl"]; v.Source != file+":5" {
		t.Errorf("source of ttl %q, want line 5", v.Source)
	}
}

// Every bad configuration is one line that names file and line.
func TestConfigFileErrors(t *testing.T) {
	t.Setenv("HOME", "/home/ada")
	for _, c := range []struct{ name, text, want string }{
		{"unknown key", "cache: {}\nroute: {}\n", `F:2: unknown key "route"; there are cache, audit, routes and policy`},
		{"unknown cache key", "cache:\n  dir: /tmp\n  limit: 3\n", `F:3: unknown key "limit"; cache has dir and size`},
		{"size", "cache:\n  size: big\n", `F:2: size: "big" is not a size (write it as 10GiB, 500MB or a number of bytes)`},
		{"duplicate route", "routes:\n  /: {backend: memory}\n  /a: {backend: memory}\n  /a: {backend: memory}\n", `F:4: /a comes twice in routes, first at F:3`},
		{"same route", "routes:\n  /a: {backend: memory}\n  /a/: {backend: memory}\n", `F:3: the route /a is already there (F:2); a path has one route`},
		{"duplicate key", "routes:\n  /a:\n    backend: memory\n    size: 1\n    size: 2\n", `F:5: size comes twice in the route /a, first at F:4`},
		{"relative route", "routes:\n  data: {backend: memory}\n", `F:2: "data": a route's path begins with a slash, as in /data`},
		{"dots", "routes:\n  /a/../b: {backend: memory}\n", `F:2: "/a/../b": a route's path has no part ".."`},
		{"empty part", "routes:\n  /a//b: {backend: memory}\n", `F:2: "/a//b": a route's path has no empty part (//)`},
		{"control character", "routes:\n  \"/a\\tb\": {backend: memory}\n", `F:2: "/a\tb": a route's path has no control characters`},
		{"not UTF-8", "routes:\n  /a\xff: {backend: memory}\n", `F:2: not UTF-8`},
		{"reserved", "routes:\n  /.agentfs/x: {backend: memory}\n", `F:2: "/.agentfs/x": names that begin with .agentfs are reserved`},
		{"no backend", "routes:\n  /a: {size: 1}\n", `F:2: the route /a has no backend, as in {backend: memory}`},
		{"nothing", "routes:\n  /a:\n", `F:2: the route /a has no backend, as in {backend: memory}`},
		{"unset variable", "routes:\n  /a:\n    backend: s3\n    bucket: b-${NOT_SET_HERE}\n", `F:4: bucket: the variable $NOT_SET_HERE is not set`},
		{"lone dollar", "routes:\n  /a: {backend: s3, bucket: 'a$'}\n", `F:2: bucket: a $ without a name after it (a dollar sign itself is written $$)`},
		{"bad variable", "routes:\n  /a: {backend: s3, bucket: '${A:-b}'}\n", `F:2: bucket: ${A:-b} does not name a variable (a dollar sign itself is written $$)`},
		{"list", "routes:\n  - /a\n", `F:2: routes is a mapping of keys to values, not a sequence`},
		{"list value", "routes:\n  /a:\n    backend: [memory]\n", `F:3: backend is one value, not a sequence`},
		{"no value", "routes:\n  /a:\n    backend:\n", `F:3: backend has no value`},
		{"text", "hello\n", `F:1: the file is a mapping of keys to values, not a string`},
		{"two documents", "cache: {}\n---\ncache: {}\n", `F:3: a second YAML document; there is one`},
		{"alias", "cache: {dir: &d /tmp}\n", `F:1: dir: anchors and aliases are not supported`},
		{"credentials", "routes:\n  /a:\n    backend: s3\n    bucket: b\n    endpoint: http://ada:hunter2@host:9000\n", `F:5: endpoint: contains credentials; ` + credentialsRemedy("s3")},
		{"credentials in a list", "routes:\n  /a:\n    backend: exec\n    command: [x, http://ada:hunter2@host]\n", `F:4: command: contains credentials; ` + credentialsRemedy("exec")},
		{"password", "routes:\n  /a:\n    backend: sql\n    dsn: postgres://ada:hunter2@host/d\n", `F:4: dsn: contains credentials; ` + credentialsRemedy("sql")},
		{"list in a list", "routes:\n  /a:\n    backend: exec\n    command: [x, [y]]\n", `F:4: command is one value, not a sequence`},
		{"syntax", "routes:\n  /a: {backend: memory\n", `F:2: not YAML: `},
		{"tab", "routes:\n\t/a: {}\n", `F:2: not YAML: `},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := writeConfig(t, c.text)
			_, err := readConfig(file, nil)
			if err == nil {
				t.Fatal("no error")
			}
			got := strings.ReplaceAll(err.Error(), file, "F")
			if got != c.want && (!strings.HasSuffix(c.want, ": ") || !strings.HasPrefix(got, c.want)) {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if strings.Contains(got, "\n") || strings.Contains(got, "hunter2") {
				t.Errorf("more than one line, or a secret: %s", got)
			}
		})
	}
	dir := t.TempDir()
	if _, err := readConfig(dir, nil); err == nil || err.Error() != dir+": the configuration file can't be read: is a directory" {
		t.Errorf("directory: %v", err)
	}
	if _, err := readConfig("/none/agentfs.yaml", nil); err == nil || err.Error() != "/none/agentfs.yaml: no such configuration file" {
		t.Errorf("missing file: %v", err)
	}
}

func TestRouteURL(t *testing.T) {
	t.Setenv("HOME", "/home/ada")
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for arg, want := range map[string]string{
		"/=memory:":                           "/ memory",
		"/=memory:?size=2GiB":                 "/ memory size=2GiB",
		"/data=s3://b":                        "/data s3 bucket=b",
		"/data/=s3://b/":                      "/data s3 bucket=b",
		"/data=s3://b/p/q/":                   "/data s3 bucket=b prefix=p/q/",
		"/data=s3://b/a%20b?read_only":        "/data s3 bucket=b prefix=a b read_only=",
		"/d=s3://b?region=eu-west-1&ttl=5s":   "/d s3 bucket=b region=eu-west-1 ttl=5s",
		"/d=s3://b?endpoint=http://h:9/":      "/d s3 bucket=b endpoint=http://h:9/",
		"/d=s3://b?endpoint=http%3A%2F%2Fh:9": "/d s3 bucket=b endpoint=http://h:9",
		"/s=local:/srv/x":                     "/s local path=/srv/x",
		"/s=local:///srv/x":                   "/s local path=/srv/x",
		"/s=local:~/x":                        "/s local path=/home/ada/x",
		"/s=local:.":                          "/s local path=" + wd,
		"/m=mine://host/p?k=v":                "/m mine host=host k=v path=p",
		"/m=mine:thing":                       "/m mine path=thing",
		"/m=mine:/a/b":                        "/m mine path=/a/b",
		"/m=mine:///a/b":                      "/m mine path=/a/b",
		"/x=exec:/srv/store":                  "/x exec command=[/srv/store]",
		"/x=exec:python3?arg=a.py&arg=b%26c":  "/x exec command=[python3 a.py b&c]",
		"/x=exec:./store?ttl=1s":              "/x exec command=[" + wd + "/store] ttl=1s",
		"/x=sqlite:///srv/a.db":               "/x sql path=/srv/a.db",
		"/x=sqlite:~/password.db":             "/x sql path=/home/ada/password.db",
		"/x=postgres://ada@h:5432/d?schema=s": "/x sql dsn=postgres://ada@h:5432/d schema=s",
	} {
		r, err := parseRouteFlag(arg)
		if err != nil {
			t.Errorf("%s: %v", arg, err)
		} else if got := show(r); got != want {
			t.Errorf("%s is %s, want %s", arg, got, want)
		}
	}
}

func TestRouteURLErrors(t *testing.T) {
	const form = "a route is PATH=URL with a path that begins with a slash, as in --route /data=s3://bucket/prefix"
	for arg, want := range map[string]string{
		"memory:":                               "--route memory:: " + form,
		"data=memory:":                          "--route data=memory:: " + form,
		"/a\x01=memory:":                        `--route: "/a\x01": a route's path has no control characters`,
		"/a\xff=memory:":                        `--route: "/a\xff": a route's path is UTF-8`,
		"/a/../b=memory:":                       `--route: "/a/../b": a route's path has no part ".."`,
		"/a=/srv":                               "--route /a: /srv is not a URL: write memory:, s3://BUCKET/PREFIX or local:/DIR",
		"/a=s3:b":                               "--route /a: the URL names no bucket: write s3://BUCKET or s3://BUCKET/PREFIX",
		"/a=s3://":                              "--route /a: the URL names no bucket: write s3://BUCKET or s3://BUCKET/PREFIX",
		"/a=s3://b?bucket=c":                    "--route /a: bucket is given twice",
		"/a=s3://b?ttl=1s&ttl=2s":               "--route /a: ttl is given twice",
		"/a=s3://b?backend=memory":              "--route /a: backend: the URL's scheme is the backend",
		"/a=s3://b/50%":                         `--route /a: "%" is not an escape (a % in a URL is written %25)`,
		"/a=s3://b/x#y":                         "--route /a: a # in a URL is written %23",
		"/a=memory:2GiB":                        "--route /a: memory has no place: write memory: or memory:?size=2GiB",
		"/a=local:":                             "--route /a: the URL names no directory: write local:/PATH",
		"/a=local://host/x":                     "--route /a: what is on this machine has no host: write local:/PATH",
		"/a=exec:":                              "--route /a: the URL names no program: write exec:/PATH",
		"/a=sqlite:":                            "--route /a: the URL names no file: write sqlite:/PATH",
		"/a=postgres:d":                         "--route /a: the URL names no server: write postgres://HOST/DATABASE",
		"/a=postgres://ada:hunter2@h/d":         "--route /a: the URL contains credentials; " + credentialsRemedy("sql"),
		"/a=postgres://h/d?password=hunter2":    "--route /a: the URL contains credentials; " + credentialsRemedy("sql"),
		"/a=exec:x?arg=http://u:hunter2@h":      "--route /a: the URL contains credentials; " + credentialsRemedy("exec"),
		"/a=s3://KEY:hunter2@b/p":               "--route /a: the URL contains credentials; " + credentialsRemedy("s3"),
		"/a=s3://b?endpoint=http://u:hunter2@h": "--route /a: endpoint: contains credentials; " + credentialsRemedy("s3"),
		"a=s3://KEY:hunter2@b/p":                "--route a=s3://(credentials removed)@b/p: " + form,
		"a=postgres://me:hunter/2@h/d":          "--route a=postgres://(credentials removed)@h/d: " + form,
		"a=s3://b:9000/p@q":                     "--route a=s3://b:9000/p@q: " + form,
		"a=postgres://me:hunter@2@h/d":          "--route a=postgres://(credentials removed)@h/d: " + form,
	} {
		_, err := parseRouteFlag(arg)
		if err == nil {
			t.Errorf("%s: no error", arg)
		} else if got := err.Error(); got != want || strings.Contains(got, "hunter2") {
			t.Errorf("%s:\ngot  %s\nwant %s", arg, got, want)
		}
	}
}

func TestMerge(t *testing.T) {
	file := writeConfig(t, "routes:\n  /data: {backend: memory}\n")
	_, err := readConfig(file, []string{"/data=memory:"})
	if want := "--route /data: the route /data is already there (" + file + ":2); a path has one route"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	c, err := readConfig(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	if with, added := c.withRoot(); !added || with.routes[0].path != "/" || with.routes[0].backend != "memory" || len(with.routes) != 2 {
		t.Errorf("with a root: %+v", with.routes)
	}
	if len(c.routes) != 1 {
		t.Error("withRoot changed its receiver")
	}
}
