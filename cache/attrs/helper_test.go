package attrs

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/memory"
	"github.com/agentfs/agentfs/backends/memory/memorytest"
)

var errDown = errors.New("the store is down")

func newMemory(t testing.TB) *memory.Store {
	t.Helper()
	return memorytest.New(t, memory.Config{NoTmpfs: true, Size: 1 << 30})
}

func ptr[T any](v T) *T { return &v }

// listed returns the records of dir as a listing of all of it has them.
func listed(t testing.TB, s backends.Store, dir string) []backends.Entry {
	t.Helper()
	var es []backends.Entry
	for e, err := range s.List(t.Context(), dir, "") {
		if errors.Is(err, backends.ErrNotDir) || err != nil && strings.Contains(err.Error(), "not exist") {
			return nil
		}
		if err != nil {
			t.Fatal(err)
		}
		if IsRecord(e.Base()) {
			es = append(es, e)
		}
	}
	return es
}

func load(t testing.TB, s backends.Store, dir string, prev *Dir) *Dir {
	t.Helper()
	d, err := Load(t.Context(), s, dir, listed(t, s, dir), time.Time{}, prev)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func mustSave(t testing.TB, s backends.Store, dir string, prev *Dir, changes map[string]Attr, alive Alive) *Dir {
	t.Helper()
	d, err := Save(t.Context(), s, dir, prev, changes, alive, maxTrust)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// want fails unless name has a, but for when it was changed.
func want(t testing.TB, d *Dir, name string, a Attr) {
	t.Helper()
	got, ok := d.Lookup(name, a.Version)
	got.Changed, a.Changed = 0, 0
	if !ok || !reflect.DeepEqual(got, a) {
		t.Errorf("%q has %+v, %v; want %+v", name, got, ok, a)
	}
}

func wantNothing(t testing.TB, d *Dir, name string, v backends.Version) {
	t.Helper()
	if a, ok := d.Lookup(name, v); ok {
		t.Errorf("%q of version %q has %+v", name, v, a)
	}
}

func section(p []byte) *io.SectionReader {
	return io.NewSectionReader(bytes.NewReader(p), 0, int64(len(p)))
}
