package backendtest

import (
	"github.com/agentfs/agentfs/backends"
)

// storeOperationUnits are those of [backends.PutOptions.Operation]. A store
// that has no place for it with the content declares an exception for
// "Operation".
var storeOperationUnits = []unit[*storeEnv]{
	{"Operation/Again", func(e *storeEnv) {
		// The answer of the first attempt was lost, as far as the second knows.
		for name, cond := range map[string]backends.If{"absent": {Absent: true}, "match": {Match: e.put("match", "before").Version}, "none": {}} {
			opts := backends.PutOptions{If: cond, Operation: "op-" + name}
			first := e.putWith(name, "mine", opts)
			second := e.putWith(name, "mine", opts)
			e.wantContent(name, "mine")
			if now := e.stat(name).Version; second.Version != now || cond != (backends.If{}) && first.Version != now {
				e.Errorf("%s: the versions are %q and %q, Stat has %q", name, first.Version, second.Version, now)
			}
		}
	}},
	{"Operation/Another", func(e *storeEnv) {
		// An operation that took effect excuses no other one.
		e.putWith("f", "one", backends.PutOptions{If: backends.If{Absent: true}, Operation: "op-1"})
		_, err := e.s.Put(e.ctx, "f", section("two"), backends.PutOptions{If: backends.If{Absent: true}, Operation: "op-2"})
		e.wantErr(err, errExist, "Put with If.Absent by a second operation")
		e.wantContent("f", "one")
	}},
	{"Operation/Overwritten", func(e *storeEnv) {
		opts := backends.PutOptions{If: backends.If{Match: e.put("f", "before").Version}, Operation: "op-1"}
		mine := e.putWith("f", "mine", opts)
		e.putWith("f", "theirs", backends.PutOptions{If: backends.If{Match: mine.Version}})
		_, err := e.s.Put(e.ctx, "f", section("mine"), opts)
		e.wantErr(err, backends.ErrChanged, "Put again after somebody else's change")
		opts = backends.PutOptions{If: opts.If, Operation: "op-2", Earlier: []string{"op-1"}}
		_, err = e.s.Put(e.ctx, "f", section("mine"), opts)
		e.wantErr(err, backends.ErrChanged, "Put by a later operation after somebody else's change")
		e.wantContent("f", "theirs")
	}},
	{"Operation/Earlier", func(e *storeEnv) {
		cond := backends.If{Absent: true}
		e.putWith("f", "one", backends.PutOptions{If: cond, Operation: "op-1"})
		e.putWith("f", "three", backends.PutOptions{If: cond, Operation: "op-3", Earlier: []string{"op-1", "op-2"}})
		e.wantContent("f", "three")
		cond = backends.If{Match: "0123456789abcdef"}
		e.putWith("f", "four", backends.PutOptions{If: cond, Operation: "op-4", Earlier: []string{"op-3"}})
		e.wantContent("f", "four")
	}},
	{"Operation/Copy", func(e *storeEnv) {
		src := backends.If{Match: e.put("from", "content").Version}
		for name, cond := range map[string]backends.If{"absent": {Absent: true}, "none": {}} {
			for range 2 {
				opts := backends.PutOptions{If: cond, Operation: "op-" + name}
				if _, err := backends.Copy(e.ctx, e.s, "from", src, name, opts); err != nil {
					e.Fatalf("%s: Copy: %v", name, err)
				}
			}
			e.wantContent(name, "content")
		}
	}},
	{"Operation/RemoveMany", func(e *storeEnv) {
		if _, ok := e.s.(backends.ManyRemover); !ok {
			e.Skip("the store is no ManyRemover")
		}
		old := backends.If{Match: e.put("f", "old").Version}
		rm := []backends.Removal{{Name: "f", If: old, Earlier: []string{"op-0", "op-1"}}}
		e.putWith("f", "mine", backends.PutOptions{If: old, Operation: "op-1"})
		if err := backends.RemoveMany(e.ctx, e.s, rm)[0]; err != nil {
			e.Fatalf("RemoveMany of what an earlier operation left: %v", err)
		}
		e.wantGone("f")
		e.putWith("f", "theirs", backends.PutOptions{If: backends.If{Absent: true}})
		e.wantErr(backends.RemoveMany(e.ctx, e.s, rm)[0], backends.ErrChanged, "RemoveMany of what somebody else left")
		e.wantContent("f", "theirs")
	}},
}
