package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// seedMany is the prefix of the files that are searched without a mount.
const seedMany = "seed-many"

// directRows are workloads without a mount: agentfs works on the bucket itself.
func (b *bench) directRows() []storeRow {
	n := 10 * b.storeFiles
	want := (n + 9) / 10
	grep := func(args ...string) func(ctx context.Context, d direct) error {
		return func(ctx context.Context, d direct) error {
			out, err := d.agentfs(ctx, append([]string{"grep"}, args...)...)
			return errors.Join(err, wantCount("files with the needle", strings.Count(out, "\n"), want))
		}
	}
	rows := []storeRow{{
		name: fmt.Sprintf("agentfs grep -l without a mount, %d x 4 KiB", n),
		sdk: func(ctx context.Context, s *sdk, prefix string) error {
			found := 0
			err := s.getAll(ctx, prefix, func(_ string, body []byte) {
				if bytes.Contains(body, []byte(needle)) {
					found++
				}
			})
			return errors.Join(err, wantCount("files with the needle", found, want))
		},
		direct:  grep("-l", needle, "/"+seedMany),
		targets: []target{storedWithin(1.5)},
	}, {
		name: fmt.Sprintf("agentfs glob without a mount, %d files", n),
		sdk: func(ctx context.Context, s *sdk, prefix string) error {
			sizes, err := s.list(ctx, prefix)
			return errors.Join(err, wantCount("objects", len(sizes), n))
		},
		direct: func(ctx context.Context, d direct) error {
			out, err := d.agentfs(ctx, "glob", "**/*.txt", "/"+seedMany)
			return errors.Join(err, wantCount("files", strings.Count(out, "\n"), n))
		},
		targets: []target{storedWithin(1.5)},
	}}
	for i := range rows {
		rows[i].from = seedMany
		rows[i].once = func(ctx context.Context, s *sdk) error { return s.putAll(ctx, seedMany+"/", smallFiles(n)) }
	}
	return rows
}

// direct runs agentfs on the bucket itself.
type direct struct {
	program, endpoint string
}

// agentfs runs a command and returns what it printed.
func (d direct) agentfs(ctx context.Context, args ...string) (string, error) {
	route := fmt.Sprintf("/=s3://%s?endpoint=%s&region=%s&path_style=true", bucket, d.endpoint, region)
	argv := append([]string{"env", "AWS_ACCESS_KEY_ID=" + accessKey, "AWS_SECRET_ACCESS_KEY=" + secretKey,
		"AWS_EC2_METADATA_DISABLED=true", d.program}, args...)
	return tool(ctx, append(argv, "--route", route)...)
}

func (r *storeRun) measureDirect(ctx context.Context, c *storeCell, row storeRow) error {
	program, err := filepath.Abs(r.agentfs)
	if err != nil {
		return err
	}
	began, err := r.begin(row)
	if err != nil {
		return err
	}
	if err := row.direct(ctx, direct{program, r.server.slow.url}); err != nil {
		return err
	}
	took := time.Since(began)
	c.add(took, took, nil, r.server.slow.takeTraffic())
	return nil
}

// fillOnce puts into the bucket what several of the rows work on.
func fillOnce(ctx context.Context, s *sdk, rows []storeRow) error {
	done := map[string]bool{}
	for _, row := range rows {
		if row.once == nil || done[row.from] {
			continue
		}
		done[row.from] = true
		if err := row.once(ctx, s); err != nil {
			return err
		}
	}
	return nil
}
