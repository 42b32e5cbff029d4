package backendtest

import (
	"io/fs"
	"os"
	"time"

	"github.com/agentfs/agentfs/backends"
)

var fsAttrUnits = []unit[*fsEnv]{
	{"SetAttr/Mode", func(e *fsEnv) {
		n := e.create(e.root, "f", "x")
		d := e.mkdir(e.root, "d")
		for _, mode := range []fs.FileMode{0o600, 0, 0o777, 0o755 | fs.ModeSetuid, 0o711 | fs.ModeSticky} {
			a := e.setAttr(n, backends.AttrChange{Set: backends.SetMode, Mode: mode})
			if a.Mode != mode || e.attr(n).Mode != mode {
				e.Errorf("after chmod to %v the mode is %v", mode, a.Mode)
			}
		}
		a := e.setAttr(d, backends.AttrChange{Set: backends.SetMode, Mode: 0o700 | fs.ModeSticky})
		if a.Mode != fs.ModeDir|fs.ModeSticky|0o700 {
			e.Errorf("after chmod to 01700 the directory's mode is %v", a.Mode)
		}
		e.wantContent(n, "x")
	}},
	{"SetAttr/Owner", func(e *fsEnv) {
		n := e.create(e.root, "f", "x")
		_, err := e.fs.SetAttr(e.ctx, n, backends.AttrChange{Set: backends.SetUID, UID: 4321})
		if err != nil {
			e.skipUnlessRoot(err, "chown")
		}
		e.ok(err, "chown")
		if a := e.attr(n); a.UID != 4321 || a.GID != uint32(os.Getgid()) {
			e.Errorf("after chown of the user only: %d:%d", a.UID, a.GID)
		}
		a := e.setAttr(n, backends.AttrChange{Set: backends.SetGID, GID: 8765})
		if a.UID != 4321 || a.GID != 8765 {
			e.Errorf("after chown of the group only: %d:%d", a.UID, a.GID)
		}
	}},
	{"SetAttr/Times", func(e *fsEnv) {
		atime := time.Date(2001, 2, 3, 4, 5, 6, 123456789, time.UTC)
		mtime := time.Date(2011, 12, 13, 14, 15, 16, 987654321, time.UTC)
		for what, n := range map[string]backends.Node{"file": e.create(e.root, "f", "x"), "directory": e.mkdir(e.root, "d")} {
			before := e.attr(n)
			e.setAttr(n, backends.AttrChange{Set: backends.SetMtime, Mtime: mtime})
			if a := e.attr(n); !a.Mtime.Equal(mtime) || !a.Atime.Equal(before.Atime) {
				e.Errorf("%s: after setting mtime only it is %v, atime %v (was %v)", what, a.Mtime, a.Atime, before.Atime)
			}
			a := e.setAttr(n, backends.AttrChange{Set: backends.SetAtime, Atime: atime})
			if !a.Mtime.Equal(mtime) || !a.Atime.Equal(atime) {
				e.Errorf("%s: after setting atime only it is %v, mtime %v", what, a.Atime, a.Mtime)
			}
		}
		// Before the epoch is a time too.
		old := time.Date(1961, 4, 12, 6, 7, 0, 0, time.UTC)
		a := e.setAttr(e.lookup(e.root, "f"), backends.AttrChange{Set: backends.SetMtime, Mtime: old})
		if !a.Mtime.Equal(old) {
			e.Errorf("mtime is %v, want %v", a.Mtime, old)
		}
	}},
	{"SetAttr/TimesKeptByClose", func(e *fsEnv) {
		// cp -p and tar set the times while or after the file is open.
		want := time.Date(2015, 6, 7, 8, 9, 10, 0, time.UTC)
		n, f := e.createOpen(e.root, "f")
		e.write(f, "x", 0)
		e.setAttr(n, backends.AttrChange{Set: backends.SetMtime | backends.SetAtime, Mtime: want, Atime: want})
		e.close(f)
		if got := e.attr(n).Mtime; !got.Equal(want) {
			e.Errorf("mtime after close is %v, want %v", got, want)
		}
	}},
	{"SetAttr/Several", func(e *fsEnv) {
		n := e.create(e.root, "f", "0123456789")
		mtime := time.Date(2015, 6, 7, 8, 9, 10, 0, time.UTC)
		a := e.setAttr(n, backends.AttrChange{
			Set:  backends.SetSize | backends.SetMode | backends.SetMtime,
			Size: 3, Mode: 0o600, Mtime: mtime,
		})
		if a.Size != 3 || a.Mode != 0o600 || !a.Mtime.Equal(mtime) {
			e.Errorf("SetAttr of size 3, mode 0600 and mtime %v made %+v", mtime, a)
		}
		e.wantContent(n, "012")
	}},
	{"SetAttr/AllOrNothing", func(e *fsEnv) {
		d := e.mkdir(e.root, "d")
		_, err := e.fs.SetAttr(e.ctx, d, backends.AttrChange{Set: backends.SetMode | backends.SetSize, Mode: 0o700, Size: 1})
		e.wantErr(err, backends.ErrIsDir, "SetAttr of a directory's size and mode")
		if got := e.attr(d).Mode.Perm(); got != 0o755 {
			e.Errorf("a SetAttr that failed left the mode %v", got)
		}
	}},
	{"SetAttr/Nothing", func(e *fsEnv) {
		n := e.create(e.root, "f", "x")
		before := e.attr(n)
		if a := e.setAttr(n, backends.AttrChange{}); a.Mode != before.Mode || a.Size != before.Size || !a.Mtime.Equal(before.Mtime) {
			e.Errorf("SetAttr of nothing made %+v of %+v", a, before)
		}
	}},
	{"SetAttr/Root", func(e *fsEnv) {
		a := e.setAttr(e.root, backends.AttrChange{Set: backends.SetMode, Mode: 0o711})
		if a.Mode != fs.ModeDir|0o711 {
			e.Errorf("the root's mode is %v after chmod to 0711", a.Mode)
		}
	}},
	{"Attr/Blocks", func(e *fsEnv) {
		n, f := e.createOpen(e.root, "f")
		e.write(f, patterned(100<<10, 1), 0)
		e.ok(f.Sync(e.ctx), "Sync")
		e.close(f)
		// Not less than the content, give or take a host that compresses.
		if b := e.attr(n).Blocks; b <= 0 || b > 1<<20 {
			e.Errorf("a file of 100 KiB has %d blocks of 512 bytes", b)
		}
	}},
	{"Attr/Version", func(e *fsEnv) {
		// Where there is one it changes with the content.
		n := e.create(e.root, "f", "one")
		before := e.attr(n).Version
		time.Sleep(clockTick)
		f := e.openFile(n, os.O_RDWR)
		e.write(f, "two", 0)
		e.close(f)
		if after := e.attr(n).Version; before != "" && after == before {
			e.Errorf("the version is %q before and after a change", after)
		}
	}},
}

var fsTimeUnits = []unit[*fsEnv]{
	{"Times/Write", func(e *fsEnv) {
		n := e.create(e.root, "f", "0123456789")
		e.wantTimes("a write", n, true, true, func() {
			f := e.openFile(n, os.O_RDWR)
			e.write(f, "x", 3)
			e.close(f)
		})
		e.wantTimes("a truncation", n, true, true, func() { e.truncate(n, 5) })
		e.wantTimes("an open with O_TRUNC", n, true, true, func() {
			e.close(e.openFile(n, os.O_WRONLY|os.O_TRUNC))
		})
		e.wantTimes("reading", n, false, false, func() { e.content(n) })
	}},
	{"Times/SetAttr", func(e *fsEnv) {
		n := e.create(e.root, "f", "x")
		e.wantTimes("chmod", n, false, true, func() {
			e.setAttr(n, backends.AttrChange{Set: backends.SetMode, Mode: 0o600})
		})
		e.wantTimes("utimens", n, false, true, func() {
			e.setAttr(n, backends.AttrChange{Set: backends.SetAtime, Atime: time.Unix(1e9, 0)})
		})
	}},
	{"Times/Parent", func(e *fsEnv) {
		d := e.mkdir(e.root, "d")
		e.wantTimes("Create", d, true, true, func() { e.create(d, "f", "x") })
		n := e.lookup(d, "f")
		e.wantTimes("writing to a child", d, false, false, func() {
			f := e.openFile(n, os.O_RDWR)
			e.write(f, "y", 0)
			e.close(f)
		})
		e.wantTimes("Mkdir", d, true, true, func() { e.mkdir(d, "sub") })
		e.wantTimes("Rename within", d, true, true, func() { e.rename(d, "f", d, "g") })
		e.wantTimes("Rename out", d, true, true, func() { e.rename(d, "g", e.root, "g") })
		e.wantTimes("Rename in", d, true, true, func() { e.rename(e.root, "g", d, "g") })
		e.wantTimes("Unlink", d, true, true, func() { e.unlink(d, "g") })
		e.wantTimes("Rmdir", d, true, true, func() { e.rmdir(d, "sub") })
		e.wantTimes("a failed Unlink", d, false, false, func() {
			e.wantErr(e.fs.Unlink(e.ctx, d, "nope"), errNotExist, "Unlink")
		})
	}},
	{"Times/RenameKeepsMtime", func(e *fsEnv) {
		n := e.create(e.root, "f", "x")
		want := time.Date(2015, 6, 7, 8, 9, 10, 0, time.UTC)
		e.setAttr(n, backends.AttrChange{Set: backends.SetMtime, Mtime: want})
		e.rename(e.root, "f", e.root, "g")
		if got := e.attr(n).Mtime; !got.Equal(want) {
			e.Errorf("mtime after a rename is %v, want %v", got, want)
		}
	}},
}

// wantTimes checks which of n's times an operation moves forward.
func (e *fsEnv) wantTimes(what string, n backends.Node, mtime, ctime bool, op func()) {
	e.Helper()
	before := e.attr(n)
	time.Sleep(clockTick)
	op()
	after := e.attr(n)
	if got := after.Mtime.After(before.Mtime); got != mtime {
		e.Errorf("%s: mtime changed is %v, want %v", what, got, mtime)
	}
	if got := after.Ctime.After(before.Ctime); got != ctime {
		e.Errorf("%s: ctime changed is %v, want %v", what, got, ctime)
	}
	if after.Mtime.Before(before.Mtime) || after.Ctime.Before(before.Ctime) {
		e.Errorf("%s: a time went back", what)
	}
}
