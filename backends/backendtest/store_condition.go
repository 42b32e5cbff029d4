package backendtest

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/agentfs/agentfs/backends"
)

var storeConditionUnits = []unit[*storeEnv]{
	{"Put/IfAbsent", func(e *storeEnv) {
		absent := backends.PutOptions{If: backends.If{Absent: true}}
		e.putWith("d/f", "first", absent)
		_, err := e.s.Put(e.ctx, "d/f", section("second"), absent)
		e.wantErr(err, errExist, "Put with If.Absent on a file")
		e.wantContent("d/f", "first")
		e.remove("d/f")
		e.putWith("d/f", "third", absent)
		e.wantContent("d/f", "third")
		_, err = e.s.Put(e.ctx, "d", section("x"), absent)
		wantErrOf(e.T, err, []error{errExist, backends.ErrIsDir}, "Put with If.Absent on a directory")
	}},
	{"Put/IfMatch", func(e *storeEnv) {
		v1 := e.put("f", "one").Version
		v2 := e.putWith("f", "two", backends.PutOptions{If: backends.If{Match: v1}}).Version
		e.wantContent("f", "two")
		_, err := e.s.Put(e.ctx, "f", section("three"), backends.PutOptions{If: backends.If{Match: v1}})
		e.wantErr(err, backends.ErrChanged, "Put with the version before the last")
		e.wantContent("f", "two")
		e.putWith("f", "four", backends.PutOptions{If: backends.If{Match: v2}})
		e.wantContent("f", "four")
	}},
	{"Put/IfMatchMissing", func(e *storeEnv) {
		v := e.put("f", "one").Version
		e.remove("f")
		_, err := e.s.Put(e.ctx, "f", section("two"), backends.PutOptions{If: backends.If{Match: v}})
		e.wantErr(err, backends.ErrChanged, "Put with the version of a removed file")
		e.wantGone("f")
	}},
	{"Put/IfMatchForeign", func(e *storeEnv) {
		// A version of another name or of no store at all is just no match.
		e.put("f", "one")
		for _, v := range []backends.Version{e.put("g", "another content").Version, "no such version", "\"", "*"} {
			_, err := e.s.Put(e.ctx, "f", section("two"), backends.PutOptions{If: backends.If{Match: v}})
			e.wantErr(err, backends.ErrChanged, "Put with If.Match %q", v)
		}
		e.wantContent("f", "one")
	}},
	{"Put/IfLarge", func(e *storeEnv) {
		// A store that sends large bodies in parts has to check at the end.
		large := patterned(12<<20, 5)
		v1 := e.put("f", "one").Version
		_, err := e.s.Put(e.ctx, "f", section(large), backends.PutOptions{If: backends.If{Absent: true}})
		e.wantErr(err, errExist, "Put of a large body with If.Absent")
		e.put("f", "two")
		_, err = e.s.Put(e.ctx, "f", section(large), backends.PutOptions{If: backends.If{Match: v1}})
		e.wantErr(err, backends.ErrChanged, "Put of a large body with an old version")
		e.wantContent("f", "two")
		v := e.stat("f").Version
		e.putWith("f", large, backends.PutOptions{If: backends.If{Match: v}})
		e.wantContent("f", large)
	}},
	{"Put/IfAbsentRace", func(e *storeEnv) {
		for round := range 10 {
			name := fmt.Sprintf("f%d", round)
			var won atomic.Int64
			parallel(8, func(i int) {
				_, err := e.s.Put(e.ctx, name, section(fmt.Sprint(i)), backends.PutOptions{If: backends.If{Absent: true}})
				switch {
				case err == nil:
					won.Add(1)
				case !errors.Is(err, errExist):
					e.Errorf("Put with If.Absent in a race: %v", err)
				}
			})
			if won.Load() != 1 {
				e.Fatalf("%d of 8 Puts with If.Absent succeeded at once", won.Load())
			}
		}
	}},
	{"Put/IfMatchRace", func(e *storeEnv) {
		// Compare-and-swap by eight at once: exactly one wins each round, and
		// its content is what the name holds then.
		v := e.put("f", "start").Version
		for round := range 10 {
			var won atomic.Int64
			var winner, version atomic.Value
			parallel(8, func(i int) {
				content := fmt.Sprintf("round %d by %d", round, i)
				entry, err := e.s.Put(e.ctx, "f", section(content), backends.PutOptions{If: backends.If{Match: v}})
				switch {
				case err == nil:
					won.Add(1)
					winner.Store(content)
					version.Store(entry.Version)
				case !errors.Is(err, backends.ErrChanged):
					e.Errorf("Put with If.Match in a race: %v", err)
				}
			})
			if won.Load() != 1 {
				e.Fatalf("round %d: %d of 8 compare-and-swaps of one version succeeded", round, won.Load())
			}
			e.wantContent("f", winner.Load().(string))
			v = version.Load().(backends.Version)
		}
	}},
	{"Remove/IfMatch", func(e *storeEnv) {
		v1 := e.put("f", "one").Version
		v2 := e.put("f", "two").Version
		err := e.s.Remove(e.ctx, "f", backends.If{Match: v1})
		e.wantErr(err, backends.ErrChanged, "Remove with an old version")
		e.wantContent("f", "two")
		if err := e.s.Remove(e.ctx, "f", backends.If{Match: v2}); err != nil {
			e.Fatalf("Remove with the present version: %v", err)
		}
		e.wantGone("f")
		err = e.s.Remove(e.ctx, "f", backends.If{Match: v2})
		wantErrOf(e.T, err, []error{backends.ErrChanged, errNotExist}, "Remove of a version whose name is gone")
	}},
	{"Remove/IfMatchRace", func(e *storeEnv) {
		for round := range 10 {
			v := e.put("f", fmt.Sprint("old ", round)).Version
			var removed, replaced atomic.Int64
			parallel(4, func(i int) {
				var err error
				if i%2 == 0 {
					if err = e.s.Remove(e.ctx, "f", backends.If{Match: v}); err == nil {
						removed.Add(1)
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
			// A store may take the removal of what is gone for done, so both
			// removals may have succeeded, but never one beside a Put.
			if replaced.Load()+min(removed.Load(), 1) != 1 {
				e.Fatalf("round %d: one version was removed %d times and replaced %d times", round, removed.Load(), replaced.Load())
			}
			if removed.Load() > 0 {
				e.wantGone("f")
			} else if got, _, err := e.read("f", backends.Range{}, backends.If{}); err != nil || !strings.HasPrefix(got, "new ") {
				e.Fatalf("round %d: what replaced the version holds %q, %v", round, got, err)
			}
		}
	}},
}
