package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// largeName is the name of the large object.
const largeName = "large.bin"

// largeRows move much data.
func (d *storeData) largeRows() []storeRow {
	size := sizeName(len(d.large))
	return []storeRow{
		{
			name: "sequential write and fsync, " + size,
			sdk: func(ctx context.Context, s *sdk, prefix string) error {
				return s.putLarge(ctx, prefix+largeName, d.large)
			},
			mount: func(_ context.Context, w *onMount) error { return d.writeLarge(filepath.Join(w.dir, largeName)) },
			stored: func(ctx context.Context, direct *sdk, prefix string) error {
				return direct.getLarge(ctx, prefix+largeName, d.large)
			},
			targets: []target{storedWithin(1.2)},
		},
		{
			name: "sequential read, " + size + ", cold",
			from: seedLarge,
			sdk: func(ctx context.Context, s *sdk, prefix string) error {
				return s.getLarge(ctx, prefix+largeName, d.large)
			},
			mount: func(_ context.Context, w *onMount) error { return d.readLarge(filepath.Join(w.dir, largeName)) },
		},
		{
			name: "cp within the mount, " + sizeName(len(d.medium)) + ", cold",
			seed: func(ctx context.Context, direct *sdk, prefix string) error {
				return direct.putLarge(ctx, prefix+largeName, d.medium)
			},
			sdk: func(ctx context.Context, s *sdk, prefix string) error {
				return s.copy(ctx, prefix+largeName, prefix+"copy")
			},
			mount: func(ctx context.Context, w *onMount) error {
				_, err := tool(ctx, "cp", w.path(largeName), w.path("copy"))
				return err
			},
			stored: func(ctx context.Context, direct *sdk, prefix string) error {
				return wantObjects(ctx, direct, prefix, map[string][]byte{largeName: d.medium, "copy": d.medium})
			},
		},
	}
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
	return errors.Join(f.Sync(), f.Close())
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
