package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// tree is the directory of the small files, in workloads that move or remove it.
const tree = "tree"

// seedTree is a workload's seed: the small files in the directory tree.
func (d *storeData) seedTree(ctx context.Context, direct *sdk, prefix string) error {
	return direct.putAll(ctx, prefix+tree+"/", d.small)
}

// smallRows are workloads of many small files.
func (d *storeData) smallRows() []storeRow {
	n := len(d.small)
	files := fmt.Sprintf("%d x 4 KiB", n)
	remove := storeRow{
		name: "rm -rf, " + files + ", cold",
		seed: d.seedTree,
		sdk:  func(ctx context.Context, s *sdk, prefix string) error { return s.removeAll(ctx, prefix+tree+"/") },
		mount: func(ctx context.Context, w *onMount) error {
			_, err := tool(ctx, "rm", "-rf", w.path(tree))
			return err
		},
		stored: func(ctx context.Context, direct *sdk, prefix string) error {
			return wantNothing(ctx, direct, prefix+tree+"/")
		},
		targets: []target{returnedIn(time.Second), storedIn(time.Second), requestsOf(5, "delete requests", deleteOps...)},
	}
	move := storeRow{
		name: "mv of a directory, " + files + ", cold",
		seed: d.seedTree,
		sdk: func(ctx context.Context, s *sdk, prefix string) error {
			return s.moveAll(ctx, prefix+tree+"/", prefix+"moved/")
		},
		mount: func(ctx context.Context, w *onMount) error {
			_, err := tool(ctx, "mv", w.path(tree), w.path("moved"))
			return err
		},
		stored: func(ctx context.Context, direct *sdk, prefix string) error {
			if err := wantNothing(ctx, direct, prefix+tree+"/"); err != nil {
				return err
			}
			return wantObjects(ctx, direct, prefix+"moved/", d.small)
		},
		targets: []target{returnedIn(10 * time.Millisecond)},
	}
	return []storeRow{
		{
			name:     "tar -x, " + files,
			loopback: true,
			sdk:      func(ctx context.Context, s *sdk, prefix string) error { return s.putAll(ctx, prefix, d.small) },
			mount: func(ctx context.Context, w *onMount) error {
				_, err := tool(ctx, "tar", "-x", "--no-same-owner", "-f", d.tar, "-C", w.dir)
				return err
			},
			stored: func(ctx context.Context, direct *sdk, prefix string) error {
				return wantObjects(ctx, direct, prefix, d.small)
			},
			targets: []target{storedWithin(1.5), returnedWithin(3)},
		},
		{
			name: "grep -r, " + files + ", cold",
			from: seedSmall,
			sdk:  d.search,
			mount: func(ctx context.Context, w *onMount) error {
				out, err := tool(ctx, "grep", "-r", "-l", needle, w.dir)
				return errors.Join(err, wantCount("files with the needle", strings.Count(out, "\n"), (n+9)/10))
			},
			targets: []target{withinSDK(1.5)},
		},
		d.lonelyReads(),
		{
			name: "rg, " + files + ", cold",
			from: seedSmall,
			sdk:  d.search,
			mount: func(ctx context.Context, w *onMount) error {
				out, err := tool(ctx, "rg", "--no-config", "-l", needle, w.dir)
				return errors.Join(err, wantCount("files with the needle", strings.Count(out, "\n"), (n+9)/10))
			},
			targets: []target{withinSDK(1.5)},
		},
		{
			name: fmt.Sprintf("ls -lR, %d files, cold", n),
			from: seedSmall,
			sdk: func(ctx context.Context, s *sdk, prefix string) error {
				sizes, err := s.list(ctx, prefix)
				return errors.Join(err, wantCount("objects", len(sizes), n))
			},
			mount: func(ctx context.Context, w *onMount) error {
				out, err := tool(ctx, "ls", "-lR", w.dir)
				return errors.Join(err, wantCount("files", strings.Count(out, ".txt\n"), n))
			},
			targets: []target{withinSDK(1.5)},
		},
		remove, remove.after("listed", listed),
		move, move.after("listed", listed),
	}
}

// lonelyReads opens a few small files far from each other, of directories that were
// listed.
func (d *storeData) lonelyReads() storeRow {
	names := d.names()
	var far []string
	for i := range min(10, len(names)) {
		far = append(far, names[i*7919%len(names)])
	}
	return storeRow{
		name: fmt.Sprintf("cat of %d small files here and there, listed", len(far)),
		from: seedSmall, warm: listed,
		sdk: func(ctx context.Context, s *sdk, prefix string) error {
			for _, name := range far {
				if _, err := s.get(ctx, prefix+name, 0, 0); err != nil {
					return err
				}
			}
			return nil
		},
		mount: func(ctx context.Context, w *onMount) error {
			for _, name := range far {
				if err := w.lap(func() error {
					_, err := tool(ctx, "cat", w.path(name))
					return err
				}); err != nil {
					return err
				}
			}
			return nil
		},
		targets: []target{withinSDK(2), requestsOf(3*len(far), "requests", "Get", "Head", "List")},
	}
}

// search looks for the needle in all that is below prefix, without a mount.
func (d *storeData) search(ctx context.Context, s *sdk, prefix string) error {
	return s.search(ctx, prefix, (len(d.small)+9)/10)
}

// after returns the row as it is on a mount that is not cold.
func (r storeRow) after(what string, warm func(context.Context, *onMount) error) storeRow {
	r.name, r.warm = strings.TrimSuffix(r.name, "cold")+what, warm
	return r
}
