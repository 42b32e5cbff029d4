package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// memory measures what files and open handles cost the server of a mount.
func (b *bench) memory(ctx context.Context, out io.Writer) error {
	if b.memFiles == 0 || !b.wantsRow("memory") {
		return nil
	}
	lines := [][]string{{"memory", "bytes per empty file", "bytes per 4 KiB file", "bytes per open handle", "more descriptors while open", "kernel slab per empty file"}}
	for i, c := range b.localCandidates() {
		if c.name == "tmpfs" || c.name == "loopback-nopt" {
			continue // the kernel's; the same as loopback
		}
		line, err := b.memoryOf(ctx, c, filepath.Join(b.tmp, "memory"+strconv.Itoa(i)))
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			b.fail(c.name, "memory", err)
			continue
		}
		lines = append(lines, line)
		b.log.Printf("memory: %s is done", c.name)
	}
	fmt.Fprintf(out, "Anonymous memory of the server (with %s, so that little more is resident than what lives), by its growth over %d files and %d open handles. The slab is the whole machine's: inodes and names in the kernel, the same for any FUSE mount.\n\n", collector, b.memFiles, b.handles)
	writeTable(out, lines)
	return nil
}

// collector is the environment of a measured server: little more is resident
// then than what lives.
const collector = "GOGC=5"

// memoryOf returns a candidate's line of the table. Each figure has a mount of its
// own: what one leaves behind for the collector must not count for the next.
func (b *bench) memoryOf(ctx context.Context, c localCandidate, dir string) ([]string, error) {
	var empty, small, held growth
	err := b.inFreshMount(ctx, c, dir+"empty", func(pid int, w *worker) (err error) {
		empty, err = growthBy(pid, w, call{Op: "populate", Files: b.memFiles})
		return err
	})
	if err != nil {
		return nil, err
	}
	err = b.inFreshMount(ctx, c, dir+"small", func(pid int, w *worker) (err error) {
		small, err = growthBy(pid, w, call{Op: "populate", Files: b.memFiles, Size: smallSize})
		return err
	})
	if err != nil {
		return nil, err
	}
	err = b.inFreshMount(ctx, c, dir+"held", func(pid int, w *worker) (err error) {
		// No more files than handles: what the collector has not got round to
		// is a part of all that lives.
		if _, err := w.do(call{Op: "populate", Files: b.handles, Size: smallSize}); err != nil {
			return err
		}
		held, err = growthBy(pid, w, call{Op: "hold", Files: b.handles})
		return err
	})
	if err != nil {
		return nil, err
	}
	return []string{c.name, perItem(empty.anon, b.memFiles), perItem(small.anon, b.memFiles),
		perItem(held.anon, b.handles), strconv.Itoa(held.fds), perItem(empty.slab, b.memFiles)}, nil
}

// inFreshMount calls f with a mount's server and a worker in it, both just started.
func (b *bench) inFreshMount(ctx context.Context, c localCandidate, dir string, f func(pid int, w *worker) error) (err error) {
	m, err := c.start(ctx, dir, []string{collector})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	w, err := b.startWorker(m.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.stop()) }()

	// A few files first: what the first use of a path of code costs is not the
	// price of a file.
	if _, err := w.do(call{Op: "populate", Files: 100, Size: smallSize}); err != nil {
		return err
	}
	if _, err := w.do(call{Op: "clear"}); err != nil {
		return err
	}
	return f(m.pid, w)
}

// growth is what a server occupies more than before.
type growth struct {
	anon int64 // bytes of anonymous memory: heap and stacks
	slab int64 // bytes of the kernel's own, of the whole machine
	fds  int   // open descriptors

	resident int64 // bytes of all kinds
}

// growthBy returns what process pid grows by when w does c.
func growthBy(pid int, w *worker, c call) (growth, error) {
	before, err := footprint(pid)
	if err != nil {
		return growth{}, err
	}
	if _, err := w.do(c); err != nil {
		return growth{}, err
	}
	after, err := footprint(pid)
	return growth{after.anon - before.anon, after.slab - before.slab, after.fds - before.fds, after.resident - before.resident}, err
}

func perItem(bytes int64, n int) string {
	return strconv.FormatInt(bytes/int64(max(n, 1)), 10)
}

// footprint returns what a process occupies now: its growth from nothing.
func footprint(pid int) (growth, error) {
	// A collection that was due is over by then.
	time.Sleep(500 * time.Millisecond)
	var f growth
	var err error
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	if f.anon, err = kilobytes(filepath.Join(proc, "status"), "RssAnon:"); err != nil {
		return f, err
	}
	if f.resident, err = kilobytes(filepath.Join(proc, "status"), "VmRSS:"); err != nil {
		return f, err
	}
	if f.slab, err = kilobytes("/proc/meminfo", "Slab:"); err != nil {
		return f, err
	}
	fds, err := os.ReadDir(filepath.Join(proc, "fd"))
	f.fds = len(fds)
	return f, err
}

// kilobytes returns the value of a line such as "Slab:  1234 kB", in bytes.
func kilobytes(file, key string) (int64, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == key {
			n, err := strconv.ParseInt(f[1], 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("%s has no %s", file, key)
}
