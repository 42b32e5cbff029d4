package cache_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/faulty"
	"github.com/agentfs/agentfs/cache"
)

// A name that several files have had in turn, of which the uploads of two may have taken
// effect unheard: whichever the store has is known to be of this machine, though the one
// whose upload is older has left the name last.
func TestUnsettledUploadsOfTwoFiles(t *testing.T) {
	fail := errors.New("internal error")
	for _, then := range []string{"removed", "replaced"} {
		t.Run(then, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemory(t)
				s := faulty.Store(plain{m})
				f := newCache(t, s, cache.Config{TTL: time.Hour, Durability: "writeback"})
				root := f.Root()
				if _, err := f.ReadDir(t.Context(), root); err != nil {
					t.Fatal(err)
				}
				s.SetRules(faulty.On(faulty.OnOp("Put"), faulty.Fail(fail)))
				createFile(t, f, "f", "first")
				time.Sleep(time.Second)
				rename(t, f, root, "f", root, "e")
				time.Sleep(5 * time.Second) // it is found out that it has left nothing
				puts := []faulty.Rule{
					faulty.On(faulty.And(faulty.OnOp("Put"), faulty.OnName("f")), faulty.LostAnswer(fail)),
					faulty.On(faulty.And(faulty.OnOp("Put"), faulty.OnName("[be]")), faulty.Fail(fail)),
				}
				s.SetRules(puts...)
				createFile(t, f, "f", "second")
				s.SetRules(append(puts, faulty.On(faulty.And(faulty.OnOp("Stat"), faulty.OnName("f")), faulty.Fail(fail)))...)
				time.Sleep(time.Second)
				if !holds(t, m, "f", "second") {
					t.Fatal("the second upload did not take effect")
				}
				rename(t, f, root, "f", root, "b")
				rename(t, f, root, "e", root, "f")
				switch then {
				case "removed":
					if err := f.Unlink(t.Context(), root, "f"); err != nil {
						t.Fatal(err)
					}
					createFile(t, f, "f", "third")
				case "replaced":
					createFile(t, f, "c", "third")
					rename(t, f, root, "c", root, "f")
				}
				s.SetRules()
				byItself(t, "the uploads", func() bool { return holds(t, m, "f", "third") && holds(t, m, "b", "second") })
				if st := f.State(); len(st.Conflicts) > 0 {
					t.Errorf("a conflict with nobody: %+v", st.Conflicts)
				}
			})
		})
	}
}

// A directory that is to be made where somebody has put a file meanwhile, in a store that
// can't have both, is not taken for made: a barrier says what is in the way, and once that
// has gone it is made.
func TestFileInTheWayOfADirectory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		f := newCache(t, plain{m}, cache.Config{TTL: time.Hour, Durability: "writeback"})
		if _, _, err := f.Mkdir(t.Context(), f.Root(), "d", backends.CreateAttr{Mode: 0o755}); err != nil {
			t.Fatal(err)
		}
		put(t, m, "d", "theirs")
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := f.SyncDir(ctx, f.Root()); err == nil || !strings.Contains(err.Error(), "a file has that name in the store") {
			t.Errorf("a barrier: %v", err)
		}
		if st := f.State(); len(st.Pending) != 1 {
			t.Errorf("pending: %+v", st.Pending)
		}
		if got := get(t, m, "d"); got != "theirs" {
			t.Errorf("their file has %q", got)
		}
		remove(t, m, "d")
		byItself(t, "the directory", func() bool {
			e, err := m.Stat(t.Context(), "d")
			return err == nil && e.IsDir()
		})
	})
}
