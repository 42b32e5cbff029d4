package cache

import (
	"fmt"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/memory"
	"github.com/agentfs/agentfs/backends/memory/memorytest"
	"github.com/agentfs/agentfs/backends/tree"
)

// absents counts the names below n that are known not to be there.
func absents(f *FS, n *tree.Node) (sum int) {
	d := dirOf(n)
	d.mu.Lock()
	sum = len(d.absent)
	d.mu.Unlock()
	for _, child := range f.tree.Dirs(n) {
		sum += absents(f, child)
	}
	return sum
}

// Names that are not there are bounded, too, in all directories together.
func TestAbsentNamesAreForgotten(t *testing.T) {
	const most, dirs, names = 800, 50, 40
	m := memorytest.New(t, memory.Config{NoTmpfs: true, Size: 1 << 20})
	f := newOver(t, sixMethods{m}, Config{TTL: 20 * time.Millisecond, Entries: most})
	f.OnHold(newKernel())
	for i := range dirs {
		if err := m.Mkdir(t.Context(), fmt.Sprint(i), backends.AttrChange{}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range dirs {
		d := mustAt(t, f, fmt.Sprint(i))
		for j := range names {
			f.gone(d, fmt.Sprint(j))
		}
	}
	time.Sleep(2 * f.cfg.TTL)
	d := mustAt(t, f, "0")
	for j := range 2 * most / absentShare { // more than it takes
		f.gone(d, fmt.Sprint("again", j))
	}
	soon(t, "the others are forgotten", func() bool { return absents(f, f.tree.Root()) <= 2*most/absentShare })
}
