package cache

import (
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
)

// Two who go on behind the same page that was cut off don't get into each other's
// entries.
func TestCutPageIsNobodysToAppendTo(t *testing.T) {
	f, _ := newOverMemory(t, time.Hour)
	m, ok := f.merging(f.tree.Root())
	if !ok {
		t.Fatal("no merging")
	}
	direct := append(make([]backends.Entry, 0, 10), backends.Entry{Name: "a"})
	f.cut.Store(&cutPage{flatPage{direct: direct}, m})
	var all [2][]backends.Entry
	for i, name := range []string{"b", "c"} {
		_, l, err := m.page(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		all[i] = append(l.direct, backends.Entry{Name: name})
	}
	if got := all[0][1].Name; got != "b" {
		t.Errorf("who went on with b has %q", got)
	}
}
