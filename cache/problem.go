package cache

import (
	"context"
	"errors"
	"io/fs"

	"github.com/agentfs/agentfs/backends"
)

// Kinds of failure. An outage ends by itself; the others somebody has to see
// to.
const (
	kindOutage     = "outage"
	kindPermission = "permission"
	kindQuota      = "quota"
	kindName       = "name"
	kindSize       = "size"
	kindOther      = "other"
)

// kindOf tells what kind of failure err is.
func kindOf(err error) string {
	var u interface{ Unavailable() bool }
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, backends.ErrReadOnly), errors.Is(err, backends.ErrNotPermitted):
		return kindPermission
	case errors.Is(err, backends.ErrNoSpace):
		return kindQuota
	case errors.Is(err, backends.ErrTooLarge):
		return kindSize
	case errors.Is(err, backends.ErrNameTooLong), errors.Is(err, backends.ErrIllegalName), errors.Is(err, backends.ErrReserved):
		return kindName
	case errors.As(err, &u) && u.Unavailable(), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return kindOutage
	}
	return kindOther
}

// refused reports whether the store holds another version than the one that a
// change derives from, or has lost the one that it copies.
func refused(err error) bool {
	var source *sourceError
	if errors.As(err, &source) {
		return false
	}
	return errors.Is(err, backends.ErrChanged) || errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist)
}

// sourceGone reports whether bytes that an upload needs are gone from the
// store.
func sourceGone(err error) bool {
	var source *sourceError
	return errors.As(err, &source) && (errors.Is(err, backends.ErrChanged) || errors.Is(err, fs.ErrNotExist))
}
