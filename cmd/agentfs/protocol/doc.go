// Package protocol has the operations that an agent works with when it has no
// file system in its hands: ls, stat, read, write, edit, glob, grep, mkdir, mv
// and rm, by path, over one [backends.Store]. It is the one implementation
// behind the command line, the tools of the MCP server and Go programs: all of
// them call the methods of a [Tree] and get the same typed results and errors.
//
// Over a mount the store is the mounted directory, seen through the kernel like
// any other program sees it; without a mount it is the router over the
// backends themselves. The operations can't tell, and there is no second way
// in.
//
// Paths are those of the tree: slash-separated, from its root, a leading slash
// is optional and ".." never leads out. Results always have the leading slash,
// and directories end in a slash.
//
// An operation on one path returns an error. One that goes through a tree, or
// takes several files, goes on where it can and returns what failed as
// [Failure] beside the rest: a route that doesn't answer is no reason to hide
// what the others have.
package protocol

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/agentfs/agentfs/backends"
)

// Tree is what the operations work on. Its methods may be called by many
// goroutines at once; its fields are set before.
type Tree struct {
	// Store is the whole tree at the object depth.
	Store backends.Store
	// Fixed are the names of directories at which routes begin. They, and what
	// they lie in, can be neither removed nor moved.
	Fixed []string
	// Parallel is how many files are worked on at once; 0 means 64.
	Parallel int
}

const defaultParallel = 64

func (t *Tree) parallel() int {
	if t.Parallel > 0 {
		return t.Parallel
	}
	return defaultParallel
}

// movable returns an error if a route begins at or below name.
func (t *Tree) movable(op, name string) error {
	if name == "." {
		return &fs.PathError{Op: op, Path: ".", Err: fmt.Errorf("%w: the root stays", backends.ErrBusy)}
	}
	for _, f := range t.Fixed {
		if f == name || strings.HasPrefix(f, name+"/") {
			return &fs.PathError{Op: op, Path: name, Err: fmt.Errorf("the route /%s begins there: %w", f, backends.ErrBusy)}
		}
	}
	return nil
}

// Version names one content of one file, as [backends.Version].
type Version = backends.Version

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

// fileName is Name for a path that is to be a file's.
func fileName(op, p string) (string, error) {
	name, err := Name(p)
	if err == nil && (name == "." || strings.HasSuffix(p, "/")) {
		err = &fs.PathError{Op: op, Path: name, Err: backends.ErrIsDir}
	}
	return name, err
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
	Path string `json:"path" jsonschema:"full path; a directory's ends in a slash"`
	// Type is "file", "dir", "symlink" or "other".
	Type string `json:"type" jsonschema:"file, dir, symlink or other"`
	// Size is in bytes, 0 for directories.
	Size int64 `json:"size" jsonschema:"bytes"`
	// Mode has the permission bits in octal, as "0644"; empty where the store
	// has none.
	Mode string `json:"mode,omitempty" jsonschema:"permission bits in octal"`
	// ModTime is zero where the store knows none.
	ModTime time.Time `json:"mtime,omitzero" jsonschema:"when the content last changed"`
	// Version names the content; give it back as [WriteOptions.IfVersion] to
	// write only what nobody changed meanwhile.
	Version backends.Version `json:"version,omitempty" jsonschema:"names the content; give it as if_version to change only what nobody else changed"`
	// Target is where a symbolic link leads; only Stat has it.
	Target string `json:"target,omitempty" jsonschema:"where a symbolic link leads"`
}

func itemOf(e backends.Entry) Item {
	it := Item{Path: Path(e.Name, e.IsDir()), Size: e.Size, ModTime: e.ModTime, Version: e.Version}
	if perm := e.Mode.Perm(); perm != 0 && e.Mode&fs.ModeSymlink == 0 {
		it.Mode = fmt.Sprintf("%04o", perm)
	}
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

// Stat returns what is at the path p.
func (t *Tree) Stat(ctx context.Context, p string) (Item, error) {
	name, err := Name(p)
	if err != nil {
		return Item{}, err
	}
	e, err := t.Store.Stat(ctx, name)
	if err != nil {
		return Item{}, err
	}
	it := itemOf(e)
	if it.Type == "symlink" {
		if it.Target, err = backends.Readlink(ctx, t.Store, name); err != nil && !errors.Is(err, errors.ErrUnsupported) {
			return Item{}, err
		}
	}
	return it, nil
}
