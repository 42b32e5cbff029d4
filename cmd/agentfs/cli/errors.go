package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/cmd/agentfs/protocol"
)

// The exit statuses, as the help of the program lists them.
const (
	exitOK        = 0
	exitFailed    = 1
	exitUsage     = 2
	exitNotStored = 3
	exitCondition = 4
)

// usageError is an error in what the user typed or configured.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// usage marks err as a usage error, nil as nil.
func usage(err error) error {
	if err == nil {
		return nil
	}
	return usageError{err}
}

// notStoredError means that something was acknowledged and is not in its store.
type notStoredError struct{ err error }

func (e notStoredError) Error() string { return e.err.Error() }
func (e notStoredError) Unwrap() error { return e.err }

// silentError has been reported already.
type silentError struct{ status int }

func (e silentError) Error() string { return fmt.Sprintf("exit status %d", e.status) }

func exitStatus(err error) int {
	var (
		usage     usageError
		notStored notStoredError
		silent    silentError
		pattern   *protocol.PatternError
		grep      grepError
		ambiguous *protocol.AmbiguousError
	)
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &silent):
		return silent.status
	case errors.As(err, &notStored):
		return exitNotStored
	case errors.As(err, &usage), errors.As(err, &pattern), errors.As(err, &grep):
		return exitUsage
	case errors.Is(err, backends.ErrChanged), errors.Is(err, protocol.ErrNoMatch), errors.As(err, &ambiguous),
		errors.Is(err, fs.ErrExist) && !errors.Is(err, backends.ErrNotEmpty):
		return exitCondition
	}
	return exitFailed
}

// remedies says what to do about an error; the first that matches counts, so
// the most specific stand first.
var remedies = []struct {
	is  error
	say string
}{
	{backends.ErrChanged, "read it again and repeat the change on what is there now"},
	{backends.ErrNotEmpty, "agentfs rm -r removes what is in it too"},
	{backends.ErrReadOnly, "the route is mounted or configured with read_only"},
	{backends.ErrNoSpace, "remove something, or give the route or the cache more room"},
	{backends.ErrBusy, "a route or a store begins there; change the configuration to remove it"},
	{backends.ErrIllegalName, "rename it"},
	{unix.ENOTCONN, "the process of the mount there is dead; agentfs unmount clears it"},
	{context.DeadlineExceeded, "the store did not answer in time; is the endpoint up and the network there?"},
}

// pathless returns what err says of its path, without operation and path: for
// messages that name the thing already, and as the user wrote it.
func pathless(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// describe returns err for people, with what to do if that is known.
func describe(err error) string {
	msg := err.Error()
	if errors.Is(err, context.Canceled) {
		return "interrupted"
	}
	var pe *fs.PathError
	if errors.As(err, &pe) && pe.Path != "" && !strings.HasPrefix(pe.Path, "/") {
		// A store's name: say the path that the user gave.
		msg = strings.Replace(msg, pe.Error(), fmt.Sprintf("%s: %v", protocol.Path(pe.Path, false), pe.Err), 1)
	}
	for _, r := range remedies {
		if errors.Is(err, r.is) && !strings.Contains(msg, r.say) {
			return msg + " (" + r.say + ")"
		}
	}
	return msg
}
