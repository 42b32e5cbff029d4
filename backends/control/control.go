// Package control is a read-only backend of files whose content is computed
// when somebody opens them: the control directory of a mount.
//
// An open file has the content of the moment when it was opened, whole and
// unchanged until it is closed. The size that stat(2) shows is that of a
// content computed for the purpose, so it may differ from what the next open
// reads; an open file therefore answers DirectIO with true: its reads are not
// to be cut or cached by a size or pages that the kernel knows.
package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/agentfs/agentfs/backends"
)

// File is one computed file.
type File struct {
	// Read returns the content of this moment. It is called for every open
	// and for every stat, by many goroutines at once, and must not use the
	// mount that shows the file.
	Read func(ctx context.Context) ([]byte, error)
	// Mode has the permission bits; 0 stands for 0444. Write permission has
	// no effect.
	Mode fs.FileMode
}

// Config is who owns the files.
type Config struct {
	UID, GID uint32
}

// Store is the object depth of computed files, and a [backends.Filer].
type Store struct {
	cfg  Config
	root *node
	born time.Time
}

// node is a file or directory. The tree never changes.
type node struct {
	s        *Store
	id       uint64
	name     string // path from the root
	file     *File  // nil for a directory
	children map[string]*node
	order    []*node // children by key
}

// ID implements [backends.Node].
func (n *node) ID() uint64 { return n.id }

// New returns a store of files by name; directories come from the slashes in
// the names. An error names what is wrong with a name.
func New(files map[string]File, cfg Config) (*Store, error) {
	s := &Store{cfg: cfg, born: time.Now()}
	s.root = &node{s: s, id: 1, name: "."}
	var errs []error
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	next := s.root.id
	for _, name := range names {
		f := files[name]
		if err := s.add(name, &f, &next); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	s.root.sort()
	return s, nil
}

func (s *Store) add(name string, f *File, next *uint64) error {
	if err := backends.CheckName("control file", name); err != nil || name == "." {
		return fmt.Errorf("control file %q: not a valid name", name)
	}
	if f.Read == nil {
		return fmt.Errorf("control file %q: has no Read", name)
	}
	if f.Mode == 0 {
		f.Mode = 0o444
	}
	n := s.root
	for seg := range strings.SplitSeq(name, "/") {
		if n.file != nil {
			return fmt.Errorf("control file %q: %q is a file already", name, n.name)
		}
		c := n.children[seg]
		if c == nil {
			*next++
			c = &node{s: s, id: *next, name: path.Join(n.name, seg)}
			if n.children == nil {
				n.children = map[string]*node{}
			}
			n.children[seg] = c
			n.order = append(n.order, c)
		}
		n = c
	}
	// Sorted names bring "a" before "a/b", so n can't be a directory yet.
	n.file = f
	return nil
}

func (n *node) sort() {
	slices.SortFunc(n.order, func(a, b *node) int { return cmp.Compare(a.key(), b.key()) })
	for _, c := range n.order {
		c.sort()
	}
}

// key sorts n among its siblings; see [backends.Entry.Key].
func (n *node) key() string {
	if n.file == nil {
		return path.Base(n.name) + "/"
	}
	return path.Base(n.name)
}

// mode returns n's mode with its type.
func (n *node) mode() fs.FileMode {
	if n.file == nil {
		return fs.ModeDir | 0o555
	}
	return n.file.Mode.Perm()
}

// find returns the node called name.
func (s *Store) find(op, name string) (*node, error) {
	if err := backends.CheckName(op, name); err != nil {
		return nil, err
	}
	n := s.root
	if name == "." {
		return n, nil
	}
	for seg := range strings.SplitSeq(name, "/") {
		c := n.children[seg]
		switch {
		case n.file != nil:
			return nil, &fs.PathError{Op: op, Path: name, Err: backends.ErrNotDir}
		case c == nil:
			return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
		}
		n = c
	}
	return n, nil
}

// content computes n's content.
func (n *node) content(ctx context.Context) ([]byte, error) {
	b, err := n.file.Read(ctx)
	if err != nil {
		return nil, fmt.Errorf("control file %s: %w", n.name, err)
	}
	return b, nil
}

// readOnly is the error for every change.
func readOnly(op, name string) error {
	return &fs.PathError{Op: op, Path: name, Err: backends.ErrReadOnly}
}
