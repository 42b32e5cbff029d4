package backendtest

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
)

// Store runs the conformance suite of the object depth. open returns an empty
// store, a new one at each call, and registers with t.Cleanup what is to be
// released; the suite does not close it. With -short the suite leaves out what
// needs thousands of files or many megabytes.
//
// Optional capabilities are called through the functions of package backends:
// where such a function answers [errors.ErrUnsupported], its subtest is
// skipped.
func Store(t *testing.T, open func(t *testing.T) backends.Store, exceptions ...Exception) {
	t.Helper()
	runAll(t, storeUnits(), exceptions, func(t *testing.T) *storeEnv {
		return &storeEnv{T: t, ctx: t.Context(), s: open(t)}
	})
}

// storeUnits returns the suite.
func storeUnits() []unit[*storeEnv] {
	return slices.Concat(
		storeReadUnits,
		storeListUnits,
		storePutUnits,
		storeConditionUnits,
		storeChangeUnits,
		nameUnits(),
		storeContextUnits,
		storeCapabilityUnits,
		storeOperationUnits,
		storeUploadUnits,
		storeRenameUnits,
	)
}

// storeEnv is what a subtest of the object depth works on.
type storeEnv struct {
	*testing.T
	ctx context.Context
	s   backends.Store
}

// section returns content as the body of a Put.
func section(content string) *io.SectionReader {
	return io.NewSectionReader(strings.NewReader(content), 0, int64(len(content)))
}

// put puts content without conditions and checks what is said of it.
func (e *storeEnv) put(name, content string) backends.Entry {
	e.Helper()
	return e.putWith(name, content, backends.PutOptions{})
}

func (e *storeEnv) putWith(name, content string, opts backends.PutOptions) backends.Entry {
	e.Helper()
	entry, err := e.s.Put(e.ctx, name, section(content), opts)
	if err != nil {
		e.Fatalf("Put(%q): %v", name, err)
	}
	if entry.Name != name || entry.Size != int64(len(content)) || entry.Version == "" || !entry.Mode.IsRegular() {
		e.Fatalf("Put(%q) of %d bytes returned %+v; want that name and size, a version and a regular file", name, len(content), entry)
	}
	return entry
}

func (e *storeEnv) mkdir(name string) {
	e.Helper()
	if err := e.s.Mkdir(e.ctx, name, backends.AttrChange{}); err != nil {
		e.Fatalf("Mkdir(%q): %v", name, err)
	}
}

func (e *storeEnv) remove(name string) {
	e.Helper()
	if err := e.s.Remove(e.ctx, name, backends.If{}); err != nil {
		e.Fatalf("Remove(%q): %v", name, err)
	}
}

func (e *storeEnv) stat(name string) backends.Entry {
	e.Helper()
	entry, err := e.s.Stat(e.ctx, name)
	if err != nil {
		e.Fatalf("Stat(%q): %v", name, err)
	}
	return entry
}

// read opens and reads a section, and checks that the entry is that of the
// whole file.
func (e *storeEnv) read(name string, r backends.Range, cond backends.If) (string, backends.Entry, error) {
	rc, entry, err := e.s.Open(e.ctx, name, r, cond)
	if err != nil {
		return "", entry, err
	}
	b, err := io.ReadAll(rc)
	return string(b), entry, errors.Join(err, rc.Close())
}

// wantContent checks what name holds, and that the entry says so too.
func (e *storeEnv) wantContent(name, want string) {
	e.Helper()
	got, entry, err := e.read(name, backends.Range{}, backends.If{})
	if err != nil {
		e.Fatalf("Open(%q): %v", name, err)
	}
	if got != want {
		e.Fatalf("%q holds %s, want %s", name, brief(got), brief(want))
	}
	if entry.Size != int64(len(want)) || entry.Name != name {
		e.Fatalf("Open(%q) returned the entry %+v with a content of %d bytes", name, entry, len(want))
	}
}

// wantGone checks that there is nothing under name.
func (e *storeEnv) wantGone(name string) {
	e.Helper()
	_, err := e.s.Stat(e.ctx, name)
	e.wantErr(err, errNotExist, "Stat(%q)", name)
}

// list returns all children of dir.
func (e *storeEnv) list(dir, after string) []backends.Entry {
	e.Helper()
	entries, err := collect(e.s.List(e.ctx, dir, after))
	if err != nil {
		e.Fatalf("List(%q, %q): %v", dir, after, err)
	}
	return entries
}

// wantList checks the keys of dir's children, in order.
func (e *storeEnv) wantList(dir string, keys ...string) {
	e.Helper()
	if got := keysOf(e.list(dir, "")); !slices.Equal(got, keys) {
		e.Fatalf("List(%q) has %q, want %q", dir, got, keys)
	}
}

func (e *storeEnv) wantErr(err, want error, format string, args ...any) {
	e.Helper()
	wantErr(e.T, err, want, format, args...)
}

// parallel runs f in n goroutines and waits for all.
func parallel(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}

// patterned returns n bytes that differ with seed and don't repeat in a
// period that a block size could hide.
func patterned(n int, seed byte) string {
	b := make([]byte, (n+7)/8*8)
	x := uint64(seed)*0x9e3779b97f4a7c15 + 1
	for i := 0; i < n; i += 8 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		binary.LittleEndian.PutUint64(b[i:], x)
	}
	return string(b[:n])
}

// closeEnough reports whether a store that keeps whole seconds, or more, has
// kept want.
func closeEnough(got, want time.Time) bool {
	return got.Equal(want) || got.Equal(want.Truncate(time.Second)) || got.Sub(want).Abs() < time.Second
}
