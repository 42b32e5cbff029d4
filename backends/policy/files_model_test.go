package policy_test

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/memory"
	"github.com/agentfs/agentfs/backends/memory/memorytest"
	"github.com/agentfs/agentfs/backends/policy"
)

// worlds are rules under which random operations are made, by users 1 and 2.
var worlds = []string{
	"none /a/**\nread /b/**",
	"append /a/**\nnone u1 /b\nhide /c/b",
	"hide **/b\nread u2 /a/a\nappend *c",
	"read /a\nwrite /a/b/**\nnone **/c/**",
	"append u1 /a/**\nread u2 /a/**\nhide /b/*/a\nnone /c/a",
	"route read /\nwrite /a/**\nappend u1 **/b/**",
}

// world is a tree with rules, of which a model sees everything from outside.
type world struct {
	t     *testing.T
	raw   backends.FileSystem
	f     backends.FileSystem
	model naive
	open  []*handle
	log   []string
}

// handle is an open file of a user.
type handle struct {
	backends.File
	n   backends.Node
	uid uint32
	// floor is below what it may write nothing, if the file may only grow;
	// -1 if it could write anywhere so far.
	floor int
}

// tree has what is under each path: "/" for a directory.
type tree map[string]string

func newWorld(t *testing.T, rules string) *world {
	cfg := rulesOf(strings.TrimPrefix(rules, "route read /\n"))
	if strings.HasPrefix(rules, "route read /\n") {
		cfg.Routes[0].Default = policy.Read
	}
	w := &world{t: t, raw: memorytest.New(t, memory.Config{NoTmpfs: true}).FileSystem(), model: naive{cfg}}
	w.f = guarded(w.raw, newPolicy(t, cfg))
	ctx := t.Context()
	for _, a := range "abc" {
		d, _, err := w.raw.Mkdir(ctx, w.raw.Root(), string(a), backends.CreateAttr{Mode: 0o755 | fs.ModeDir})
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range "abc" {
			if b == 'b' {
				if d, _, err = w.raw.Mkdir(ctx, d, "b", backends.CreateAttr{Mode: 0o755 | fs.ModeDir}); err != nil {
					t.Fatal(err)
				}
				continue
			}
			_, _, h, err := w.raw.Create(ctx, d, string(b), os.O_RDWR, backends.CreateAttr{Mode: 0o644})
			if err == nil {
				_, err = h.WriteAt(ctx, []byte{byte(a), byte(b)}, 0)
			}
			if err != nil {
				t.Fatal(err)
			}
			_ = h.Close(ctx)
		}
	}
	return w
}

// see returns everything that is there.
func (w *world) see() tree {
	all := tree{}
	ctx := w.t.Context()
	var visit func(dir backends.Node, path string)
	visit = func(dir backends.Node, path string) {
		es, err := w.raw.ReadDir(ctx, dir)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, e := range es {
			n, a, err := w.raw.Lookup(ctx, dir, e.Name)
			if err != nil {
				w.t.Fatal(err)
			}
			p := path + "/" + e.Name
			switch {
			case a.Mode.IsDir():
				all[p] = "/"
				visit(n, p)
			case a.Mode.IsRegular():
				h, err := w.raw.Open(ctx, n, os.O_RDONLY)
				if err != nil {
					w.t.Fatal(err)
				}
				buf := make([]byte, a.Size)
				if _, err := h.ReadAt(ctx, buf, 0); err != nil {
					w.t.Fatal(err)
				}
				_ = h.Close(ctx)
				all[p] = fmt.Sprintf("%v %s", a.Mode, buf)
			default:
				all[p] = a.Mode.String()
			}
		}
	}
	visit(w.raw.Root(), "")
	return all
}

// names returns all paths of n as they are.
func (w *world) names(n backends.Node) (paths []string) {
	for p := range w.see() {
		if at := w.find(w.raw, p, nil); at == n {
			paths = append(paths, p)
		}
	}
	return paths
}

// find walks to a path in f; nil if it is not there for whom ctx names.
func (w *world) find(f backends.FileSystem, path string, ctx context.Context) backends.Node {
	if ctx == nil {
		ctx = w.t.Context()
	}
	n := f.Root()
	for seg := range strings.SplitSeq(path, "/") {
		if seg == "" {
			continue
		}
		var err error
		if n, _, err = f.Lookup(ctx, n, seg); err != nil {
			return nil
		}
	}
	return n
}

// step makes one operation of four bytes and checks what came of it.
func (w *world) step(b [4]byte) {
	uid := uint32(1 + b[0]>>7)
	ctx := backends.WithCaller(w.t.Context(), backends.Caller{UID: uid})
	path := func(b byte) string {
		p := "/" + string('a'+b%3)
		for b /= 3; b > 0 && len(p) < 6; b /= 4 {
			if b%4 == 3 {
				break
			}
			p += "/" + string('a'+b%4)
		}
		return p
	}
	from, to := path(b[1]), path(b[2])
	split := func(p string) (backends.Node, string) {
		i := strings.LastIndexByte(p, '/')
		return w.find(w.f, p[:i], ctx), p[i+1:]
	}
	before := w.see()
	op := b[0] & 0x7f % 15
	w.log = append(w.log, fmt.Sprint(op, " ", uid, " ", from, " ", to, " ", b[3]))
	dir, name := split(from)
	dir2, name2 := split(to)
	n := w.find(w.f, from, ctx)
	attr := backends.CreateAttr{Mode: 0o644}
	if dir == nil {
		return
	}
	var by *handle
	switch op {
	case 0, 1:
		flags := os.O_RDWR | os.O_CREATE
		if b[3]&1 != 0 {
			flags |= os.O_TRUNC
		}
		if b[3]&2 != 0 {
			flags |= os.O_EXCL
		}
		n, _, h, err := w.f.Create(ctx, dir, name, flags, attr)
		w.opened(n, h, err, uid, policy.Append)
	case 2:
		attr.Mode = fs.ModeDir | 0o755
		_, _, _ = w.f.Mkdir(ctx, dir, name, attr)
	case 3:
		_ = w.f.Unlink(ctx, dir, name)
	case 4:
		_ = w.f.Rmdir(ctx, dir, name)
	case 5, 6, 7:
		if dir2 != nil {
			flags := []backends.RenameFlags{0, 0, backends.RenameNoReplace, backends.RenameExchange}[b[3]&3]
			_ = w.f.Rename(ctx, dir, name, dir2, name2, flags)
		}
	case 8:
		if n != nil && dir2 != nil {
			_, _ = backends.LinkAt(ctx, w.f, n, dir2, name2)
		}
	case 9:
		if n != nil {
			flags, need := os.O_RDONLY, policy.Read
			if b[3]&1 != 0 {
				flags, need = os.O_RDWR, policy.Append
			}
			if b[3]&2 != 0 {
				flags, need = flags|os.O_TRUNC, policy.Write
			}
			h, err := w.f.Open(ctx, n, flags)
			w.opened(n, h, err, uid, need)
		}
	case 10:
		if n != nil {
			_, _ = w.f.SetAttr(ctx, n, backends.AttrChange{Set: []backends.AttrMask{backends.SetSize, backends.SetMode}[b[3]&1], Size: int64(b[3] & 7), Mode: fs.FileMode(b[3])})
		}
	case 11:
		_, _, _ = backends.SymlinkAt(ctx, w.f, dir, name, "a", attr)
	case 12:
		if len(w.open) > 0 {
			by = w.open[int(b[1])%len(w.open)]
			uid = by.uid
			w.settle(by, before)
			h := by
			_, _ = h.WriteAt(ctx, []byte("xyz"[:1+b[3]%3]), int64(b[2]%8))
			if b[3]&8 != 0 {
				_ = h.File.(backends.Allocator).Allocate(ctx, int64(b[2]%8), 3, 0)
			}
		}
	case 13:
		// The kernel forgets, and with it is gone what names the file has.
		if n != nil && !slices.ContainsFunc(w.open, func(h *handle) bool { return h.n == n }) {
			w.f.Forget(n)
		}
	case 14:
		// Somebody else changes the store: no rule is about that, and names
		// that are known are out of date.
		d, d2 := w.find(w.raw, from[:strings.LastIndexByte(from, '/')], nil), w.find(w.raw, to[:strings.LastIndexByte(to, '/')], nil)
		if d != nil && d2 != nil && len(w.open) == 0 {
			_ = w.raw.Rename(w.t.Context(), d, name, d2, name2, 0)
		}
		return
	}
	w.check(before, w.see(), uid, by)
}

// opened checks that n may be opened like this under each of its names, and
// keeps the handle.
func (w *world) opened(n backends.Node, h backends.File, err error, uid uint32, need policy.Access) {
	if err != nil {
		return
	}
	for _, p := range w.names(n) {
		if got := w.model.access(p, uid); got < need {
			w.t.Fatalf("%d opened %s, where %v is needed and %v given\n%s", uid, p, need, got, strings.Join(w.log, "\n"))
		}
	}
	by := &handle{h, n, uid, -1}
	w.settle(by, w.see())
	if w.open = append(w.open, by); len(w.open) > 4 {
		_ = w.open[0].Close(w.t.Context())
		w.open = w.open[1:]
	}
}

// settle sets the floor of a handle whose file may only grow.
func (w *world) settle(h *handle, now tree) {
	for _, p := range w.names(h.n) {
		if h.floor < 0 && w.model.access(p, h.uid) == policy.Append {
			h.floor = len(bytesIn(now[p]))
		}
	}
}

// bytesIn returns the content of a file as a tree has it.
func bytesIn(s string) string {
	_, b, _ := strings.Cut(s, " ")
	return b
}

// grew reports whether is has at its beginning what was had below floor.
func grew(was, is string, floor int) bool {
	was, is = bytesIn(was), bytesIn(is)
	return len(is) >= len(was) && strings.HasPrefix(is, was[:min(floor, len(was))])
}

// check compares what was there with what is there after an operation of uid.
// Handles have the rights of their open, except where a file may only grow.
func (w *world) check(before, after tree, uid uint32, by *handle) {
	all := maps.Clone(before)
	maps.Copy(all, after)
	for _, p := range slices.Sorted(maps.Keys(all)) {
		was, there := before[p]
		is, stays := after[p]
		if there == stays && was == is {
			continue
		}
		access := w.model.access(p, uid)
		switch {
		case access == policy.Write, by != nil && access < policy.Append:
		case by != nil && there && stays && grew(was, is, by.floor):
		case access == policy.Append && by == nil && (!there || stays && was != "/" && strings.HasPrefix(is, was)):
		default:
			w.t.Fatalf("%d has %v on %s, and changed %q (%v) to %q (%v)\n%s", uid, access, p, was, there, is, stays, strings.Join(w.log, "\n"))
		}
	}
}

func (w *world) run(ops []byte) {
	for len(ops) >= 4 {
		w.step([4]byte(ops))
		ops = ops[4:]
	}
	for _, h := range w.open {
		_ = h.Close(w.t.Context())
	}
}

// FuzzFiles makes operations and checks after each that nothing has changed
// which the rules would not let its user change, and that nothing was opened
// that may not be: whatever links, renames and changes from outside came before.
func FuzzFiles(f *testing.F) {
	for i := range worlds {
		f.Add(uint8(i), []byte("\x05\x00\x04\x00\x08\x00\x04\x00\x00\x01\x02\x03\x0c\x00\x00\x01"))
	}
	f.Fuzz(func(t *testing.T, world uint8, ops []byte) {
		newWorld(t, worlds[int(world)%len(worlds)]).run(ops[:min(len(ops), 400)])
	})
}

func TestFilesRandom(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 5))
	for range 10 {
		for _, rules := range worlds {
			ops := make([]byte, 4*150)
			for i := range ops {
				ops[i] = byte(r.Uint32())
			}
			newWorld(t, rules).run(ops)
		}
	}
}
