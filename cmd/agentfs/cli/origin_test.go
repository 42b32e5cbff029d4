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
	for _, none := range []string{"", "null{", "[]"} {
		if _, err := readOrigin([]byte(none), "ROOM"); err == nil || !strings.Contains(err.Error(), "--route or --config") {
			t.Errorf("%q: %v", none, err)
		}
	}
}
