package backendtest

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/agentfs/agentfs/backends"
)

var storeRenameUnits = []unit[*storeEnv]{
	{"Rename/File", func(e *storeEnv) {
		e.put("d/from", "content")
		e.mkdir("to")
		e.rename("d/from", "to/name")
		e.wantContent("to/name", "content")
		e.wantGone("d/from")
		e.wantList("d")
		e.put("to/other", "replaced")
		e.rename("to/name", "to/other")
		e.wantContent("to/other", "content")
		e.wantList("to", "other")
		e.rename("to/other", "to/other")
		e.wantContent("to/other", "content")
	}},
	{"Rename/Conditions", func(e *storeEnv) {
		old := e.put("f", "one").Version
		e.put("f", "two")
		e.put("to", "target one")
		oldTo := e.stat("to").Version
		e.put("to", "target two")
		for _, c := range []struct {
			what      string
			src, cond backends.If
			want      error
		}{
			{"an old version", backends.If{Match: old}, backends.If{}, backends.ErrChanged},
			{"If.Absent at a file", backends.If{}, backends.If{Absent: true}, errExist},
			{"an old version at the target", backends.If{}, backends.If{Match: oldTo}, backends.ErrChanged},
		} {
			err := backends.Rename(e.ctx, e.s, "f", c.src, "to", c.cond)
			e.wantErr(err, c.want, "Rename with %s", c.what)
			e.wantContent("f", "two")
			e.wantContent("to", "target two")
		}
		err := backends.Rename(e.ctx, e.s, "f", backends.If{Match: e.stat("f").Version}, "to", backends.If{Match: e.stat("to").Version})
		if err != nil {
			e.Fatalf("Rename with conditions that hold: %v", err)
		}
		e.wantContent("to", "two")
		e.wantGone("f")
		if err := backends.Rename(e.ctx, e.s, "to", backends.If{}, "fresh", backends.If{Absent: true}); err != nil {
			e.Fatalf("Rename with If.Absent to a free name: %v", err)
		}
		e.wantList(".", "fresh")
	}},
	{"Rename/IfMatchRace", func(e *storeEnv) {
		// Moving a version and replacing it: one of them happens.
		for round := range 10 {
			v := e.put("f", fmt.Sprint("old ", round)).Version
			var moved, replaced atomic.Int64
			parallel(4, func(i int) {
				var err error
				if i%2 == 0 {
					to := fmt.Sprintf("to%d-%d", round, i)
					if err = backends.Rename(e.ctx, e.s, "f", backends.If{Match: v}, to, backends.If{Absent: true}); err == nil {
						moved.Add(1)
					}
				} else {
					_, err = e.s.Put(e.ctx, "f", section(fmt.Sprint("new ", round, i)), backends.PutOptions{If: backends.If{Match: v}})
					if err == nil {
						replaced.Add(1)
					}
				}
				if err != nil && !errors.Is(err, backends.ErrChanged) && !errors.Is(err, errNotExist) {
					e.Errorf("a conditional change in a race: %v", err)
				}
			})
			if replaced.Load()+min(moved.Load(), 1) != 1 {
				e.Fatalf("round %d: one version was moved %d times and replaced %d times", round, moved.Load(), replaced.Load())
			}
		}
	}},
	{"Rename/Errors", func(e *storeEnv) {
		e.put("f", "x")
		e.put("full/g", "y")
		err := backends.Rename(e.ctx, e.s, "nope", backends.If{}, "to", backends.If{})
		e.wantErr(err, errNotExist, "Rename of a missing name")
		err = backends.Rename(e.ctx, e.s, "f", backends.If{}, "full", backends.If{})
		e.wantErr(err, backends.ErrIsDir, "Rename of a file onto a directory")
		e.wantContent("f", "x")
		e.wantContent("full/g", "y")
	}},
	{"Rename/Dir", func(e *storeEnv) {
		e.put("from/a", "1")
		e.put("from/sub/b", "2")
		e.mkdir("from/empty")
		e.mkdir("to")
		e.renameDir("from", "to/moved")
		e.wantGone("from")
		e.wantList("to/moved", "a", "empty/", "sub/")
		e.wantContent("to/moved/sub/b", "2")
		e.mkdir("vacant")
		e.renameDir("to/moved", "vacant")
		e.wantContent("vacant/a", "1")
		e.wantList("to")
	}},
	{"Rename/DirErrors", func(e *storeEnv) {
		e.put("d/a", "1")
		e.put("full/b", "2")
		e.put("f", "3")
		for _, c := range []struct {
			from, to string
			want     []error
		}{
			{"d", "full", []error{backends.ErrNotEmpty}},
			{"d", "f", []error{backends.ErrNotDir}},
			{"d", "d/below", []error{errInvalid}},
			{".", "elsewhere", []error{backends.ErrBusy, errInvalid}},
		} {
			err := backends.Rename(e.ctx, e.s, c.from, backends.If{}, c.to, backends.If{})
			if errors.Is(err, errors.ErrUnsupported) {
				e.Skipf("Rename of a directory: %v", err)
			}
			wantErrOf(e.T, err, c.want, "Rename from %q to %q", c.from, c.to)
		}
		e.wantContent("d/a", "1")
		e.wantContent("full/b", "2")
		e.wantContent("f", "3")
	}},
}

func (e *storeEnv) rename(from, to string) {
	e.Helper()
	if err := backends.Rename(e.ctx, e.s, from, backends.If{}, to, backends.If{}); err != nil {
		e.Fatalf("Rename(%q, %q): %v", from, to, err)
	}
}

// renameDir renames a directory and skips the test where the store can't.
func (e *storeEnv) renameDir(from, to string) {
	e.Helper()
	err := backends.Rename(e.ctx, e.s, from, backends.If{}, to, backends.If{})
	if errors.Is(err, errors.ErrUnsupported) {
		e.Skipf("Rename of a directory: %v", err)
	}
	if err != nil {
		e.Fatalf("Rename(%q, %q): %v", from, to, err)
	}
}
