package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// storeRow is one workload of part "store". It is done in the directory that a
// prefix of the bucket is: on a mount by ordinary tools, beside it by the SDK
// alone.
type storeRow struct {
	name string
	from string // the prefix, for workloads that change nothing; empty: one of its own
	// seed puts into the prefix what the workload finds there; nil: an empty
	// directory, unless from names one.
	seed func(ctx context.Context, direct *sdk, prefix string) error
	// warm is what the mount has done before; nil: it is cold.
	warm     func(ctx context.Context, w *onMount) error
	fresh    bool   // nothing at all was changed in this mount before
	moves    int64  // how many bytes it moves, if they are many
	options  string // of agentfs' route; other mounts don't take part
	loopback bool   // a loopback mount takes part
	kernel   bool   // the kernel's requests to the mount are counted, too
	// local puts into the directory of a loopback mount what the workload finds
	// there; nil: nothing.
	local func(ctx context.Context, w *onMount) error

	// once puts into the bucket what from names, for rows that share it and that
	// may not be asked for.
	once func(ctx context.Context, s *sdk) error
	// direct is what agentfs does without a mount, instead of mount; then no other
	// mount takes part.
	direct func(ctx context.Context, d direct) error

	sdk   func(ctx context.Context, s *sdk, prefix string) error // nil: it takes no part
	mount func(ctx context.Context, w *onMount) error
	// stored asks the server itself whether the workload's outcome is there, all
	// of it and nothing else; nil if it leaves none.
	stored  func(ctx context.Context, direct *sdk, prefix string) error
	targets []target
}

func (r storeRow) verify(ctx context.Context, direct *sdk, prefix string) error {
	if r.stored == nil {
		return nil
	}
	return r.stored(ctx, direct, prefix)
}

// storeRows returns the workloads of part "store" that were asked for. To add
// one: a row in one of these lists.
func (b *bench) storeRows(d *storeData) []storeRow {
	rows := slices.Concat(b.firstRows(), d.smallRows(), d.editRows(), d.appendRows(), d.largeRows(), d.gitRows(), d.warmRows(), b.directRows())
	return slices.DeleteFunc(rows, func(r storeRow) bool { return !b.wantsRow(r.name) })
}

// firstRows are about what a mount asks a store once.
func (b *bench) firstRows() []storeRow {
	return []storeRow{{
		name:  "the first changes of a mount: mkdir, write 10 MiB, mv, rm",
		fresh: true,
		sdk: func(ctx context.Context, s *sdk, prefix string) error {
			return errors.Join(s.put(ctx, prefix, nil), s.putLarge(ctx, prefix+"one", make([]byte, firstSize)),
				s.copy(ctx, prefix+"one", prefix+"two"), s.remove(ctx, []string{prefix + "one", prefix + "two"}))
		},
		mount: func(ctx context.Context, w *onMount) error { return w.firstChanges(ctx, w.dir) },
		stored: func(ctx context.Context, direct *sdk, prefix string) error {
			return wantObjects(ctx, direct, prefix, nil)
		},
	}}
}

// firstSize makes a file large enough to be sent in parts.
const firstSize = 10 << 20

// firstChanges makes a directory and lets the mount do to the store, in it, what
// makes it ask the store what it can.
func (w *onMount) firstChanges(ctx context.Context, dir string) error {
	one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")
	for _, change := range []func() error{
		func() error { return os.Mkdir(dir, 0o755) },
		func() error { return os.WriteFile(one, make([]byte, firstSize), 0o644) },
		func() error { return os.Rename(one, two) },
		func() error { return os.Remove(two) },
	} {
		if err := change(); err != nil {
			return err
		}
		// Otherwise there might be nothing left to send in the end.
		if err := w.sync(ctx); err != nil {
			return err
		}
	}
	return nil
}

// onMount is a workload at work in a directory of a mount.
type onMount struct {
	*bench
	root string // the mount point
	dir  string // the directory to work in
	sync func(context.Context) error
	laps []time.Duration
}

func (w *onMount) path(name string) string { return filepath.Join(w.dir, filepath.FromSlash(name)) }

// lap does one step of many and remembers how long it took.
func (w *onMount) lap(f func() error) error {
	began := time.Now()
	err := f()
	w.laps = append(w.laps, time.Since(began))
	return err
}

// call has a worker do an operation that consists of many steps.
func (w *onMount) call(q call) error {
	worker, err := w.startWorker(w.dir)
	if err != nil {
		return err
	}
	steps, err := worker.steps(q)
	w.laps = append(w.laps, steps...)
	if e := worker.stop(); err == nil {
		err = e
	}
	return err
}

// listed is a warm-up: the mount was asked for all names and attributes below the
// directory.
func listed(ctx context.Context, w *onMount) error {
	_, err := tool(ctx, "find", w.dir, "-ls")
	return err
}

// tool runs a command and returns what it printed.
func tool(ctx context.Context, argv ...string) (string, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	// The user's settings of git have no part in this; and files may belong to
	// whom a mount says.
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
		"GIT_AUTHOR_NAME=bench", "GIT_AUTHOR_EMAIL=bench@localhost", "GIT_COMMITTER_NAME=bench", "GIT_COMMITTER_EMAIL=bench@localhost",
		"GIT_AUTHOR_DATE=2026-01-01T00:00:00Z", "GIT_COMMITTER_DATE=2026-01-01T00:00:00Z")
	// A tool that hangs in a mount dies only when the mount does: it must not keep
	// this process, too.
	cmd.WaitDelay = 5 * time.Second
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
