package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// growth runs part "growth": how the cost of cold reading grows with the number of
// files, of readers, and with the size of a file.
func (b *bench) growth(ctx context.Context, out io.Writer) error {
	var g growthRows
	return b.onStore(ctx, out, func(*storeData) []storeRow {
		g = b.growthRows()
		return slices.Concat(g.files, g.readers, g.sizes)
	}, func(t *storeTable) { g.plot(out, t) })
}

// growthRows are the rows of part "growth", by what grows.
type growthRows struct {
	files, readers, sizes []storeRow
	counts, jobs          []int
	bytes                 []int64
}

// perDirectory is how many files a directory of these trees has.
const perDirectory = 25

// growthTree is a tree of small files that is seeded when it is first needed.
type growthTree struct {
	prefix string
	n      int
	once   sync.Once
	err    error
}

func (t *growthTree) name(i int) string {
	return fmt.Sprintf("dir%05d/file%02d.txt", i/perDirectory, i%perDirectory)
}

func (t *growthTree) body(i int) []byte {
	text := bytes.Repeat([]byte(fmt.Sprintf("line of file %08d of a tree\n", i)), smallSize/32+1)[:smallSize]
	if i%10 == 0 {
		copy(text[1024:], needle)
	}
	return text
}

func (t *growthTree) seed(ctx context.Context, direct *sdk, prefix string) error {
	t.once.Do(func() {
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(sdkWorkers)
		for i := range t.n {
			g.Go(func() error { return direct.put(ctx, prefix+t.name(i), t.body(i)) })
		}
		t.err = g.Wait()
	})
	return t.err
}

// growthRows makes the rows that were asked for.
func (b *bench) growthRows() (g growthRows) {
	g.counts, g.jobs, g.bytes = b.growthFiles, []int{1, 8, 64}, b.growthSizes
	trees := make([]*growthTree, len(g.counts))
	for i, n := range g.counts {
		trees[i] = &growthTree{prefix: fmt.Sprintf("growth-%d", n), n: n}
		g.files = append(g.files, trees[i].grep(), trees[i].find())
	}
	if len(trees) > 0 {
		for _, jobs := range g.jobs {
			g.readers = append(g.readers, trees[0].readers(jobs))
		}
	}
	if len(g.bytes) > 0 {
		data := make([]byte, slices.Max(g.bytes))
		_, _ = rand.NewChaCha8([32]byte{2}).Read(data) // never fails
		for _, n := range g.bytes {
			g.sizes = append(g.sizes, growthSize(data[:n]))
		}
	}
	keep := func(r storeRow) bool { return !b.wantsRow(r.name) }
	g.files, g.readers, g.sizes = slices.DeleteFunc(g.files, keep), slices.DeleteFunc(g.readers, keep), slices.DeleteFunc(g.sizes, keep)
	return g
}

func (t *growthTree) grep() storeRow {
	want := (t.n + 9) / 10
	return storeRow{
		name: fmt.Sprintf("grep -r, %d x 4 KiB", t.n),
		from: t.prefix, seed: t.seed,
		sdk: func(ctx context.Context, s *sdk, prefix string) error {
			return s.search(ctx, prefix, want)
		},
		mount: func(ctx context.Context, w *onMount) error {
			out, err := tool(ctx, "grep", "-r", "-l", needle, w.dir)
			return errors.Join(err, wantCount("files with the needle", strings.Count(out, "\n"), want))
		},
		targets: []target{withinSDK(1.5)},
	}
}

func (t *growthTree) find() storeRow {
	return storeRow{
		name: fmt.Sprintf("find, %d files", t.n),
		from: t.prefix, seed: t.seed,
		sdk: func(ctx context.Context, s *sdk, prefix string) error {
			sizes, err := s.list(ctx, prefix)
			return errors.Join(err, wantCount("objects", len(sizes), t.n))
		},
		mount: func(ctx context.Context, w *onMount) error {
			out, err := tool(ctx, "find", w.dir, "-type", "f")
			return errors.Join(err, wantCount("files", strings.Count(out, "\n"), t.n))
		},
		targets: []target{withinSDK(1.5)},
	}
}

// readers reads the tree by so many programs at once, each its part of it, one file
// after another.
func (t *growthTree) readers(jobs int) storeRow {
	parts := func() [][]string {
		all := make([][]string, jobs)
		for i := range t.n {
			at := i * jobs / t.n
			all[at] = append(all[at], t.name(i))
		}
		return all
	}
	return storeRow{
		name: fmt.Sprintf("cat by %d readers, %d x 4 KiB", jobs, t.n),
		from: t.prefix, seed: t.seed,
		sdk: func(ctx context.Context, s *sdk, prefix string) error {
			g, ctx := errgroup.WithContext(ctx)
			for _, part := range parts() {
				g.Go(func() error {
					for _, name := range part {
						if _, err := s.get(ctx, prefix+name, 0, 0); err != nil {
							return err
						}
					}
					return nil
				})
			}
			return g.Wait()
		},
		mount: func(ctx context.Context, w *onMount) error {
			g, ctx := errgroup.WithContext(ctx)
			for _, part := range parts() {
				g.Go(func() error {
					for names := range slices.Chunk(part, 1000) {
						paths := make([]string, len(names))
						for i, name := range names {
							paths[i] = path.Join(w.dir, name)
						}
						out, err := tool(ctx, append([]string{"cat"}, paths...)...)
						if err = errors.Join(err, wantCount("bytes", len(out), len(names)*smallSize)); err != nil {
							return err
						}
					}
					return nil
				})
			}
			return g.Wait()
		},
	}
}

// growthSize reads one file of data from its beginning to its end.
func growthSize(data []byte) storeRow {
	var once sync.Once
	var err error
	return storeRow{
		name:  fmt.Sprintf("sequential read, %s", sizeName(len(data))),
		from:  fmt.Sprintf("growth-size-%d", len(data)),
		moves: int64(len(data)),
		seed: func(ctx context.Context, direct *sdk, prefix string) error {
			once.Do(func() { err = direct.putLarge(ctx, prefix+largeName, data) })
			return err
		},
		sdk: func(ctx context.Context, s *sdk, prefix string) error {
			return s.getLarge(ctx, prefix+largeName, data)
		},
		mount: func(_ context.Context, w *onMount) error {
			return (&storeData{large: data}).readLarge(path.Join(w.dir, largeName))
		},
	}
}

// plot writes what the table says as charts in Mermaid's language, which code
// hosts draw: https://mermaid.js.org/syntax/xyChart.html.
func (g growthRows) plot(out io.Writer, t *storeTable) {
	chart := func(title, x, y string, labels []string, rows []storeRow, value func(i int, took time.Duration) float64) {
		if len(rows) == 0 || len(rows) != len(labels) {
			return
		}
		fmt.Fprintf(out, "```mermaid\nxychart-beta\n    title \"%s\"\n    x-axis \"%s\" [%s]\n    y-axis \"%s\"\n", title, x, strings.Join(labels, ", "), y)
		for _, name := range []string{sdkAlone, agentfs} {
			var points []string
			for i, r := range rows {
				if c := t.of(name, r.name); c.measured() {
					points = append(points, fmt.Sprintf("%.3g", value(i, median(c.returned))))
				}
			}
			if len(points) == len(rows) {
				fmt.Fprintf(out, "    line \"%s\" [%s]\n", name, strings.Join(points, ", "))
			}
		}
		fmt.Fprint(out, "```\n\n")
	}
	var files []string
	for _, n := range g.counts {
		files = append(files, fmt.Sprint(n))
	}
	var greps, finds []storeRow
	for i, r := range g.files {
		if i%2 == 0 {
			greps = append(greps, r)
		} else {
			finds = append(finds, r)
		}
	}
	perThousand := func(i int, took time.Duration) float64 { return took.Seconds() * 1000 / float64(g.counts[i]) }
	chart("grep -r, cold: SDK and agentfs", "files of 4 KiB", "seconds per 1,000 files", files, greps, perThousand)
	chart("find, cold: SDK and agentfs", "files", "seconds per 1,000 files", files, finds, perThousand)
	var jobs []string
	for _, n := range g.jobs {
		jobs = append(jobs, fmt.Sprint(n))
	}
	chart("Reading small files, cold: as many SDK workers, and agentfs", "readers", "seconds", jobs, g.readers,
		func(_ int, took time.Duration) float64 { return took.Seconds() })
	var sizes []string
	for _, n := range g.bytes {
		sizes = append(sizes, `"`+sizeName(int(n))+`"`)
	}
	chart("Sequential read of one file, cold: SDK and agentfs", "size", "MB/s", sizes, g.sizes,
		func(i int, took time.Duration) float64 { return float64(g.bytes[i]) / 1e6 / took.Seconds() })
}
