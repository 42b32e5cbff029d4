package backendtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/agentfs/agentfs/backends"
)

var fsRaceUnits = []unit[*fsEnv]{
	{"Race/Exclusive", func(e *fsEnv) {
		for round := range 10 {
			name := fmt.Sprintf("f%d", round)
			var won atomic.Int64
			parallel(8, func(int) {
				_, _, f, err := e.fs.Create(e.ctx, e.root, name, exclusive, as(0o644))
				switch {
				case err == nil:
					won.Add(1)
					err = errors.Join(f.Flush(e.ctx), f.Close(e.ctx))
					if err != nil {
						e.Errorf("close: %v", err)
					}
				case !errors.Is(err, errExist):
					e.Errorf("Create with O_EXCL in a race: %v", err)
				}
			})
			if won.Load() != 1 {
				e.Fatalf("%d of 8 Creates with O_EXCL succeeded", won.Load())
			}
		}
	}},
	{"Race/OneNode", func(e *fsEnv) {
		// Many look one name up at once, right after it appeared: one Node.
		d := e.mkdir(e.root, "d")
		for round := range 20 {
			name := fmt.Sprintf("f%d", round)
			e.fs.Forget(e.create(d, name, ""))
			var nodes [8]backends.Node
			parallel(len(nodes), func(i int) {
				n, _, err := e.fs.Lookup(e.ctx, d, name)
				if err != nil {
					e.Errorf("Lookup: %v", err)
				}
				nodes[i] = n
			})
			for _, n := range nodes {
				if n != nodes[0] {
					e.Fatal("one inode got two Nodes")
				}
			}
		}
	}},
	{"Race/Rename", func(e *fsEnv) {
		// Files and directories move about between directories that move
		// about themselves: none gets lost, none comes twice, nothing hangs.
		const files, movers = 20, 6
		rounds := 200
		if testing.Short() {
			rounds = 40
		}
		dirs := []backends.Node{e.root}
		for i := range 4 {
			dirs = append(dirs, e.mkdir(dirs[i/2], fmt.Sprintf("d%d", i)))
		}
		for i := range files {
			e.create(e.root, fmt.Sprintf("f%d", i), fmt.Sprint(i))
		}
		seed := newSeed(e.T)
		expected := []error{errNotExist, errExist, errInvalid, backends.ErrNotEmpty, backends.ErrNotDir, backends.ErrIsDir}
		parallel(movers, func(w int) {
			r := rand.New(rand.NewPCG(seed, uint64(w)))
			for range rounds {
				name := fmt.Sprintf("f%d", r.IntN(files))
				if r.IntN(3) == 0 {
					name = fmt.Sprintf("d%d", r.IntN(4))
				}
				from, to := dirs[r.IntN(len(dirs))], dirs[r.IntN(len(dirs))]
				err := e.fs.Rename(e.ctx, from, name, to, name, backends.RenameNoReplace)
				if err != nil && !slices.ContainsFunc(expected, func(w error) bool { return errors.Is(err, w) }) {
					e.Errorf("Rename in a race: %v", err)
				}
			}
		})
		found := map[string]int{}
		var visit func(dir backends.Node, depth int)
		visit = func(dir backends.Node, depth int) {
			if depth > len(dirs) {
				e.Fatal("the directories form a circle")
			}
			for _, name := range e.names(dir) {
				found[name]++
				n := e.lookup(dir, name)
				if name[0] == 'd' {
					visit(n, depth+1)
				} else if got := "f" + e.content(n); got != name {
					e.Errorf("%s holds the content of %s", name, got)
				}
			}
		}
		visit(e.root, 0)
		if len(found) != files+4 {
			e.Errorf("%d of %d names are left: %v", len(found), files+4, found)
		}
		for name, times := range found {
			if times != 1 {
				e.Errorf("%s is there %d times", name, times)
			}
		}
	}},
	{"Race/Mixed", func(e *fsEnv) {
		// Everything at once on three names: for the race detector.
		parallel(6, func(w int) {
			r := rand.New(rand.NewPCG(uint64(w), 2))
			for range 60 {
				name, other := fmt.Sprint("n", r.IntN(3)), fmt.Sprint("n", r.IntN(3))
				switch r.IntN(5) {
				case 0:
					if _, _, f, err := e.fs.Create(e.ctx, e.root, name, os.O_RDWR|os.O_CREATE, as(0o644)); err == nil {
						_, _ = f.WriteAt(e.ctx, []byte(name), int64(r.IntN(100)))
						_ = errors.Join(f.Flush(e.ctx), f.Close(e.ctx))
					}
				case 1:
					_ = e.fs.Unlink(e.ctx, e.root, name)
				case 2:
					_ = e.fs.Rename(e.ctx, e.root, name, e.root, other, 0)
				case 3:
					if n, _, err := e.fs.Lookup(e.ctx, e.root, name); err == nil {
						_, _ = e.fs.SetAttr(e.ctx, n, backends.AttrChange{Set: backends.SetSize, Size: int64(r.IntN(50))})
						_, _ = e.fs.Attr(e.ctx, n)
					}
				case 4:
					_, _ = e.fs.ReadDir(e.ctx, e.root)
				}
			}
		})
		for _, name := range e.names(e.root) {
			e.content(e.lookup(e.root, name))
			e.unlink(e.root, name)
		}
		e.wantNames(e.root)
	}},
}

// createMany fills dir with files from several goroutines and returns their
// sorted names.
func (e *fsEnv) createMany(dir backends.Node) []string {
	e.Helper()
	count := 2000
	if testing.Short() {
		count = 200
	}
	want := make([]string, count)
	for i := range want {
		want[i] = fmt.Sprintf("n%05d", i)
	}
	parallel(8, func(w int) {
		for i := w; i < count; i += 8 {
			_, _, f, err := e.fs.Create(e.ctx, dir, want[i], exclusive, as(0o644))
			if err == nil {
				err = errors.Join(f.Flush(e.ctx), f.Close(e.ctx))
			}
			if err != nil {
				e.Errorf("Create(%q): %v", want[i], err)
				return
			}
		}
	})
	if e.Failed() {
		e.FailNow()
	}
	return want
}
