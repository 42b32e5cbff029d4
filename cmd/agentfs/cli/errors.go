package cli

import (
	"errors"
	"fmt"
	"io/fs"

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
	}
	switch protocol.KindOf(err) {
	case protocol.KindChanged, protocol.KindExist, protocol.KindNoMatch, protocol.KindAmbiguous:
		return exitCondition
	}
	return exitFailed
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
