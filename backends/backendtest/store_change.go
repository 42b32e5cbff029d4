package backendtest

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/agentfs/agentfs/backends"
)

var storeChangeUnits = []unit[*storeEnv]{
	{"Mkdir/New", func(e *storeEnv) {
		e.mkdir("d")
		if !e.stat("d").IsDir() {
			e.Fatal("what Mkdir made is no directory")
		}
		e.wantList(".", "d/")
		e.wantList("d")
		e.put("d/f", "x")
		e.wantList("d", "f")
	}},
	{"Mkdir/Parents", func(e *storeEnv) {
		e.mkdir("a/b/c")
		e.wantList(".", "a/")
		e.wantList("a", "b/")
		e.wantList("a/b", "c/")
		e.wantList("a/b/c")
	}},
	{"Mkdir/Exists", func(e *storeEnv) {
		e.mkdir("d")
		e.put("f", "x")
		e.put("implied/f", "x")
		for _, name := range []string{"d", "f", "implied", "."} {
			err := e.s.Mkdir(e.ctx, name, backends.AttrChange{})
			e.wantErr(err, errExist, "Mkdir(%q)", name)
		}
		e.wantContent("f", "x")
		e.wantContent("implied/f", "x")
	}},
	{"Mkdir/Attr", func(e *storeEnv) {
		err := e.s.Mkdir(e.ctx, "d", backends.AttrChange{Set: backends.SetMode, Mode: 0o750})
		if err != nil {
			e.Fatal(err)
		}
		if d := e.stat("d"); !d.IsDir() || d.Mode.Perm() != 0 && d.Mode.Perm() != 0o750 {
			e.Fatalf("Mkdir with mode 0750 made %v", d.Mode)
		}
	}},
	{"Mkdir/Race", func(e *storeEnv) {
		// Many make it at once: it is there, and at least one was told so.
		for round := range 5 {
			name := fmt.Sprintf("p%d/d", round)
			var won atomic.Int64
			parallel(8, func(int) {
				err := e.s.Mkdir(e.ctx, name, backends.AttrChange{})
				switch {
				case err == nil:
					won.Add(1)
				case !errors.Is(err, errExist):
					e.Errorf("Mkdir in a race: %v", err)
				}
			})
			if won.Load() == 0 || !e.stat(name).IsDir() {
				e.Fatalf("%d of 8 Mkdirs succeeded", won.Load())
			}
		}
	}},
	{"Remove/File", func(e *storeEnv) {
		e.put("d/f", "x")
		e.put("d/g", "y")
		e.remove("d/f")
		e.wantGone("d/f")
		e.wantList("d", "g")
		_, _, err := e.read("d/f", backends.Range{}, backends.If{})
		e.wantErr(err, errNotExist, "Open of a removed file")
	}},
	{"Remove/Missing", func(e *storeEnv) {
		e.put("d/f", "x")
		for _, name := range []string{"nope", "d/nope", "nope/f"} {
			err := e.s.Remove(e.ctx, name, backends.If{})
			e.wantErr(err, errNotExist, "Remove(%q)", name)
		}
	}},
	{"Remove/EmptyDir", func(e *storeEnv) {
		e.mkdir("a/b")
		e.remove("a/b")
		e.wantGone("a/b")
		e.wantList("a")
		e.remove("a")
		e.wantList(".")
	}},
	{"Remove/NotEmpty", func(e *storeEnv) {
		e.mkdir("made")
		e.put("made/f", "x")
		e.put("implied/sub/f", "x")
		for _, name := range []string{"made", "implied", "implied/sub"} {
			err := e.s.Remove(e.ctx, name, backends.If{})
			e.wantErr(err, backends.ErrNotEmpty, "Remove(%q)", name)
		}
		e.wantContent("made/f", "x")
		e.wantContent("implied/sub/f", "x")
	}},
	{"Remove/ParentStays", func(e *storeEnv) {
		e.put("implied/deep/f", "x")
		e.remove("implied/deep/f")
		if !e.stat("implied/deep").IsDir() {
			e.Fatal("the parent went with its last child")
		}
		e.wantList("implied/deep")
		e.wantList("implied", "deep/")
		e.remove("implied/deep")
		e.wantList("implied")
		e.wantList(".", "implied/")
		e.mkdir("made/inner")
		e.remove("made/inner")
		e.wantList("made")
	}},
	{"Remove/Root", func(e *storeEnv) {
		err := e.s.Remove(e.ctx, ".", backends.If{})
		e.wantErr(err, backends.ErrBusy, "Remove of the root of an empty store")
		e.put("f", "x")
		err = e.s.Remove(e.ctx, ".", backends.If{})
		e.wantErr(err, backends.ErrBusy, "Remove of the root")
		e.wantContent("f", "x")
	}},
	{"Remove/Recreate", func(e *storeEnv) {
		// A name's kind may change.
		e.put("n", "file")
		e.remove("n")
		e.mkdir("n")
		e.put("n/f", "below")
		e.remove("n/f")
		e.remove("n")
		e.put("n", "file again")
		e.wantContent("n", "file again")
		e.wantList(".", "n")
	}},
	{"Remove/Race", func(e *storeEnv) {
		for round := range 5 {
			name := fmt.Sprintf("f%d", round)
			e.put(name, "x")
			var won atomic.Int64
			parallel(8, func(int) {
				err := e.s.Remove(e.ctx, name, backends.If{})
				switch {
				case err == nil:
					won.Add(1)
				case !errors.Is(err, errNotExist):
					e.Errorf("Remove in a race: %v", err)
				}
			})
			if won.Load() == 0 {
				e.Fatal("none of 8 Removes succeeded")
			}
			e.wantGone(name)
		}
	}},
}
