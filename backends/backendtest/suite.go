package backendtest

import (
	"slices"
	"strings"
	"testing"
)

// Exception excuses a backend from one subtest, or from a group of them.
type Exception struct {
	// Test is the subtest's name below the suite ("Put/IfMatch"), or the
	// first part of several ("Symlink").
	Test string
	// Reason says why the backend can't. It must not be empty.
	Reason string
}

// unit is one named subtest of a suite over an environment E.
type unit[E any] struct {
	name string
	run  func(E)
}

// runAll runs the subtests, each in an environment of its own, but those that
// an exception names. env is called inside the subtest.
func runAll[E any](t *testing.T, units []unit[E], exceptions []Exception, env func(t *testing.T) E) {
	t.Helper()
	for _, x := range exceptions {
		if x.Reason == "" {
			t.Fatalf("backendtest: exception %q has no reason", x.Test)
		}
		if !slices.ContainsFunc(units, func(u unit[E]) bool { return covers(x.Test, u.name) }) {
			t.Fatalf("backendtest: exception %q names no test", x.Test)
		}
	}
	for _, u := range units {
		t.Run(u.name, func(t *testing.T) {
			for _, x := range exceptions {
				if covers(x.Test, u.name) {
					t.Skipf("exception: %s", x.Reason)
				}
			}
			u.run(env(t))
		})
	}
}

// covers reports whether the exception's name is the test's or that of a
// group it is in.
func covers(exception, test string) bool {
	return exception != "" && (exception == test || strings.HasPrefix(test, exception+"/"))
}
