package cache_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/cache"
)

// paged is a store that lists subtrees in small pages, and counts.
type paged struct {
	backends.Store
	size         int
	pages, lists atomic.Int64
	fail         atomic.Bool
}

var errPage = errors.New("no page today")

func (s *paged) WalkPage(ctx context.Context, dir, after string) (backends.Page, error) {
	s.pages.Add(1)
	if s.fail.Load() {
		return backends.Page{}, errPage
	}
	return backends.PageOf(backends.Walk(ctx, s.Store, dir, after), s.size)
}

func (s *paged) List(ctx context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	s.lists.Add(1)
	return s.Store.List(ctx, dir, after)
}

func (s *paged) reset() (pages, lists int64) { return s.pages.Swap(0), s.lists.Swap(0) }

// newPaged returns a store with dirs directories of files files each.
func newPaged(t *testing.T, size, dirs, files int) *paged {
	t.Helper()
	m := newMemory(t)
	for i := range dirs {
		for j := range files {
			put(t, m, fmt.Sprintf("d%03d/f%02d", i, j), fmt.Sprintf("file %d of %d", j, i))
		}
	}
	return &paged{Store: plain{m}, size: size}
}

// caller is somebody of this process group.
func caller(ctx context.Context) context.Context {
	return backends.WithCaller(ctx, backends.Caller{PID: uint32(os.Getpid())})
}

// another is somebody of a process group of his own, for the time of the test.
func another(t *testing.T) context.Context {
	t.Helper()
	cmd := exec.Command("sleep", "100")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return backends.WithCaller(t.Context(), backends.Caller{PID: uint32(cmd.Process.Pid)})
}

// names returns what ReadDir of the path shows.
func names(t *testing.T, ctx context.Context, f *cache.FS, path string) (all []string) {
	t.Helper()
	n := f.Root()
	if path != "." {
		n, _ = lookup(t, f, path)
	}
	entries, err := f.ReadDir(ctx, n)
	if err != nil {
		t.Fatalf("ReadDir(%s): %v", path, err)
	}
	for _, e := range entries {
		all = append(all, e.Name)
	}
	return all
}

// A small tree is known by one page, whoever asks for what in it.
func TestOnePageForASmallTree(t *testing.T) {
	s := newPaged(t, 1000, 40, 3)
	f := newCache(t, s, cache.Config{TTL: time.Hour})
	if got := names(t, t.Context(), f, "."); len(got) != 40 {
		t.Fatalf("the root has %q", got)
	}
	for i := range 40 {
		if got := names(t, t.Context(), f, fmt.Sprintf("d%03d", i)); !slices.Equal(got, []string{"f00", "f01", "f02"}) {
			t.Fatalf("d%03d has %q", i, got)
		}
		lookup(t, f, fmt.Sprintf("d%03d/f01", i))
	}
	if pages, lists := s.reset(); pages != 1 || lists != 0 {
		t.Errorf("it took %d pages and %d listings", pages, lists)
	}
}

// A directory with much below it is listed by itself, behind what the page has
// of it; from the second time on without a page.
func TestDeepDirectory(t *testing.T) {
	s := newPaged(t, 10, 30, 4)
	f := newCache(t, s, cache.Config{TTL: 20 * time.Millisecond})
	for round, want := range []int64{1, 0} {
		if got := names(t, t.Context(), f, "."); len(got) != 30 {
			t.Fatalf("the root has %d names", len(got))
		}
		if pages, lists := s.reset(); pages != want || lists != 1 {
			t.Errorf("round %d: %d pages and %d listings", round, pages, lists)
		}
		time.Sleep(30 * time.Millisecond)
	}
}

// Who goes from directory to directory finds them listed, in whatever order,
// for about as many requests as there are pages.
func TestSurvey(t *testing.T) {
	const dirs, files, size = 60, 7, 20
	inOrder := make([]int, dirs)
	for i := range inOrder {
		inOrder[i] = i
	}
	backwards := slices.Clone(inOrder)
	slices.Reverse(backwards)
	shuffled := make([]int, dirs)
	for i := range shuffled {
		shuffled[i] = i * 37 % dirs
	}
	for name, order := range map[string][]int{"forwards": inOrder, "backwards": backwards, "in any order": shuffled} {
		t.Run(name, func(t *testing.T) {
			s := newPaged(t, size, dirs, files)
			put(t, s.Store, "a file", "x")
			put(t, s.Store, "d030-", "between the directories")
			put(t, s.Store, "d030/deep/er/x", "x")
			f := newCache(t, s, cache.Config{TTL: time.Hour})
			ctx := caller(t.Context())
			names(t, ctx, f, ".")
			s.reset()
			for _, i := range order {
				want := files
				if i == 30 {
					want++
				}
				if got := names(t, ctx, f, fmt.Sprintf("d%03d", i)); len(got) != want {
					t.Fatalf("d%03d has %q", i, got)
				}
			}
			if got := names(t, ctx, f, "d030/deep/er"); !slices.Equal(got, []string{"x"}) {
				t.Errorf("d030/deep/er has %q", got)
			}
			pages, lists := s.reset()
			// Every range of the survey has a page that is not full; who comes out of
			// order has one of his own.
			most := int64(dirs*files/size + 20)
			if name == "in any order" {
				most = dirs
			}
			if pages > most || lists > 2 {
				t.Errorf("%d directories took %d pages and %d listings, want at most %d and 2", dirs, pages, lists, most)
			}
		})
	}
}

// Two programs that list a directory each are not on a walk, and neither is one
// that lists the same twice.
func TestNoSurvey(t *testing.T) {
	s := newPaged(t, 10, 60, 4)
	f := newCache(t, s, cache.Config{TTL: time.Hour})
	one, two := caller(t.Context()), another(t)
	names(t, one, f, ".")
	names(t, one, f, "d010")
	s.reset()
	names(t, two, f, "d020")
	names(t, one, f, "d010")
	if pages, lists := s.reset(); pages != 1 || lists != 0 {
		t.Errorf("%d pages and %d listings instead of one page", pages, lists)
	}
}

// A survey that nobody follows ends, not far from where the reader was.
func TestSurveyIsBounded(t *testing.T) {
	const size = 10
	s := newPaged(t, size, 500, 5)
	f := newCache(t, s, cache.Config{TTL: time.Hour})
	ctx := caller(t.Context())
	names(t, ctx, f, ".")
	s.reset()
	for i := range 3 {
		names(t, ctx, f, fmt.Sprintf("d%03d", i))
	}
	time.Sleep(100 * time.Millisecond)
	if pages, _ := s.reset(); pages > 12 {
		t.Errorf("three directories took %d pages", pages)
	}
}

// Who takes longer than the ttl for what was listed ahead of him finds what
// follows listed anew, not directory by directory.
func TestSurveySlowerThanTheTTL(t *testing.T) {
	const dirs, files = 400, 20
	s := newPaged(t, 1000, dirs, files)
	f := newCache(t, s, cache.Config{TTL: 300 * time.Millisecond})
	ctx := caller(t.Context())
	names(t, ctx, f, ".")
	s.reset()
	for i := range dirs {
		n, err := backends.Node(nil), error(nil)
		if n, _, err = f.Lookup(ctx, f.Root(), fmt.Sprintf("d%03d", i)); err != nil {
			t.Fatal(err)
		}
		if all, err := f.ReadDir(ctx, n); err != nil || len(all) != files {
			t.Fatalf("d%03d has %v, %v", i, all, err)
		}
		time.Sleep(3 * time.Millisecond)
	}
	if pages, lists := s.reset(); pages+lists > dirs/4 {
		t.Errorf("%d directories took %d pages and %d listings", dirs, pages, lists)
	}
}

// What a survey can't list its readers ask for themselves, and hear why.
func TestSurveyFails(t *testing.T) {
	s := newPaged(t, 10, 60, 4)
	f := newCache(t, s, cache.Config{TTL: time.Hour})
	ctx := caller(t.Context())
	names(t, ctx, f, ".")
	names(t, ctx, f, "d000")
	n, _ := lookup(t, f, "d001")
	s.fail.Store(true)
	if _, err := f.ReadDir(ctx, n); !errors.Is(err, errPage) {
		t.Fatalf("ReadDir of a store that fails: %v", err)
	}
	s.fail.Store(false)
	for i := range 60 {
		if got := names(t, ctx, f, fmt.Sprintf("d%03d", i)); len(got) != 4 {
			t.Fatalf("d%03d has %q", i, got)
		}
	}
}

// A directory that is moved, and files that come and go, while a survey is on
// its way: in the end everybody sees what is there.
func TestSurveyBesideChanges(t *testing.T) {
	const dirs = 40
	s := newPaged(t, 10, dirs, 5)
	f := newCache(t, s, cache.Config{TTL: 50 * time.Millisecond, Durability: "writeback"})
	ctx := caller(t.Context())
	for round := range 6 {
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range 5 {
				name := fmt.Sprintf("d%03d", (round*5+i)%dirs)
				if err := f.Rename(t.Context(), f.Root(), name, f.Root(), "x"+name, 0); err != nil {
					t.Errorf("rename %s: %v", name, err)
				}
				put(t, s.Store, fmt.Sprintf("d%03d/new%d", (round*7+i+20)%dirs, round), "x")
			}
		}()
		for _, name := range names(t, ctx, f, ".") {
			if n, _, err := f.Lookup(ctx, f.Root(), name); err == nil {
				_, _ = f.ReadDir(ctx, n)
			}
		}
		<-done
	}
	if err := f.SyncDir(t.Context(), f.Root()); err != nil {
		t.Fatal(err)
	}
	time.Sleep(60 * time.Millisecond)
	var have, want []string
	for _, name := range names(t, ctx, f, ".") {
		for _, file := range names(t, ctx, f, name) {
			have = append(have, name+"/"+file)
		}
	}
	for e, err := range backends.Walk(t.Context(), s.Store, ".", "") {
		if err != nil {
			t.Fatal(err)
		}
		if !e.IsDir() {
			want = append(want, e.Name)
		}
	}
	if slices.Sort(have); !slices.Equal(have, want) {
		t.Errorf("the tree has\n%s\nthe store has\n%s", strings.Join(have, " "), strings.Join(want, " "))
	}
}
