package carry_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/memory"
	"github.com/agentfs/agentfs/backends/memory/memorytest"
	"github.com/agentfs/agentfs/cache/attrs"
	"github.com/agentfs/agentfs/cache/carry"
)

// plain is a store without renames and copies of its own.
type plain struct{ backends.Store }

func (p plain) Walk(ctx context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	return backends.Walk(ctx, p.Store, dir, after)
}

func newMemory(t *testing.T) backends.Store {
	t.Helper()
	return memorytest.New(t, memory.Config{NoTmpfs: true, Size: 64 << 20})
}

func section(text string) *io.SectionReader {
	return io.NewSectionReader(strings.NewReader(text), 0, int64(len(text)))
}

func ptr[T any](v T) *T { return &v }

// The records of files go with them, whatever the store can do by itself, and are
// not to be seen.
func TestCarry(t *testing.T) {
	for name, wrap := range map[string]func(backends.Store) backends.Store{
		"with renames": func(s backends.Store) backends.Store { return s },
		"plain":        func(s backends.Store) backends.Store { return plain{s} },
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			raw := wrap(newMemory(t))
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			put := func(s backends.Store, name, text string, cond backends.If) backends.Entry {
				t.Helper()
				e, err := s.Put(ctx, name, section(text), backends.PutOptions{If: cond})
				must(err)
				return e
			}
			run, link := put(raw, "d/run", "1", backends.If{}), put(raw, "d/link", "run", backends.If{})
			_, err := attrs.Save(ctx, raw, "d", nil, map[string]attrs.Attr{
				"run":  {Version: run.Version, Mode: ptr(uint32(0o755)), Mtime: ptr(int64(5)), Xattrs: map[string][]byte{"user.a": []byte("b")}},
				"link": {Version: link.Version, Symlink: true, Target: "run"},
			}, nil, 0)
			must(err)
			s := carry.Store(raw)
			want := func(name string, mode uint32, old bool) {
				t.Helper()
				dir, base, _ := strings.Cut(name, "/")
				known, err := attrs.Read(ctx, raw, dir)
				must(err)
				e, err := s.Stat(ctx, name)
				must(err)
				a, ok := known.Lookup(base, e.Version)
				if !ok || a.Mode == nil || *a.Mode != mode || string(a.Xattrs["user.a"]) != "b" || (a.Mtime != nil) != old {
					t.Errorf("of %s is recorded: %v %+v", name, ok, a)
				}
			}
			want("d/run", 0o755, true)
			put(s, "d/run", "two", backends.If{Match: run.Version})
			want("d/run", 0o755, false)
			put(s, "d/run", "three", backends.If{})
			want("d/run", 0o755, false)
			_, err = s.(backends.Copier).Copy(ctx, "d/run", backends.If{}, "e/copy", backends.PutOptions{})
			must(err)
			want("e/copy", 0o755, false)
			must(backends.Rename(ctx, s, "d/run", backends.If{}, "f/moved", backends.If{Absent: true}))
			want("f/moved", 0o755, false)
			must(backends.Rename(ctx, s, "d/link", backends.If{}, "f/link", backends.If{Absent: true}))
			known, err := attrs.Read(ctx, raw, "f")
			must(err)
			if e, err := s.Stat(ctx, "f/link"); err != nil {
				t.Error(err)
			} else if a, _ := known.Lookup("link", e.Version); !a.Symlink || a.Target != "run" {
				t.Errorf("a moved link is %+v", a)
			}

			var walked []string
			for e, err := range backends.Walk(ctx, s, ".", "") {
				must(err)
				walked = append(walked, backends.WalkKey(e))
			}
			if !slices.Equal(walked, []string{"d/", "e/", "e/copy", "f/", "f/link", "f/moved"}) {
				t.Errorf("walked: %q", walked)
			}
			must(s.Remove(ctx, "d", backends.If{}))
			if err := s.Remove(ctx, "f", backends.If{}); !errors.Is(err, backends.ErrNotEmpty) {
				t.Errorf("removing what has files: %v", err)
			}
			want("f/moved", 0o755, false)
			records, err := attrs.Records(ctx, raw, "f")
			must(err)
			if _, err := s.Stat(ctx, records[0].Name); !errors.Is(err, backends.ErrReserved) {
				t.Errorf("a record is to be seen: %v", err)
			}
			for e, err := range s.List(ctx, "f", "") {
				must(err)
				if attrs.IsRecord(e.Base()) {
					t.Errorf("%s is listed", e.Name)
				}
			}
		})
	}
}
