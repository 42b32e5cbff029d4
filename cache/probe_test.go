package cache_test

import (
	"context"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/cache"
)

// probe counts the calls of a store, lets a test refuse them, and hides all
// that the store can do beyond the six methods.
type probe struct {
	backends.Store
	mu     sync.Mutex
	counts map[string]int
	bytes  int64 // read through Open
	refuse func(op, name string) error
}

func newProbe(s backends.Store) *probe { return &probe{Store: s, counts: map[string]int{}} }

func (p *probe) call(op, name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts[op]++
	if p.refuse != nil {
		return p.refuse(op, name)
	}
	return nil
}

// reset forgets the counts and returns them.
func (p *probe) reset() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := fmt.Sprint(p.counts)
	p.counts, p.bytes = map[string]int{}, 0
	return s
}

func (p *probe) setRefuse(f func(op, name string) error) {
	p.mu.Lock()
	p.refuse = f
	p.mu.Unlock()
}

func (p *probe) Stat(ctx context.Context, name string) (backends.Entry, error) {
	if err := p.call("stat", name); err != nil {
		return backends.Entry{}, err
	}
	return p.Store.Stat(ctx, name)
}

func (p *probe) List(ctx context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	if err := p.call("list", dir); err != nil {
		return func(yield func(backends.Entry, error) bool) { yield(backends.Entry{}, err) }
	}
	return p.Store.List(ctx, dir, after)
}

func (p *probe) Open(ctx context.Context, name string, r backends.Range, cond backends.If) (io.ReadCloser, backends.Entry, error) {
	if err := p.call("open", name); err != nil {
		return nil, backends.Entry{}, err
	}
	p.mu.Lock()
	p.bytes += r.Len
	p.mu.Unlock()
	return p.Store.Open(ctx, name, r, cond)
}

func (p *probe) Put(ctx context.Context, name string, body *io.SectionReader, o backends.PutOptions) (backends.Entry, error) {
	if err := p.call("put", name); err != nil {
		return backends.Entry{}, err
	}
	return p.Store.Put(ctx, name, body, o)
}

func (p *probe) Remove(ctx context.Context, name string, cond backends.If) error {
	if err := p.call("remove", name); err != nil {
		return err
	}
	return p.Store.Remove(ctx, name, cond)
}

// put changes the store from outside.
func put(t testing.TB, s backends.Store, name, content string) {
	t.Helper()
	_, err := s.Put(t.Context(), name, io.NewSectionReader(strings.NewReader(content), 0, int64(len(content))), backends.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// get reads from the store, beside the cache.
func get(t *testing.T, s backends.Store, name string) string {
	t.Helper()
	r, _, err := s.Open(t.Context(), name, backends.Range{}, backends.If{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func lookup(t *testing.T, f *cache.FS, path string) (backends.Node, backends.Attr) {
	t.Helper()
	n := f.Root()
	var a backends.Attr
	var err error
	for seg := range strings.SplitSeq(path, "/") {
		if n, a, err = f.Lookup(t.Context(), n, seg); err != nil {
			t.Fatalf("lookup of %s at %s: %v", path, seg, err)
		}
	}
	return n, a
}

func openFile(t *testing.T, f *cache.FS, n backends.Node, flags int) backends.File {
	t.Helper()
	h, err := f.Open(t.Context(), n, flags)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func readAll(t *testing.T, h backends.File, size int) string {
	t.Helper()
	p := make([]byte, size)
	n, err := h.ReadAt(t.Context(), p, 0)
	if err != nil {
		t.Fatal(err)
	}
	return string(p[:n])
}

func closeFile(t *testing.T, h backends.File) error {
	t.Helper()
	err := h.Flush(t.Context())
	if cerr := h.Close(t.Context()); err == nil {
		err = cerr
	}
	return err
}

func create(t *testing.T, f *cache.FS, name, content string) backends.Node {
	t.Helper()
	n, _, h, err := f.Create(t.Context(), f.Root(), name, os.O_RDWR|os.O_CREATE, backends.CreateAttr{Mode: 0o644})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.WriteAt(t.Context(), []byte(content), 0); err != nil {
		t.Fatal(err)
	}
	if err := closeFile(t, h); err != nil {
		t.Fatal(err)
	}
	return n
}
