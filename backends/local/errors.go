package local

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
)

// contractErrors has what the host's errors are in the contract. Those that
// are missing match an error of io/fs by themselves or are I/O errors.
var contractErrors = map[unix.Errno]error{
	unix.EINVAL:       fs.ErrInvalid,
	unix.ENOTEMPTY:    backends.ErrNotEmpty, // would match fs.ErrExist
	unix.EISDIR:       backends.ErrIsDir,
	unix.ENOTDIR:      backends.ErrNotDir,
	unix.ENOSPC:       backends.ErrNoSpace,
	unix.EDQUOT:       backends.ErrNoSpace,
	unix.EFBIG:        backends.ErrTooLarge,
	unix.E2BIG:        backends.ErrTooLarge,
	unix.ENAMETOOLONG: backends.ErrNameTooLong,
	unix.EILSEQ:       backends.ErrIllegalName,
	unix.EBUSY:        backends.ErrBusy,
	unix.EROFS:        backends.ErrReadOnly,
	unix.EPERM:        backends.ErrNotPermitted,
	unix.ENODATA:      backends.ErrNoXattr,
	unix.EMLINK:       backends.ErrTooManyLinks,
	unix.ENXIO:        backends.ErrNoData,
	unix.ESTALE:       backends.ErrChanged,
	unix.EXDEV:        errors.ErrUnsupported,
	// A symbolic link on the way: links are not followed, so it is simply
	// something that is no directory.
	unix.ELOOP: backends.ErrNotDir,
}

// Wrap returns err, of a system call on a host's file, as a [fs.PathError] of op and name around an error of the
// contract. A call on an open file or a node has no name to tell.
func Wrap(op, name string, err error) error {
	if err == nil {
		return nil
	}
	var errno unix.Errno
	if errors.As(err, &errno) {
		err = errno
		if known, ok := contractErrors[errno]; ok {
			err = known
		}
	} else if named := (*fs.PathError)(nil); errors.As(err, &named) {
		return err
	}
	if name == "" {
		return fmt.Errorf("%s: %w", op, err)
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// retry repeats a system call that a signal interrupted.
func retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}
