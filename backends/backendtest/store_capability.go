package backendtest

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/agentfs/agentfs/backends"
)

var storeCapabilityUnits = []unit[*storeEnv]{
	{"Walk/Order", func(e *storeEnv) {
		e.growTree()
		all := e.walk(".", "")
		if !slices.IsSorted(all) || len(slices.Compact(slices.Clone(all))) != len(all) {
			e.Fatalf("Walk is not in strict order: %q", all)
		}
		// Directories that are only implied may be missing, nothing else.
		for _, want := range []string{"a-b", "a/b/c", "a/b/d", "a/z", "a0", "empty/", "m/n/"} {
			if !slices.Contains(all, want) {
				e.Errorf("Walk has no %q: %q", want, all)
			}
		}
		for _, got := range all {
			if !slices.Contains([]string{"a-b", "a/", "a/b/", "a/b/c", "a/b/d", "a/z", "a0", "empty/", "m/", "m/n/"}, got) {
				e.Errorf("Walk has %q, which is not there", got)
			}
		}
	}},
	{"Walk/Below", func(e *storeEnv) {
		e.growTree()
		e.put("ab/x", "x") // shares the prefix "a" and is not below it
		for _, got := range e.walk("a", "") {
			if !slices.Contains([]string{"a/b/", "a/b/c", "a/b/d", "a/z"}, got) {
				e.Errorf("Walk of a has %q", got)
			}
		}
		if got := e.walk("empty", ""); len(got) != 0 {
			e.Errorf("Walk of an empty directory has %q", got)
		}
	}},
	{"Walk/Resume", func(e *storeEnv) {
		e.growTree()
		all := e.walk(".", "")
		for i, after := range all {
			if got := e.walk(".", after); !slices.Equal(got, all[i+1:]) {
				e.Errorf("Walk after %q has %q, want %q", after, got, all[i+1:])
			}
		}
		if got := e.walk(".", "a/b/cc"); len(got) == 0 || got[0] != "a/b/d" {
			e.Errorf("Walk after a name that is not there has %q, want it to begin at a/b/d", got)
		}
	}},
	{"WalkPage", func(e *storeEnv) {
		e.growTree()
		if _, err := backends.WalkPage(e.ctx, e.s, ".", ""); errors.Is(err, errors.ErrUnsupported) {
			e.Skipf("WalkPage: %v", err)
		}
		for _, dir := range []string{".", "a", "a/b", "empty"} {
			for _, after := range append(e.walk(dir, ""), "") {
				var got []backends.Entry
				for at, more := after, true; more; {
					p, err := backends.WalkPage(e.ctx, e.s, dir, at)
					if err != nil {
						e.Fatalf("WalkPage(%q, %q): %v", dir, at, err)
					}
					if p.More && len(p.Entries) == 0 {
						e.Fatalf("WalkPage(%q, %q) brings nothing and says that there is more", dir, at)
					}
					if got = append(got, p.Entries...); p.More {
						at = backends.WalkKey(p.Entries[len(p.Entries)-1])
					}
					more = p.More
				}
				if names, want := walkNames(got), e.walk(dir, after); !slices.Equal(names, want) {
					e.Errorf("the pages of %s after %q have %q, Walk has %q", dir, after, names, want)
				}
			}
		}
		if _, err := backends.WalkPage(e.ctx, e.s, "none", ""); !errors.Is(err, fs.ErrNotExist) {
			e.Errorf("WalkPage of a directory that is not there: %v, want ErrNotExist", err)
		}
	}},
	{"StatWalk", func(e *storeEnv) {
		e.growTree()
		for _, name := range []string{"a-1", "a.txt", "a!/x", "a0", "b/c", "b-d/e"} {
			e.put(name, "beside")
		}
		if _, _, err := backends.StatWalk(e.ctx, e.s, "."); errors.Is(err, errors.ErrUnsupported) {
			e.Skipf("StatWalk: %v", err)
		}
		for _, name := range append(e.walk(".", ""), ".", "a!", "b-d") {
			name = strings.TrimSuffix(name, "/")
			got, p, err := backends.StatWalk(e.ctx, e.s, name)
			if err != nil || got != e.stat(name) {
				e.Errorf("StatWalk(%q): %+v, %v; Stat has %+v", name, got, err, e.stat(name))
			}
			var want []string
			if got.IsDir() {
				want = e.walk(name, "")
			}
			have := walkNames(p.Entries)
			if p.More && len(have) > 0 && len(have) < len(want) {
				want = want[:len(have)]
			}
			if !slices.Equal(have, want) {
				e.Errorf("StatWalk(%q) has %q (more: %v) below it, Walk has %q", name, have, p.More, want)
			}
		}
		for _, name := range []string{"none", "a/none", "none/f", "a/b/cc/none"} {
			if _, _, err := backends.StatWalk(e.ctx, e.s, name); !errors.Is(err, fs.ErrNotExist) {
				e.Errorf("StatWalk(%q): %v, want ErrNotExist", name, err)
			}
		}
	}},
	{"StatFile", func(e *storeEnv) {
		e.put("d/f", "content")
		e.mkdir("e")
		for _, name := range []string{".", "d", "d/f", "e"} {
			if got, err := backends.StatFile(e.ctx, e.s, name); err != nil || got != e.stat(name) {
				e.Errorf("StatFile(%q): %+v, %v; Stat has %+v", name, got, err, e.stat(name))
			}
		}
		for _, name := range []string{"none", "d/none", "none/f"} {
			if _, err := backends.StatFile(e.ctx, e.s, name); !errors.Is(err, fs.ErrNotExist) {
				e.Errorf("StatFile(%q): %v, want ErrNotExist", name, err)
			}
		}
	}},
	{"Walk/Complete", func(e *storeEnv) {
		e.growTree()
		for got, err := range backends.Walk(e.ctx, e.s, ".", "") {
			if err != nil {
				e.Fatal(err)
			}
			if want := e.stat(got.Name); got.Size != want.Size || got.Version != want.Version || got.Mode != want.Mode {
				e.Errorf("Walk has %+v where Stat has %+v", got, want)
			}
		}
	}},
	{"Copy/File", func(e *storeEnv) {
		content := patterned(300<<10, 7)
		e.put("d/from", content)
		entry, err := backends.Copy(e.ctx, e.s, "d/from", backends.If{}, "new/dir/to", backends.PutOptions{})
		if err != nil {
			e.Fatal(err)
		}
		got := e.stat("new/dir/to")
		if entry.Name != "new/dir/to" || entry.Size != int64(len(content)) || entry.Version != got.Version {
			e.Errorf("Copy returned %+v, Stat has %+v", entry, got)
		}
		e.wantContent("new/dir/to", content)
		e.wantContent("d/from", content)
		e.put("d/from", "changed")
		e.wantContent("new/dir/to", content)
		if _, err := backends.Copy(e.ctx, e.s, "d/from", backends.If{}, "new/dir/to", backends.PutOptions{}); err != nil {
			e.Fatalf("Copy onto an existing file: %v", err)
		}
		e.wantContent("new/dir/to", "changed")
	}},
	{"Copy/Errors", func(e *storeEnv) {
		e.put("f", "x")
		e.mkdir("d")
		for _, c := range []struct {
			from, to string
			want     error
		}{{"nope", "to", errNotExist}, {"d", "to", backends.ErrIsDir}, {"f", "d", backends.ErrIsDir}} {
			_, err := backends.Copy(e.ctx, e.s, c.from, backends.If{}, c.to, backends.PutOptions{})
			e.wantErr(err, c.want, "Copy from %q to %q", c.from, c.to)
		}
		e.wantList(".", "d/", "f")
	}},
	{"Copy/SourceMatch", func(e *storeEnv) {
		old := e.put("f", "old").Version
		now := e.put("f", "new").Version
		_, err := backends.Copy(e.ctx, e.s, "f", backends.If{Match: old}, "to", backends.PutOptions{})
		e.wantErr(err, backends.ErrChanged, "Copy of an old version")
		e.wantGone("to")
		if _, err := backends.Copy(e.ctx, e.s, "f", backends.If{Match: now}, "to", backends.PutOptions{}); err != nil {
			e.Fatal(err)
		}
		e.wantContent("to", "new")
	}},
	{"Copy/TargetConditions", func(e *storeEnv) {
		e.put("f", "new")
		old := e.put("to", "one").Version
		now := e.put("to", "two").Version
		_, err := backends.Copy(e.ctx, e.s, "f", backends.If{}, "to", backends.PutOptions{If: backends.If{Absent: true}})
		e.wantErr(err, errExist, "Copy with If.Absent onto a file")
		_, err = backends.Copy(e.ctx, e.s, "f", backends.If{}, "to", backends.PutOptions{If: backends.If{Match: old}})
		e.wantErr(err, backends.ErrChanged, "Copy onto an old version")
		e.wantContent("to", "two")
		if _, err := backends.Copy(e.ctx, e.s, "f", backends.If{}, "to", backends.PutOptions{If: backends.If{Match: now}}); err != nil {
			e.Fatal(err)
		}
		e.wantContent("to", "new")
		if _, err := backends.Copy(e.ctx, e.s, "f", backends.If{}, "to2", backends.PutOptions{If: backends.If{Absent: true}}); err != nil {
			e.Fatal(err)
		}
		e.wantContent("to2", "new")
	}},
	{"RemoveMany/Each", func(e *storeEnv) {
		for _, name := range []string{"a", "d/b", "d/c", "d/stay"} {
			e.put(name, name)
		}
		errs := backends.RemoveMany(e.ctx, e.s, []backends.Removal{{Name: "a"}, {Name: "d/nope"}, {Name: "d/b"}, {Name: "d/c"}})
		if len(errs) != 4 {
			e.Fatalf("RemoveMany of 4 returned %d errors", len(errs))
		}
		for i, err := range errs {
			// Some servers can't tell a missing name from a removed one.
			if err != nil && (i != 1 || !errors.Is(err, errNotExist)) {
				e.Errorf("removal %d: %v", i, err)
			}
		}
		e.wantList(".", "d/")
		e.wantList("d", "stay")
		if errs := backends.RemoveMany(e.ctx, e.s, nil); len(errs) != 0 {
			e.Errorf("RemoveMany of nothing returned %v", errs)
		}
	}},
	{"RemoveMany/IfMatch", func(e *storeEnv) {
		old := e.put("a", "one").Version
		e.put("a", "two")
		now := e.put("b", "x").Version
		errs := backends.RemoveMany(e.ctx, e.s, []backends.Removal{
			{Name: "a", If: backends.If{Match: old}}, {Name: "b", If: backends.If{Match: now}},
		})
		if len(errs) != 2 || errs[1] != nil {
			e.Fatalf("RemoveMany returned %v", errs)
		}
		e.wantErr(errs[0], backends.ErrChanged, "RemoveMany of an old version")
		e.wantContent("a", "two")
		e.wantGone("b")
	}},
	{"RemoveMany/ParentsStay", func(e *storeEnv) {
		var rs []backends.Removal
		for i := range 6 {
			name := fmt.Sprintf("d/e/f%d", i)
			r := backends.Removal{Name: name}
			if v := e.put(name, name); i%2 == 0 {
				r.If.Match = v.Version
			}
			rs = append(rs, r)
		}
		for i, err := range backends.RemoveMany(e.ctx, e.s, rs) {
			if err != nil {
				e.Errorf("RemoveMany of %q: %v", rs[i].Name, err)
			}
		}
		if got, err := e.s.Stat(e.ctx, "d/e"); err != nil || !got.IsDir() {
			e.Errorf("the directory that was emptied: %+v, %v", got, err)
		}
	}},
	{"RemoveMany/Dirs", func(e *storeEnv) {
		e.mkdir("empty")
		e.mkdir("a/b/c")
		e.put("a/f", "x")
		e.put("stays/f", "x")
		rs := []backends.Removal{
			{Name: "a", Dir: true}, {Name: "empty", Dir: true}, {Name: "a/b", Dir: true}, {Name: "a/f"}, {Name: "a/b/c", Dir: true},
		}
		for i, err := range backends.RemoveMany(e.ctx, e.s, rs) {
			if err != nil {
				e.Errorf("removal of %q: %v", rs[i].Name, err)
			}
		}
		e.wantList(".", "stays/")
		errs := backends.RemoveMany(e.ctx, e.s, []backends.Removal{{Name: "stays", Dir: true}, {Name: ".", Dir: true}})
		e.wantErr(errs[0], backends.ErrNotEmpty, "RemoveMany of a directory with something in it")
		e.wantErr(errs[1], backends.ErrBusy, "RemoveMany of the root")
		e.wantList("stays", "f")
	}},
	{"RemoveMany/LeanDirs", func(e *storeEnv) {
		lean := backends.LeanStore(e.s)
		e.mkdir("a/b/c")
		e.put("a/f", "x")
		e.put("d/f", "x")
		rs := []backends.Removal{
			{Name: "a", Dir: true}, {Name: "a/b", Dir: true}, {Name: "a/f"}, {Name: "a/b/c", Dir: true}, {Name: "d/f"},
		}
		for i, err := range backends.RemoveMany(e.ctx, lean, rs) {
			if err != nil && !errors.Is(err, errNotExist) {
				e.Errorf("removal of %q: %v", rs[i].Name, err)
			}
		}
		for _, name := range []string{"a", "a/b", "a/b/c", "a/f", "d/f"} {
			e.wantGone(name)
		}
	}},
	{"SetAttr/Mode", func(e *storeEnv) {
		e.put("f", "x")
		e.setAttr("f", backends.AttrChange{Set: backends.SetMode, Mode: 0o600})
		if got := e.stat("f").Mode; got != 0o600 {
			e.Errorf("the mode is %v, want 0600", got)
		}
		e.wantContent("f", "x")
	}},
	{"SetAttr/Mtime", func(e *storeEnv) {
		e.put("f", "x")
		want := time.Date(2010, 1, 2, 3, 4, 5, 0, time.UTC)
		e.setAttr("f", backends.AttrChange{Set: backends.SetMtime, Mtime: want})
		if got := e.stat("f").ModTime; !closeEnough(got, want) {
			e.Errorf("ModTime is %v, want %v", got, want)
		}
		e.wantContent("f", "x")
	}},
	{"SetAttr/Size", func(e *storeEnv) {
		v := e.put("f", "0123456789").Version
		e.setAttr("f", backends.AttrChange{Set: backends.SetSize, Size: 4})
		e.wantContent("f", "0123")
		if e.stat("f").Version == v {
			e.Error("the version is the same after a truncation")
		}
		e.setAttr("f", backends.AttrChange{Set: backends.SetSize, Size: 6})
		e.wantContent("f", "0123\x00\x00")
	}},
	{"SetAttr/Missing", func(e *storeEnv) {
		e.put("f", "x")
		e.setAttr("f", backends.AttrChange{Set: backends.SetMode, Mode: 0o600})
		err := backends.SetAttr(e.ctx, e.s, "nope", backends.AttrChange{Set: backends.SetMode, Mode: 0o600})
		e.wantErr(err, errNotExist, "SetAttr of a missing name")
	}},
	{"Symlink/New", func(e *storeEnv) {
		e.put("target", "content")
		for name, target := range map[string]string{"d/rel": "../target", "abs": "/etc/passwd", "dangling": "no where"} {
			e.symlink(target, name)
			if got := e.stat(name); got.Name != name || got.Mode.Type() != fs.ModeSymlink {
				e.Errorf("Stat(%q) = %+v, want a symbolic link", name, got)
			}
			if got, err := backends.Readlink(e.ctx, e.s, name); err != nil || got != target {
				e.Errorf("Readlink(%q) = %q, %v, want %q", name, got, err, target)
			}
		}
		e.wantList(".", "abs", "d/", "dangling", "target")
		for _, entry := range e.list("d", "") {
			if entry.Mode.Type() != fs.ModeSymlink {
				e.Errorf("List has %+v, want a symbolic link", entry)
			}
		}
		e.remove("d/rel")
		e.wantContent("target", "content")
	}},
	{"Symlink/IfMatch", func(e *storeEnv) {
		e.symlink("a", "link")
		old := e.stat("link").Version
		e.remove("link")
		e.symlink("b", "link")
		v := e.stat("link").Version
		if v == "" {
			e.Skip("links have no versions")
		}
		e.wantErr(e.s.Remove(e.ctx, "link", backends.If{Match: old}), backends.ErrChanged, "Remove with an old version")
		if err := e.s.Remove(e.ctx, "link", backends.If{Match: v}); err != nil {
			e.Errorf("Remove with the present version: %v", err)
		}
	}},
	{"Symlink/Errors", func(e *storeEnv) {
		e.put("f", "x")
		e.symlink("f", "link")
		for _, name := range []string{"f", "link"} {
			e.wantErr(backends.Symlink(e.ctx, e.s, "f", name), errExist, "Symlink at %q", name)
		}
		_, err := backends.Readlink(e.ctx, e.s, "f")
		e.wantErr(err, errInvalid, "Readlink of a file")
		_, err = backends.Readlink(e.ctx, e.s, "nope")
		e.wantErr(err, errNotExist, "Readlink of a missing name")
	}},
	{"Symlink/NeverLeadsOut", func(e *storeEnv) {
		// A path through a link to the outside reaches nothing there.
		e.symlink("/", "root")
		e.symlink("../../../../../../../..", "up")
		for _, name := range []string{"root/etc/passwd", "up/etc/passwd"} {
			if got, _, err := e.read(name, backends.Range{}, backends.If{}); err == nil {
				e.Errorf("Open(%q) leads out of the store: %s", name, brief(got))
			}
			if got, err := e.s.Stat(e.ctx, name); err == nil {
				e.Errorf("Stat(%q) leads out of the store: %+v", name, got)
			}
		}
		for _, dir := range []string{"root", "up"} {
			if got, err := collect(e.s.List(e.ctx, dir, "")); err == nil {
				e.Errorf("List(%q) leads out of the store: %d entries", dir, len(got))
			}
		}
	}},
	{"Usage", func(e *storeEnv) {
		e.put("f", "x")
		u, err := backends.UsageOf(e.ctx, e.s)
		if err != nil {
			e.Fatal(err)
		}
		if u.TotalBytes != 0 && u.FreeBytes > u.TotalBytes || u.TotalFiles != 0 && u.FreeFiles > u.TotalFiles {
			e.Errorf("more is free than there is: %+v", u)
		}
	}},
	{"Features", func(e *storeEnv) {
		e.put("f", "x")
		features, err := backends.FeaturesOf(e.ctx, e.s)
		if err != nil {
			e.Fatal(err)
		}
		for _, f := range features {
			if f.Name == "" || !f.Honored && f.Note == "" {
				e.Errorf("feature %+v has no name, or is not honoured and doesn't say what happens instead", f)
			}
		}
		e.wantList(".", "f")
	}},
}

// growTree makes the tree that the tests of Walk look at.
func (e *storeEnv) growTree() {
	e.Helper()
	for _, name := range []string{"a/b/c", "a/b/d", "a/z", "a-b", "a0"} {
		e.put(name, name)
	}
	e.mkdir("empty")
	e.mkdir("m/n")
}

// walk returns the names below dir, directories with a slash.
func (e *storeEnv) walk(dir, after string) []string {
	e.Helper()
	entries, err := collect(backends.Walk(e.ctx, e.s, dir, after))
	if err != nil {
		e.Fatalf("Walk(%q, %q): %v", dir, after, err)
	}
	return walkNames(entries)
}

// walkNames returns the names of a walk's entries, directories with a slash.
func walkNames(entries []backends.Entry) (names []string) {
	for _, entry := range entries {
		names = append(names, backends.WalkKey(entry))
	}
	return names
}

// setAttr calls SetAttr and skips the test where the store has none.
func (e *storeEnv) setAttr(name string, c backends.AttrChange) {
	e.Helper()
	err := backends.SetAttr(e.ctx, e.s, name, c)
	if errors.Is(err, errors.ErrUnsupported) {
		e.Skipf("SetAttr: %v", err)
	}
	if err != nil {
		e.Fatalf("SetAttr(%q): %v", name, err)
	}
}

// symlink calls Symlink and skips the test where the store has none.
func (e *storeEnv) symlink(target, name string) {
	e.Helper()
	err := backends.Symlink(e.ctx, e.s, target, name)
	if errors.Is(err, errors.ErrUnsupported) {
		e.Skipf("Symlink: %v", err)
	}
	if err != nil {
		e.Fatalf("Symlink(%q, %q): %v", target, name, err)
	}
}
