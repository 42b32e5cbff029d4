package backendtest

import (
	"io/fs"
	"os"

	"github.com/agentfs/agentfs/backends"
)

var fsCreateUnits = []unit[*fsEnv]{
	{"Create/Attr", func(e *fsEnv) {
		for _, perm := range []fs.FileMode{0o600, 0o644, 0o755, 0o000} {
			name := perm.String()
			n, attr, f, err := e.fs.Create(e.ctx, e.root, name, exclusive, as(perm))
			e.ok(err, "Create")
			if attr.Mode != perm || attr.Size != 0 || attr.UID != uint32(os.Getuid()) || attr.GID != uint32(os.Getgid()) {
				e.Errorf("Create with mode %v made %+v", perm, attr)
			}
			if attr.Mtime.IsZero() || attr.Ctime.IsZero() || attr.Atime.IsZero() {
				e.Errorf("a new file has a time missing: %+v", attr)
			}
			if got := e.attr(n); got.Mode != attr.Mode || !got.Mtime.Equal(attr.Mtime) {
				e.Errorf("Attr has %+v after a Create that returned %+v", got, attr)
			}
			e.close(f)
		}
	}},
	{"Create/Owner", func(e *fsEnv) {
		a := backends.CreateAttr{Mode: 0o640, UID: 12345, GID: 23456}
		n, attr, f, err := e.fs.Create(e.ctx, e.root, "f", exclusive, a)
		if err != nil {
			e.skipUnlessRoot(err, "creating for another user")
		}
		e.ok(err, "Create")
		e.close(f)
		if attr.UID != a.UID || attr.GID != a.GID || e.attr(n).UID != a.UID || attr.Mode != 0o640 {
			if os.Getuid() != 0 {
				e.Skip("a host directory can't create for another user without root")
			}
			e.Errorf("Create for %d:%d made %+v", a.UID, a.GID, attr)
		}
		_, attr, err = e.fs.Mkdir(e.ctx, e.root, "d", a)
		e.ok(err, "Mkdir")
		if attr.UID != a.UID || attr.GID != a.GID || attr.Mode != fs.ModeDir|0o640 {
			e.Errorf("Mkdir for %d:%d made %+v", a.UID, a.GID, attr)
		}
	}},
	{"Create/Exclusive", func(e *fsEnv) {
		n := e.create(e.root, "f", "content")
		e.mkdir(e.root, "d")
		for _, name := range []string{"f", "d"} {
			_, _, _, err := e.fs.Create(e.ctx, e.root, name, exclusive, as(0o644))
			e.wantErr(err, errExist, "Create(%q) with O_EXCL", name)
		}
		e.wantContent(n, "content")
	}},
	{"Create/Existing", func(e *fsEnv) {
		n := e.create(e.root, "f", "content")
		mode := e.attr(n).Mode
		got, attr, f, err := e.fs.Create(e.ctx, e.root, "f", os.O_RDWR|os.O_CREATE, as(0o600))
		e.ok(err, "Create of an existing name")
		if got != n || attr.Size != 7 || attr.Mode != mode {
			e.Errorf("Create of an existing name without O_EXCL gave another node or changed it: %+v", attr)
		}
		e.wantOpenContent(f, "content")
		e.close(f)
		got, attr, f, err = e.fs.Create(e.ctx, e.root, "f", os.O_RDWR|os.O_CREATE|os.O_TRUNC, as(0o600))
		e.ok(err, "Create of an existing name with O_TRUNC")
		if got != n || attr.Size != 0 {
			e.Errorf("Create with O_TRUNC of an existing name returned %+v", attr)
		}
		e.wantOpenContent(f, "")
		e.close(f)
		e.mkdir(e.root, "d")
		_, _, _, err = e.fs.Create(e.ctx, e.root, "d", os.O_RDWR|os.O_CREATE, as(0o600))
		e.wantErr(err, backends.ErrIsDir, "Create on a directory")
	}},
	{"Create/InFile", func(e *fsEnv) {
		n := e.create(e.root, "f", "")
		_, _, _, err := e.fs.Create(e.ctx, n, "x", exclusive, as(0o644))
		e.wantErr(err, backends.ErrNotDir, "Create in a file")
		_, _, err = e.fs.Mkdir(e.ctx, n, "x", as(0o755))
		e.wantErr(err, backends.ErrNotDir, "Mkdir in a file")
		e.wantErr(e.fs.Unlink(e.ctx, n, "x"), backends.ErrNotDir, "Unlink in a file")
		e.wantErr(e.fs.Rmdir(e.ctx, n, "x"), backends.ErrNotDir, "Rmdir in a file")
	}},
	{"Create/InRemovedDir", func(e *fsEnv) {
		d := e.mkdir(e.root, "d")
		e.create(e.root, "f", "")
		e.rmdir(e.root, "d")
		_, _, _, err := e.fs.Create(e.ctx, d, "x", exclusive, as(0o644))
		e.wantErr(err, errNotExist, "Create in a removed directory")
		_, _, err = e.fs.Mkdir(e.ctx, d, "x", as(0o755))
		e.wantErr(err, errNotExist, "Mkdir in a removed directory")
		err = e.fs.Rename(e.ctx, e.root, "f", d, "x", 0)
		e.wantErr(err, errNotExist, "Rename into a removed directory")
		_, _, err = e.fs.Lookup(e.ctx, d, "x")
		e.wantErr(err, errNotExist, "Lookup in a removed directory")
		if got, err := e.fs.ReadDir(e.ctx, d); len(got) != 0 {
			e.Errorf("a removed directory has %v (%v)", got, err)
		}
		e.wantNames(e.root, "f")
	}},
	{"Mkdir/Attr", func(e *fsEnv) {
		d, attr, err := e.fs.Mkdir(e.ctx, e.root, "d", as(0o750))
		e.ok(err, "Mkdir")
		if attr.Mode != fs.ModeDir|0o750 || attr.UID != uint32(os.Getuid()) {
			e.Errorf("Mkdir made %+v", attr)
		}
		e.wantNames(d)
		e.wantNames(e.root, "d")
	}},
	{"Mkdir/Sticky", func(e *fsEnv) {
		_, attr, err := e.fs.Mkdir(e.ctx, e.root, "d", as(0o777|fs.ModeSticky))
		e.ok(err, "Mkdir")
		if attr.Mode != fs.ModeDir|fs.ModeSticky|0o777 {
			e.Errorf("Mkdir with mode 01777 made %v", attr.Mode)
		}
	}},
	{"Mkdir/Exists", func(e *fsEnv) {
		e.mkdir(e.root, "d")
		e.create(e.root, "f", "")
		for _, name := range []string{"d", "f"} {
			_, _, err := e.fs.Mkdir(e.ctx, e.root, name, as(0o755))
			e.wantErr(err, errExist, "Mkdir(%q)", name)
		}
	}},
	{"Mkdir/Nlink", func(e *fsEnv) {
		before := e.attr(e.root).Nlink
		d := e.mkdir(e.root, "d")
		e.create(e.root, "f", "")
		if before == 1 {
			// Some host file systems (btrfs) don't count directories.
			return
		}
		if got := e.attr(e.root).Nlink; got != before+1 {
			e.Errorf("a directory with one more subdirectory has %d links after %d", got, before)
		}
		if got := e.attr(d).Nlink; got != 2 {
			e.Errorf("a new directory has %d links, want 2", got)
		}
		e.rmdir(e.root, "d")
		if got := e.attr(e.root).Nlink; got != before {
			e.Errorf("after Rmdir the parent has %d links, want %d", got, before)
		}
	}},
	{"Mkdir/SetGIDInherited", func(e *fsEnv) {
		const group = 34567
		d := e.mkdir(e.root, "d")
		_, err := e.fs.SetAttr(e.ctx, d, backends.AttrChange{Set: backends.SetGID, GID: group})
		if err != nil {
			e.skipUnlessRoot(err, "another group")
		}
		e.ok(err, "SetAttr of the group")
		e.setAttr(d, backends.AttrChange{Set: backends.SetMode, Mode: 0o775 | fs.ModeSetgid})
		n := e.create(d, "f", "")
		if a := e.attr(n); a.GID != group || a.Mode&fs.ModeSetgid != 0 {
			e.Errorf("a file in a set-gid directory of group %d is %v of group %d", group, a.Mode, a.GID)
		}
		if a := e.attr(e.mkdir(d, "sub")); a.GID != group || a.Mode&fs.ModeSetgid == 0 {
			e.Errorf("a directory in a set-gid directory of group %d is %v of group %d", group, a.Mode, a.GID)
		}
	}},
}
