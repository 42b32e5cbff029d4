package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// needle is what grep looks for: every tenth file has it.
const needle = "the needle in the haystack"

// storeData is what store workloads write and read.
type storeData struct {
	small map[string][]byte // 4 KiB each, in 40 directories
	large []byte
	tar   string // a file with small in it
}

// newStoreData makes the data, the same in every run.
func (b *bench) newStoreData() (*storeData, error) {
	d := &storeData{small: map[string][]byte{}, large: make([]byte, b.storeSize), tar: filepath.Join(b.tmp, "small.tar")}
	rnd := rand.NewChaCha8([32]byte{1})
	for i := range b.storeFiles {
		text := make([]byte, smallSize)
		for j := range text {
			text[j] = 'a' + byte(rnd.Uint64()%26)
			if j%64 == 63 {
				text[j] = '\n'
			}
		}
		if i%10 == 0 {
			copy(text[1024:], needle)
		}
		d.small[fmt.Sprintf("dir%02d/file%05d.txt", i%40, i)] = text
	}
	if _, err := rnd.Read(d.large); err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, name := range slices.Sorted(maps.Keys(d.small)) {
		h := &tar.Header{Name: name, Mode: 0o644, Size: smallSize}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(d.small[name]); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return d, os.WriteFile(d.tar, buf.Bytes(), 0o644)
}

// The prefixes of what is in the bucket before workloads that read.
const (
	seedSmall = "seed-small"
	seedLarge = "seed-large"
	largeName = "large.bin"
)

// seed puts what workloads read into the bucket.
func (d *storeData) seed(ctx context.Context, s *sdk) error {
	return errors.Join(s.putAll(ctx, seedSmall+"/", d.small), s.putLarge(ctx, seedLarge+"/"+largeName, d.large))
}

// storeRow is one workload of part "store". It is done in the directory that a
// prefix of the bucket is: on a mount by ordinary tools, beside it by the SDK
// alone.
type storeRow struct {
	name  string
	from  string // the seeded prefix to work in; empty: a fresh one
	sdk   func(ctx context.Context, s *sdk, prefix string) error
	mount func(ctx context.Context, dir string) error
	// stored asks the server itself whether the workload's outcome is there;
	// nil if it leaves none.
	stored func(ctx context.Context, direct *sdk, prefix string) error
}

// storeRows returns the workloads of part "store". Each begins with a mount
// that has just been made and an empty cache.
func (b *bench) storeRows(d *storeData) []storeRow {
	n := len(d.small)
	rows := []storeRow{
		{
			name: fmt.Sprintf("tar -x, %d x 4 KiB", n),
			sdk:  func(ctx context.Context, s *sdk, prefix string) error { return s.putAll(ctx, prefix, d.small) },
			mount: func(ctx context.Context, dir string) error {
				_, err := tool(ctx, "tar", "-x", "--no-same-owner", "-f", d.tar, "-C", dir)
				return err
			},
			stored: d.smallStored,
		},
		{
			name: fmt.Sprintf("grep -r, %d x 4 KiB, cold", n),
			from: seedSmall,
			sdk: func(ctx context.Context, s *sdk, prefix string) error {
				found := 0
				err := s.getAll(ctx, prefix, func(_ string, body []byte) {
					if bytes.Contains(body, []byte(needle)) {
						found++
					}
				})
				return errors.Join(err, wantCount("files with the needle", found, (n+9)/10))
			},
			mount: func(ctx context.Context, dir string) error {
				out, err := tool(ctx, "grep", "-r", "-l", needle, dir)
				return errors.Join(err, wantCount("files with the needle", strings.Count(out, "\n"), (n+9)/10))
			},
		},
		{
			name: fmt.Sprintf("ls -lR, %d files, cold", n),
			from: seedSmall,
			sdk: func(ctx context.Context, s *sdk, prefix string) error {
				sizes, err := s.list(ctx, prefix)
				return errors.Join(err, wantCount("objects", len(sizes), n))
			},
			mount: func(ctx context.Context, dir string) error {
				out, err := tool(ctx, "ls", "-lR", dir)
				return errors.Join(err, wantCount("files", strings.Count(out, ".txt\n"), n))
			},
		},
		{
			name: fmt.Sprintf("sequential write, %d MiB", len(d.large)>>20),
			sdk: func(ctx context.Context, s *sdk, prefix string) error {
				return s.putLarge(ctx, prefix+largeName, d.large)
			},
			mount:  func(_ context.Context, dir string) error { return d.writeLarge(filepath.Join(dir, largeName)) },
			stored: d.largeStored,
		},
		{
			name: fmt.Sprintf("sequential read, %d MiB, cold", len(d.large)>>20),
			from: seedLarge,
			sdk: func(ctx context.Context, s *sdk, prefix string) error {
				return s.getLarge(ctx, prefix+largeName, d.large)
			},
			mount: func(_ context.Context, dir string) error { return d.readLarge(filepath.Join(dir, largeName)) },
		},
	}
	var wanted []storeRow
	for _, r := range rows {
		if b.rows.MatchString(r.name) {
			wanted = append(wanted, r)
		}
	}
	return wanted
}

// tool runs a command and returns what it printed.
func tool(ctx context.Context, argv ...string) (string, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", argv[0], err, strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}

func wantCount(what string, got, want int) error {
	if got != want {
		return fmt.Errorf("%d %s instead of %d", got, what, want)
	}
	return nil
}

// block is how much writeLarge and readLarge move per call, as cp does.
const block = 256 << 10

func (d *storeData) writeLarge(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	for off := 0; off < len(d.large); off += block {
		if _, err := f.Write(d.large[off:min(off+block, len(d.large))]); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return f.Close()
}

func (d *storeData) readLarge(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, block)
	for off := 0; off < len(d.large); off += block {
		want := d.large[off:min(off+block, len(d.large))]
		if _, err := io.ReadFull(f, buf[:len(want)]); err != nil {
			return err
		}
		if !bytes.Equal(buf[:len(want)], want) {
			return fmt.Errorf("the bytes at %d are not those that were written", off)
		}
	}
	return nil
}

func (d *storeData) smallStored(ctx context.Context, direct *sdk, prefix string) error {
	// The listing first: while something is missing, looking must be cheap.
	sizes, err := direct.list(ctx, prefix)
	if err != nil {
		return err
	}
	if err := wantCount("objects in the bucket", len(sizes), len(d.small)); err != nil {
		return err
	}
	wrong := ""
	err = direct.getAll(ctx, prefix, func(name string, body []byte) {
		if !bytes.Equal(body, d.small[name]) {
			wrong = name
		}
	})
	if err == nil && wrong != "" {
		err = fmt.Errorf("%s is not what was written", wrong)
	}
	return err
}

func (d *storeData) largeStored(ctx context.Context, direct *sdk, prefix string) error {
	return direct.getLarge(ctx, prefix+largeName, d.large)
}
