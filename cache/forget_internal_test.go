package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/memory"
	"github.com/agentfs/agentfs/backends/memory/memorytest"
	"github.com/agentfs/agentfs/backends/tree"
)

// kernel is a NodeHolder: it knows which calls are under way, and some children.
type kernel struct {
	mu       sync.Mutex
	last     uint64
	open     map[uint64]bool
	held     map[string]bool // names, in whatever directory
	idle     map[string]bool // that it lets go when it is asked to
	released map[string]bool // that were asked back
}

func newKernel() *kernel {
	return &kernel{open: map[uint64]bool{}, held: map[string]bool{}, idle: map[string]bool{}, released: map[string]bool{}}
}

// call makes a call of the file system.
func (k *kernel) call(do func()) {
	k.mu.Lock()
	k.last++
	seq := k.last
	k.open[seq] = true
	k.mu.Unlock()
	do()
	k.mu.Lock()
	delete(k.open, seq)
	k.mu.Unlock()
}

func (k *kernel) Quiet() func() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	last := k.last
	return func() bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		for seq := range k.open {
			if seq <= last {
				return false
			}
		}
		return true
	}
}

func (k *kernel) Holds(backends.Node) func(string) bool {
	return func(name string) bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.held[name]
	}
}

// Release lets go of idle names.
func (k *kernel) Release(_ backends.Node, names []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, name := range names {
		k.released[name] = true
		if k.idle[name] {
			delete(k.held, name)
		}
	}
}

// counted is a store that counts listings, pages and reads.
type counted struct {
	backends.Store
	lists atomic.Int64
	opens sync.Map // of *atomic.Int64, by name
	down  atomic.Bool
}

func (s *counted) opened(name string) *atomic.Int64 {
	n, _ := s.opens.LoadOrStore(name, new(atomic.Int64))
	return n.(*atomic.Int64)
}

func (s *counted) List(ctx context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	s.lists.Add(1)
	return s.Store.List(ctx, dir, after)
}

func (s *counted) WalkPage(ctx context.Context, dir, after string) (backends.Page, error) {
	s.lists.Add(1)
	return backends.WalkPage(ctx, s.Store, dir, after)
}

func (s *counted) Open(ctx context.Context, name string, r backends.Range, cond backends.If) (io.ReadCloser, backends.Entry, error) {
	s.opened(name).Add(1)
	return s.Store.Open(ctx, name, r, cond)
}

func (s *counted) Put(ctx context.Context, name string, body *io.SectionReader, o backends.PutOptions) (backends.Entry, error) {
	if s.down.Load() {
		return backends.Entry{}, errors.New("the store is down")
	}
	return s.Store.Put(ctx, name, body, o)
}

// at returns the node of a path, asking for each name.
func at(f *FS, name string) (*tree.Node, error) {
	n := f.tree.Root()
	if name == "." {
		return n, nil
	}
	for seg := range strings.SplitSeq(name, "/") {
		c, _, err := f.Lookup(context.Background(), n, seg)
		if err != nil {
			return nil, err
		}
		n = c.(*tree.Node)
	}
	return n, nil
}

func mustAt(t *testing.T, f *FS, name string) *tree.Node {
	t.Helper()
	n, err := at(f, name)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// soon waits for something that happens in the background.
func soon(t *testing.T, what string, is func() bool) {
	t.Helper()
	for range 6000 {
		if is() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("%s: not after 30 s", what)
}

// What is known stays within the bound; what is open, in use or only here is not
// forgotten, and what is forgotten is learned again by one listing, and its content
// not fetched again.
func TestForget(t *testing.T) {
	const dirs, files, most = 40, 50, 500
	s := &counted{Store: memorytest.New(t, memory.Config{NoTmpfs: true, Size: 1 << 30})}
	name := func(i, j int) string { return fmt.Sprintf("d%02d/f%02d", i, j) }
	body := strings.Repeat("content ", 100)
	put := func(name string) {
		t.Helper()
		if _, err := s.Put(t.Context(), name, io.NewSectionReader(strings.NewReader(body), 0, int64(len(body))), backends.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range dirs {
		for j := range files {
			put(name(i, j))
		}
	}
	put("d00/idle")
	put("d00/used")
	f := newOver(t, s, Config{TTL: time.Hour, Entries: most, Grace: -1})
	k := newKernel()
	read := func(name string) {
		t.Helper()
		k.call(func() {
			n := mustAt(t, f, name)
			h, err := f.Open(t.Context(), n, os.O_RDONLY)
			if err != nil {
				t.Fatal(err)
			}
			p := make([]byte, len(body))
			if m, err := h.ReadAt(t.Context(), p, 0); err != nil || string(p[:m]) != body {
				t.Fatalf("%s: %v, %q", name, err, p[:m])
			}
			if err := h.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	}
	// Without a holder nothing is forgotten.
	for i := range dirs {
		read(name(i, 0))
	}
	time.Sleep(50 * time.Millisecond)
	if n := f.tree.Nodes(); n <= most {
		t.Fatalf("%d names are known: forgotten, though nobody can say what is in use", n)
	}
	opened := mustAt(t, f, name(0, 1))
	h, err := f.Open(t.Context(), opened, os.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	k.held["used"], k.held["idle"], k.idle["idle"] = true, true, true
	used := mustAt(t, f, "d00/used")
	s.down.Store(true)
	dirty, _, w, err := f.Create(t.Context(), mustAt(t, f, "d00"), "dirty", os.O_WRONLY, backends.CreateAttr{Mode: 0o644})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteAt(t.Context(), []byte("only here"), 0); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.shelf.write(false) // what was read has its row now
	f.OnHold(k)
	f.learned()
	soon(t, "within the bound", func() bool { return f.tree.Nodes() <= most })
	for name, n := range map[string]backends.Node{name(0, 1): opened, "d00/used": used, "d00/dirty": dirty} {
		if now, err := f.tree.Lookup(f.tree.Root(), "d00"); err != nil {
			t.Errorf("d00 is forgotten")
		} else if now, err = f.tree.Lookup(now, path.Base(name)); err != nil || now != n {
			t.Errorf("%s is forgotten: %v", name, err)
		}
	}
	if m, err := h.ReadAt(t.Context(), make([]byte, 10), 0); m != 10 || err != nil {
		t.Errorf("the open file: %d, %v", m, err)
	}
	if err := h.Close(t.Context()); err != nil {
		t.Error(err)
	}
	var forgotten string
	for i := range dirs {
		if n := f.nodeAt(fmt.Sprintf("d%02d", i)); n != nil && f.tree.Len(n) == 0 {
			forgotten = fmt.Sprintf("d%02d", i)
			break
		}
	}
	if forgotten == "" {
		t.Fatal("no directory was forgotten")
	}
	before := f.shelf.indexed()
	k.call(func() { mustAt(t, f, forgotten) })
	f.walks.mu.Lock()
	f.walks.groups = nil // who comes now is on no walk
	f.walks.mu.Unlock()
	s.lists.Store(0)
	k.call(func() {
		for j := range files {
			mustAt(t, f, fmt.Sprintf("%s/f%02d", forgotten, j))
		}
	})
	// The first question is for the name and for the records of its directory.
	if n := s.lists.Load(); n > 2 {
		t.Errorf("learning a directory again took %d listings", n)
	}
	read(name(0, 0))
	if n := s.opened(name(0, 0)).Load(); n != 1 {
		t.Errorf("what was read before was fetched %d times", n)
	}
	if n := f.shelf.indexed(); n < before {
		t.Errorf("the index has %d rows, it had %d", n, before)
	}
	s.down.Store(false)
	if err := f.SyncDir(t.Context(), f.Root()); err != nil {
		t.Fatal(err)
	}
	soon(t, "as many bytes are counted as the index has", func() bool {
		f.shelf.write(false)
		rows, err := f.shelf.ix.All()
		if err != nil {
			t.Fatal(err)
		}
		var bytes int64
		for _, r := range rows {
			bytes += r.Bytes
		}
		return f.State().CacheBytes == bytes
	})
	soon(t, "within the bound", func() bool { return f.tree.Nodes() <= most })
}

// Several programs do what they like in a tree that is larger than the bound: each
// finds what it has left, and the store has it in the end.
func TestForgetBesideChanges(t *testing.T) {
	rounds := 600
	if testing.Short() {
		rounds = 200
	}
	for kind, wrap := range map[string]func(backends.Store) backends.Store{
		"pages":       func(s backends.Store) backends.Store { return s },
		"six methods": func(s backends.Store) backends.Store { return sixMethods{s} },
	} {
		t.Run(kind, func(t *testing.T) {
			const workers, most = 4, 60
			m := memorytest.New(t, memory.Config{NoTmpfs: true, Size: 1 << 30})
			f := newOver(t, wrap(m), Config{TTL: time.Hour, Entries: most, Grace: -1})
			k := newKernel()
			f.OnHold(k)
			var wg sync.WaitGroup
			all := make([]map[string]string, workers)
			for w := range workers {
				all[w] = map[string]string{}
				u := &user{t: t, f: f, k: k, top: fmt.Sprint("w", w), r: rand.New(rand.NewPCG(uint64(w), 11)), files: all[w], dirs: map[string]bool{}}
				wg.Go(func() { u.run(rounds) })
			}
			wg.Wait()
			if t.Failed() {
				return
			}
			if err := f.SyncDir(t.Context(), f.Root()); err != nil {
				t.Fatal(err)
			}
			want := map[string]string{}
			for _, files := range all {
				maps.Copy(want, files)
			}
			got := map[string]string{}
			for e, err := range backends.Walk(t.Context(), m, ".", "") {
				if err != nil {
					t.Fatal(err)
				}
				if e.IsDir() || reserved(e.Base()) {
					continue
				}
				r, _, err := m.Open(t.Context(), e.Name, backends.Range{}, backends.If{})
				if err != nil {
					t.Fatal(err)
				}
				b, err := io.ReadAll(r)
				r.Close()
				if err != nil {
					t.Fatal(err)
				}
				got[e.Name] = string(b)
			}
			if !maps.Equal(got, want) {
				t.Errorf("the store has %d files, there should be %d, or with other contents", len(got), len(want))
			}
			if len(f.State().Conflicts) > 0 {
				t.Errorf("conflicts: %+v", f.State().Conflicts)
			}
			soon(t, "within the bound", func() bool { return f.tree.Nodes() <= most })
		})
	}
}

// user works below a directory of its own and remembers what there is.
type user struct {
	t     *testing.T
	f     *FS
	k     *kernel
	top   string
	r     *rand.Rand
	files map[string]string
	dirs  map[string]bool
	open  []held
}

// held is a file that is kept open for a while.
type held struct {
	h    backends.File
	want string
}

func (u *user) run(rounds int) {
	ctx := context.Background()
	u.k.call(func() {
		_, _, err := u.f.Mkdir(ctx, u.f.Root(), u.top, backends.CreateAttr{Mode: 0o755})
		u.must("mkdir", u.top, err)
	})
	u.dirs[u.top] = true
	for range rounds {
		if u.t.Failed() {
			break
		}
		u.k.call(func() { u.step(ctx) })
	}
	for _, o := range u.open {
		u.check(ctx, o)
	}
}

func (u *user) must(op, name string, err error) {
	if err != nil {
		u.t.Errorf("%s %s: %v", op, name, err)
	}
}

func pick[V any](r *rand.Rand, m map[string]V) string {
	if len(m) == 0 {
		return ""
	}
	names := slices.Sorted(maps.Keys(m))
	return names[r.IntN(len(names))]
}

func (u *user) check(ctx context.Context, o held) {
	p := make([]byte, len(o.want)+10)
	if n, err := o.h.ReadAt(ctx, p, 0); err != nil || string(p[:n]) != o.want {
		u.t.Errorf("a file that was kept open: %v, it has %d bytes, others than it should", err, n)
	}
	u.must("close", "", o.h.Close(ctx))
}

// step does one thing.
func (u *user) step(ctx context.Context) {
	dir := pick(u.r, u.dirs)
	parent, err := at(u.f, dir)
	if err != nil {
		u.t.Errorf("%s, which is there: %v", dir, err)
		return
	}
	name := fmt.Sprint("n", u.r.IntN(30))
	to := join(dir, name)
	_, isFile := u.files[to]
	free := !isFile && !u.dirs[to]
	switch op := u.r.IntN(10); {
	case op < 3 && free:
		body := strings.Repeat(fmt.Sprint(u.r.Int()), 1+u.r.IntN(20))
		if u.r.IntN(10) == 0 {
			body = string(bytes.Repeat([]byte(body), 500)) // not in a slot
		}
		_, _, h, err := u.f.Create(ctx, parent, name, os.O_WRONLY|os.O_EXCL, backends.CreateAttr{Mode: 0o600 + fs.FileMode(u.r.IntN(8))})
		if err != nil {
			u.must("create", to, err)
			return
		}
		_, err = h.WriteAt(ctx, []byte(body), 0)
		u.must("write", to, err)
		u.must("close", to, h.Close(ctx))
		u.files[to] = body
	case op == 3 && free && strings.Count(dir, "/") < 3:
		_, _, err := u.f.Mkdir(ctx, parent, name, backends.CreateAttr{Mode: 0o755})
		u.must("mkdir", to, err)
		u.dirs[to] = true
	case op == 4 && free: // rename a file or a directory
		from := pick(u.r, u.files)
		if u.r.IntN(4) == 0 {
			from = pick(u.r, u.dirs)
		}
		if from == "" || from == u.top || under(to, from) || strings.Count(to, "/") > 4 {
			return
		}
		old, err := at(u.f, path.Dir(from))
		u.must("lookup", from, err)
		if err == nil {
			u.must("rename", from+" "+to, u.f.Rename(ctx, old, path.Base(from), parent, name, 0))
		}
		u.moved(from, to)
	case op == 5 && isFile:
		u.must("unlink", to, u.f.Unlink(ctx, parent, name))
		delete(u.files, to)
	case op == 6 && len(u.open) > 3:
		u.check(ctx, u.open[0])
		u.open = u.open[1:]
	case op == 7:
		entries, err := u.f.ReadDir(ctx, parent)
		u.must("readdir", dir, err)
		var got, want []string
		for _, e := range entries {
			got = append(got, e.Name)
		}
		for p := range u.files {
			if path.Dir(p) == dir {
				want = append(want, path.Base(p))
			}
		}
		for p := range u.dirs {
			if path.Dir(p) == dir {
				want = append(want, path.Base(p))
			}
		}
		if slices.Sort(want); !slices.Equal(got, want) {
			u.t.Errorf("%s has %q, it should have %q", dir, got, want)
		}
	default:
		from := pick(u.r, u.files)
		if from == "" {
			return
		}
		n, err := at(u.f, from)
		if err != nil {
			u.must("lookup", from, err)
			return
		}
		h, err := u.f.Open(ctx, n, os.O_RDONLY)
		if err != nil {
			u.must("open", from, err)
			return
		}
		if o := (held{h, u.files[from]}); u.r.IntN(3) == 0 {
			u.open = append(u.open, o)
		} else {
			u.check(ctx, o)
		}
	}
}

func (u *user) moved(from, to string) {
	for p, body := range maps.Clone(u.files) {
		if under(p, from) {
			delete(u.files, p)
			u.files[to+p[len(from):]] = body
		}
	}
	for p := range maps.Clone(u.dirs) {
		if under(p, from) {
			delete(u.dirs, p)
			u.dirs[to+p[len(from):]] = true
		}
	}
}
