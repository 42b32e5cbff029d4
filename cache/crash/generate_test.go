package crash_test

import (
	"fmt"
	"math/rand/v2"
)

// choices are where a generator takes its decisions from.
type choices interface {
	// pick returns a number below n.
	pick(n int) int
	// ended says that there are no more.
	ended() bool
}

// random picks at random, for ever.
type random struct{ *rand.Rand }

func newRandom(seed, stream uint64) random { return random{rand.New(rand.NewPCG(seed, stream))} }

func (r random) pick(n int) int { return r.IntN(n) }
func (r random) ended() bool    { return false }

// script picks what bytes say.
type script struct{ b []byte }

func (s *script) pick(n int) int {
	if n <= 1 {
		return 0
	}
	x := 0
	for size := 1; size < n; size <<= 8 {
		if len(s.b) == 0 {
			break
		}
		x = x<<8 | int(s.b[0])
		s.b = s.b[1:]
	}
	return x % n
}

func (s *script) ended() bool { return len(s.b) == 0 }

// generator makes the operations of one worker, fit for what its model holds.
type generator struct {
	choices
	m *model
	w int
	// home is the directory that is the worker's alone; shared one in which
	// names that begin with "wN-" are, "" if there is none.
	home, shared string
	// barriers says that a directory may be synced, attrs that modes and links
	// are among the operations.
	barriers, attrs bool

	n, handle int
	seed      uint64
}

// letters are the names in a directory: few, so that they meet.
const letters = "abcdef"

// maxSize bounds a file's size by its name: most are small, one spans several
// blocks of a cache.
func maxSize(path string) int64 {
	if path != "" && path[len(path)-1] == 'f' {
		return 2 << 20
	}
	return 96 << 10
}

// places returns the directories and the files in which the worker may work.
func (g *generator) places() (dirs, files []string) {
	add := func(top string) {
		n := g.m.at(top)
		if n == nil || g.m.isDoubtful(top, false) {
			return
		}
		n.walk(func(rel string, n *node) {
			path := join(top, rel)
			switch {
			case path == "" || g.m.isDoubtful(path, false):
			case n.dir:
				dirs = append(dirs, path)
			case n.target == "" && !n.frozen:
				files = append(files, path)
			}
		})
	}
	add(g.home)
	if g.home == "." {
		dirs = append([]string{"."}, dirs...)
	}
	if g.shared != "" {
		for _, l := range letters {
			add(g.inShared(l))
		}
	}
	return dirs, files
}

func (g *generator) inShared(l rune) string { return fmt.Sprintf("%s/w%d-%c", g.shared, g.w, l) }

// name returns a name in some directory of the worker's, that of nobody or of
// anybody.
func (g *generator) name(dirs []string) string {
	l := rune(letters[g.pick(len(letters))])
	if len(dirs) == 0 || g.shared != "" && g.pick(8) == 0 {
		if g.shared != "" {
			return g.inShared(l)
		}
		return string(l)
	}
	return join(dirs[g.pick(len(dirs))], string(l))
}

// movable reports whether a rename or removal may meet what is at path.
func (g *generator) movable(path string) bool {
	if path == g.home || g.m.isDoubtful(path, true) {
		return false
	}
	ok := true
	if n := g.m.at(path); n != nil {
		n.walk(func(_ string, n *node) {
			// A file that a cache without a journal was never told to close has
			// no place of its own yet.
			if n.frozen || g.m.lax && !n.dir && !n.made {
				ok = false
			}
		})
	}
	return ok
}

// open handles, those of frozen files left out unless all are wanted.
func (g *generator) open(all bool) []int {
	var hs []int
	for h := g.w*1000 + 1; h <= g.w*1000+g.handle; h++ {
		o := g.m.handles[h]
		if o == nil {
			continue
		}
		path, named := o.n.path()
		if all || !o.n.frozen && !(named && g.m.isDoubtful(path, false)) {
			hs = append(hs, h)
		}
	}
	return hs
}

// next returns the next operation; ok is false when nothing is left to do.
func (g *generator) next() (o op, ok bool) {
	for range 50 {
		if g.ended() {
			return op{}, false
		}
		if o, ok = g.try(); ok {
			g.n++
			o.W, o.N = g.w, g.n
			return o, true
		}
	}
	return op{}, false
}

func (g *generator) newHandle() int {
	g.handle++
	return g.w*1000 + g.handle%900
}

// weights says how often each kind of operation is tried.
var weights = []struct {
	kind kind
	n    int
}{
	{opCreate, 16}, {opOpen, 12}, {opWrite, 24}, {opPunch, 2}, {opTruncate, 4}, {opFtruncate, 3}, {opRead, 8},
	{opFlush, 4}, {opSync, 3}, {opClose, 16}, {opMkdir, 7}, {opRmdir, 4}, {opUnlink, 7}, {opRename, 14}, {opList, 4},
	{opBarrier, 1}, {opChmod, 3}, {opSymlink, 2},
}

func (g *generator) kind() kind {
	total := 0
	for _, w := range weights {
		total += w.n
	}
	x := g.pick(total)
	for _, w := range weights {
		if x -= w.n; x < 0 {
			return w.kind
		}
	}
	return opList
}

func (g *generator) try() (o op, ok bool) {
	o.Kind = g.kind()
	dirs, files := g.places()
	some := func(all []string) bool {
		if len(all) > 0 {
			o.Path = all[g.pick(len(all))]
		}
		return len(all) > 0
	}
	if hs := g.open(true); len(hs) > 4 && o.Kind != opWrite {
		o.Kind = opClose
	}
	switch o.Kind {
	case opCreate:
		o.Path, o.H = g.name(dirs), g.newHandle()
		return o, g.m.handles[o.H] == nil && !g.m.isDoubtful(o.Path, true)
	case opOpen:
		o.H, o.Write = g.newHandle(), g.pick(3) > 0
		o.Trunc = o.Write && g.pick(4) == 0
		return o, g.m.handles[o.H] == nil && some(files)
	case opWrite, opPunch, opFtruncate, opRead, opFlush, opSync:
		hs := g.open(false)
		if len(hs) == 0 {
			return o, false
		}
		o.H = hs[g.pick(len(hs))]
		return g.content(o)
	case opClose:
		hs := g.open(true)
		if len(hs) == 0 {
			return o, false
		}
		o.H = hs[g.pick(len(hs))]
		return o, true
	case opTruncate:
		if !some(files) {
			return o, false
		}
		o.Off = g.size(o.Path, int64(len(g.m.at(o.Path).data)))
		return o, true
	case opMkdir, opSymlink:
		o.Path = g.name(dirs)
		if o.Kind == opSymlink {
			o.To = "some/target"
		}
		return o, (o.Kind == opMkdir || g.attrs) && len(dirs) < 12 && !g.m.isDoubtful(o.Path, true)
	case opRmdir, opUnlink:
		all := files
		if o.Kind == opRmdir {
			all = dirs
		}
		if g.pick(10) == 0 {
			o.Path = g.name(dirs) // perhaps of the other kind, or nothing
		} else if !some(all) {
			return o, false
		}
		return o, o.Path != "." && g.movable(o.Path)
	case opRename:
		all := files
		if g.pick(4) == 0 {
			all = dirs
		}
		if !some(all) {
			return o, false
		}
		o.To = g.name(dirs)
		if o.To != o.Path && under(o.Path, o.To) {
			return o, false // Linux and POSIX differ in the error
		}
		return o, o.Path != "." && g.movable(o.Path) && g.movable(o.To)
	case opList:
		return o, some(dirs)
	case opBarrier:
		o.Path = g.home
		return o, g.barriers
	case opChmod:
		o.Seed = uint64([]int{0o600, 0o644, 0o755, 0o400}[g.pick(4)])
		return o, g.attrs && some(files)
	}
	return o, false
}

// content completes an operation on an open file.
func (g *generator) content(o op) (op, bool) {
	h := g.m.handles[o.H]
	path, _ := h.n.path()
	size := int64(len(h.n.data))
	switch o.Kind {
	case opWrite, opPunch:
		o.Off = int64(g.pick(int(size) + 1))
		switch g.pick(4) {
		case 0:
			o.Off = size // append
		case 1:
			o.Off = 0
		case 2:
			o.Off += int64(g.pick(5000)) // perhaps beyond the end
		}
		o.Len = 1 + int64(g.pick(1<<(4+g.pick(13))))
		if over := o.Off + o.Len - maxSize(path); over > 0 {
			o.Off = max(0, o.Off-over)
			o.Len = min(o.Len, maxSize(path))
		}
		g.seed++
		o.Seed = uint64(g.w)<<48 | uint64(g.pick(1<<16))<<32 | g.seed
		return o, h.write
	case opFtruncate:
		o.Off = g.size(path, size)
		return o, h.write
	}
	return o, true
}

// size returns one to truncate to.
func (g *generator) size(path string, now int64) int64 {
	switch g.pick(4) {
	case 0:
		return 0
	case 1:
		return min(maxSize(path), now+int64(g.pick(20000)))
	}
	return int64(g.pick(int(now) + 1))
}
