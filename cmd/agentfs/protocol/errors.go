package protocol

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
)

// Kind is what kind of failure an error is: the same word for the same failure
// on every backend and in every way in.
type Kind string

// The kinds.
const (
	KindNotExist    Kind = "not-found"
	KindExist       Kind = "exists"
	KindChanged     Kind = "changed" // another version is there than the one asked for
	KindNoMatch     Kind = "no-match"
	KindAmbiguous   Kind = "ambiguous"
	KindBinary      Kind = "binary"
	KindIsDir       Kind = "is-directory"
	KindNotDir      Kind = "not-directory"
	KindNotEmpty    Kind = "not-empty"
	KindBusy        Kind = "busy"
	KindReadOnly    Kind = "read-only"
	KindPermission  Kind = "permission"
	KindReserved    Kind = "reserved"
	KindBadName     Kind = "bad-name"
	KindNoSpace     Kind = "no-space"
	KindTooLarge    Kind = "too-large"
	KindUnsupported Kind = "unsupported"
	KindInvalid     Kind = "invalid"
	KindTimeout     Kind = "timeout"
	KindInterrupted Kind = "interrupted"
	KindFailed      Kind = "failed" // anything else
)

// kinds is the table of errors, the most specific first. text, if not empty,
// stands in for what the backend says, so that all backends say the same; next
// is what to do about it.
var kinds = []struct {
	is         error
	kind       Kind
	text, next string
}{
	{context.Canceled, KindInterrupted, "interrupted", ""},
	{context.DeadlineExceeded, KindTimeout, "", "the store did not answer in time; is the endpoint up and the network there?"},
	{ErrNoMatch, KindNoMatch, "", "read the file again and copy the text from there, white space included"},
	{errAmbiguous, KindAmbiguous, "", "give more of the text around it, or replace all"},
	{ErrBinary, KindBinary, "", "read it as base64"},
	{backends.ErrChanged, KindChanged, "another version is there than the one that was asked for", "read it again and repeat the change on what is there now"},
	{backends.ErrNotEmpty, KindNotEmpty, "the directory is not empty", "remove it recursively (-r) to remove what is in it, too"},
	{backends.ErrIsDir, KindIsDir, "is a directory", ""},
	{backends.ErrNotDir, KindNotDir, "is not a directory, or something above it is not", ""},
	{backends.ErrReadOnly, KindReadOnly, "is on a read-only route", "the route is mounted or configured with read_only; write elsewhere"},
	{backends.ErrNoSpace, KindNoSpace, "", "remove something, or give the route or the cache more room"},
	{backends.ErrTooLarge, KindTooLarge, "", ""},
	{backends.ErrBusy, KindBusy, "", "a route or a store begins there; change the configuration to remove it"},
	{backends.ErrReserved, KindReserved, "is a name that agentfs keeps for itself", "choose another name"},
	{backends.ErrIllegalName, KindBadName, "", "rename it"},
	{backends.ErrNameTooLong, KindBadName, "the name is too long", "choose a shorter one"},
	{unix.ENOTCONN, KindFailed, "", "the process of the mount there is dead; agentfs unmount clears it"},
	{fs.ErrNotExist, KindNotExist, "does not exist", ""},
	{fs.ErrExist, KindExist, "is there already", ""},
	{unix.EACCES, KindPermission, "", "its mode, its owner or a rule; on a mount, .agentfs/last-error says which it was, and agentfs explain PATH which rule"},
	{fs.ErrPermission, KindPermission, "", ""},
	{backends.ErrNotPermitted, KindPermission, "", ""},
	{errors.ErrUnsupported, KindUnsupported, "", ""},
	{fs.ErrInvalid, KindInvalid, "", ""},
}

// KindOf returns err's kind, "" for nil.
func KindOf(err error) Kind {
	if err == nil {
		return ""
	}
	for _, k := range kinds {
		if errors.Is(err, k.is) {
			return k.kind
		}
	}
	return KindFailed
}

// Describe returns what err means and, where that is known, what to do about
// it: a line for each of the errors that it is made of, with paths as users
// write them.
func Describe(err error) string {
	// What only marks an error may mark several.
	for in := errors.Unwrap(err); in != nil && in.Error() == err.Error(); in = errors.Unwrap(err) {
		err = in
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var lines []string
		for _, e := range joined.Unwrap() {
			lines = append(lines, Describe(e))
		}
		return strings.Join(lines, "\n")
	}
	msg := err.Error()
	var pe *fs.PathError
	errors.As(err, &pe)
	for _, k := range kinds {
		if !errors.Is(err, k.is) {
			continue
		}
		if pe != nil {
			msg = strings.Replace(msg, pe.Error(), located(pe, k.text), 1)
		} else if k.kind == KindInterrupted {
			msg = k.text
		}
		next := k.next
		var knows backends.Remedier
		if errors.As(err, &knows) {
			next = knows.Remedy()
		}
		if next != "" && !strings.Contains(msg, next) {
			msg += " (" + next + ")"
		}
		return msg
	}
	if pe != nil {
		msg = strings.Replace(msg, pe.Error(), located(pe, ""), 1)
	}
	return msg
}

// located returns what pe says with the path as users write it; text, if there
// is one, is what it says unless the error has more to tell.
func located(pe *fs.PathError, text string) string {
	said := pe.Err.Error()
	if text != "" && !detailed(pe.Err) {
		said = text
	}
	switch {
	case pe.Path == "":
		return said
	case strings.HasPrefix(pe.Path, "/"):
		return pe.Path + ": " + said
	}
	return fmt.Sprintf("%s: %s", Path(pe.Path, false), said)
}

// detailed reports whether err is one that this package made to say more than
// its kind.
func detailed(err error) bool {
	var d detailedError
	return errors.As(err, &d)
}

// detailedError says in words of its own what is wrong; its kind is err's.
type detailedError struct {
	text string
	err  error
}

func (e detailedError) Error() string { return e.text }
func (e detailedError) Unwrap() error { return e.err }

// invalid returns an [fs.ErrInvalid] that says what is wrong.
func invalid(format string, args ...any) error {
	return detailedError{fmt.Sprintf(format, args...), fs.ErrInvalid}
}

// Failure is what went wrong with one of several paths.
type Failure struct {
	Path    string `json:"path" jsonschema:"what failed"`
	Kind    Kind   `json:"kind" jsonschema:"one word for what kind of failure it is"`
	Message string `json:"error" jsonschema:"what is wrong and what to do"`
	err     error
}

// FailureOf returns err, which is about the path p unless it names another one,
// as a Failure.
func FailureOf(p string, err error) *Failure {
	var pe *fs.PathError
	if errors.As(err, &pe) && pe.Path != "" {
		p = pe.Path
		if !strings.HasPrefix(p, "/") {
			p = Path(p, false)
		}
	}
	return &Failure{Path: p, Kind: KindOf(err), Message: Describe(err), err: err}
}

// Error implements error.
func (f *Failure) Error() string { return f.Message }

// Unwrap returns the error that f was made of.
func (f *Failure) Unwrap() error { return f.err }

// maxFailures is how many failures a result carries; more are counted.
const maxFailures = 20

// Failures are those of an operation that goes on after a failure.
type Failures struct {
	// Failed has the first 20.
	Failed []*Failure `json:"failures,omitempty" jsonschema:"what could not be looked into, the first 20"`
	// FailedCount is how many there were.
	FailedCount int64 `json:"failed_count,omitempty" jsonschema:"how many there were"`
}

func (f *Failures) add(p string, err error) {
	if f.FailedCount++; len(f.Failed) < maxFailures {
		f.Failed = append(f.Failed, FailureOf(p, err))
	}
}

// Err returns the failures as one error, nil if there are none.
func (f *Failures) Err() error {
	var errs []error
	for _, e := range f.Failed {
		errs = append(errs, e)
	}
	if more := f.FailedCount - int64(len(errs)); more > 0 {
		errs = append(errs, fmt.Errorf("and %d more failed", more))
	}
	return errors.Join(errs...)
}
