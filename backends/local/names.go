package local

import (
	"io/fs"
	"path"
	"strings"

	"github.com/agentfs/agentfs/backends"
)

// tempPrefix begins the names of Put's temporary files.
const tempPrefix = ".agentfs-tmp-"

func reserved(segment string) bool { return strings.HasPrefix(segment, tempPrefix) }

// checkName refuses names that are not valid or not to be found here.
func checkName(op, name string) error {
	if err := backends.CheckName(op, name); err != nil {
		return err
	}
	if hasReserved(name) {
		return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return nil
}

// checkNewName refuses names that are not valid or not to be made.
func checkNewName(op, name string) error {
	if err := backends.CheckName(op, name); err != nil {
		return err
	}
	if hasReserved(name) {
		return &fs.PathError{Op: op, Path: name, Err: backends.ErrReserved}
	}
	return nil
}

func hasReserved(name string) bool {
	return reserved(name) || strings.Contains(name, "/"+tempPrefix)
}

// split returns the directory and the last element of name.
func split(name string) (dir, base string) { return path.Dir(name), path.Base(name) }
