// Package protocol has the operations that an agent works with when it has no
// file system in its hands: list, read, write, edit, glob, grep and remove, by
// path, over one [backends.Store]. The command line and whatever speaks to
// agents otherwise call the same functions and get the same typed results.
//
// Over a mount the store is the mounted directory, seen through the kernel like
// any other program sees it; without a mount it is the router over the
// backends themselves. The functions can't tell, and there is no second way
// in.
//
// Paths are those of the tree: slash-separated, from its root, a leading slash
// is optional and ".." never leads out. Results always have the leading slash,
// and directories end in a slash.
package protocol

import (
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/agentfs/agentfs/backends"
)

// Name returns p as a name of a [backends.Store]: "/a/b/", "a/b" and
// "a/./x/../b" are all "a/b", and "" and "/" are the root, ".".
func Name(p string) (string, error) {
	if strings.IndexByte(p, 0) >= 0 {
		return "", &fs.PathError{Op: "parse", Path: p, Err: fmt.Errorf("%w: a path can't contain a NUL byte", fs.ErrInvalid)}
	}
	p = path.Clean("/" + p)[1:]
	if p == "" {
		return ".", nil
	}
	return p, nil
}

// Path returns a store's name as the path that users see.
func Path(name string, dir bool) string {
	switch {
	case name == ".":
		return "/"
	case dir:
		return "/" + name + "/"
	}
	return "/" + name
}

// Item is one file, directory or link as results show it.
type Item struct {
	// Path is the full path; a directory's ends in a slash.
	Path string `json:"path"`
	// Type is "file", "dir", "symlink" or "other".
	Type string `json:"type"`
	// Size is in bytes, 0 for directories.
	Size int64 `json:"size"`
	// ModTime is zero where the store knows none.
	ModTime time.Time `json:"mtime,omitzero"`
	// Version names the content; give it back as [WriteOptions.IfVersion] to
	// write only what nobody changed meanwhile.
	Version backends.Version `json:"version,omitempty"`
}

func itemOf(e backends.Entry) Item {
	it := Item{Path: Path(e.Name, e.IsDir()), Size: e.Size, ModTime: e.ModTime, Version: e.Version}
	switch {
	case e.IsDir():
		it.Type = "dir"
	case e.Mode.IsRegular():
		it.Type = "file"
	case e.Mode&fs.ModeSymlink != 0:
		it.Type = "symlink"
	default:
		it.Type = "other"
	}
	return it
}
