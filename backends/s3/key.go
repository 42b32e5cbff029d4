package s3

import (
	"io/fs"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/agentfs/agentfs/backends"
)

const (
	// maxKey is S3's limit of a key in bytes.
	maxKey = 1024
	// maxSegment is NAME_MAX of Linux: a longer segment can't be a file name.
	maxSegment = 255
	// reserved begins the names that agentfs keeps for itself.
	reserved = ".agentfs"
)

// keyspace maps names to keys and back.
type keyspace struct {
	prefix string // empty or ends in a slash
	// records: files whose name begins with backends.RecordPrefix are files
	// like others.
	records bool
}

// normalPrefix gives a prefix the slash that it needs at its end, and takes
// away those at its beginning, which only a URL has.
func normalPrefix(p string) string {
	p = strings.Trim(p, "/")
	if p == "" {
		return ""
	}
	return p + "/"
}

// file returns the key of the file name.
func (k keyspace) file(name string) string { return k.prefix + name }

// dir returns the key of the marker of directory name, which is also what
// every key below it begins with.
func (k keyspace) dir(name string) string {
	if name == "." {
		return k.prefix
	}
	return k.prefix + name + "/"
}

// check returns the error of a name that no key can hold.
func (k keyspace) check(op, name string) error {
	if err := backends.CheckName(op, name); err != nil {
		return err
	}
	if !utf8.ValidString(name) {
		return &fs.PathError{Op: op, Path: name, Err: backends.ErrIllegalName}
	}
	if len(k.prefix)+len(name) > maxKey || longSegment(name) {
		return &fs.PathError{Op: op, Path: name, Err: backends.ErrNameTooLong}
	}
	return nil
}

// checkFile is check for a call about an existing file: nothing reserved
// exists as far as a caller can see.
func (k keyspace) checkFile(op, name string) error {
	if err := k.check(op, name); err != nil {
		return err
	}
	if k.isReserved(name) {
		return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return nil
}

// checkDir is checkFile for a directory: there are no records among them.
func (k keyspace) checkDir(op, name string) error {
	k.records = false
	return k.checkFile(op, name)
}

// checkNew is check for a call that makes name.
func (k keyspace) checkNew(op, name string) error {
	if err := k.check(op, name); err != nil {
		return err
	}
	if k.isReserved(name) {
		return &fs.PathError{Op: op, Path: name, Err: backends.ErrReserved}
	}
	return nil
}

// checkNewDir is checkNew for a directory, whose marker is one byte longer.
func (k keyspace) checkNewDir(op, name string) error {
	k.records = false
	if err := k.checkNew(op, name); err != nil {
		return err
	}
	if len(k.dir(name)) > maxKey {
		return &fs.PathError{Op: op, Path: name, Err: backends.ErrNameTooLong}
	}
	return nil
}

// name returns the name that key stands for, relative to the root, and whether
// it is a directory's. reason says why there is none: "" with ok false means a
// name that is hidden on purpose.
func (k keyspace) name(key string) (name string, dir, ok bool, reason string) {
	rel, in := strings.CutPrefix(key, k.prefix)
	if !in {
		return "", false, false, "not below the prefix that was asked for"
	}
	name, dir = strings.CutSuffix(rel, "/")
	switch {
	case strings.IndexByte(name, 0) >= 0:
		return "", dir, false, "a NUL byte can't be in a file name"
	case name == "." || backends.CheckName("list", name) != nil:
		return "", dir, false, "an empty, \".\" or \"..\" segment can't be a file name"
	case longSegment(name):
		return "", dir, false, "a segment has more than 255 bytes"
	case !utf8.ValidString(name):
		return "", dir, false, "not UTF-8"
	case k.isReserved(name) || dir && isReserved(name):
		return "", dir, false, ""
	}
	return name, dir, true, ""
}

func longSegment(name string) bool {
	for seg := range strings.SplitSeq(name, "/") {
		if len(seg) > maxSegment {
			return true
		}
	}
	return false
}

// isReserved reports whether k keeps name from its callers.
func (k keyspace) isReserved(name string) bool {
	if k.records && strings.HasPrefix(path.Base(name), backends.RecordPrefix) {
		name = path.Dir(name)
	}
	return isReserved(name)
}

func isReserved(name string) bool {
	return strings.HasPrefix(name, reserved) || strings.Contains(name, "/"+reserved)
}
