package backendtest

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"testing"

	"github.com/agentfs/agentfs/backends"
)

// Short names of errors of io/fs, beside those of backends.
var (
	errNotExist    = fs.ErrNotExist
	errExist       = fs.ErrExist
	errInvalid     = fs.ErrInvalid
	errUnsupported = errors.ErrUnsupported
)

// wantErr ends the test unless err matches want by [errors.Is].
func wantErr(t *testing.T, err, want error, format string, args ...any) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: error is %s, want one matching %q", fmt.Sprintf(format, args...), describe(err), want)
	}
}

// wantErrOf ends the test unless err matches one of these.
func wantErrOf(t *testing.T, err error, wants []error, format string, args ...any) {
	t.Helper()
	for _, w := range wants {
		if errors.Is(err, w) {
			return
		}
	}
	t.Fatalf("%s: error is %s, want one matching one of %q", fmt.Sprintf(format, args...), describe(err), wants)
}

func describe(err error) string {
	if err == nil {
		return "none"
	}
	return fmt.Sprintf("%T %q", err, err)
}

// collect returns what a listing yields until its end or first error, and
// fails it if it goes on after an error.
func collect(seq iter.Seq2[backends.Entry, error]) ([]backends.Entry, error) {
	var entries []backends.Entry
	var failed error
	for e, err := range seq {
		switch {
		case failed != nil:
			return entries, fmt.Errorf("the listing went on after yielding the error %w", failed)
		case err != nil:
			failed = err
		default:
			entries = append(entries, e)
		}
	}
	return entries, failed
}

func keysOf(entries []backends.Entry) []string {
	keys := make([]string, 0, len(entries))
	for _, e := range entries {
		keys = append(keys, e.Key())
	}
	return keys
}

// brief shows a content without filling the screen.
func brief(s string) string {
	if len(s) <= 64 {
		return fmt.Sprintf("%q", s)
	}
	return fmt.Sprintf("%d bytes %q...", len(s), s[:32])
}
