package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An MCP server listens on this machine only, and never without a token that only
// its owner can read.
func TestMCPRefuses(t *testing.T) {
	dir := t.TempDir()
	open, short := filepath.Join(dir, "open"), filepath.Join(dir, "short")
	writeFile(t, open, "a token for everybody\n")
	writeFile(t, short, "short\n")
	if err := os.Chmod(short, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args   string
		status int
		want   string
	}{
		{"--http 127.0.0.1:0", exitUsage, "--http and --token-file go together"},
		{"--token-file " + open, exitUsage, "--http and --token-file go together"},
		{"--http 0.0.0.0:0 --token-file " + dir + "/new", exitUsage, "it listens on this machine only"},
		{"--http example.com:80 --token-file " + dir + "/new", exitUsage, "it listens on this machine only"},
		{"--http 8080 --token-file " + dir + "/new", exitUsage, "it is an address and a port"},
		{"--http 127.0.0.1:0 --token-file " + open, exitFailed, "chmod 600"},
		{"--http 127.0.0.1:0 --token-file " + short, exitFailed, "at least 16 characters"},
		{"--http 127.0.0.1:0 --token-file /none/x", exitFailed, "does not exist"},
	} {
		_, errOut, status := run(t, append([]string{"mcp", "--route", "/=memory:"}, strings.Fields(c.args)...)...)
		if status != c.status || !strings.Contains(errOut, c.want) || strings.Contains(errOut, "everybody") {
			t.Errorf("%s: exit status %d: %s", c.args, status, errOut)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "new")); err == nil {
		t.Error("a token was made for nothing")
	}
}

// The token of a server is made for it, and stays the same.
func TestMCPToken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	first, err := readToken(file)
	if err != nil || len(first) < minToken {
		t.Errorf("%q, %v", first, err)
	}
	if fi, err := os.Stat(file); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
	if again, err := readToken(file); err != nil || again != first {
		t.Errorf("%q, then %q, %v", first, again, err)
	}
}
