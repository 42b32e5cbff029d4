package attrs

import (
	"fmt"
	"io/fs"
	"strings"

	"github.com/agentfs/agentfs/backends"
)

// Attr is what is recorded of one name. A nil field is not recorded: whoever
// asks supplies what it would be otherwise. What a [Dir] returns is shared and
// must not be changed.
type Attr struct {
	// Version is that of the object which this describes; "" for a directory.
	// For an object of another version nothing here holds.
	Version backends.Version
	// Changed is when this was recorded, in nanoseconds since 1970. Save sets it,
	// later than everything that it knows of the directory.
	Changed int64
	// Mode has the permission, setuid, setgid and sticky bits as Linux has them.
	Mode *uint32
	UID  *uint32
	GID  *uint32
	// Mtime and Atime are in nanoseconds since 1970.
	Mtime *int64
	Atime *int64
	// Symlink says that the object's body is the target of a symbolic link;
	// Target is that target, so that a listing needs no further request.
	Symlink bool
	Target  string
	// Xattrs are extended attributes. None and an empty map are the same.
	Xattrs map[string][]byte
	// Removed says that nothing is recorded of the name any more.
	Removed bool
}

const (
	maxMode = 0o7777
	// maxChanged is in the year 2116. A later time is a mistake, and must not
	// keep changes of now from being the latest ones.
	maxChanged = 1 << 62
)

// entry is an Attr with its name, as a record holds it. Immutable.
type entry struct {
	name string
	Attr
	// raw is the entry as it was read if it has fields that are not known
	// here, so that merging keeps them; otherwise nil.
	raw []byte
}

// check returns what makes e an entry that no record may have.
func (e *entry) check() error {
	switch {
	case e.name == "" || e.name == ".." || strings.ContainsAny(e.name, "/\x00"):
		return fmt.Errorf("%q is no name in a directory: %w", e.name, fs.ErrInvalid)
	case e.Changed <= 0 || e.Changed > maxChanged:
		return fmt.Errorf("%q changed at %d ns: %w", e.name, e.Changed, fs.ErrInvalid)
	case e.Mode != nil && *e.Mode > maxMode:
		return fmt.Errorf("%q has mode %#o: %w", e.name, *e.Mode, fs.ErrInvalid)
	}
	return nil
}
