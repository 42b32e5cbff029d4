package backendtest

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
)

// ReadOnlyStore runs the conformance suite over a store that takes no changes.
// open returns two views of the same data, empty at first: the one to test,
// and one that the suite makes its changes through. Everything that reads goes
// to the first; at the end every change through it has to be refused with
// [backends.ErrReadOnly] and without effect.
func ReadOnlyStore(t *testing.T, open func(t *testing.T) (readOnly, writable backends.Store), exceptions ...Exception) {
	t.Helper()
	Store(t, func(t *testing.T) backends.Store {
		r, w := open(t)
		return splitStore{read: r, Store: w}
	}, exceptions...)
	t.Run("ReadOnly", func(t *testing.T) {
		r, w := open(t)
		refusesChanges(&storeEnv{T: t, ctx: t.Context(), s: w}, r)
	})
}

func refusesChanges(e *storeEnv, r backends.Store) {
	v := e.put("f", "content").Version
	e.put("d/g", "x")
	for op, err := range map[string]error{
		"Put":         second(r.Put(e.ctx, "f", section("y"), backends.PutOptions{})),
		"Put new":     second(r.Put(e.ctx, "new", section("y"), backends.PutOptions{})),
		"Mkdir":       r.Mkdir(e.ctx, "newdir", backends.AttrChange{}),
		"Remove":      r.Remove(e.ctx, "f", backends.If{}),
		"Remove if":   r.Remove(e.ctx, "f", backends.If{Match: v}),
		"Copy":        second(backends.Copy(e.ctx, r, "f", backends.If{}, "new", backends.PutOptions{})),
		"Rename":      backends.Rename(e.ctx, r, "f", backends.If{}, "new", backends.If{}),
		"Rename dir":  backends.Rename(e.ctx, r, "d", backends.If{}, "newdir", backends.If{}),
		"RemoveMany":  backends.RemoveMany(e.ctx, r, []backends.Removal{{Name: "f"}})[0],
		"Remove dir":  backends.RemoveMany(e.ctx, r, []backends.Removal{{Name: "d", Dir: true}})[0],
		"SetAttr":     backends.SetAttr(e.ctx, r, "f", backends.AttrChange{Set: backends.SetMode, Mode: 0o600}),
		"Symlink":     backends.Symlink(e.ctx, r, "f", "new"),
		"Remove root": r.Remove(e.ctx, ".", backends.If{}),
	} {
		e.wantErr(err, backends.ErrReadOnly, "%s", op)
	}
	if _, err := backends.BeginUpload(e.ctx, r, "f", backends.PutOptions{}); !errors.Is(err, errors.ErrUnsupported) {
		e.wantErr(err, backends.ErrReadOnly, "BeginUpload")
	}
	e.wantList(".", "d/", "f")
	e.wantContent("f", "content")
	if files := backends.FilesOf(r); files != nil {
		refusesFileChanges(e.T, files)
	}
}

// ReadOnlyFileSystem is [ReadOnlyStore] for the file depth. The two views have
// the same nodes.
func ReadOnlyFileSystem(t *testing.T, open func(t *testing.T) (readOnly, writable backends.FileSystem), exceptions ...Exception) {
	t.Helper()
	FileSystem(t, func(t *testing.T) backends.FileSystem {
		r, w := open(t)
		return splitFileSystem{read: r, FileSystem: w}
	}, exceptions...)
	t.Run("ReadOnly", func(t *testing.T) {
		r, w := open(t)
		e := &fsEnv{T: t, ctx: t.Context(), fs: w, root: w.Root()}
		e.create(e.root, "f", "content")
		e.create(e.mkdir(e.root, "d"), "g", "x")
		refusesFileChanges(t, r)
		e.wantNames(e.root, "d", "f")
		e.wantContent(e.lookup(e.root, "f"), "content")
	})
}

// refusesFileChanges tries every change on a tree that has a file f with some
// content and a directory d.
func refusesFileChanges(t *testing.T, r backends.FileSystem) {
	t.Helper()
	e := &fsEnv{T: t, ctx: t.Context(), fs: r, root: r.Root()}
	f, d := e.lookup(e.root, "f"), e.lookup(e.root, "d")
	before := e.content(f)
	create := func(name string, flags int) error {
		_, _, file, err := r.Create(e.ctx, e.root, name, flags, as(0o644))
		if file != nil {
			err = errors.Join(err, file.Close(e.ctx))
		}
		return err
	}
	open := func(flags int) error { return second(r.Open(e.ctx, f, flags)) }
	handle := e.openFile(f, os.O_RDONLY)
	for op, err := range map[string]error{
		"Create":           create("new", exclusive),
		"Create existing":  create("f", os.O_RDWR|os.O_CREATE),
		"Create truncates": create("f", os.O_RDONLY|os.O_CREATE|os.O_TRUNC),
		"Open RDWR":        open(os.O_RDWR),
		"Open WRONLY":      open(os.O_WRONLY),
		"Open TRUNC":       open(os.O_RDONLY | os.O_TRUNC),
		"WriteAt":          second(handle.WriteAt(e.ctx, []byte("x"), 0)),
		"SetAttr":          second(r.SetAttr(e.ctx, f, backends.AttrChange{Set: backends.SetMtime, Mtime: time.Now()})),
		"Mkdir":            third(r.Mkdir(e.ctx, d, "new", as(0o755))),
		"Unlink":           r.Unlink(e.ctx, e.root, "f"),
		"Rmdir":            r.Rmdir(e.ctx, e.root, "d"),
		"Rename":           r.Rename(e.ctx, e.root, "f", d, "f", 0),
		"Symlink":          third(backends.SymlinkAt(e.ctx, r, d, "new", "x", as(0o777))),
		"Link":             second(backends.LinkAt(e.ctx, r, f, d, "new")),
		"Mknod":            third(backends.MknodAt(e.ctx, r, d, "new", as(0o644))),
		"Mknod FIFO":       third(backends.MknodAt(e.ctx, r, d, "new", as(0o644|fs.ModeNamedPipe))),
		"SetXattr":         backends.SetXattrAt(e.ctx, r, f, xattr, nil, 0),
		"RemoveXattr":      backends.RemoveXattrAt(e.ctx, r, f, xattr),
	} {
		e.wantErr(err, backends.ErrReadOnly, "%s", op)
	}
	e.close(handle)
	e.wantErr(create("f", exclusive), errExist, "Create of an existing name with O_EXCL")
	// open(2) with O_CREAT of what exists is no change.
	e.ok(create("f", os.O_RDONLY|os.O_CREATE), "Create of an existing file, for reading")
	e.wantContent(f, before)
}

func second[A any](_ A, err error) error { return err }

func third[A, B any](_ A, _ B, err error) error { return err }

// splitStore reads from one view of a store and changes the other.
type splitStore struct {
	backends.Store // the changes
	read           backends.Store
}

func (s splitStore) Stat(ctx context.Context, name string) (backends.Entry, error) {
	return s.read.Stat(ctx, name)
}

func (s splitStore) List(ctx context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	return s.read.List(ctx, dir, after)
}

func (s splitStore) Open(ctx context.Context, name string, r backends.Range, cond backends.If) (io.ReadCloser, backends.Entry, error) {
	return s.read.Open(ctx, name, r, cond)
}

func (s splitStore) Walk(ctx context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	return backends.Walk(ctx, s.read, dir, after)
}

func (s splitStore) Readlink(ctx context.Context, name string) (string, error) {
	return backends.Readlink(ctx, s.read, name)
}

func (s splitStore) Symlink(ctx context.Context, target, name string) error {
	return backends.Symlink(ctx, s.Store, target, name)
}

func (s splitStore) SetAttr(ctx context.Context, name string, c backends.AttrChange) error {
	return backends.SetAttr(ctx, s.Store, name, c)
}

func (s splitStore) Rename(ctx context.Context, from string, src backends.If, to string, cond backends.If) error {
	return backends.Rename(ctx, s.Store, from, src, to, cond)
}

func (s splitStore) RemoveMany(ctx context.Context, rs []backends.Removal) []error {
	return backends.RemoveMany(ctx, s.Store, rs)
}

func (s splitStore) Usage(ctx context.Context) (backends.Usage, error) {
	return backends.UsageOf(ctx, s.read)
}

// splitFileSystem reads from one view of a file system and changes the other.
type splitFileSystem struct {
	backends.FileSystem // the changes
	read                backends.FileSystem
}

func (s splitFileSystem) Root() backends.Node { return s.read.Root() }

func (s splitFileSystem) Lookup(ctx context.Context, parent backends.Node, name string) (backends.Node, backends.Attr, error) {
	return s.read.Lookup(ctx, parent, name)
}

func (s splitFileSystem) Attr(ctx context.Context, n backends.Node) (backends.Attr, error) {
	return s.read.Attr(ctx, n)
}

func (s splitFileSystem) ReadDir(ctx context.Context, dir backends.Node) ([]backends.DirEntry, error) {
	return s.read.ReadDir(ctx, dir)
}

func (s splitFileSystem) Open(ctx context.Context, n backends.Node, flags int) (backends.File, error) {
	if flags&(os.O_WRONLY|os.O_RDWR|os.O_TRUNC) == 0 {
		return s.read.Open(ctx, n, flags)
	}
	return s.FileSystem.Open(ctx, n, flags)
}

func (s splitFileSystem) StatFS(ctx context.Context, n backends.Node) (backends.Usage, error) {
	return s.read.StatFS(ctx, n)
}

func (s splitFileSystem) Forget(n backends.Node) { s.read.Forget(n) }

func (s splitFileSystem) SyncDir(ctx context.Context, dir backends.Node) error {
	return backends.SyncDirAt(ctx, s.read, dir)
}

func (s splitFileSystem) Symlink(ctx context.Context, parent backends.Node, name, target string, a backends.CreateAttr) (backends.Node, backends.Attr, error) {
	return backends.SymlinkAt(ctx, s.FileSystem, parent, name, target, a)
}

func (s splitFileSystem) Readlink(ctx context.Context, n backends.Node) (string, error) {
	return backends.ReadlinkAt(ctx, s.read, n)
}

func (s splitFileSystem) Link(ctx context.Context, n, newParent backends.Node, newName string) (backends.Attr, error) {
	return backends.LinkAt(ctx, s.FileSystem, n, newParent, newName)
}

func (s splitFileSystem) Mknod(ctx context.Context, parent backends.Node, name string, a backends.CreateAttr) (backends.Node, backends.Attr, error) {
	return backends.MknodAt(ctx, s.FileSystem, parent, name, a)
}

func (s splitFileSystem) GetXattr(ctx context.Context, n backends.Node, name string) ([]byte, error) {
	return backends.GetXattrAt(ctx, s.read, n, name)
}

func (s splitFileSystem) ListXattr(ctx context.Context, n backends.Node) ([]string, error) {
	return backends.ListXattrAt(ctx, s.read, n)
}

func (s splitFileSystem) SetXattr(ctx context.Context, n backends.Node, name string, value []byte, flags backends.XattrFlags) error {
	return backends.SetXattrAt(ctx, s.FileSystem, n, name, value, flags)
}

func (s splitFileSystem) RemoveXattr(ctx context.Context, n backends.Node, name string) error {
	return backends.RemoveXattrAt(ctx, s.FileSystem, n, name)
}
