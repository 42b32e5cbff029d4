package memory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/tree"
)

// newSymlink returns a nameless symbolic link, counted.
func (s *Store) newSymlink(a backends.CreateAttr, target string) (*tree.Node, error) {
	if s.tree.Nodes() >= s.maxNodes {
		return nil, backends.ErrNoSpace
	}
	if err := s.grow(int64(len(target))); err != nil {
		return nil, err
	}
	return s.tree.NewSymlink(a, target, nil), nil
}

// find returns the node of name. Symbolic links are not followed: a link in
// the middle of a name is ErrNotDir.
func (s *Store) find(op, name string) (*tree.Node, error) {
	if err := backends.CheckName(op, name); err != nil {
		return nil, err
	}
	n := s.tree.Root()
	if name == "." {
		return n, nil
	}
	for seg := range strings.SplitSeq(name, "/") {
		var err error
		if n, err = s.tree.Lookup(n, seg); err != nil {
			return nil, backends.WrapPath(op, name, err)
		}
	}
	return n, nil
}

// findDir returns the directory of name and its last segment, making missing
// directories.
func (s *Store) findDir(ctx context.Context, op, name string) (*tree.Node, string, error) {
	if err := backends.CheckName(op, name); err != nil {
		return nil, "", err
	}
	if name == "." {
		return nil, "", &fs.PathError{Op: op, Path: name, Err: backends.ErrIsDir}
	}
	segs := strings.Split(name, "/")
	dir := s.tree.Root()
	for _, seg := range segs[:len(segs)-1] {
		next, err := s.tree.Lookup(dir, seg)
		if errors.Is(err, fs.ErrNotExist) {
			next = s.tree.NewNode(s.createAttr(ctx, fs.ModeDir|0o755), nil)
			if err = s.tree.Insert(dir, seg, next); err == nil {
				s.changed(dir, seg)
			} else if errors.Is(err, fs.ErrExist) {
				next, err = s.tree.Lookup(dir, seg)
			}
		}
		if err != nil {
			return nil, "", backends.WrapPath(op, name, err)
		}
		if !next.IsDir() {
			return nil, "", &fs.PathError{Op: op, Path: name, Err: backends.ErrNotDir}
		}
		dir = next
	}
	return dir, segs[len(segs)-1], nil
}

// createAttr has the owner of what the object depth makes: the caller, else
// the owner of the root.
func (s *Store) createAttr(ctx context.Context, mode fs.FileMode) backends.CreateAttr {
	if c, ok := backends.CallerFrom(ctx); ok {
		return backends.CreateAttr{Mode: mode, UID: c.UID, GID: c.GID}
	}
	a := s.tree.Attr(s.tree.Root())
	return backends.CreateAttr{Mode: mode, UID: a.UID, GID: a.GID}
}

func (s *Store) entry(n *tree.Node, name string) backends.Entry {
	a := (*fileSystem)(s).attr(n)
	e := backends.Entry{Name: name, Mode: a.Mode, Size: a.Size, ModTime: a.Mtime}
	switch f, ok := n.Data.(*file); {
	case ok:
		e.Version = f.version(n)
	case n.IsDir():
		e.Size = 0
	default:
		e.Version = fixedVersion(n)
	}
	return e
}

// fixedVersion is the version of what has no content that could change: a
// symbolic link or a device.
func fixedVersion(n *tree.Node) backends.Version {
	return backends.Version(fmt.Sprintf("%x", n.ID()))
}

// version names the content that f has now.
func (f *file) version(n *tree.Node) backends.Version {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sync(n)
	return f.versionLocked(n)
}

func (f *file) versionLocked(n *tree.Node) backends.Version {
	return backends.Version(fmt.Sprintf("%x-%x", n.ID(), f.changes.Load()))
}

// Stat implements [backends.Store].
func (s *Store) Stat(_ context.Context, name string) (backends.Entry, error) {
	n, err := s.find("stat", name)
	if err != nil {
		return backends.Entry{}, err
	}
	e := s.entry(n, name)
	if _, v, op := s.written(name); v == e.Version {
		e.Operation = op
	}
	return e, nil
}

// List implements [backends.Store].
func (s *Store) List(ctx context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	return func(yield func(backends.Entry, error) bool) {
		n, err := s.find("list", dir)
		if err == nil && !n.IsDir() {
			err = &fs.PathError{Op: "list", Path: dir, Err: backends.ErrNotDir}
		}
		if err != nil {
			yield(backends.Entry{}, err)
			return
		}
		type child struct {
			key  string
			name string
			node *tree.Node
		}
		var all []child
		s.tree.Children(n, func(name string, c *tree.Node) {
			key := name
			if c.IsDir() {
				key += "/"
			}
			if key > after {
				all = append(all, child{key, name, c})
			}
		})
		slices.SortFunc(all, func(a, b child) int { return strings.Compare(a.key, b.key) })
		for _, c := range all {
			if err := ctx.Err(); err != nil {
				yield(backends.Entry{}, &fs.PathError{Op: "list", Path: dir, Err: err})
				return
			}
			if !yield(s.entry(c.node, path.Join(dir, c.name)), nil) {
				return
			}
		}
	}
}

// Open implements [backends.Store].
func (s *Store) Open(_ context.Context, name string, r backends.Range, cond backends.If) (io.ReadCloser, backends.Entry, error) {
	n, err := s.find("open", name)
	if err != nil {
		return nil, backends.Entry{}, err
	}
	f, ok := n.Data.(*file)
	if !ok {
		err := fs.ErrInvalid
		if n.IsDir() {
			err = backends.ErrIsDir
		}
		return nil, backends.Entry{}, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	f.mu.Lock()
	err = f.hold(0)
	f.mu.Unlock()
	if err != nil {
		return nil, backends.Entry{}, backends.WrapPath("open", name, err)
	}
	e := s.entry(n, name)
	rd := &reader{f: f, n: n, name: name, version: e.Version, off: r.Off, end: e.Size}
	if r.Len > 0 && r.Len < e.Size-r.Off {
		rd.end = r.Off + r.Len
	}
	if cond.Match != "" && cond.Match != e.Version {
		rd.Close()
		return nil, backends.Entry{}, &fs.PathError{Op: "open", Path: name, Err: backends.ErrChanged}
	}
	return rd, e, nil
}

// reader reads one version of a content.
type reader struct {
	f        *file
	n        *tree.Node
	name     string
	version  backends.Version
	off, end int64
	closed   bool
}

func (r *reader) Read(p []byte) (int, error) {
	if r.closed {
		return 0, fs.ErrClosed
	}
	if r.off >= r.end {
		return 0, io.EOF
	}
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	n, err := r.f.body.readAt(p[:min(int64(len(p)), r.end-r.off)], r.off)
	r.f.sync(r.n)
	if err == nil && r.f.versionLocked(r.n) != r.version {
		err = backends.ErrChanged
	}
	if err != nil {
		return 0, &fs.PathError{Op: "read", Path: r.name, Err: err}
	}
	r.off += int64(n)
	return n, nil
}

func (r *reader) Close() error {
	if !r.closed {
		r.closed = true
		r.f.mu.Lock()
		r.f.closed(r.n)
		r.f.mu.Unlock()
	}
	return nil
}

// Mkdir implements [backends.Store].
func (s *Store) Mkdir(ctx context.Context, name string, attr backends.AttrChange) error {
	if name == "." {
		return &fs.PathError{Op: "mkdir", Path: name, Err: fs.ErrExist}
	}
	dir, base, err := s.findDir(ctx, "mkdir", name)
	if err != nil {
		return err
	}
	n, err := s.newNode(s.createAttr(ctx, fs.ModeDir|0o755))
	if err == nil {
		attr.Set &^= backends.SetSize
		s.tree.SetAttr(n, attr)
		err = s.tree.Insert(dir, base, n)
	}
	if err != nil {
		return backends.WrapPath("mkdir", name, err)
	}
	s.changed(dir, base)
	return nil
}

// Remove implements [backends.Store].
func (s *Store) Remove(_ context.Context, name string, cond backends.If) error {
	n, err := s.find("remove", name)
	if err != nil {
		if cond.Match != "" && errors.Is(err, fs.ErrNotExist) {
			err = &fs.PathError{Op: "remove", Path: name, Err: backends.ErrChanged}
		}
		return err
	}
	dir, base, ok := s.tree.Where(n)
	if n == s.tree.Root() {
		return &fs.PathError{Op: "remove", Path: name, Err: backends.ErrBusy}
	}
	// A node with several names may have been given another one last.
	if at, err := s.find("remove", path.Dir(name)); err == nil {
		dir, base, ok = at, path.Base(name), true
	}
	if !ok {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	err = s.removeNode(dir, base, n, cond)
	if err == nil {
		s.changed(dir, base)
	}
	return backends.WrapPath("remove", name, err)
}

func (s *Store) removeNode(dir *tree.Node, base string, n *tree.Node, cond backends.If) error {
	if n.IsDir() {
		if cond.Match != "" {
			return backends.ErrChanged
		}
		n, err := s.tree.Rmdir(dir, base)
		if err == nil {
			s.unnamed(n)
		}
		return err
	}
	var want *tree.Node
	unlock := func() {}
	if cond.Match != "" {
		var err error
		if unlock, err = holds(cond.Match, n); err != nil {
			return err
		}
		want = n
	}
	n, gone, err := s.tree.Unlink(dir, base, want)
	unlock() // unnamed takes it itself
	if gone {
		s.unnamed(n)
	}
	return err
}

// holds makes sure that n's content is of that version, until unlock is
// called; otherwise the error is ErrChanged.
func holds(v backends.Version, n *tree.Node) (unlock func(), err error) {
	f, ok := n.Data.(*file)
	if !ok {
		if n.IsDir() || fixedVersion(n) != v {
			return nil, backends.ErrChanged
		}
		return func() {}, nil
	}
	f.mu.Lock()
	f.sync(n)
	if f.versionLocked(n) != v {
		f.mu.Unlock()
		return nil, backends.ErrChanged
	}
	return f.mu.Unlock, nil
}

// Rename implements [backends.Renamer].
func (s *Store) Rename(ctx context.Context, from string, src backends.If, to string, cond backends.If) error {
	n, err := s.find("rename", from)
	if err != nil {
		return err
	}
	if n == s.tree.Root() || to == "." {
		return &fs.PathError{Op: "rename", Path: from, Err: backends.ErrBusy}
	}
	fromDir, err := s.find("rename", path.Dir(from))
	if err != nil {
		return err
	}
	toDir, base, err := s.findDir(ctx, "rename", to)
	if err != nil {
		return err
	}
	mv, err := s.renameNode(n, fromDir, path.Base(from), src, toDir, base, cond)
	if err != nil {
		return backends.WrapPath("rename", to, err)
	}
	if mv.Gone {
		s.unnamed(mv.Target)
	}
	s.changed(fromDir, path.Base(from))
	s.changed(toDir, base)
	return nil
}

func (s *Store) renameNode(n, fromDir *tree.Node, from string, src backends.If, toDir *tree.Node, to string, cond backends.If) (tree.Move, error) {
	var flags backends.RenameFlags
	if cond.Absent {
		flags = backends.RenameNoReplace
	}
	var target *tree.Node
	if cond.Match != "" {
		var err error
		if target, err = s.tree.Lookup(toDir, to); err != nil {
			return tree.Move{}, backends.ErrChanged
		}
	}
	// Both contents are held while the names change, in the order of ids.
	type held struct {
		n *tree.Node
		v backends.Version
	}
	both := []held{{n, src.Match}, {target, cond.Match}}
	if target != nil && target.ID() < n.ID() {
		both[0], both[1] = both[1], both[0]
	}
	if target == n {
		if src.Match != "" && cond.Match != "" && src.Match != cond.Match {
			return tree.Move{}, backends.ErrChanged
		}
		both = []held{{n, cmp.Or(src.Match, cond.Match)}}
	}
	for _, h := range both {
		if h.v == "" {
			continue
		}
		unlock, err := holds(h.v, h.n)
		if err != nil {
			return tree.Move{}, err
		}
		defer unlock()
	}
	return s.tree.Rename(fromDir, from, toDir, to, flags, func(m tree.Move) error {
		if src.Match != "" && m.Node != n || cond.Match != "" && m.Target != target {
			return backends.ErrChanged
		}
		return nil
	})
}

// SetAttr implements [backends.AttrSetter].
func (s *Store) SetAttr(ctx context.Context, name string, c backends.AttrChange) error {
	n, err := s.find("setattr", name)
	if err != nil {
		return err
	}
	_, err = (*fileSystem)(s).SetAttr(ctx, n, c)
	return backends.WrapPath("setattr", name, err)
}

// Symlink implements [backends.StoreSymlinker].
func (s *Store) Symlink(ctx context.Context, target, name string) error {
	dir, base, err := s.findDir(ctx, "symlink", name)
	if err != nil {
		return err
	}
	_, _, err = (*fileSystem)(s).Symlink(ctx, dir, base, target, s.createAttr(ctx, 0))
	if err != nil {
		return backends.WrapPath("symlink", name, err)
	}
	s.changed(dir, base)
	return nil
}

// Readlink implements [backends.StoreSymlinker].
func (s *Store) Readlink(_ context.Context, name string) (string, error) {
	n, err := s.find("readlink", name)
	if err != nil {
		return "", err
	}
	target, err := s.tree.Readlink(n)
	return target, backends.WrapPath("readlink", name, err)
}
