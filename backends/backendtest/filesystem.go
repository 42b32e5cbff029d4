package backendtest

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
)

// FileSystem runs the conformance suite of the file depth. open returns an
// empty file system, a new one at each call, and registers with t.Cleanup
// what is to be released; the suite does not close it. With -short the suite
// does less of everything.
//
// The optional interfaces are called through the functions of package
// backends that end in At. A file system that lacks one declares an exception
// for its group: Symlink, Link, Mknod, Xattr, Allocate, Seek,
// Rename/Exchange.
//
// The suite creates inodes as the user who runs it, so that a host directory
// passes without privileges; what needs another owner is skipped where the
// host refuses it to an ordinary user.
func FileSystem(t *testing.T, open func(t *testing.T) backends.FileSystem, exceptions ...Exception) {
	t.Helper()
	runAll(t, fileSystemUnits(), exceptions, func(t *testing.T) *fsEnv {
		f := open(t)
		return &fsEnv{T: t, ctx: t.Context(), fs: f, root: f.Root(), open: open}
	})
}

func fileSystemUnits() []unit[*fsEnv] {
	return slices.Concat(
		fsNodeUnits,
		fsCreateUnits,
		fsContentUnits,
		fsAttrUnits,
		fsTimeUnits,
		fsRemoveUnits,
		fsRenameUnits,
		fsDirUnits,
		fsLinkUnits,
		fsXattrUnits,
		fsOptionalFileUnits,
		fsCopyRangeUnits,
		fsRaceUnits,
		fsModelUnits,
	)
}

// fsEnv is what a subtest of the file depth works on.
type fsEnv struct {
	*testing.T
	ctx  context.Context
	fs   backends.FileSystem
	root backends.Node
	open func(t *testing.T) backends.FileSystem
}

const exclusive = os.O_RDWR | os.O_CREATE | os.O_EXCL

// as returns attributes for a new inode of the user who runs the test.
func as(mode fs.FileMode) backends.CreateAttr {
	return backends.CreateAttr{Mode: mode, UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
}

// ok ends the test if err is not nil.
func (e *fsEnv) ok(err error, format string, args ...any) {
	e.Helper()
	if err != nil {
		e.Fatalf(format+": %v", append(args, err)...)
	}
}

func (e *fsEnv) wantErr(err, want error, format string, args ...any) {
	e.Helper()
	wantErr(e.T, err, want, format, args...)
}

// createOpen makes a new file and returns it open for reading and writing.
func (e *fsEnv) createOpen(parent backends.Node, name string) (backends.Node, backends.File) {
	e.Helper()
	n, attr, f, err := e.fs.Create(e.ctx, parent, name, exclusive, as(0o644))
	e.ok(err, "Create(%q)", name)
	if attr.ID != n.ID() || !attr.Mode.IsRegular() || attr.Nlink != 1 {
		e.Fatalf("Create(%q) returned the attributes %+v of node %d", name, attr, n.ID())
	}
	return n, f
}

// create makes a new file with this content.
func (e *fsEnv) create(parent backends.Node, name, content string) backends.Node {
	e.Helper()
	n, f := e.createOpen(parent, name)
	e.write(f, content, 0)
	e.close(f)
	return n
}

func (e *fsEnv) mkdir(parent backends.Node, name string) backends.Node {
	e.Helper()
	n, attr, err := e.fs.Mkdir(e.ctx, parent, name, as(0o755))
	e.ok(err, "Mkdir(%q)", name)
	if attr.ID != n.ID() || !attr.Mode.IsDir() {
		e.Fatalf("Mkdir(%q) returned the attributes %+v of node %d", name, attr, n.ID())
	}
	return n
}

func (e *fsEnv) symlink(parent backends.Node, name, target string) backends.Node {
	e.Helper()
	n, attr, err := backends.SymlinkAt(e.ctx, e.fs, parent, name, target, as(0o777))
	e.ok(err, "Symlink(%q)", name)
	if attr.ID != n.ID() || attr.Mode.Type() != fs.ModeSymlink {
		e.Fatalf("Symlink(%q) returned the attributes %+v of node %d", name, attr, n.ID())
	}
	return n
}

func (e *fsEnv) openFile(n backends.Node, flags int) backends.File {
	e.Helper()
	f, err := e.fs.Open(e.ctx, n, flags)
	e.ok(err, "Open")
	return f
}

func (e *fsEnv) write(f backends.File, content string, off int64) {
	e.Helper()
	if content == "" {
		return
	}
	if n, err := f.WriteAt(e.ctx, []byte(content), off); err != nil || n != len(content) {
		e.Fatalf("WriteAt(%d bytes, %d) = %d, %v", len(content), off, n, err)
	}
}

// close does what the kernel does at the last close of a file.
func (e *fsEnv) close(f backends.File) {
	e.Helper()
	e.ok(f.Flush(e.ctx), "Flush")
	e.ok(f.Close(e.ctx), "Close")
}

// readFile reads all of an open file, in pieces.
func (e *fsEnv) readFile(f backends.File) string {
	e.Helper()
	var all []byte
	buf := make([]byte, 64<<10)
	for {
		n, err := f.ReadAt(e.ctx, buf, int64(len(all)))
		e.ok(err, "ReadAt(%d)", len(all))
		all = append(all, buf[:n]...)
		if n < len(buf) {
			return string(all)
		}
	}
}

// content opens n and reads all of it.
func (e *fsEnv) content(n backends.Node) string {
	e.Helper()
	f := e.openFile(n, os.O_RDONLY)
	defer e.close(f)
	return e.readFile(f)
}

func (e *fsEnv) wantContent(n backends.Node, want string) {
	e.Helper()
	if got := e.content(n); got != want {
		e.Fatalf("the content is %s, want %s", brief(got), brief(want))
	}
	if size := e.attr(n).Size; size != int64(len(want)) {
		e.Fatalf("the size is %d with a content of %d bytes", size, len(want))
	}
}

func (e *fsEnv) wantOpenContent(f backends.File, want string) {
	e.Helper()
	if got := e.readFile(f); got != want {
		e.Fatalf("the open file holds %s, want %s", brief(got), brief(want))
	}
}

func (e *fsEnv) attr(n backends.Node) backends.Attr {
	e.Helper()
	a, err := e.fs.Attr(e.ctx, n)
	e.ok(err, "Attr")
	if a.ID != n.ID() {
		e.Fatalf("Attr has the id %d, the node %d", a.ID, n.ID())
	}
	return a
}

func (e *fsEnv) setAttr(n backends.Node, c backends.AttrChange) backends.Attr {
	e.Helper()
	a, err := e.fs.SetAttr(e.ctx, n, c)
	e.ok(err, "SetAttr(%+v)", c)
	return a
}

func (e *fsEnv) truncate(n backends.Node, size int64) {
	e.Helper()
	if a := e.setAttr(n, backends.AttrChange{Set: backends.SetSize, Size: size}); a.Size != size {
		e.Fatalf("SetAttr to size %d returned size %d", size, a.Size)
	}
}

func (e *fsEnv) lookup(parent backends.Node, name string) backends.Node {
	e.Helper()
	n, attr, err := e.fs.Lookup(e.ctx, parent, name)
	e.ok(err, "Lookup(%q)", name)
	if attr.ID != n.ID() {
		e.Fatalf("Lookup(%q) returned the attributes of %d and node %d", name, attr.ID, n.ID())
	}
	return n
}

// wantNode checks that name in parent is n.
func (e *fsEnv) wantNode(parent backends.Node, name string, n backends.Node) {
	e.Helper()
	if got := e.lookup(parent, name); got != n {
		e.Fatalf("%q is node %d, want %d (or an equal id and another Node)", name, got.ID(), n.ID())
	}
}

func (e *fsEnv) wantGone(parent backends.Node, name string) {
	e.Helper()
	_, _, err := e.fs.Lookup(e.ctx, parent, name)
	e.wantErr(err, errNotExist, "Lookup(%q)", name)
}

// names returns the sorted names in dir.
func (e *fsEnv) names(dir backends.Node) []string {
	e.Helper()
	entries, err := e.fs.ReadDir(e.ctx, dir)
	e.ok(err, "ReadDir")
	names := make([]string, 0, len(entries))
	for _, d := range entries {
		names = append(names, d.Name)
	}
	slices.Sort(names)
	return names
}

func (e *fsEnv) wantNames(dir backends.Node, want ...string) {
	e.Helper()
	if got := e.names(dir); !slices.Equal(got, want) {
		e.Fatalf("the directory has %q, want %q", got, want)
	}
}

func (e *fsEnv) unlink(parent backends.Node, name string) {
	e.Helper()
	e.ok(e.fs.Unlink(e.ctx, parent, name), "Unlink(%q)", name)
}

func (e *fsEnv) rmdir(parent backends.Node, name string) {
	e.Helper()
	e.ok(e.fs.Rmdir(e.ctx, parent, name), "Rmdir(%q)", name)
}

func (e *fsEnv) rename(from backends.Node, oldName string, to backends.Node, newName string) {
	e.Helper()
	e.ok(e.fs.Rename(e.ctx, from, oldName, to, newName, 0), "Rename(%q, %q)", oldName, newName)
}

// clockTick is longer than the granularity of the clocks that file systems
// take their times from (a jiffy, at most 10 ms).
const clockTick = 25 * time.Millisecond

// skipUnlessRoot skips the test where the host refused err to an ordinary
// user; for root the refusal is a failure.
func (e *fsEnv) skipUnlessRoot(err error, what string) {
	e.Helper()
	if os.Getuid() != 0 && (errors.Is(err, fs.ErrPermission) || errors.Is(err, backends.ErrNotPermitted)) {
		e.Skipf("%s needs root here: %v", what, err)
	}
}
