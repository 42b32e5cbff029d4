package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// Recover says which bytes of a kept file are real.
func TestRecoverParts(t *testing.T) {
	dir := t.TempDir()
	room := filepath.Join(dir, "rooms", "r")
	if err := os.MkdirAll(filepath.Join(room, "kept"), 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(room, "room.json"), `{"format": 1, "identity": "s3://b"}`)
	writeFile(t, filepath.Join(room, "kept", "x.json"),
		`{"file": "/x", "store": "s3://b", "name": "x", "base": "v1", "parts": [[0, 4096], [8192, 8193]], "size": 10000, "error": "down"}`)
	var out bytes.Buffer
	p := &program{out: &out, err: &out, log: logFlags{level: "info", format: "text"}}
	if err := p.runRecover(t.Context(), &recoverFlags{dir: dir, list: true}); err != nil {
		t.Fatal(err)
	}
	contains(t, out.String(), "belongs to x in s3://b", "derives from version v1", "only the bytes 0-4095, 8192-8192;")
	if got, want := ranges(make([][2]int64, maxRanges+2)), " and 2 more ranges (--json shows them)"; !bytes.HasSuffix([]byte(got), []byte(want)) {
		t.Errorf("many ranges: %q, want ...%q", got, want)
	}
}
