package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A program serves a route of a mount, named in the configuration file by a path
// relative to it.
func TestExecRoute(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("this test needs python3: ", err)
		}
		t.Skip("this test needs python3: ", err)
	}
	script, err := os.ReadFile("../../../examples/exec-python/dict_store.py")
	if err != nil {
		t.Fatal(err)
	}
	file := writeConfig(t, "routes:\n  /notes: {backend: exec, command: [./dict.py], durability: close}\n")
	dict := filepath.Join(filepath.Dir(file), "dict.py")
	if err := os.WriteFile(dict, script, 0o755); err != nil {
		t.Fatal(err)
	}
	cache := t.TempDir()
	m := startMount(t, "--cache-dir", cache, "--config", file)
	name := filepath.Join(m.point, "notes", "a", "b.txt")
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte("hello"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name, name+".old"); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(name + ".old"); err != nil || string(b) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
	mustRun(t, "unmount", m.point)
	select {
	case <-m.done:
	case <-time.After(time.Minute):
		t.Fatal("the mount does not end")
	}
	if out := mustRun(t, "check", "--cache-dir", cache, "--config", file); !strings.Contains(out, "/notes: version 1 of the protocol: with operation") {
		t.Errorf("check says\n%s", out)
	}
}
