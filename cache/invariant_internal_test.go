package cache

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/tree"
)

// unaccounted returns the keys of the store that are neither the base of the
// file in their place nor a ghost nor on their way: they would come back.
func unaccounted(c *FS, s backends.Store) (bad []string) {
	c.ns.Lock()
	defer c.ns.Unlock()
	under := map[string]bool{}
	for _, j := range c.q.jobs() {
		if j.kind == jobFile && j.f.sending != nil {
			under[j.f.sending.key] = true
		}
	}
	for _, g := range c.ghosts {
		under[g.key] = true
	}
	for e, err := range backends.Walk(context.Background(), s, ".", "") {
		if err != nil {
			return []string{err.Error()}
		}
		if under[e.Name] || c.making[e.Name] > 0 {
			continue
		}
		n := c.nodeAt(e.Name)
		if e.IsDir() {
			if n == nil || !n.IsDir() {
				if !anyUnder(under, e.Name) {
					bad = append(bad, e.Name+"/")
				}
			}
			continue
		}
		if n == nil {
			bad = append(bad, e.Name)
			continue
		}
		f, ok := n.Data.(*file)
		if !ok {
			bad = append(bad, e.Name+" (a directory here)")
			continue
		}
		f.mu.Lock()
		if f.base == nil || f.base.key != e.Name {
			bad = append(bad, fmt.Sprintf("%s (base %+v)", e.Name, f.base))
		}
		f.mu.Unlock()
	}
	return bad
}

func anyUnder(keys map[string]bool, dir string) bool {
	for k := range keys {
		if strings.HasPrefix(k, dir+"/") {
			return true
		}
	}
	return false
}

// TestEveryKeyIsAccountedFor does random changes of names and looks after each
// whether the store has a key that nobody here knows of.
func TestEveryKeyIsAccountedFor(t *testing.T) {
	seeds := 60
	if testing.Short() {
		seeds = 10
	}
	for i := range seeds {
		seed := uint64(time.Now().UnixNano()) + uint64(i)
		if !accountFor(t, seed, i) {
			return
		}
	}
}

// names is what there should be; directories end in a slash.
type names map[string]bool

func (m names) sorted() []string { return slices.Sorted(maps.Keys(m)) }

// apply does to m what an operation that has succeeded did.
func (m names) apply(op string) {
	f := strings.Fields(op)
	switch f[0] {
	case "create":
		m[f[1]] = true
	case "mkdir":
		m[f[1]+"/"] = true
	case "unlink":
		delete(m, f[1])
	case "rmdir":
		delete(m, f[1]+"/")
	case "rename":
		from, to := f[1], f[3]
		if from == to {
			return
		}
		delete(m, to)
		delete(m, to+"/")
		for k := range maps.Clone(m) {
			if k == from || strings.HasPrefix(k, from+"/") {
				delete(m, k)
				m[to+k[len(from):]] = true
			}
		}
	}
}

// namesOf lists what is below n, looking every name up.
func namesOf(t *testing.T, f *FS, n *tree.Node, prefix string) (all []string) {
	list, err := f.ReadDir(t.Context(), n)
	if err != nil {
		return []string{prefix + "?" + err.Error()}
	}
	for _, e := range list {
		child, _, err := f.Lookup(t.Context(), n, e.Name)
		switch {
		case err != nil:
			all = append(all, prefix+e.Name+"?"+err.Error())
		case e.Mode.IsDir():
			all = append(all, prefix+e.Name+"/")
			all = append(all, namesOf(t, f, child.(*tree.Node), prefix+e.Name+"/")...)
		default:
			all = append(all, prefix+e.Name)
		}
	}
	slices.Sort(all)
	return all
}

func accountFor(t *testing.T, seed uint64, i int) bool {
	r := rand.New(rand.NewPCG(seed, 1))
	f, m := newOverMemory(t, 0)
	f.q.grace = time.Duration(i%3) * time.Millisecond
	ctx := t.Context()
	var history []string
	model := names{}
	paths := []string{"a", "b", "c", "d"}
	dirOfPath := func(p string) *tree.Node {
		n := f.tree.Root()
		segs := strings.Split(p, "/")
		for _, s := range segs[:len(segs)-1] {
			c, _, err := f.Lookup(ctx, n, s)
			if err != nil {
				return nil
			}
			n = c.(*tree.Node)
			if !n.IsDir() {
				return nil
			}
		}
		return n
	}
	random := func() string {
		p := paths[r.IntN(4)]
		for r.IntN(2) == 0 && strings.Count(p, "/") < 3 {
			p += "/" + paths[r.IntN(4)]
		}
		return p
	}
	for range 120 {
		p, q := random(), random()
		d := dirOfPath(p)
		if d == nil {
			continue
		}
		base := p[strings.LastIndex(p, "/")+1:]
		var op string
		var err error
		switch r.IntN(8) {
		case 0, 1:
			op = "create " + p
			var h backends.File
			_, _, h, err = f.Create(ctx, d, base, os.O_RDWR|os.O_TRUNC, backends.CreateAttr{Mode: 0o644})
			if err == nil {
				_, _ = h.WriteAt(ctx, fmt.Appendf(nil, "%s %d", p, r.IntN(1000)), 0)
				_ = h.Flush(ctx)
				_ = h.Close(ctx)
			}
		case 2:
			op = "mkdir " + p
			_, _, err = f.Mkdir(ctx, d, base, backends.CreateAttr{Mode: 0o755})
		case 3:
			op = "unlink " + p
			err = f.Unlink(ctx, d, base)
		case 4:
			op = "rmdir " + p
			err = f.Rmdir(ctx, d, base)
		default:
			op = "rename " + p + " to " + q
			e := dirOfPath(q)
			if e == nil {
				continue
			}
			err = f.Rename(ctx, d, base, e, q[strings.LastIndex(q, "/")+1:], 0)
		}
		history = append(history, fmt.Sprintf("%s: %v", op, err))
		if err == nil {
			model.apply(op)
		}
		if r.IntN(3) == 0 {
			time.Sleep(time.Duration(r.IntN(3000)) * time.Microsecond)
		}
		if got, want := namesOf(t, f, f.tree.Root(), ""), model.sorted(); !slices.Equal(got, want) {
			t.Errorf("seed %d: there is %v, and should be %v; done:\n%s", seed, got, want, strings.Join(history, "\n"))
			return false
		}
		if bad := unaccounted(f, m); len(bad) > 0 {
			time.Sleep(20 * time.Millisecond)
			if again := unaccounted(f, m); slices.ContainsFunc(again, func(s string) bool { return slices.Contains(bad, s) }) {
				t.Errorf("seed %d: nobody knows of %v; done:\n%s", seed, again, strings.Join(history, "\n"))
				return false
			}
		}
	}
	sctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := f.SyncDir(sctx, f.Root()); err != nil {
		t.Errorf("seed %d: sync: %v; pending %+v; done:\n%s", seed, err, f.State().Pending, strings.Join(history, "\n"))
		return false
	}
	for end := time.Now().Add(2 * time.Second); f.q.len() > 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if n := f.q.len(); n > 0 {
		for _, j := range f.q.jobs() {
			t.Logf("%s: %+v", f.nameOf(j), j)
			if j.wait != nil {
				t.Logf("  waits for %s: %+v", f.nameOf(j.wait), j.wait)
			}
		}
		t.Errorf("seed %d: %d jobs are left: %+v; done:\n%s", seed, n, f.State().Pending, strings.Join(history, "\n"))
		return false
	}
	return true
}
