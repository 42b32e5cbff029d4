package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
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
			name:  "sequential write and fsync, " + size,
			moves: int64(len(d.large)),
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
			name:  "sequential read, " + size + ", cold",
			from:  seedLarge,
			moves: int64(len(d.large)),
			sdk: func(ctx context.Context, s *sdk, prefix string) error {
				return s.getLarge(ctx, prefix+largeName, d.large)
			},
			mount: func(_ context.Context, w *onMount) error { return d.readLarge(filepath.Join(w.dir, largeName)) },
		},
		d.randomReads(),
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

const (
	randomReads    = 40
	randomReadSize = 64 << 10
)

// randomReads reads pieces of the large object, one after the other, each far
// from the last.
func (d *storeData) randomReads() storeRow {
	read := func(read func(off int64, p []byte) error) error {
		r := rand.New(rand.NewPCG(1, 1))
		got := make([]byte, randomReadSize)
		for range randomReads {
			off := r.Int64N(int64(len(d.large))/randomReadSize) * randomReadSize
			if err := read(off, got); err != nil {
				return err
			}
			if !bytes.Equal(got, d.large[off:off+randomReadSize]) {
				return fmt.Errorf("the bytes at %d are not those that were written", off)
			}
		}
		return nil
	}
	return storeRow{
		name: fmt.Sprintf("%d random reads of 64 KiB, %s, cold", randomReads, sizeName(len(d.large))),
		from: seedLarge,
		sdk: func(ctx context.Context, s *sdk, prefix string) error {
			return read(func(off int64, p []byte) error {
				got, err := s.get(ctx, prefix+largeName, off, int64(len(p)))
				copy(p, got)
				return err
			})
		},
		mount: func(_ context.Context, w *onMount) error {
			f, err := os.Open(w.path(largeName))
			if err != nil {
				return err
			}
			defer f.Close()
			return read(func(off int64, p []byte) error {
				return w.lap(func() error {
					_, err := f.ReadAt(p, off)
					return err
				})
			})
		},
		targets: []target{withinSDK(1.1), requestsOf(randomReads, "GETs", "Get")},
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
