package backendtest

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
)

// seedVariable names the environment variable that repeats a random test.
const seedVariable = "BACKENDTEST_SEED"

// newSeed returns the seed of a random test and says it if the test fails.
func newSeed(t *testing.T) uint64 {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv(seedVariable); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", seedVariable, err)
		}
		seed = n
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("repeat with %s=%d", seedVariable, seed)
		}
	})
	return seed
}

var fsModelUnits = []unit[*fsEnv]{
	{"Model", func(e *fsEnv) { e.runModel(newSeed(e.T)) }},
}

// inode is a file or directory of the model.
type inode struct {
	dir  bool
	data []byte
}

// model is the reference: what a file system should hold, as a map from path
// to inode ("." is the root). Hard links are two paths of one inode.
type model map[string]*inode

func (m model) children(dir string) []string {
	var names []string
	for p := range m {
		if p != "." && path.Dir(p) == dir {
			names = append(names, path.Base(p))
		}
	}
	slices.Sort(names)
	return names
}

// remove returns the error that removing p should give, and removes it.
func (m model) remove(p string, wantDir bool) error {
	switch n := m[p]; {
	case n == nil:
		return fs.ErrNotExist
	case n.dir != wantDir && wantDir:
		return backends.ErrNotDir
	case n.dir != wantDir:
		return backends.ErrIsDir
	case n.dir && len(m.children(p)) > 0:
		return backends.ErrNotEmpty
	}
	delete(m, p)
	return nil
}

// rename returns the error that renaming should give, and renames.
func (m model) rename(from, to string) error {
	a, b := m[from], m[to]
	switch {
	case a == nil:
		return fs.ErrNotExist
	case a.dir && strings.HasPrefix(to, from+"/"):
		return fs.ErrInvalid
	case a == b:
		return nil
	case b != nil && b.dir && !a.dir:
		return backends.ErrIsDir
	case b != nil && !b.dir && a.dir:
		return backends.ErrNotDir
	case b != nil && b.dir && len(m.children(to)) > 0:
		return backends.ErrNotEmpty
	}
	for p, n := range maps.Clone(m) {
		if p == from || strings.HasPrefix(p, from+"/") {
			delete(m, p)
			m[to+p[len(from):]] = n
		}
	}
	return nil
}

// runModel does the same random operations on the file system and on the
// model and compares every answer, and the whole tree at the end.
func (e *fsEnv) runModel(seed uint64) {
	r := rand.New(rand.NewPCG(seed, 3))
	m := model{".": {dir: true}}
	steps := 1500
	if testing.Short() {
		steps = 300
	}
	var history []string
	for range steps {
		p, q := randomPath(r), randomPath(r)
		dir := e.resolve(m, path.Dir(p))
		if dir == nil {
			continue // the model has no such directory; no call to make
		}
		op, want, got := e.modelStep(r, m, dir, p, q)
		if op == "" {
			continue
		}
		history = append(history, op)
		if want == nil && got != nil || want != nil && !errors.Is(got, want) {
			tail := history[max(0, len(history)-12):]
			e.Fatalf("%s: error is %s, the model says %v; the last operations:\n%s", op, describe(got), want, strings.Join(tail, "\n"))
		}
	}
	e.compareModel(m, ".", e.root)
}

// modelStep does one operation on both and returns what it was and the errors
// of the model and of the file system.
func (e *fsEnv) modelStep(r *rand.Rand, m model, dir backends.Node, p, q string) (op string, want, got error) {
	name := path.Base(p)
	switch k := r.IntN(20); {
	case k < 5:
		if m[p] == nil {
			m[p] = &inode{}
		} else {
			want = fs.ErrExist
		}
		_, _, f, err := e.fs.Create(e.ctx, dir, name, exclusive, as(0o644))
		if err == nil {
			err = errors.Join(f.Flush(e.ctx), f.Close(e.ctx))
		}
		return "create " + p, want, err
	case k < 8:
		if m[p] == nil {
			m[p] = &inode{dir: true}
		} else {
			want = fs.ErrExist
		}
		_, _, got = e.fs.Mkdir(e.ctx, dir, name, as(0o755))
		return "mkdir " + p, want, got
	case k < 12:
		if m[p] == nil || m[p].dir {
			return "", nil, nil
		}
		off, data := r.IntN(5000), patterned(r.IntN(3000)+1, byte(r.IntN(256)))
		if need := off + len(data); len(m[p].data) < need {
			m[p].data = resize(m[p].data, need)
		}
		copy(m[p].data[off:], data)
		return fmt.Sprintf("write %s at %d, %d bytes", p, off, len(data)), nil, e.modelWrite(dir, name, data, int64(off))
	case k < 13:
		if m[p] == nil || m[p].dir {
			return "", nil, nil
		}
		size := r.IntN(6000)
		m[p].data = resize(m[p].data, size)
		_, got = e.fs.SetAttr(e.ctx, e.lookup(dir, name), backends.AttrChange{Set: backends.SetSize, Size: int64(size)})
		return fmt.Sprintf("truncate %s to %d", p, size), nil, got
	case k < 15:
		return "unlink " + p, m.remove(p, false), e.fs.Unlink(e.ctx, dir, name)
	case k < 16:
		return "rmdir " + p, m.remove(p, true), e.fs.Rmdir(e.ctx, dir, name)
	case k < 17:
		return e.modelLink(m, dir, p, q)
	default:
		to := e.resolve(m, path.Dir(q))
		if to == nil || strings.HasPrefix(p, q+"/") {
			return "", nil, nil // onto an ancestor: the kernel refuses it itself
		}
		return "rename " + p + " to " + q, m.rename(p, q), e.fs.Rename(e.ctx, dir, name, to, path.Base(q), 0)
	}
}

func (e *fsEnv) modelWrite(dir backends.Node, name, data string, off int64) error {
	f, err := e.fs.Open(e.ctx, e.lookup(dir, name), os.O_RDWR)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(e.ctx, []byte(data), off)
	return errors.Join(err, f.Flush(e.ctx), f.Close(e.ctx))
}

// modelLink links p to q where the file system has hard links.
func (e *fsEnv) modelLink(m model, dir backends.Node, p, q string) (op string, want, got error) {
	to := e.resolve(m, path.Dir(q))
	if m[p] == nil || m[p].dir || to == nil {
		return "", nil, nil
	}
	_, got = backends.LinkAt(e.ctx, e.fs, e.lookup(dir, path.Base(p)), to, path.Base(q))
	if errors.Is(got, errors.ErrUnsupported) {
		return "", nil, nil
	}
	if m[q] != nil {
		want = fs.ErrExist
	} else {
		m[q] = m[p]
	}
	return "link " + p + " to " + q, want, got
}

// resolve looks the directory p up; nil where the model has none.
func (e *fsEnv) resolve(m model, p string) backends.Node {
	if n := m[p]; n == nil || !n.dir {
		return nil
	}
	n := e.root
	if p != "." {
		for _, name := range strings.Split(p, "/") {
			n = e.lookup(n, name)
		}
	}
	return n
}

func (e *fsEnv) compareModel(m model, p string, n backends.Node) {
	e.Helper()
	want := m[p]
	if !want.dir {
		links := 0
		for _, other := range m {
			if other == want {
				links++
			}
		}
		a := e.attr(n)
		if got := e.content(n); got != string(want.data) || int(a.Nlink) != links || a.Size != int64(len(want.data)) {
			e.Errorf("%s holds %s with %d links, the model %s with %d", p, brief(got), a.Nlink, brief(string(want.data)), links)
		}
		return
	}
	if got := e.names(n); !slices.Equal(got, m.children(p)) {
		e.Fatalf("%s has %q, the model %q", p, got, m.children(p))
	}
	for _, name := range m.children(p) {
		e.compareModel(m, path.Join(p, name), e.lookup(n, name))
	}
}

// randomPath returns a path of one to three elements of few names, so that
// operations meet.
func randomPath(r *rand.Rand) string {
	elems := make([]string, 1+r.IntN(3))
	for i := range elems {
		elems[i] = string(rune('a' + r.IntN(4)))
	}
	return strings.Join(elems, "/")
}
