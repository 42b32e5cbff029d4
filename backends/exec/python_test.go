package exec_test

import (
	"os"
	osexec "os/exec"
	"path/filepath"
	"testing"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/backendtest"
	"github.com/agentfs/agentfs/backends/exec"
)

// python returns the command of the example in Python. Debian's own interpreter
// is taken before others, which may be scripts that look for one.
func python(t testing.TB) []string {
	t.Helper()
	program := "/usr/bin/python3"
	if _, err := os.Stat(program); err != nil {
		if program, err = osexec.LookPath("python3"); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal("this test needs python3: ", err)
			}
			t.Skip("this test needs python3: ", err)
		}
	}
	script, err := filepath.Abs("../../examples/exec-python/dict_store.py")
	if err != nil {
		t.Fatal(err)
	}
	return []string{program, script}
}

func newStore(t testing.TB, c exec.Config) *exec.Store {
	t.Helper()
	s, err := exec.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestPython runs the contract over the example in Python.
func TestPython(t *testing.T) {
	command := python(t)
	backendtest.Store(t, func(t *testing.T) backends.Store {
		return newStore(t, exec.Config{Command: command})
	})
}
