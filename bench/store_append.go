package main

import (
	"bytes"
	"context"
	"fmt"
)

const (
	logName    = "app.log" // the object that is appended to
	appendSize = 1 << 10
)

// appendText is the i-th piece that is appended.
func appendText(i int) []byte { return bytes.Repeat([]byte{'a' + byte(i)}, appendSize) }

// appended returns an object after all appends.
func (d *storeData) appended() []byte {
	text := bytes.Clone(d.medium)
	for i := range steps {
		text = append(text, appendText(i)...)
	}
	return text
}

// appendRows add to the end of an object, as a program does that writes a log.
func (d *storeData) appendRows() []storeRow {
	want := map[string][]byte{logName: d.appended()}
	tail := want[logName][len(d.medium):]
	row := storeRow{
		seed: func(ctx context.Context, direct *sdk, prefix string) error {
			return direct.putLarge(ctx, prefix+logName, d.medium)
		},
		stored: func(ctx context.Context, direct *sdk, prefix string) error {
			return wantObjects(ctx, direct, prefix, want)
		},
	}
	what := fmt.Sprintf("%d appends of 1 KiB to %s", steps, sizeName(len(d.medium)))
	synced, plain := row, row
	synced.name = what + ", an fsync after each, cold"
	synced.sdk = func(ctx context.Context, s *sdk, prefix string) error {
		size := int64(len(d.medium))
		for i := range steps {
			if err := s.append(ctx, prefix+logName, size, appendText(i)); err != nil {
				return err
			}
			size += appendSize
		}
		return nil
	}
	synced.mount = func(_ context.Context, w *onMount) error {
		return w.call(call{Op: "append and sync", Files: steps})
	}
	synced.targets = []target{sentAtMost(64 << 10)}
	plain.name = what + ", no fsync, cold"
	plain.sdk = func(ctx context.Context, s *sdk, prefix string) error {
		return s.append(ctx, prefix+logName, int64(len(d.medium)), tail)
	}
	plain.mount = func(_ context.Context, w *onMount) error {
		return w.call(call{Op: "append", Files: steps})
	}
	plain.targets = []target{requestsOf(1, "uploads", uploadOps...)}
	return []storeRow{synced, plain}
}
