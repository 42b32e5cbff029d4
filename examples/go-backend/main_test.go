package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestMain(m *testing.M) {
	if os.Getenv("AGENTFS_LOG_MAIN") != "" {
		main()
	}
	os.Exit(m.Run())
}

func run(t *testing.T, stdin string, args ...string) (string, error) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), "AGENTFS_LOG_MAIN=1")
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// The program has all of agentfs's command line, with the backend in it.
func TestCommandLine(t *testing.T) {
	route := "/notes=log:" + filepath.Join(t.TempDir(), "notes.log")
	if out, err := run(t, "hello\n", "write", "--route", route, "/notes/a/b.txt"); err != nil {
		t.Fatal(err, out)
	}
	if out, err := run(t, "", "read", "--route", route, "/notes/a/b.txt"); err != nil || out != "hello\n" {
		t.Errorf("read: %q, %v", out, err)
	}
	if out, err := run(t, "", "check", "--route", route); !strings.Contains(out, "can be listed, 1 entry") {
		t.Errorf("check: %s, %v", out, err)
	}
	out, err := run(t, "", "ls", "--route", route+"?pth=x", "/notes")
	if err == nil || !strings.Contains(out, "pth: unknown option; this route knows") {
		t.Errorf("an option that is not there: %s, %v", out, err)
	}
}
