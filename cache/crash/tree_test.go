package crash_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/agentfs/agentfs/backends"
)

// entry is what somebody sees at a path.
type entry struct {
	dir    bool
	target string
	data   []byte
	mode   fs.FileMode
}

// listing is a whole tree by its paths, the root not among them.
type listing map[string]entry

// readTree reads all of a file system through the calls that a mount makes.
func readTree(ctx context.Context, f backends.FileSystem) (listing, error) {
	all := listing{}
	return all, readDir(ctx, f, f.Root(), "", all)
}

func readDir(ctx context.Context, f backends.FileSystem, dir backends.Node, path string, all listing) error {
	entries, err := f.ReadDir(ctx, dir)
	if err != nil {
		return fmt.Errorf("listing of %q: %w", path, err)
	}
	for _, e := range entries {
		p := join(path, e.Name)
		n, a, err := f.Lookup(ctx, dir, e.Name)
		if err != nil {
			return fmt.Errorf("%s, which was just listed: %w", p, err)
		}
		if _, twice := all[p]; twice {
			return fmt.Errorf("%s is listed twice", p)
		}
		got := entry{dir: a.Mode.IsDir(), mode: a.Mode.Perm()}
		switch {
		case got.dir:
			err = readDir(ctx, f, n, p, all)
		case a.Mode.Type() == fs.ModeSymlink:
			got.target, err = backends.ReadlinkAt(ctx, f, n)
		default:
			got.data, err = readNode(ctx, f, n, a.Size)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		all[p] = got
	}
	return nil
}

func readNode(ctx context.Context, f backends.FileSystem, n backends.Node, size int64) ([]byte, error) {
	h, err := f.Open(ctx, n, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	data, err := readAll(ctx, h, size)
	if err == nil && int64(len(data)) != size {
		err = fmt.Errorf("%d bytes, and its size is said to be %d", len(data), size)
	}
	return data, errors.Join(err, h.Close(ctx))
}

// readStore reads all of a store below top, past any cache. What the cache
// keeps beside files for itself is left out.
func readStore(ctx context.Context, s backends.Store, top string) (listing, error) {
	all := listing{}
	for e, err := range backends.Walk(ctx, s, top, "") {
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, err
		}
		if hidden(e.Name) {
			continue
		}
		// A walk may leave out directories that are there because of what is
		// below them, a file or another directory.
		for dir, _ := split(e.Name); dir != "." && dir != top; dir, _ = split(dir) {
			all[dir] = entry{dir: true}
		}
		if e.IsDir() {
			all[e.Name] = entry{dir: true}
			continue
		}
		data, err := readObject(ctx, s, e.Name)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, backends.ErrIsDir) || errors.Is(err, backends.ErrNotDir) {
			continue // removed or replaced since
		}
		if err != nil {
			return nil, err
		}
		all[e.Name] = entry{data: data}
	}
	return all, nil
}

// readObject reads one content of a name, again if it is replaced meanwhile.
func readObject(ctx context.Context, s backends.Store, name string) ([]byte, error) {
	for {
		r, _, err := s.Open(ctx, name, backends.Range{}, backends.If{})
		if errors.Is(err, backends.ErrChanged) {
			continue
		}
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(r)
		if err = errors.Join(err, r.Close()); !errors.Is(err, backends.ErrChanged) {
			return data, err
		}
	}
}

// part returns what is at and below a path, by the paths from there ("").
func (l listing) part(top string) listing {
	out := listing{}
	for p, e := range l {
		if under(p, top) {
			out[strings.TrimPrefix(strings.TrimPrefix(p, top), "/")] = e
		}
	}
	return out
}

// without returns l without what is at and below a path.
func (l listing) without(top string) listing {
	out := maps.Clone(l)
	maps.DeleteFunc(out, func(p string, _ entry) bool { return under(p, top) })
	return out
}

// fits reports whether e may be what is at n.
func (e entry) fits(n *node, m *model) error {
	may := n.mayHold
	if m.live && !n.halved {
		may = n.holds
	}
	switch {
	case e.dir != n.dir:
		return fmt.Errorf("directory: %v, want %v", e.dir, n.dir)
	case e.target != n.target:
		return fmt.Errorf("link to %q, want %q", e.target, n.target)
	case n.target == "" && !n.dir && !may(e.data):
		what := difference(e.data, n.data)
		if len(n.past) > 0 && !m.live {
			what += fmt.Sprintf(", and it is none of the %d contents since the last close either", len(n.past))
		}
		return errors.New(what)
	case m.attrs && e.mode != n.mode && n.target == "" && !slices.Contains(n.modes, e.mode):
		return fmt.Errorf("mode %v, want %v", e.mode, n.mode)
	}
	return nil
}

// check compares a whole tree with the model and what it leaves open. It
// returns what is wrong, a line each.
func (m *model) check(got listing) []string {
	var bad []string
	skip := func(path string) bool {
		return slices.ContainsFunc(m.doubts, func(d doubt) bool {
			return slices.ContainsFunc(d.op.paths(), func(p string) bool { return under(path, p) })
		})
	}
	rest := maps.Clone(got)
	for _, d := range m.doubts {
		parts := []listing{}
		for _, p := range d.op.paths() {
			parts = append(parts, got.part(p))
			rest = rest.without(p)
		}
		if err := m.settle(d, parts); err != nil {
			bad = append(bad, fmt.Sprintf("%v (not acknowledged): %v", d.op, err))
		}
	}
	m.root.walk(func(path string, n *node) {
		if path == "" || skip(path) {
			return
		}
		e, there := rest[path]
		delete(rest, path)
		if !there {
			if n.made || n.dir || m.live {
				bad = append(bad, path+" is missing")
			}
			return
		}
		if err := e.fits(n, m); err != nil {
			bad = append(bad, fmt.Sprintf("%s: %v", path, err))
		}
	})
	for _, path := range slices.Sorted(maps.Keys(rest)) {
		bad = append(bad, path+" is there, and should not be")
	}
	return bad
}

// settle compares what is at the paths of an operation in doubt with before
// and after it.
func (m *model) settle(d doubt, got []listing) error {
	var fresh *node
	switch d.op.Kind {
	case opCreate:
		fresh = &node{mode: 0o644}
	case opMkdir:
		fresh = newDir()
	case opSymlink:
		fresh = &node{target: d.op.To}
	case opRename:
		return m.settleRename(d, got[0], got[1])
	}
	before := m.same(d.src, got[0])
	if before == nil {
		return nil
	}
	if after := m.same(fresh, got[0]); after != nil {
		return fmt.Errorf("neither before (%w) nor after (%w)", before, after)
	}
	return nil
}

func (m *model) settleRename(d doubt, src, dst listing) error {
	before := errors.Join(m.same(d.src, src), m.same(d.dst, dst))
	after := errors.Join(m.same(nil, src), m.same(d.src, dst))
	if before == nil || after == nil {
		return nil
	}
	if !m.lax {
		return fmt.Errorf("neither before (%w) nor after (%w)", before, after)
	}
	// Without a journal: of each name what was there before or what was to be
	// there, and no content gone.
	moved := map[string]*node{}
	d.src.walk(func(rel string, n *node) { moved[rel] = n })
	for rel, e := range src {
		n := moved[rel]
		if n == nil {
			return fmt.Errorf("at the old name %q should be nothing", rel)
		}
		if err := e.fits(n, m); err != nil {
			return fmt.Errorf("at the old name %q: %w", rel, err)
		}
	}
	for rel, e := range dst {
		n := moved[rel]
		if (n == nil || e.fits(n, m) != nil) && (rel != "" || d.dst == nil || e.fits(d.dst, m) != nil) {
			return fmt.Errorf("at the new name %q is something else", rel)
		}
	}
	for rel, n := range moved {
		_, old := src[rel]
		now, isNew := dst[rel]
		if n.made && !n.dir && !old && (!isNew || now.fits(n, m) != nil) {
			return fmt.Errorf("%q is at neither name", rel)
		}
	}
	if _, ok := dst[""]; d.dst != nil && d.dst.made && !ok {
		return errors.New("nothing is at the new name, and something was")
	}
	return nil
}

// same reports whether got is what is at and below n, nil for nothing.
func (m *model) same(n *node, got listing) error {
	if n == nil {
		if len(got) > 0 {
			return fmt.Errorf("%d names, want none", len(got))
		}
		return nil
	}
	seen := 0
	var err error
	n.walk(func(rel string, n *node) {
		e, ok := got[rel]
		switch {
		case ok:
			seen++
			if ferr := e.fits(n, m); ferr != nil && err == nil {
				err = fmt.Errorf("%q: %w", rel, ferr)
			}
		case n.made && err == nil:
			err = fmt.Errorf("%q is missing", rel)
		}
	})
	if err == nil && seen != len(got) {
		err = errors.New("there is more than was to be")
	}
	return err
}

// adopt makes a tree that has been checked the model's, without any doubt.
func (m *model) adopt(got listing) {
	m.root, m.handles, m.doubts = newDir(), map[int]*open{}, nil
	for _, path := range slices.Sorted(maps.Keys(got)) {
		e := got[path]
		n := newFile(e.data)
		switch {
		case e.dir:
			n = newDir()
		case e.target != "":
			n = &node{target: e.target, made: true}
		case m.history != nil:
			m.note(path, e.data)
		}
		n.mode = e.mode
		m.put(path, n)
	}
}

// exact returns the model's tree if nothing about it is open: as the store has
// to hold it after a barrier.
func (m *model) exact() listing {
	out := listing{}
	m.root.walk(func(path string, n *node) {
		if path != "" {
			out[path] = entry{dir: n.dir, target: n.target, data: n.data, mode: n.mode}
		}
	})
	return out
}

// compare returns how a store's tree differs from what it has to be. Links and
// modes have their own place in a store, which is not looked at.
func compare(got, want listing) []string {
	var bad []string
	for _, path := range slices.Sorted(maps.Keys(want)) {
		w := want[path]
		g, ok := got[path]
		switch {
		case w.target != "":
		case !ok:
			bad = append(bad, path+" is not in the store")
		case g.dir != w.dir:
			bad = append(bad, fmt.Sprintf("%s is in the store as a directory: %v", path, g.dir))
		case string(g.data) != string(w.data):
			bad = append(bad, fmt.Sprintf("%s in the store: %s", path, difference(g.data, w.data)))
		}
	}
	for _, path := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[path]; !ok {
			bad = append(bad, path+" is in the store, and should not be")
		}
	}
	return bad
}
