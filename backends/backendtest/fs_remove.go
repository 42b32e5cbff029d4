package backendtest

import (
	"os"
	"time"

	"github.com/agentfs/agentfs/backends"
)

var fsRemoveUnits = []unit[*fsEnv]{
	{"Unlink", func(e *fsEnv) {
		e.create(e.root, "f", "x")
		e.create(e.root, "g", "x")
		e.unlink(e.root, "f")
		e.wantGone(e.root, "f")
		e.wantNames(e.root, "g")
		e.wantErr(e.fs.Unlink(e.ctx, e.root, "f"), errNotExist, "Unlink of a missing name")
	}},
	{"Unlink/Dir", func(e *fsEnv) {
		e.mkdir(e.root, "d")
		e.wantErr(e.fs.Unlink(e.ctx, e.root, "d"), backends.ErrIsDir, "Unlink of a directory")
		e.wantNames(e.root, "d")
	}},
	{"Unlink/Open", func(e *fsEnv) {
		n, f := e.createOpen(e.root, "f")
		e.write(f, "content", 0)
		e.unlink(e.root, "f")
		e.wantNames(e.root)
		e.wantOpenContent(f, "content")
		e.write(f, " and more", 7)
		e.wantOpenContent(f, "content and more")
		if a := e.attr(n); a.Nlink != 0 || a.Size != 16 {
			e.Errorf("an unlinked file of 16 bytes has %d links and size %d", a.Nlink, a.Size)
		}
		want := time.Date(2015, 6, 7, 8, 9, 10, 0, time.UTC)
		e.setAttr(n, backends.AttrChange{Set: backends.SetMode | backends.SetMtime, Mode: 0o600, Mtime: want})
		if a := e.attr(n); a.Mode != 0o600 || !a.Mtime.Equal(want) {
			e.Errorf("SetAttr of an unlinked file made %+v", a)
		}
		e.truncate(n, 7)
		e.wantOpenContent(f, "content")
		e.ok(f.Sync(e.ctx), "Sync of an unlinked file")
		// A second handle, as through /proc/self/fd.
		g := e.openFile(n, os.O_RDWR)
		e.wantOpenContent(g, "content")
		e.close(g)
		e.close(f)
		e.wantNames(e.root)
	}},
	{"Unlink/NameReused", func(e *fsEnv) {
		old, f := e.createOpen(e.root, "f")
		e.write(f, "old", 0)
		e.unlink(e.root, "f")
		fresh := e.create(e.root, "f", "new")
		if fresh == old {
			e.Fatal("a new file got the node of an unlinked one")
		}
		e.wantOpenContent(f, "old")
		e.write(f, "OLD", 0)
		e.setAttr(old, backends.AttrChange{Set: backends.SetMode, Mode: 0o600})
		e.close(f)
		e.wantContent(fresh, "new")
		if got := e.attr(fresh).Mode; got != 0o644 {
			e.Errorf("chmod of an unlinked file changed the mode of its successor to %v", got)
		}
	}},
	{"Unlink/Known", func(e *fsEnv) {
		n := e.create(e.root, "f", "x")
		e.unlink(e.root, "f")
		if a := e.attr(n); a.Nlink != 0 {
			e.Errorf("an unlinked file has %d links", a.Nlink)
		}
	}},
	{"Rmdir", func(e *fsEnv) {
		d := e.mkdir(e.root, "d")
		e.create(d, "f", "x")
		e.wantErr(e.fs.Rmdir(e.ctx, e.root, "d"), backends.ErrNotEmpty, "Rmdir of a directory with children")
		e.unlink(d, "f")
		e.rmdir(e.root, "d")
		e.wantGone(e.root, "d")
		e.wantErr(e.fs.Rmdir(e.ctx, e.root, "d"), errNotExist, "Rmdir of a missing name")
		e.create(e.root, "f", "x")
		e.wantErr(e.fs.Rmdir(e.ctx, e.root, "f"), backends.ErrNotDir, "Rmdir of a file")
		e.wantNames(e.root, "f")
	}},
}
