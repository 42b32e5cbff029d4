package backendtest

import (
	"fmt"
	"os"
	"strings"

	"github.com/agentfs/agentfs/backends"
)

var fsNodeUnits = []unit[*fsEnv]{
	{"Root", func(e *fsEnv) {
		if e.fs.Root() != e.root {
			e.Error("Root returns another Node at the second call")
		}
		a := e.attr(e.root)
		if !a.Mode.IsDir() || a.Nlink == 0 {
			e.Errorf("the root has the attributes %+v", a)
		}
		e.wantNames(e.root)
	}},
	{"Node/ID", func(e *fsEnv) {
		seen := map[uint64]string{e.root.ID(): "."}
		for i := range 50 {
			name := fmt.Sprintf("f%d", i)
			n := e.create(e.root, name, "")
			if n.ID() == 0 || n.ID() >= 1<<48 {
				e.Fatalf("id %#x is 0 or has more than 48 bits", n.ID())
			}
			if other, dup := seen[n.ID()]; dup {
				e.Fatalf("%s and %s have the same id", name, other)
			}
			seen[n.ID()] = name
		}
	}},
	{"Node/IDNotReused", func(e *fsEnv) {
		// As long as somebody knows the node, also without a name.
		n, f := e.createOpen(e.root, "old")
		known := e.create(e.root, "known", "")
		e.unlink(e.root, "old")
		e.unlink(e.root, "known")
		for i := range 50 {
			other := e.create(e.root, fmt.Sprintf("new%d", i), "")
			if other.ID() == n.ID() || other.ID() == known.ID() {
				e.Fatalf("the id %d of a node that is known was given to another", other.ID())
			}
		}
		e.attr(known)
		e.close(f)
	}},
	{"Node/OneForInode", func(e *fsEnv) {
		d := e.mkdir(e.root, "d")
		n := e.create(d, "f", "x")
		e.wantNode(e.root, "d", d)
		e.wantNode(d, "f", n)
	}},
	{"Node/Foreign", func(e *fsEnv) {
		e.create(e.root, "f", "x")
		n := e.lookup(e.root, "f")
		other := e.open(e.T)
		foreigners := map[string]backends.Node{"a node of another file system of the kind": other.Root(), "a node of another kind": foreignNode{}}
		for what, foreign := range foreigners {
			_, err := e.fs.Attr(e.ctx, foreign)
			e.wantErr(err, errUnsupported, "Attr of %s", what)
			_, _, err = e.fs.Lookup(e.ctx, foreign, "f")
			e.wantErr(err, errUnsupported, "Lookup in %s", what)
			_, err = e.fs.ReadDir(e.ctx, foreign)
			e.wantErr(err, errUnsupported, "ReadDir of %s", what)
			_, err = e.fs.Open(e.ctx, foreign, os.O_RDONLY)
			e.wantErr(err, errUnsupported, "Open of %s", what)
			err = e.fs.Rename(e.ctx, e.root, "f", foreign, "f", 0)
			e.wantErr(err, errUnsupported, "Rename to %s", what)
			err = e.fs.Rename(e.ctx, foreign, "f", e.root, "g", 0)
			e.wantErr(err, errUnsupported, "Rename from %s", what)
			_, err = backends.LinkAt(e.ctx, e.fs, n, foreign, "f")
			e.wantErr(err, errUnsupported, "Link to %s", what)
			_, err = backends.LinkAt(e.ctx, e.fs, foreign, e.root, "g")
			e.wantErr(err, errUnsupported, "Link of %s", what)
			e.fs.Forget(foreign)
		}
		e.wantNames(e.root, "f")
	}},
	{"Node/Forget", func(e *fsEnv) {
		e.create(e.root, "f", "content")
		e.fs.Forget(e.lookup(e.root, "f"))
		e.wantContent(e.lookup(e.root, "f"), "content")
		// An unlinked file that is open stays whole although forgotten.
		n, f := e.createOpen(e.root, "open")
		e.write(f, "kept", 0)
		e.unlink(e.root, "open")
		e.fs.Forget(n)
		e.wantOpenContent(f, "kept")
		e.close(f)
		d := e.mkdir(e.root, "d")
		e.create(d, "below", "deep")
		e.fs.Forget(d)
		e.wantContent(e.lookup(e.lookup(e.root, "d"), "below"), "deep")
	}},
	{"Lookup/Missing", func(e *fsEnv) {
		e.wantGone(e.root, "nope")
		e.create(e.root, "name", "")
		e.wantGone(e.root, "nam")
		e.wantGone(e.root, "name2")
		e.wantGone(e.root, "NAME")
	}},
	{"Lookup/InFile", func(e *fsEnv) {
		_, _, err := e.fs.Lookup(e.ctx, e.create(e.root, "f", ""), "x")
		e.wantErr(err, backends.ErrNotDir, "Lookup in a file")
	}},
	{"Lookup/InvalidNames", func(e *fsEnv) {
		// The kernel sends none of these; other callers must not escape.
		d := e.mkdir(e.root, "d")
		e.create(d, "f", "")
		for _, name := range []string{"", ".", "..", "d/f", "../d", "/", "f\x00"} {
			for where, dir := range map[string]backends.Node{"the root": e.root, "a directory": d} {
				_, _, err := e.fs.Lookup(e.ctx, dir, name)
				wantErrOf(e.T, err, []error{errInvalid, errNotExist}, "Lookup(%q) in %s", name, where)
				_, _, _, err = e.fs.Create(e.ctx, dir, name, exclusive, as(0o644))
				wantErrOf(e.T, err, []error{errInvalid, errExist, backends.ErrIsDir, errNotExist}, "Create(%q) in %s", name, where)
			}
		}
		e.wantNames(e.root, "d")
		e.wantNames(d, "f")
	}},
	{"Names/TooLong", func(e *fsEnv) {
		long := strings.Repeat("n", backends.MaxNameLen)
		n := e.create(e.root, long, "x")
		e.wantNode(e.root, long, n)
		e.wantNames(e.root, long)
		tooLong := long + "n"
		_, _, err := e.fs.Lookup(e.ctx, e.root, tooLong)
		e.wantErr(err, backends.ErrNameTooLong, "Lookup")
		_, _, _, err = e.fs.Create(e.ctx, e.root, tooLong, exclusive, as(0o644))
		e.wantErr(err, backends.ErrNameTooLong, "Create")
		_, _, err = e.fs.Mkdir(e.ctx, e.root, tooLong, as(0o755))
		e.wantErr(err, backends.ErrNameTooLong, "Mkdir")
		err = e.fs.Rename(e.ctx, e.root, long, e.root, tooLong, 0)
		e.wantErr(err, backends.ErrNameTooLong, "Rename")
		err = e.fs.Unlink(e.ctx, e.root, tooLong)
		wantErrOf(e.T, err, []error{backends.ErrNameTooLong, errNotExist}, "Unlink")
		e.wantNames(e.root, long)
	}},
	{"Names/Bytes", func(e *fsEnv) {
		for _, v := range validNames {
			if strings.Contains(v.name, "/") || len(v.name) > backends.MaxNameLen {
				continue
			}
			n, _, f, err := e.fs.Create(e.ctx, e.root, v.name, exclusive, as(0o644))
			if err != nil && v.perhaps != nil {
				e.wantErr(err, v.perhaps, "Create(%q)", v.name)
				continue
			}
			e.ok(err, "Create(%q)", v.name)
			e.write(f, v.name, 0)
			e.close(f)
			e.wantNode(e.root, v.name, n)
			e.wantNames(e.root, v.name)
			e.wantContent(n, v.name)
			e.rename(e.root, v.name, e.root, "plain")
			e.rename(e.root, "plain", e.root, v.name)
			e.wantNode(e.root, v.name, n)
			e.unlink(e.root, v.name)
			e.wantNames(e.root)
		}
	}},
	{"StatFS", func(e *fsEnv) {
		n := e.create(e.root, "f", "x")
		for _, node := range []backends.Node{e.root, n} {
			u, err := e.fs.StatFS(e.ctx, node)
			e.ok(err, "StatFS")
			if u.TotalBytes != 0 && u.FreeBytes > u.TotalBytes || u.TotalFiles != 0 && u.FreeFiles > u.TotalFiles {
				e.Errorf("more is free than there is: %+v", u)
			}
		}
	}},
}

// foreignNode is a node of no file system.
type foreignNode struct{}

func (foreignNode) ID() uint64 { return 7 }
