package sql_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/sql"
)

func section(content string) *io.SectionReader {
	return io.NewSectionReader(strings.NewReader(content), 0, int64(len(content)))
}

func put(t testing.TB, s backends.Store, name, content string, opts backends.PutOptions) backends.Entry {
	t.Helper()
	e, err := s.Put(t.Context(), name, section(content), opts)
	if err != nil {
		t.Fatalf("Put(%q): %v", name, err)
	}
	return e
}

func read(t testing.TB, s backends.Store, name string) (string, backends.Version, error) {
	t.Helper()
	r, e, err := s.Open(t.Context(), name, backends.Range{}, backends.If{})
	if err != nil {
		return "", "", err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return string(b), e.Version, err
}

// two returns two stores over one database, as two machines have them.
func two(t *testing.T, config func(testing.TB) sql.Config) [2]*sql.Store {
	c := config(t)
	return [2]*sql.Store{open(t, c), open(t, c)}
}

// Two machines count up one number, each time under the version that they have
// read: no step is lost.
func TestCompareAndSwap(t *testing.T) {
	each(t, func(t *testing.T, config func(testing.TB) sql.Config) {
		stores := two(t, config)
		put(t, stores[0], "n", "0", backends.PutOptions{})
		var won, lost atomic.Int64
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				s := stores[i%2]
				for range 25 {
					content, v, err := read(t, s, "n")
					if errors.Is(err, backends.ErrChanged) {
						continue
					}
					n, aerr := strconv.Atoi(content)
					if err != nil || aerr != nil {
						t.Errorf("read %q: %v, %v", content, err, aerr)
						return
					}
					switch _, err := s.Put(t.Context(), "n", section(strconv.Itoa(n+1)), backends.PutOptions{If: backends.If{Match: v}}); {
					case err == nil:
						won.Add(1)
					case errors.Is(err, backends.ErrChanged):
						lost.Add(1)
					default:
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		if content, _, err := read(t, stores[0], "n"); err != nil || content != fmt.Sprint(won.Load()) {
			t.Errorf("%d steps have succeeded and the number is %s, %v", won.Load(), content, err)
		}
		t.Logf("%d won, %d lost", won.Load(), lost.Load())
		for _, s := range stores {
			s.Wait()
		}
		if err := stores[0].CheckIntegrity(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// Two machines do everything at once in few names: whatever they did, no name
// is left without its directory, and no content without its name or the other
// way round.
func TestEverythingAtOnce(t *testing.T) {
	each(t, func(t *testing.T, config func(testing.TB) sql.Config) {
		stores := two(t, config)
		large := strings.Repeat("large ", 200_000)
		name := func(depth int) string {
			segs := make([]string, 1+rand.N(depth))
			for i := range segs {
				segs[i] = string(rune('a' + rand.N(2)))
			}
			return strings.Join(segs, "/")
		}
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				s, ctx := stores[i%2], t.Context()
				for range 60 {
					var op string
					var err error
					from, to := name(3), name(4)
					switch rand.N(12) {
					case 0, 1, 2:
						op = "put"
						_, err = s.Put(ctx, to, section("small"), backends.PutOptions{})
					case 3:
						op = "put large"
						_, err = s.Put(ctx, to, section(large), backends.PutOptions{If: backends.If{Absent: rand.N(2) == 0}})
					case 4:
						op, err = "mkdir", s.Mkdir(ctx, to, backends.AttrChange{})
					case 5, 6:
						op, err = "remove", s.Remove(ctx, from, backends.If{})
					case 7, 8, 9:
						op, err = "rename", s.Rename(ctx, from, backends.If{}, to, backends.If{})
					case 10:
						op = "copy"
						_, err = s.Copy(ctx, from, backends.If{}, to, backends.PutOptions{})
					case 11:
						op = "remove many"
						for _, e := range s.RemoveMany(ctx, []backends.Removal{{Name: from}, {Name: to}, {Name: name(2), Dir: true}}) {
							err = errors.Join(err, e)
						}
					}
					if err != nil && !expected(err) {
						t.Errorf("%s %s %s: %v", op, from, to, err)
					}
				}
			})
		}
		wg.Wait()
		for _, s := range stores {
			s.Wait()
		}
		if err := stores[1].CheckIntegrity(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A directory that is removed or renamed while files come into it: each of them is
// in a directory afterwards.
func TestDirectoryGoes(t *testing.T) {
	for what, goes := range map[string]func(ctx context.Context, s *sql.Store) error{
		"removed": func(ctx context.Context, s *sql.Store) error { return s.Remove(ctx, "d/sub", backends.If{}) },
		"renamed": func(ctx context.Context, s *sql.Store) error {
			return s.Rename(ctx, "d", backends.If{}, "e", backends.If{})
		},
	} {
		t.Run(what, func(t *testing.T) {
			each(t, func(t *testing.T, config func(testing.TB) sql.Config) {
				stores := two(t, config)
				ctx := t.Context()
				for range 40 {
					if err := stores[0].Mkdir(ctx, "d/sub", backends.AttrChange{}); err != nil && !errors.Is(err, fs.ErrExist) {
						t.Fatal(err)
					}
					var wg sync.WaitGroup
					for i := range 6 {
						wg.Go(func() {
							s := stores[i%2]
							var err error
							if i < 2 {
								err = goes(ctx, s)
							} else {
								_, err = s.Put(ctx, fmt.Sprintf("d/sub/%d", i), section("x"), backends.PutOptions{})
							}
							if err != nil && !expected(err) {
								t.Error(err)
							}
						})
					}
					wg.Wait()
					if err := stores[0].CheckIntegrity(ctx); err != nil {
						t.Fatal(err)
					}
					for _, dir := range []string{"d", "e"} {
						var rs []backends.Removal
						for e, err := range stores[1].Walk(ctx, dir, "") {
							if err == nil {
								rs = append(rs, backends.Removal{Name: e.Name, Dir: e.IsDir()})
							}
						}
						for i, err := range stores[1].RemoveMany(ctx, append(rs, backends.Removal{Name: dir, Dir: true})) {
							if err != nil && i < len(rs) {
								t.Fatal(err)
							}
						}
					}
				}
			})
		})
	}
}

// expected reports whether err is one of those that names are for.
func expected(err error) bool {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range many.Unwrap() {
			if !expected(e) {
				return false
			}
		}
		return true
	}
	for _, want := range []error{fs.ErrNotExist, fs.ErrExist, fs.ErrInvalid, backends.ErrIsDir, backends.ErrNotDir, backends.ErrNotEmpty, backends.ErrChanged} {
		if errors.Is(err, want) {
			return true
		}
	}
	return false
}

// Versions never come again: not for the same bytes, not for a copy of them, not
// after a removal.
func TestVersions(t *testing.T) {
	each(t, func(t *testing.T, config func(testing.TB) sql.Config) {
		s := open(t, config(t))
		seen := map[backends.Version]bool{}
		see := func(e backends.Entry, err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
			if e.Version == "" || seen[e.Version] {
				t.Errorf("the version %q was there before", e.Version)
			}
			seen[e.Version] = true
		}
		for range 5 {
			see(put(t, s, "f", "the same", backends.PutOptions{}), nil)
			see(s.Copy(t.Context(), "f", backends.If{}, "g", backends.PutOptions{}))
			see(s.Copy(t.Context(), "g", backends.If{}, "f", backends.PutOptions{}))
			if err := s.Remove(t.Context(), "f", backends.If{}); err != nil {
				t.Fatal(err)
			}
		}
	})
}
