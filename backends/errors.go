package backends

import (
	"errors"
	"io/fs"
)

// Errors beside those of io/fs that a backend's errors wrap. The mount turns
// each into one errno; package fs of this module has the table.
var (
	// ErrChanged: a precondition did not hold, or the version that a reader
	// was bound to is gone (ESTALE).
	ErrChanged = errors.New("changed in the store meanwhile")
	// ErrIsDir: a file was needed and this is a directory (EISDIR).
	ErrIsDir = errors.New("is a directory")
	// ErrNotDir: a directory was needed and this is something else (ENOTDIR).
	ErrNotDir = errors.New("not a directory")
	// ErrNotEmpty: the directory has children (ENOTEMPTY).
	ErrNotEmpty = errors.New("directory not empty")
	// ErrNoSpace: the store's or the cache's limit is reached (ENOSPC).
	ErrNoSpace = errors.New("no space left")
	// ErrTooLarge: the file would exceed what the store can hold (EFBIG).
	ErrTooLarge = errors.New("file too large for this store")
	// ErrNameTooLong: a segment or the whole name is too long (ENAMETOOLONG).
	ErrNameTooLong = errors.New("name too long")
	// ErrIllegalName: the store can't hold a name with these bytes (EILSEQ).
	ErrIllegalName = errors.New("name not valid in this store")
	// ErrReserved: the name is kept for agentfs itself (EPERM).
	ErrReserved = errors.New("name is reserved")
	// ErrBusy: the root of a route or of a store can't be removed or renamed
	// (EBUSY).
	ErrBusy = errors.New("in use as the root of a route")
	// ErrReadOnly: the route or the store takes no changes (EROFS).
	ErrReadOnly = errors.New("read-only")
	// ErrNotPermitted: nobody may do this, whatever the permissions (EPERM);
	// a lack of permission is [fs.ErrPermission] (EACCES).
	ErrNotPermitted = errors.New("operation not permitted")
	// ErrNoXattr: there is no such extended attribute (ENODATA).
	ErrNoXattr = errors.New("no such extended attribute")
	// ErrTooManyLinks: a file can't have more names (EMLINK).
	ErrTooManyLinks = errors.New("too many links")
	// ErrNotRecorded: the audit has no room for a record of the operation, and
	// whoever set it up wants none without (EAGAIN).
	ErrNotRecorded = errors.New("not done, because the audit can't record it")
	// ErrNoData: no further data or hole after an offset (ENXIO).
	ErrNoData = errors.New("no data beyond the offset")
)

// Remedier is implemented by errors that know what to do about them.
type Remedier interface {
	error
	// Remedy is a sentence for people, without a full stop.
	Remedy() string
}

// WrapPath returns err as an [fs.PathError] of op and name, nil for nil. An
// error that names a path already is returned as it is.
func WrapPath(op, name string, err error) error {
	if err == nil {
		return nil
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return err
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// CheckName returns an error matching [fs.ErrInvalid] unless name is valid in
// the sense of the package documentation.
func CheckName(op, name string) error {
	if !validName(name) {
		return &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	return nil
}

// validName is fs.ValidPath but for POSIX's idea of a name: any bytes except
// slash and NUL, UTF-8 or not.
func validName(name string) bool {
	if name == "." {
		return true
	}
	for {
		i := 0
		for i < len(name) && name[i] != '/' {
			if name[i] == 0 {
				return false
			}
			i++
		}
		seg := name[:i]
		if seg == "" || seg == "." || seg == ".." {
			return false
		}
		if i == len(name) {
			return true
		}
		name = name[i+1:]
	}
}
