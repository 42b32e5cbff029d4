package fs

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/memory"
)

// A name keeps its offset whatever comes and goes around it, and offsets rise.
func TestOffsetsStayWithNames(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	names := map[string]bool{}
	var l *listing
	had := map[string]uint64{}
	for range 300 {
		for range r.IntN(4) {
			name := fmt.Sprint(r.IntN(60))
			if names[name] {
				delete(names, name)
				delete(had, name)
			} else {
				names[name] = true
			}
		}
		var entries []backends.DirEntry
		for name := range names {
			entries = append(entries, backends.DirEntry{Name: name})
		}
		slices.SortFunc(entries, func(a, b backends.DirEntry) int { return strings.Compare(a.Name, b.Name) })
		order := l.offsets(entries)
		last := uint64(dots)
		for i, e := range entries {
			off := order[i].off
			if order[i].i != i || off <= last {
				t.Fatalf("%s has offset %d after %d", e.Name, off, last)
			}
			if was, ok := had[e.Name]; ok && was != off {
				t.Fatalf("%s had offset %d and has %d", e.Name, was, off)
			}
			had[e.Name], last = off, off
		}
		l = &listing{entries: entries, order: order}
	}
}

// listed is a memory file system that knows for how long its listings stand.
type listed struct {
	backends.FileSystem
	mu    sync.Mutex
	stamp uint64
	valid time.Duration
	reads int
}

func (f *listed) Attr(ctx context.Context, n backends.Node) (backends.Attr, error) {
	a, err := f.FileSystem.Attr(ctx, n)
	a.Valid = 0
	return a, err
}

func (f *listed) Lookup(ctx context.Context, p backends.Node, name string) (backends.Node, backends.Attr, error) {
	n, a, err := f.FileSystem.Lookup(ctx, p, name)
	a.Valid = 0
	return n, a, err
}

func (f *listed) Listing(backends.Node) (uint64, time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stamp, f.valid
}

func (f *listed) ReadDir(ctx context.Context, n backends.Node) ([]backends.DirEntry, error) {
	f.mu.Lock()
	f.reads++
	f.mu.Unlock()
	return f.FileSystem.ReadDir(ctx, n)
}

func (f *listed) set(stamp uint64, valid time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stamp, f.valid, f.reads = stamp, valid, 0
}

// A listing that stands is read once and then the kernel's; one that is another,
// or too old, is read again.
func TestListingIsTheKernels(t *testing.T) {
	m, err := memory.New(memory.Config{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())})
	if err != nil {
		t.Fatal(err)
	}
	f := &listed{FileSystem: m.FileSystem()}
	f.set(1, time.Hour)
	dir, _ := mountFS(t, f, Options{})
	for i := range 200 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%03d", i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	read := func(want, reads int) {
		t.Helper()
		es, err := os.ReadDir(dir)
		if err != nil || len(es) != want {
			t.Errorf("%d entries, %v; want %d", len(es), err, want)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.reads != reads {
			t.Errorf("it was read %d times, want %d", f.reads, reads)
		}
		f.reads = 0
	}
	f.set(2, time.Hour)
	read(200, 1)
	read(200, 0)
	f.set(3, time.Hour)
	read(200, 1)
	read(200, 0)
	f.set(3, 0)
	read(200, 1)
	read(200, 1)
	f.set(4, time.Hour)
	read(200, 1)
	if err := os.Remove(filepath.Join(dir, "f100")); err != nil { // the kernel sees it itself
		t.Fatal(err)
	}
	f.set(5, time.Hour)
	read(199, 1)
	read(199, 0)
	// Removed while it is read, as rm -r does.
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for {
		names, _ := d.Readdirnames(7)
		if len(names) == 0 {
			break
		}
		for _, name := range names {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Error(err)
			}
		}
		f.set(f.stamp+1, time.Hour)
	}
	read(0, 1)
}
