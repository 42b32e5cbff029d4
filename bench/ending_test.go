package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A run that is ended leaves no mount behind and nothing in its temporary directory,
// also if only "go run", by which it was started, is ended.
func TestEndedRunUnmounts(t *testing.T) {
	require(t, exists("/dev/fuse"), "/dev/fuse")
	require(t, os.Geteuid() == 0, "root, to mount tmpfs")
	dir := t.TempDir()
	binary := filepath.Join(dir, "bench")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	likeGo := filepath.Join(dir, "go") // a process of that name
	if err := os.WriteFile(likeGo, []byte("#!/bin/sh\n\"$@\" &\nwait\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		by   []string
		sig  syscall.Signal
	}{{"SIGTERM", nil, syscall.SIGTERM}, {"SIGHUP", nil, syscall.SIGHUP}, {"go run", []string{likeGo}, syscall.SIGTERM}} {
		t.Run(c.name, func(t *testing.T) {
			tmp := t.TempDir()
			argv := append(c.by, binary, "--part", "local", "--only", "tmpfs,loopback", "--fio=false")
			cmd := exec.Command(argv[0], argv[1:]...)
			cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			mounted := func() bool {
				all, err := os.ReadFile("/proc/self/mounts")
				return err == nil && strings.Contains(string(all), tmp)
			}
			within(t, "something is mounted", mounted)
			if err := cmd.Process.Signal(c.sig); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait() // it was told to end
			within(t, "the directory is empty", func() bool {
				left, err := os.ReadDir(tmp)
				return err == nil && len(left) == 0 && !mounted()
			})
		})
	}
}

// within waits for something that another process does.
func within(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not after a minute: %s", what)
		}
	}
}
