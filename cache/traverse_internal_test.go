package cache

import (
	"fmt"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/tree"
)

// A very large directory is not sorted for those who read ahead across files: it is gone
// through while somebody's listing of it stands.
func TestTraversalOfALargeDirectory(t *testing.T) {
	f, _ := newOverMemory(t, time.Hour)
	root := f.tree.Root()
	add := func(i int) {
		x := &file{fs: f, base: &stored{key: fmt.Sprint(i), size: 1}}
		n := f.tree.NewNode(backends.CreateAttr{Mode: 0o644}, x)
		x.node = n
		f.tree.Adopt(root, fmt.Sprintf("%06d", i), n)
	}
	for i := range traverseMost + 1 {
		add(i)
	}
	next := func() *tree.Node {
		steps := 10
		return order{}.after(f.tree, root, "000007", false, func(*tree.Node) bool { return false }).file(&steps)
	}
	if n := next(); n != nil {
		t.Error("a directory that nobody has listed was sorted")
	}
	if _, err := f.tree.ReadDir(root); err != nil {
		t.Fatal(err)
	}
	want, err := f.tree.Lookup(root, "000008")
	if n := next(); err != nil || n != want {
		t.Errorf("after a listing the next file is %v, %v", n, err)
	}
	add(traverseMost + 1)
	if n := next(); n != nil {
		t.Error("a directory that has changed was sorted")
	}
}
