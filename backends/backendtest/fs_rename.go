package backendtest

import (
	"os"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/agentfs/agentfs/backends"
)

var fsRenameUnits = []unit[*fsEnv]{
	{"Rename/File", func(e *fsEnv) {
		d := e.mkdir(e.root, "d")
		n := e.create(e.root, "f", "content")
		e.rename(e.root, "f", d, "g")
		e.wantGone(e.root, "f")
		e.wantNode(d, "g", n)
		e.wantContent(n, "content")
		e.rename(d, "g", d, "h")
		e.wantNames(d, "h")
		e.rename(d, "h", d, "h")
		e.wantNode(d, "h", n)
	}},
	{"Rename/Replace", func(e *fsEnv) {
		n := e.create(e.root, "from", "new")
		old := e.create(e.root, "to", "old")
		f := e.openFile(old, os.O_RDWR)
		e.rename(e.root, "from", e.root, "to")
		e.wantNames(e.root, "to")
		e.wantNode(e.root, "to", n)
		e.wantContent(n, "new")
		// The file that was replaced lives on while it is open.
		e.wantOpenContent(f, "old")
		e.write(f, "OLD", 0)
		if a := e.attr(old); a.Nlink != 0 {
			e.Errorf("a replaced file has %d links", a.Nlink)
		}
		e.close(f)
		e.wantContent(n, "new")
	}},
	{"Rename/Open", func(e *fsEnv) {
		d := e.mkdir(e.root, "d")
		n, f := e.createOpen(e.root, "f")
		e.write(f, "one", 0)
		e.rename(e.root, "f", d, "g")
		e.write(f, " two", 3)
		e.create(e.root, "f", "another file under the old name")
		e.write(f, " three", 7)
		e.close(f)
		e.wantNode(d, "g", n)
		e.wantContent(n, "one two three")
		e.wantContent(e.lookup(e.root, "f"), "another file under the old name")
	}},
	{"Rename/Dir", func(e *fsEnv) {
		a := e.mkdir(e.root, "a")
		sub := e.mkdir(a, "sub")
		n := e.create(sub, "f", "deep")
		b := e.mkdir(e.root, "b")
		e.rename(e.root, "a", b, "moved")
		e.wantNames(e.root, "b")
		e.wantNode(b, "moved", a)
		e.wantNode(a, "sub", sub)
		e.wantNode(sub, "f", n)
		e.wantContent(n, "deep")
		// Nodes that were found before work on.
		e.create(sub, "g", "later")
		e.wantContent(e.lookup(e.lookup(e.lookup(b, "moved"), "sub"), "g"), "later")
		if links := e.attr(e.root).Nlink; links != 1 && (links != 3 || e.attr(b).Nlink != 3) {
			e.Errorf("after a directory moved, the old parent has %d links and the new %d, want 3 and 3", links, e.attr(b).Nlink)
		}
	}},
	{"Rename/DirOverDir", func(e *fsEnv) {
		d := e.mkdir(e.root, "d")
		e.create(d, "f", "x")
		e.mkdir(e.root, "empty")
		full := e.mkdir(e.root, "full")
		e.create(full, "g", "y")
		err := e.fs.Rename(e.ctx, e.root, "d", e.root, "full", 0)
		e.wantErr(err, backends.ErrNotEmpty, "Rename over a directory with children")
		e.rename(e.root, "d", e.root, "empty")
		e.wantNode(e.root, "empty", d)
		e.wantNames(e.root, "empty", "full")
		e.wantNames(full, "g")
	}},
	{"Rename/Kinds", func(e *fsEnv) {
		e.mkdir(e.root, "d")
		e.create(e.root, "f", "x")
		err := e.fs.Rename(e.ctx, e.root, "f", e.root, "d", 0)
		e.wantErr(err, backends.ErrIsDir, "Rename of a file over a directory")
		err = e.fs.Rename(e.ctx, e.root, "d", e.root, "f", 0)
		e.wantErr(err, backends.ErrNotDir, "Rename of a directory over a file")
		err = e.fs.Rename(e.ctx, e.root, "nope", e.root, "f", 0)
		e.wantErr(err, errNotExist, "Rename of a missing name")
		err = e.fs.Rename(e.ctx, e.root, "d", e.lookup(e.root, "f"), "x", 0)
		e.wantErr(err, backends.ErrNotDir, "Rename into a file")
		e.wantNames(e.root, "d", "f")
	}},
	{"Rename/IntoItself", func(e *fsEnv) {
		a := e.mkdir(e.root, "a")
		b := e.mkdir(a, "b")
		c := e.mkdir(b, "c")
		for _, to := range []backends.Node{a, b, c} {
			err := e.fs.Rename(e.ctx, e.root, "a", to, "x", 0)
			e.wantErr(err, errInvalid, "Rename of a directory below itself")
		}
		err := e.fs.Rename(e.ctx, b, "c", e.root, "a", 0)
		e.wantErr(err, backends.ErrNotEmpty, "Rename of a directory onto its ancestor")
		e.wantNode(b, "c", c)
	}},
	{"Rename/NoReplace", func(e *fsEnv) {
		n := e.create(e.root, "f", "x")
		e.create(e.root, "to", "y")
		e.mkdir(e.root, "d")
		for _, name := range []string{"to", "d"} {
			err := e.fs.Rename(e.ctx, e.root, "f", e.root, name, backends.RenameNoReplace)
			e.wantErr(err, errExist, "Rename to %q with NOREPLACE", name)
		}
		e.ok(e.fs.Rename(e.ctx, e.root, "f", e.root, "free", backends.RenameNoReplace), "Rename to a free name with NOREPLACE")
		e.wantNode(e.root, "free", n)
		e.wantContent(e.lookup(e.root, "to"), "y")
	}},
	{"Rename/Exchange", func(e *fsEnv) {
		d := e.mkdir(e.root, "d")
		inner := e.mkdir(d, "inner")
		n := e.create(e.root, "f", "file")
		e.ok(e.fs.Rename(e.ctx, e.root, "f", d, "inner", backends.RenameExchange), "Rename with EXCHANGE")
		e.wantNode(e.root, "f", inner)
		e.wantNode(d, "inner", n)
		e.wantContent(n, "file")
		e.create(inner, "x", "below")
		err := e.fs.Rename(e.ctx, e.root, "f", e.root, "nope", backends.RenameExchange)
		e.wantErr(err, errNotExist, "EXCHANGE with a missing name")
		err = e.fs.Rename(e.ctx, e.root, "d", d, "inner", backends.RenameExchange)
		e.wantErr(err, errInvalid, "EXCHANGE of a directory with a name in it")
		e.wantNames(e.root, "d", "f")
	}},
	{"Rename/BothFlags", func(e *fsEnv) {
		e.create(e.root, "a", "")
		e.create(e.root, "b", "")
		err := e.fs.Rename(e.ctx, e.root, "a", e.root, "b", backends.RenameExchange|backends.RenameNoReplace)
		wantErrOf(e.T, err, []error{errInvalid, errUnsupported}, "Rename with EXCHANGE and NOREPLACE")
		e.wantNames(e.root, "a", "b")
	}},
	{"Rename/NeverMissing", func(e *fsEnv) {
		// At no moment does the target name not exist.
		e.create(e.root, "to", "0")
		var done atomic.Bool
		parallel(2, func(i int) {
			if i == 0 {
				defer done.Store(true)
				for range 100 {
					_, _, f, err := e.fs.Create(e.ctx, e.root, "from", exclusive, as(0o644))
					if err == nil {
						err = f.Close(e.ctx)
					}
					if err == nil {
						err = e.fs.Rename(e.ctx, e.root, "from", e.root, "to", 0)
					}
					if err != nil {
						e.Errorf("write and rename: %v", err)
						return
					}
				}
				return
			}
			for !done.Load() {
				if _, _, err := e.fs.Lookup(e.ctx, e.root, "to"); err != nil {
					e.Errorf("Lookup of a name that is being replaced: %v", err)
					return
				}
			}
		})
		e.wantNames(e.root, "to")
	}},
}

var fsDirUnits = []unit[*fsEnv]{
	{"ReadDir", func(e *fsEnv) {
		d := e.mkdir(e.root, "d")
		e.wantNames(d)
		sub := e.mkdir(d, "sub")
		f := e.create(d, "file", "x")
		e.create(sub, "deeper", "x")
		entries, err := e.fs.ReadDir(e.ctx, d)
		e.ok(err, "ReadDir")
		if len(entries) != 2 {
			e.Fatalf("ReadDir has %+v, want two entries", entries)
		}
		for _, entry := range entries {
			n := map[string]backends.Node{"sub": sub, "file": f}[entry.Name]
			if n == nil || entry.ID != n.ID() || entry.Mode != e.attr(n).Mode.Type() {
				e.Errorf("ReadDir has %+v", entry)
			}
		}
		_, err = e.fs.ReadDir(e.ctx, f)
		e.wantErr(err, backends.ErrNotDir, "ReadDir of a file")
	}},
	{"ReadDir/Snapshot", func(e *fsEnv) {
		for _, name := range strings.Split("abcdefghij", "") {
			e.create(e.root, name, "")
		}
		before, err := e.fs.ReadDir(e.ctx, e.root)
		e.ok(err, "ReadDir")
		kept := slices.Clone(before)
		again, err := e.fs.ReadDir(e.ctx, e.root)
		e.ok(err, "ReadDir")
		if !slices.Equal(before, again) {
			e.Errorf("two listings of a directory that doesn't change differ")
		}
		e.unlink(e.root, "c")
		e.create(e.root, "new", "")
		e.rename(e.root, "a", e.root, "z")
		e.wantNames(e.root, "b", "d", "e", "f", "g", "h", "i", "j", "new", "z")
		if !slices.Equal(before, kept) {
			e.Error("a listing changed after it was returned")
		}
	}},
	{"ReadDir/Many", func(e *fsEnv) {
		want := e.createMany(e.root)
		if got := e.names(e.root); !slices.Equal(got, want) {
			e.Fatalf("ReadDir has %d names, want %d, each once", len(got), len(want))
		}
	}},
	{"OpenDir", func(e *fsEnv) {
		for what, d := range map[string]backends.Node{"the root": e.root, "a directory": e.mkdir(e.root, "d")} {
			e.ok(backends.OpenDirAt(e.ctx, e.fs, d), "OpenDir of %s", what)
		}
	}},
	{"SyncDir", func(e *fsEnv) {
		d := e.mkdir(e.root, "d")
		e.create(d, "f", "x")
		e.ok(backends.SyncDirAt(e.ctx, e.fs, d), "SyncDir")
		e.ok(backends.SyncDirAt(e.ctx, e.fs, e.root), "SyncDir of the root")
	}},
}
