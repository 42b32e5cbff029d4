package cache_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/cache"
)

// walkSize is the size of each file of newPaged, about.
const walkSize = int64(len("file 0 of 00"))

// openAt opens the file at path for reading as the caller in ctx, reads it and
// closes it.
func openAt(t *testing.T, ctx context.Context, f *cache.FS, path string) string {
	t.Helper()
	n, _ := lookup(t, f, path)
	h, err := f.Open(ctx, n, os.O_RDONLY)
	if err != nil {
		t.Fatalf("open %s: %v", path, err)
	}
	defer h.Close(ctx)
	return readAll(t, h, 1000)
}

// filesBelow returns the files below dir, in the order in which a program comes to
// them: that of their names; back, the reverse; filesFirst, those of a
// directory before what is in its directories.
func filesBelow(t *testing.T, ctx context.Context, f *cache.FS, dir string, back, filesFirst bool) (all []string) {
	t.Helper()
	n := f.Root()
	if dir != "." {
		n, _ = lookup(t, f, dir)
	}
	entries, err := f.ReadDir(ctx, n)
	if err != nil {
		t.Fatal(err)
	}
	entries = slices.Clone(entries)
	if back {
		slices.Reverse(entries)
	}
	var later []string
	for _, e := range entries {
		name := path.Join(dir, e.Name)
		switch {
		case !e.Mode.IsDir():
			all = append(all, name)
		case filesFirst:
			later = append(later, filesBelow(t, ctx, f, name, back, filesFirst)...)
		default:
			all = append(all, filesBelow(t, ctx, f, name, back, filesFirst)...)
		}
	}
	return append(all, later...)
}

// Whatever the order in which a program goes through a tree, nearly every file
// is fetched before it is opened, and none twice.
func TestWalkReadsAhead(t *testing.T) {
	const dirs, files = 20, 12
	for name, order := range map[string]func(t *testing.T, f *cache.FS) []string{
		"grep -r": func(t *testing.T, f *cache.FS) []string {
			return filesBelow(t, caller(t.Context()), f, ".", false, false)
		},
		"os.walk": func(t *testing.T, f *cache.FS) []string {
			return filesBelow(t, caller(t.Context()), f, ".", false, true)
		},
		"backwards": func(t *testing.T, f *cache.FS) []string {
			return filesBelow(t, caller(t.Context()), f, ".", true, false)
		},
		"hashed directories": func(t *testing.T, f *cache.FS) []string {
			all := filesBelow(t, caller(t.Context()), f, ".", false, false)
			r := rand.New(rand.NewPCG(1, 2))
			slices.SortStableFunc(all, func(a, b string) int { return strings.Compare(path.Dir(a), path.Dir(b)) })
			for from, to := 0, 0; from < len(all); from = to {
				for to < len(all) && path.Dir(all[to]) == path.Dir(all[from]) {
					to++
				}
				r.Shuffle(to-from, func(i, j int) { all[from+i], all[from+j] = all[from+j], all[from+i] })
			}
			return all
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newPaged(t, 1000, dirs, files)
			for i := range 5 {
				put(t, s.Store, fmt.Sprintf("d00%d/sub/x", i), "in between")
				put(t, s.Store, fmt.Sprintf("d00%d/zz", i), "behind it")
			}
			f := newCache(t, s, cache.Config{TTL: time.Hour})
			var sum int64
			for _, file := range order(t, f) {
				sum += int64(len(openAt(t, caller(t.Context()), f, file)))
			}
			got := f.State().Stats
			if got.AheadUsed < sum*8/10 {
				t.Errorf("of %d bytes %d came before they were asked for", sum, got.AheadUsed)
			}
			if got.FetchBytes != sum {
				t.Errorf("fetched %d bytes of %d", got.FetchBytes, sum)
			}
		})
	}
}

// Several threads in any order, as rg's.
func TestWalkOfThreads(t *testing.T) {
	const dirs, files = 40, 10
	s := newPaged(t, 1000, dirs, files)
	f := newCache(t, s, cache.Config{TTL: time.Hour})
	all := filesBelow(t, caller(t.Context()), f, ".", false, false)
	half := len(all) / 2
	var sum int64
	for i := range half {
		for _, file := range []string{all[i], all[len(all)-1-i]} {
			sum += int64(len(openAt(t, caller(t.Context()), f, file)))
		}
	}
	if got := f.State().Stats; got.AheadUsed < sum*8/10 || got.FetchBytes != sum {
		t.Errorf("of %d bytes %d came ahead, %d in all", sum, got.AheadUsed, got.FetchBytes)
	}
}

// A single open fetches nothing but its file, and neither do those of other
// programs, of far apart files, or for writing.
func TestNoWalk(t *testing.T) {
	for name, open := range map[string]func(t *testing.T, f *cache.FS){
		"one file": func(t *testing.T, f *cache.FS) {
			openAt(t, caller(t.Context()), f, "d000/f00")
			openAt(t, caller(t.Context()), f, "d000/f00")
		},
		"two programs": func(t *testing.T, f *cache.FS) {
			openAt(t, caller(t.Context()), f, "d000/f00")
			openAt(t, another(t), f, "d000/f01")
		},
		"far apart": func(t *testing.T, f *cache.FS) {
			openAt(t, caller(t.Context()), f, "d000/f00")
			openAt(t, caller(t.Context()), f, "d005/f05")
			openAt(t, caller(t.Context()), f, "d002/f03")
		},
		"for writing": func(t *testing.T, f *cache.FS) {
			for i := range 4 {
				n, _ := lookup(t, f, fmt.Sprintf("d000/f%02d", i))
				h, err := f.Open(caller(t.Context()), n, os.O_RDWR)
				if err != nil {
					t.Fatal(err)
				}
				if err := h.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newCache(t, newPaged(t, 1000, 10, 10), cache.Config{TTL: time.Hour})
			names(t, caller(t.Context()), f, ".")
			open(t, f)
			if got := f.State().Stats.AheadBytes; got != 0 {
				t.Errorf("%d bytes were fetched ahead", got)
			}
		})
	}
}

// What is fetched in vain is bounded by what was used and a window for each
// place that the walk is at.
func TestWalkWastesLittle(t *testing.T) {
	const window, read = 8 * walkSize, 32 * walkSize
	t.Run("a walk that ends", func(t *testing.T) {
		f := newCache(t, newPaged(t, 1000, 40, 10), cache.Config{TTL: time.Hour})
		for _, file := range filesBelow(t, caller(t.Context()), f, ".", false, false)[:20] {
			openAt(t, caller(t.Context()), f, file)
		}
		if got := f.State().Stats; got.AheadBytes-got.AheadUsed > got.AheadUsed+read {
			t.Errorf("%d bytes were fetched ahead, %d used", got.AheadBytes, got.AheadUsed)
		}
	})
	t.Run("leaps", func(t *testing.T) {
		f := newCache(t, newPaged(t, 1000, 40, 10), cache.Config{TTL: time.Hour})
		all := filesBelow(t, caller(t.Context()), f, ".", false, false)
		r := rand.New(rand.NewPCG(3, 4))
		for range 60 { // two files in a row, here and there
			i := r.IntN(len(all) - 1)
			openAt(t, caller(t.Context()), f, all[i])
			openAt(t, caller(t.Context()), f, all[i+1])
		}
		got := f.State().Stats
		if got.AheadBytes-got.AheadUsed > got.AheadUsed+read+3*window {
			t.Errorf("%d bytes were fetched ahead, %d used", got.AheadBytes, got.AheadUsed)
		}
	})
}

// Files that change, are removed or can't be had while they are fetched ahead
// cost their reader nothing but a fetch of his own.
func TestWalkBesideChanges(t *testing.T) {
	s := newPaged(t, 1000, 10, 20)
	bad := newJitter(s.Store, 7, 10)
	f := newCache(t, &paged{Store: bad, size: 1000}, cache.Config{TTL: 30 * time.Millisecond})
	for round := range 4 {
		for i, file := range filesBelow(t, caller(t.Context()), f, ".", false, false) {
			switch (i + round) % 11 {
			case 3:
				put(t, s.Store, file, fmt.Sprintf("new in round %d", round))
			case 7:
				if err := s.Store.Remove(t.Context(), file, backends.If{}); err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Fatal(err)
				}
			}
			dir, base := path.Split(file)
			d, _ := lookup(t, f, path.Clean(dir))
			n, _, err := f.Lookup(t.Context(), d, base)
			if err != nil {
				continue
			}
			h, err := f.Open(caller(t.Context()), n, os.O_RDONLY)
			if err != nil {
				continue
			}
			p := make([]byte, 100)
			for range 20 {
				if _, err = h.ReadAt(t.Context(), p, 0); err == nil || errors.Is(err, backends.ErrChanged) {
					break
				}
			}
			if err != nil && !errors.Is(err, backends.ErrChanged) {
				t.Errorf("%s can't be read: %v", file, err)
			}
			_ = h.Close(t.Context())
		}
	}
}

// A directory that was not known when files behind it were fetched is read ahead
// in as any other, once it is known.
func TestWalkIntoADirectoryThatWasUnknown(t *testing.T) {
	m := newMemory(t)
	for dir, files := range []int{20, 40, 300} {
		for i := range files {
			put(t, m, fmt.Sprintf("d%d/f%03d", dir, i), "file 0 of 00")
		}
	}
	f := newCache(t, plain{m}, cache.Config{TTL: time.Hour})
	ctx := caller(t.Context())
	names(t, ctx, f, ".")
	names(t, ctx, f, "d2")
	for _, dir := range []string{"d0", "d1"} {
		before := f.State().Stats.AheadUsed
		all := names(t, ctx, f, dir)
		for _, name := range all {
			openAt(t, ctx, f, dir+"/"+name)
		}
		if used := (f.State().Stats.AheadUsed - before) / walkSize; used < int64(len(all)/2) {
			t.Errorf("%s: %d of %d files were fetched before they were opened", dir, used, len(all))
		}
	}
}
