package semantics

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// TestMain runs the tests, or one operation in their place: tests that need
// another process start themselves with helperEnv set.
func TestMain(m *testing.M) {
	if op := os.Getenv(helperEnv); op != "" {
		os.Exit(runHelper(op, os.Args[1:]))
	}
	code := m.Run()
	if err := whole.close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// whole stands for the run of all tests: what several of them share is made
// with it, and ends with it.
var whole suite

// suite is a testing.TB whose test is the whole run.
type suite struct {
	testing.TB // nil: only the methods below are there
	cleanups   []func()
	errs       []error
}

// giveUp is what Skipf and Fatalf of a suite panic with.
type giveUp struct {
	skip bool
	why  string
}

func (*suite) Helper()                     {}
func (*suite) Logf(string, ...any)         {}
func (s *suite) Cleanup(f func())          { s.cleanups = append(s.cleanups, f) }
func (s *suite) Fatal(args ...any)         { panic(giveUp{why: fmt.Sprint(args...)}) }
func (s *suite) Fatalf(f string, a ...any) { panic(giveUp{why: fmt.Sprintf(f, a...)}) }
func (s *suite) Skipf(f string, a ...any)  { panic(giveUp{skip: true, why: fmt.Sprintf(f, a...)}) }
func (s *suite) Errorf(f string, a ...any) { s.errs = append(s.errs, fmt.Errorf(f, a...)) }

func (s *suite) TempDir() string {
	dir, err := os.MkdirTemp("", "agentfs-semantics-*")
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			s.Errorf("%w", err)
		}
	})
	return dir
}

func (s *suite) close() error {
	for len(s.cleanups) > 0 {
		f := s.cleanups[len(s.cleanups)-1]
		s.cleanups = s.cleanups[:len(s.cleanups)-1]
		f()
	}
	return errors.Join(s.errs...)
}

// shared makes a value once for the whole run. A test that asks for what
// can't be had is skipped, or fails, with the reason.
func shared[T any](mk func(testing.TB) T) func(testing.TB) T {
	var once sync.Once
	var value T
	var failed *giveUp
	return func(t testing.TB) T {
		t.Helper()
		once.Do(func() {
			defer func() {
				if g, ok := recover().(giveUp); ok {
					failed = &g
				}
			}()
			value = mk(&whole)
		})
		switch {
		case failed != nil && failed.skip:
			t.Skip(failed.why)
		case failed != nil:
			t.Fatal(failed.why)
		}
		return value
	}
}

// program returns the path of the program under test, built once; with the
// race detector if the tests have it.
var program = shared(func(t testing.TB) string {
	bin := filepath.Join(t.TempDir(), "agentfs")
	args := []string{"build", "-o", bin}
	cgo := "CGO_ENABLED=0"
	if raceDetector {
		args = append(args, "-race")
		cgo = "CGO_ENABLED=1"
	}
	cmd := exec.Command("go", append(args, "github.com/agentfs/agentfs/cmd/agentfs")...)
	cmd.Env = append(os.Environ(), cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building agentfs: %v\n%s", err, out)
	}
	return bin
})
