package backendtest

import (
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/agentfs/agentfs/backends"
)

var fsLinkUnits = []unit[*fsEnv]{
	{"Symlink", func(e *fsEnv) {
		for name, target := range map[string]string{
			"rel": "../x", "abs": "/etc/passwd", "dangling": "not there", "long": strings.Repeat("t", 1000),
		} {
			n := e.symlink(e.root, name, target)
			got, err := backends.ReadlinkAt(e.ctx, e.fs, n)
			if err != nil || got != target {
				e.Errorf("Readlink = %q, %v, want %q", got, err, target)
			}
			if a := e.attr(n); a.Size != int64(len(target)) || a.Nlink != 1 || a.Mode.Type() != fs.ModeSymlink {
				e.Errorf("a link to %q has the attributes %+v", brief(target), a)
			}
			e.wantNode(e.root, name, n)
		}
		entries, err := e.fs.ReadDir(e.ctx, e.root)
		e.ok(err, "ReadDir")
		for _, entry := range entries {
			if entry.Mode != fs.ModeSymlink {
				e.Errorf("ReadDir has %+v, want a symbolic link", entry)
			}
		}
	}},
	{"Symlink/Errors", func(e *fsEnv) {
		n := e.create(e.root, "f", "x")
		e.symlink(e.root, "l", "f")
		for _, name := range []string{"f", "l"} {
			_, _, err := backends.SymlinkAt(e.ctx, e.fs, e.root, name, "x", as(0o777))
			e.wantErr(err, errExist, "Symlink at %q", name)
		}
		_, err := backends.ReadlinkAt(e.ctx, e.fs, n)
		e.wantErr(err, errInvalid, "Readlink of a file")
		_, _, _, err = e.fs.Create(e.ctx, e.root, "l", exclusive, as(0o644))
		e.wantErr(err, errExist, "Create with O_EXCL at a link")
		_, _, err = e.fs.Lookup(e.ctx, e.lookup(e.root, "l"), "x")
		e.wantErr(err, backends.ErrNotDir, "Lookup in a link")
	}},
	{"Symlink/NotFollowed", func(e *fsEnv) {
		d := e.mkdir(e.root, "d")
		e.create(d, "f", "x")
		l := e.symlink(e.root, "l", "d")
		e.wantErr(e.fs.Rmdir(e.ctx, e.root, "l"), backends.ErrNotDir, "Rmdir of a link to a directory")
		want := time.Date(2015, 6, 7, 8, 9, 10, 0, time.UTC)
		e.setAttr(l, backends.AttrChange{Set: backends.SetMtime, Mtime: want})
		if got := e.attr(l).Mtime; !got.Equal(want) {
			e.Errorf("mtime of a link is %v, want %v", got, want)
		}
		if e.attr(d).Mtime.Equal(want) {
			e.Error("setting a link's mtime changed its target's")
		}
		e.rename(e.root, "l", e.root, "m")
		e.wantNode(e.root, "m", l)
		e.unlink(e.root, "m")
		e.wantNames(e.root, "d")
		e.wantNames(d, "f")
	}},
	{"Link", func(e *fsEnv) {
		d := e.mkdir(e.root, "d")
		n := e.create(e.root, "f", "one")
		time.Sleep(clockTick)
		ctime := e.attr(n).Ctime
		a, err := backends.LinkAt(e.ctx, e.fs, n, d, "g")
		e.ok(err, "Link")
		if a.Nlink != 2 || a.ID != n.ID() || !a.Ctime.After(ctime) {
			e.Errorf("Link returned %+v; want two links and a new ctime", a)
		}
		e.wantNode(d, "g", n)
		e.wantNode(e.root, "f", n)
		f := e.openFile(e.lookup(d, "g"), os.O_RDWR)
		e.write(f, "two", 0)
		e.close(f)
		e.wantContent(e.lookup(e.root, "f"), "two")
		e.unlink(e.root, "f")
		if got := e.attr(n).Nlink; got != 1 {
			e.Errorf("after one of two names went there are %d links", got)
		}
		e.wantContent(e.lookup(d, "g"), "two")
		e.unlink(d, "g")
		if got := e.attr(n).Nlink; got != 0 {
			e.Errorf("after both names went there are %d links", got)
		}
	}},
	{"Link/Errors", func(e *fsEnv) {
		d := e.mkdir(e.root, "d")
		n := e.create(e.root, "f", "x")
		_, err := backends.LinkAt(e.ctx, e.fs, n, e.root, "f")
		e.wantErr(err, errExist, "Link at the file's own name")
		_, err = backends.LinkAt(e.ctx, e.fs, n, e.root, "d")
		e.wantErr(err, errExist, "Link at a directory")
		_, err = backends.LinkAt(e.ctx, e.fs, d, e.root, "e")
		e.wantErr(err, backends.ErrNotPermitted, "Link of a directory")
		_, err = backends.LinkAt(e.ctx, e.fs, n, n, "x")
		e.wantErr(err, backends.ErrNotDir, "Link in a file")
		_, err = backends.LinkAt(e.ctx, e.fs, n, e.root, strings.Repeat("n", 256))
		e.wantErr(err, backends.ErrNameTooLong, "Link with a long name")
		if got := e.attr(n).Nlink; got != 1 {
			e.Errorf("failed calls left %d links", got)
		}
	}},
	{"Link/RenameOntoItself", func(e *fsEnv) {
		// POSIX: two names of one inode, the rename does nothing.
		n := e.create(e.root, "a", "x")
		_, err := backends.LinkAt(e.ctx, e.fs, n, e.root, "b")
		e.ok(err, "Link")
		e.rename(e.root, "a", e.root, "b")
		e.wantNames(e.root, "a", "b")
		if got := e.attr(n).Nlink; got != 2 {
			e.Errorf("there are %d links, want 2", got)
		}
	}},
	{"Mknod", func(e *fsEnv) {
		for name, mode := range map[string]fs.FileMode{"fifo": fs.ModeNamedPipe | 0o640, "sock": fs.ModeSocket | 0o600, "file": 0o644} {
			n, a, err := backends.MknodAt(e.ctx, e.fs, e.root, name, as(mode))
			e.ok(err, "Mknod(%v)", mode)
			if a.Mode != mode || a.Nlink != 1 || a.ID != n.ID() {
				e.Errorf("Mknod(%v) made %+v", mode, a)
			}
			e.wantNode(e.root, name, n)
			_, _, err = backends.MknodAt(e.ctx, e.fs, e.root, name, as(mode))
			e.wantErr(err, errExist, "Mknod at an existing name")
		}
		e.wantContent(e.lookup(e.root, "file"), "")
		e.setAttr(e.lookup(e.root, "fifo"), backends.AttrChange{Set: backends.SetMode, Mode: 0o600})
		if got := e.attr(e.lookup(e.root, "fifo")).Mode; got != fs.ModeNamedPipe|0o600 {
			e.Errorf("the FIFO's mode is %v after chmod to 0600", got)
		}
		e.unlink(e.root, "fifo")
		e.wantNames(e.root, "file", "sock")
	}},
	{"Mknod/Device", func(e *fsEnv) {
		a := as(fs.ModeDevice | fs.ModeCharDevice | 0o600)
		a.Rdev = 1<<8 | 3
		_, got, err := backends.MknodAt(e.ctx, e.fs, e.root, "null", a)
		if err != nil {
			e.skipUnlessRoot(err, "a device node")
		}
		e.ok(err, "Mknod of a device")
		if got.Mode != a.Mode || got.Rdev != a.Rdev {
			e.Errorf("Mknod of a device made %+v", got)
		}
	}},
}
