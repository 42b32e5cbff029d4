// Package logstore is an example of a backend: all files are in one file of the
// host, to which changes are only ever appended. What is in it, an index in
// memory says, which is made anew at each start.
//
// It is small, and real: a change is on the disk when its call returns, an end of
// the log that a crash has torn off is recognized, and a reader keeps the
// content that it has opened, because nothing is overwritten. What it lacks is
// somebody who rewrites the log without what is obsolete, and a second process
// that uses it.
package logstore

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
)

// Store is a log that is open. Its methods may be called by many goroutines.
type Store struct {
	path string
	file *os.File

	mu    sync.Mutex
	end   int64 // of the log; what is beyond was not acknowledged
	nodes map[string]*node
}

// node is what has a name.
type node struct {
	backends.Entry
	off      int64               // of a file: where its content is in the log
	children map[string]struct{} // of a directory: the last parts of their names
}

var (
	_ backends.Store      = (*Store)(nil)
	_ backends.Closer     = (*Store)(nil)
	_ backends.Identifier = (*Store)(nil)
	_ backends.Opener     = Open
)

// Open takes the options of a route: "path", the file. Wrong values and options
// that it doesn't know are errors that say where they were written.
func Open(_ context.Context, o *backends.Options) (backends.Store, error) {
	path := o.Required("path")
	if err := o.Close(); err != nil {
		return nil, err
	}
	return New(path)
}

// New opens the log at path, which is made if it is not there.
func New(path string) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s is in use by another process", path)
	}
	s := &Store{path: path, file: f, nodes: map[string]*node{".": newDir(".")}}
	if err := s.replay(); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// Close closes the log. No call may follow.
func (s *Store) Close() error { return s.file.Close() }

// Identity says what the store is: two with the same one hold the same data.
func (s *Store) Identity() string { return "log:" + s.path }

func newDir(name string) *node {
	return &node{Entry: backends.Entry{Name: name, Mode: fs.ModeDir}, children: map[string]struct{}{}}
}

// find returns what has the name. s.mu is held.
func (s *Store) find(name string) (*node, error) {
	if n := s.nodes[name]; n != nil {
		return n, nil
	}
	return nil, fs.ErrNotExist
}

// Stat implements [backends.Store].
func (s *Store) Stat(_ context.Context, name string) (backends.Entry, error) {
	if err := backends.CheckName("stat", name); err != nil {
		return backends.Entry{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.find(name)
	if err != nil {
		return backends.Entry{}, backends.WrapPath("stat", name, err)
	}
	return n.Entry, nil
}

// List implements [backends.Store].
func (s *Store) List(_ context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	return func(yield func(backends.Entry, error) bool) {
		entries, err := s.children(dir, after)
		if err != nil {
			yield(backends.Entry{}, backends.WrapPath("list", dir, err))
			return
		}
		for _, e := range entries {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// children returns what is in a directory, as it is now.
func (s *Store) children(dir, after string) ([]backends.Entry, error) {
	if err := backends.CheckName("list", dir); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d, err := s.find(dir)
	if err != nil {
		return nil, err
	}
	if !d.IsDir() {
		return nil, backends.ErrNotDir
	}
	var all []backends.Entry
	for base := range d.children {
		if e := s.nodes[path.Join(dir, base)].Entry; e.Key() > after {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b backends.Entry) int { return strings.Compare(a.Key(), b.Key()) })
	return all, nil
}

// Open implements [backends.Store]. What it returns stays as it is, whatever
// happens to the name.
func (s *Store) Open(_ context.Context, name string, r backends.Range, cond backends.If) (io.ReadCloser, backends.Entry, error) {
	fail := func(err error) (io.ReadCloser, backends.Entry, error) {
		return nil, backends.Entry{}, backends.WrapPath("open", name, err)
	}
	if err := backends.CheckName("open", name); err != nil {
		return fail(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.find(name)
	switch {
	case err != nil:
		return fail(err)
	case n.IsDir():
		return fail(backends.ErrIsDir)
	case cond.Match != "" && cond.Match != n.Version:
		return fail(backends.ErrChanged)
	}
	off := min(r.Off, n.Size)
	length := n.Size - off
	if r.Len > 0 {
		length = min(length, r.Len)
	}
	return io.NopCloser(io.NewSectionReader(s.file, n.off+off, length)), n.Entry, nil
}

// Put implements [backends.Store]. The lock is held from looking at the
// condition until the change has happened.
func (s *Store) Put(ctx context.Context, name string, body *io.SectionReader, opts backends.PutOptions) (backends.Entry, error) {
	fail := func(err error) (backends.Entry, error) { return backends.Entry{}, backends.WrapPath("put", name, err) }
	if err := backends.CheckName("put", name); err != nil {
		return fail(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var now *backends.Entry
	if n := s.nodes[name]; n != nil {
		now = &n.Entry
	}
	switch done, err := opts.Check(now); {
	case err != nil:
		return fail(err)
	case done:
		return *now, nil
	}
	if err := s.checkParents(name); err != nil {
		return fail(err)
	}
	r := record{
		Op: "put", Name: []byte(name), Size: body.Size(), Time: time.Now(),
		Version: backends.Version(rand.Text()), Operation: opts.Operation,
	}
	if err := s.append(ctx, r, body); err != nil {
		return fail(err)
	}
	return s.nodes[name].Entry, nil
}

// checkParents returns ErrNotDir if name is below a file. s.mu is held.
func (s *Store) checkParents(name string) error {
	for dir := path.Dir(name); ; dir = path.Dir(dir) {
		n := s.nodes[dir]
		switch {
		case n == nil:
		case n.IsDir():
			return nil
		default:
			return backends.ErrNotDir
		}
	}
}

// Mkdir implements [backends.Store].
func (s *Store) Mkdir(ctx context.Context, name string, _ backends.AttrChange) error {
	if err := backends.CheckName("mkdir", name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.checkParents(name)
	if s.nodes[name] != nil {
		err = fs.ErrExist
	}
	if err == nil {
		err = s.append(ctx, record{Op: "mkdir", Name: []byte(name)}, nil)
	}
	return backends.WrapPath("mkdir", name, err)
}

// Remove implements [backends.Store].
func (s *Store) Remove(ctx context.Context, name string, cond backends.If) error {
	if err := backends.CheckName("remove", name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.find(name)
	switch {
	case err != nil:
	case name == ".":
		err = backends.ErrBusy
	case cond.Match != "" && cond.Match != n.Version:
		err = backends.ErrChanged
	case len(n.children) > 0:
		err = backends.ErrNotEmpty
	default:
		err = s.append(ctx, record{Op: "remove", Name: []byte(name)}, nil)
	}
	return backends.WrapPath("remove", name, err)
}
