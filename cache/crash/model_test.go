package crash_test

import (
	"bytes"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
)

// model is what a file system has to hold: the tree after all operations that
// were acknowledged, and beside it what those may have done that were not. It
// knows one file system, no cache and no store.
type model struct {
	root    *node
	handles map[int]*open
	doubts  []doubt
	// lax is the promise of a cache without a journal: a rename that was not
	// acknowledged may have left both names or half a directory, and a new file
	// is there from its first close on.
	lax bool
	// live says that nothing was killed: what is open has its last content.
	live bool
	// attrs says that modes are to be kept, too.
	attrs bool
	// history has, for each path, the contents that the store may have shown
	// under it, in order; nil if nobody wants to know.
	history map[string][]string
}

// node is a file, a directory or a symbolic link.
type node struct {
	dir    bool
	target string // of a symbolic link, which has nothing else
	kids   map[string]*node
	parent *node
	name   string // "" of the root and of what was unlinked

	data []byte
	// past has the contents since the last close that was acknowledged, that
	// one's first: a crash may leave any of them in place of data.
	past [][]byte
	// torn has the contents before and after a write that was not acknowledged:
	// a crash may leave any mix of the two.
	torn [][2][]byte
	// made says that the name is there after a crash, whatever the promise.
	made    bool
	writers int
	// halved: a rename may have left a second name, which nothing changes.
	halved bool
	// frozen: an operation on the file failed, and it is left as it is.
	frozen bool
	mode   fs.FileMode
	// modes are others that the file may have, because a change was not
	// acknowledged.
	modes []fs.FileMode
}

// open is an open file.
type open struct {
	n     *node
	write bool
}

// doubt is an operation on names that was not acknowledged: it has happened or
// not. Until somebody looks, nothing else is done at its paths.
type doubt struct {
	op       op
	src, dst *node // what was at the paths before, nil for nothing
}

func newModel() *model {
	return &model{root: newDir(), handles: map[int]*open{}}
}

func newDir() *node { return &node{dir: true, kids: map[string]*node{}, made: true, mode: 0o755} }

func newFile(content []byte) *node { return &node{data: content, made: true, mode: 0o644} }

// at returns what is at a path, nil for nothing.
func (m *model) at(path string) *node {
	n := m.root
	if path == "." {
		return n
	}
	for seg := range strings.SplitSeq(path, "/") {
		if n = n.kids[seg]; n == nil {
			return nil
		}
	}
	return n
}

// path returns where n is; ok is false if it has no name.
func (n *node) path() (path string, ok bool) {
	for ; n.parent != nil; n = n.parent {
		path = join(n.name, path)
		ok = true
	}
	return path, ok
}

// join puts two halves of a path together, of which either may be empty.
func join(a, b string) string {
	switch {
	case a == "" || a == ".":
		return b
	case b == "":
		return a
	}
	return a + "/" + b
}

func split(path string) (dir, name string) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return ".", path
	}
	return path[:i], path[i+1:]
}

// under reports whether path is top or below it.
func under(path, top string) bool {
	return top == "." || path == top || strings.HasPrefix(path, top+"/")
}

// put gives n a name.
func (m *model) put(path string, n *node) {
	dir, name := split(path)
	p := m.at(dir)
	m.cut(path)
	p.kids[name], n.parent, n.name = n, p, name
}

// cut takes a name away.
func (m *model) cut(path string) {
	if n := m.at(path); n != nil {
		delete(n.parent.kids, n.name)
		n.parent, n.name = nil, ""
	}
}

// walk calls f for all below top, top included, with the paths from top ("").
func (n *node) walk(f func(rel string, n *node)) { n.walkFrom("", f) }

func (n *node) walkFrom(rel string, f func(string, *node)) {
	f(rel, n)
	for _, name := range slices.Sorted(maps.Keys(n.kids)) {
		n.kids[name].walkFrom(join(rel, name), f)
	}
}

// change gives a file its next content.
func (n *node) change(data []byte) {
	n.past = append(n.past, n.data)
	n.data = data
}

// seal says that the present content was acknowledged: nothing older may come
// back. What a write that failed has left stays open.
func (n *node) seal() {
	if !n.halved {
		n.past = nil
	}
	n.made = true
}

// mayHold reports whether a crash may have left that content.
func (n *node) mayHold(got []byte) bool {
	for _, p := range n.past {
		if bytes.Equal(got, p) {
			return true
		}
	}
	return n.holds(got)
}

// holds reports whether that is the content now.
func (n *node) holds(got []byte) bool {
	if bytes.Equal(got, n.data) {
		return true
	}
	for _, t := range n.torn {
		if isMix(got, t[0], t[1]) {
			return true
		}
	}
	return false
}

// isMix reports whether each byte of got is a's or b's, zero beyond their ends.
func isMix(got, a, b []byte) bool {
	if len(got) < min(len(a), len(b)) || len(got) > max(len(a), len(b)) {
		return false
	}
	at := func(p []byte, i int) byte {
		if i < len(p) {
			return p[i]
		}
		return 0
	}
	for i, c := range got {
		if c != at(a, i) && c != at(b, i) {
			return false
		}
	}
	return true
}

// isDoubtful reports whether an operation at path would meet one whose outcome
// nobody knows: at the path, above it or, with below, under it.
func (m *model) isDoubtful(path string, below bool) bool {
	for _, d := range m.doubts {
		for _, p := range d.op.paths() {
			if under(path, p) || below && under(p, path) {
				return true
			}
		}
	}
	return false
}

// written returns data after a write of p at off.
func written(data, p []byte, off int64) []byte {
	out := make([]byte, max(len(data), int(off)+len(p)))
	copy(out, data)
	copy(out[off:], p)
	return out
}

// resized returns data with another length.
func resized(data []byte, size int64) []byte {
	out := make([]byte, size)
	copy(out, data)
	return out
}

// fill returns the n bytes that seed stands for; no two seeds have a long run
// in common.
func fill(seed uint64, n int64) []byte {
	out := make([]byte, n)
	r := rand.NewPCG(seed, 7)
	for i := 0; i < len(out); i += 8 {
		x := r.Uint64()
		for j := i; j < min(i+8, len(out)); j++ {
			out[j] = byte(x)
			x >>= 8
		}
	}
	return out
}
