package cache

import (
	"encoding/json"
	"io/fs"
	"math/rand/v2"
	"testing"

	"github.com/agentfs/agentfs/backends"
)

// What is encoded by hand is what json.Marshal makes of it, to the byte: other
// programs look for texts in it, and earlier ones have written it.
func TestEncode(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	names := []string{"", "plain.txt", "a b", "quote\"s", "back\\slash", "<&>", "tab\t", "umläut", "\u2028", "not\xffutf8", notUTF8 + "x", "del\x7f", "\x00"}
	name := func() text { return text(names[r.IntN(len(names))]) }
	utf8 := func() string { return names[r.IntN(9)] }
	yes := func() bool { return r.IntN(2) == 0 }
	number := func() uint64 { return r.Uint64() >> r.IntN(64) }
	stored := func() *storedRecord {
		if yes() {
			return nil
		}
		return &storedRecord{name(), backends.Version(utf8()), int64(number() >> 1)}
	}
	check := func(v any, got []byte) {
		t.Helper()
		if want, err := json.Marshal(v); err != nil || string(got) != string(want) {
			t.Fatalf("encoded\n%s, want\n%s (%v)", got, want, err)
		}
	}
	for range 2000 {
		n := nodeRecord{
			Parent: number(), Name: name(), Mode: fs.FileMode(number()), UID: uint32(number()), GID: uint32(number()),
			Atime: int64(number()), Mtime: -int64(number() >> 1), Ctime: int64(number()), Target: name(), Pending: yes(),
			Attrs: yes(), MtimeSet: yes(), AtimeSet: yes(), ModeSet: yes(), Base: stored(), Changed: yes(), Layer: utf8(), Map: yes(),
			Local: yes(), Marker: yes(),
		}
		if yes() {
			n.UID, n.GID = 0, 0
			n.Xattrs = map[text][]byte{name(): []byte(utf8()), name(): nil}
		}
		for range r.IntN(4) {
			n.Ops = append(n.Ops, attempt{utf8(), name(), number()})
		}
		check(n, n.encode(nil))
		g := ghostRecord{Version: backends.Version(utf8()), Size: int64(r.IntN(3)), Dir: yes(), Look: yes()}
		if yes() {
			g.Maybe = &maybe{Op: utf8(), Size: int64(number())}
		}
		check(g, g.encode(nil))
		x := row{Off: int64(r.IntN(3)), End: int64(number() >> 1), Hole: yes(), Len: int64(number())}
		check(x, x.encode(nil))
	}
	if got := nodeKey(0x1a2b); got != "n/0000000000001a2b" {
		t.Errorf("key %s", got)
	}
}
