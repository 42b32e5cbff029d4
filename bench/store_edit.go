package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"time"
)

// steps is how many times a small step is done.
const steps = 20

// editRows are small changes of small files.
func (d *storeData) editRows() []storeRow {
	edited := d.edited()
	want := maps.Clone(d.small)
	maps.Copy(want, edited)
	edit := storeRow{
		name: fmt.Sprintf("sed -i on %d of %d files, one by one, cold", len(edited), len(d.small)),
		seed: d.seedTree,
		sdk: func(ctx context.Context, s *sdk, prefix string) error {
			return s.editAll(ctx, prefix+tree+"/", edited, sedInGo)
		},
		mount: func(ctx context.Context, w *onMount) error {
			var errs []error
			for name := range edited {
				errs = append(errs, w.lap(func() error {
					_, err := tool(ctx, "sed", "-i", sedScript, w.path(tree+"/"+name))
					return err
				}))
			}
			return errors.Join(errs...)
		},
		stored: func(ctx context.Context, direct *sdk, prefix string) error {
			return wantObjects(ctx, direct, prefix+tree+"/", want)
		},
		targets: []target{eachIn(10 * time.Millisecond), requestsOf(len(edited), "PUTs", "Put")},
	}
	read := func(_ context.Context, w *onMount) error {
		for name := range edited {
			if _, err := os.ReadFile(w.path(tree + "/" + name)); err != nil {
				return err
			}
		}
		return nil
	}
	echo := storeRow{
		name:  fmt.Sprintf("echo > file, %d times, durability by default", steps),
		sdk:   func(ctx context.Context, s *sdk, prefix string) error { return s.putAll(ctx, prefix, echoed()) },
		mount: func(_ context.Context, w *onMount) error { return w.call(call{Op: "echo", Files: steps}) },
		stored: func(ctx context.Context, direct *sdk, prefix string) error {
			return wantObjects(ctx, direct, prefix, echoed())
		},
	}
	strict := echo
	strict.name, strict.options, strict.sdk = fmt.Sprintf("echo > file, %d times, durability=close", steps), "&durability=close", nil
	return []storeRow{edit, edit.after("listed", listed), edit.after("read", read), echo, strict}
}

// sedScript changes nearly every line; sedInGo does the same.
const sedScript = "s/a/bcd/"

func sedInGo(text []byte) []byte {
	var out []byte
	for line := range bytes.Lines(text) {
		out = append(out, bytes.Replace(line, []byte("a"), []byte("bcd"), 1)...)
	}
	return out
}

// edited returns some of the small files, in different directories, as they
// are after the script.
func (d *storeData) edited() map[string][]byte {
	names := d.names()
	m := map[string][]byte{}
	for i := range min(steps, len(names)) {
		name := names[i*len(names)/min(steps, len(names))]
		m[name] = sedInGo(d.small[name])
	}
	return m
}

// echoed returns what the operation "echo" leaves.
func echoed() map[string][]byte {
	m := map[string][]byte{}
	for i := range steps {
		m[echoName(i)] = echoText(i)
	}
	return m
}

func echoName(i int) string { return fmt.Sprintf("note%02d.txt", i) }

func echoText(i int) []byte { return fmt.Appendf(nil, "this is note number %d\n", i) }
