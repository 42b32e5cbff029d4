package cli

import (
	"strings"
	"testing"
)

// A room says how its store is opened again, without what may be secret.
func TestOrigin(t *testing.T) {
	r, err := parseRouteFlag("/data=s3://b/p?endpoint=http://127.0.0.1:9000&sse=aws:kms&sse_kms_key_id=id&read_only=true&ttl=2s")
	if err != nil {
		t.Fatal(err)
	}
	back, err := readOrigin(r.origin(), "ROOM")
	if err != nil {
		t.Fatal(err)
	}
	const want = "/data s3 bucket=b endpoint=http://127.0.0.1:9000 prefix=p sse=aws:kms sse_kms_key_id=id ttl=2s"
	if got := show(back); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}

	r, err = parseRouteFlag("/x=other://host/dir?Api_Key=hunter2&endpoint=https://h/?sig=hunter3&region=r")
	if err != nil {
		t.Fatal(err)
	}
	b := r.origin()
	if strings.Contains(string(b), "hunter") {
		t.Errorf("a secret in %s", b)
	}
	if _, err := readOrigin(b, "ROOM"); err == nil || !strings.Contains(err.Error(), "Api_Key, endpoint may be secret") {
		t.Errorf("reading %s: %v", b, err)
	}
	// A program is kept with its arguments, a database without its password, and
	// nothing that came from the environment.
	t.Setenv("HUNTER", "hunter2")
	for text, want := range map[string]string{
		"backend: exec, command: [/srv/x, -v]":                  "/x exec command=[/srv/x -v]",
		"backend: exec, command: [/srv/x, --api-key=hunter2]":   "",
		"backend: exec, command: [/srv/x, $HUNTER]":             "",
		"backend: exec, command: [/srv/x, https://h/?k=hunter]": "",
		"backend: sql, path: /srv/secret.db":                    "/x sql path=/srv/secret.db",
		"backend: sql, dsn: postgres://ada@h/d?sslmode=disable": "/x sql dsn=postgres://ada@h/d?sslmode=disable",
		"backend: sql, dsn: postgres://ada:$HUNTER@h/d":         "",
		"backend: sql, dsn: $HUNTER":                            "",
	} {
		conf, err := readConfig(writeConfig(t, "routes:\n  /x: {"+text+"}\n"), nil)
		if err != nil {
			t.Fatal(err)
		}
		r := conf.routes[0]
		b := r.origin()
		if strings.Contains(string(b), "hunter") || strings.Contains(r.String(), "hunter") {
			t.Errorf("%s: a secret in %s or %s", text, b, r.String())
		}
		if back, err := readOrigin(b, "ROOM"); err != nil && want != "" || err == nil && show(back) != want {
			t.Errorf("%s: %s, %v, want %q", text, show(back), err, want)
		}
	}
	for _, none := range []string{"", "null{", "[]"} {
		if _, err := readOrigin([]byte(none), "ROOM"); err == nil || !strings.Contains(err.Error(), "--route or --config") {
			t.Errorf("%q: %v", none, err)
		}
	}
}
