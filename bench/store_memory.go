package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// storeMemory measures what agentfs keeps in memory for files that the store does not
// have yet, and for entries that a store listed.
func (r *storeRun) storeMemory(ctx context.Context, out io.Writer) error {
	p, ok := r.peer(agentfs)
	if !ok || r.storePending+r.storeEntries == 0 || !r.wantsRow("memory") {
		return nil
	}
	lines := [][]string{{"memory of agentfs", "bytes each", "resident in all, before and after"}}
	for _, m := range []struct {
		name string
		n    int
		fake *fakeList // set before the mount
		fill func(ctx context.Context, m *mount) error
		gogc string

		options string
	}{
		{"pending uploads of 4 bytes", r.storePending, nil, r.fillPending, collector, ""},
		// A collector as eager as that takes longer over a million entries than
		// an operation may take; and they are to be there still at the end.
		{"entries of one directory, listed", r.storeEntries, &fakeList{prefix: entriesDir + "/", n: r.storeEntries}, r.fillEntries(false), "GOGC=25", "&ttl=1h"},
		{"entries of one directory, listed and looked at", r.storeEntries, &fakeList{prefix: entriesDir + "/", n: r.storeEntries}, r.fillEntries(true), "GOGC=25", "&ttl=1h"},
	} {
		if m.n == 0 {
			continue
		}
		name := fmt.Sprintf("%d %s", m.n, m.name)
		if m.fake != nil {
			if err := m.fake.mark(ctx, r.direct); err != nil {
				return err
			}
		}
		r.server.slow.setFake(m.fake)
		before, after, err := r.memoryWith(ctx, p, m.gogc, m.options, m.fill)
		r.server.slow.setFake(nil)
		var skip skipped
		switch {
		case errors.As(err, &skip):
			r.note("left out: %s: %s", name, skip)
			continue
		case err != nil && ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			r.fail(agentfs, name, err)
			continue
		}
		lines = append(lines, []string{name + " (" + m.gogc + ")", perItem(after.anon-before.anon, m.n),
			fmt.Sprintf("%d and %d MiB", before.resident>>20, after.resident>>20)})
		r.log.Printf("store: %s is done", name)
	}
	if len(lines) > 1 {
		fmt.Fprint(out, "Anonymous memory of the process by its growth, with a low GOGC, so that little more is resident than what lives; what go-fuse keeps per inode that the kernel knows is included: of listed names it knows few, of those that were looked at all. The store answers nothing that would change it while uploads are pending; the listing is made by the proxy.\n\n")
		writeTable(out, lines)
	}
	return nil
}

// skipped is why something can't be measured.
type skipped string

func (s skipped) Error() string { return string(s) }

// memoryWith returns how large the process of a fresh mount was before and after
// fill. The process is killed then: what is pending would take minutes.
func (r *storeRun) memoryWith(ctx context.Context, p peer, gogc, options string, fill func(context.Context, *mount) error) (before, after growth, err error) {
	r.seq++
	m, err := p.start(ctx, r.bench, r.server.slow.url, filepath.Join(r.tmp, fmt.Sprintf("store%04d", r.seq)), options, gogc)
	if err != nil {
		return before, after, err
	}
	defer func() {
		m.kill()
		r.server.slow.release()
		err = errors.Join(err, m.close())
	}()
	// What a mount asks a store once, and what the first use of a path of code costs.
	if err := os.WriteFile(filepath.Join(m.dir, fmt.Sprintf("first%04d", r.seq)), nil, 0o644); err != nil {
		return before, after, err
	}
	if err := p.sync(ctx, r.bench, m.dir); err != nil {
		return before, after, err
	}
	if before, err = footprint(m.pid); err != nil {
		return before, after, err
	}
	if err := fill(ctx, m); err != nil {
		return before, after, fmt.Errorf("%w\n%s", err, m.lastWords())
	}
	after, err = footprint(m.pid)
	return before, after, err
}

// closeLimit is how long the close of a file may take while the store is silent,
// before it counts as one that waits for the store.
func (b *bench) closeLimit() time.Duration {
	if b.quick {
		return 2 * time.Second
	}
	return 10 * time.Second
}

func (r *storeRun) fillPending(_ context.Context, m *mount) error {
	r.server.slow.hold()
	w, err := r.startWorker(m.dir)
	if err != nil {
		return err
	}
	first := make(chan error, 1)
	go func() {
		_, err := w.do(call{Op: "echo", Files: 1})
		first <- err
	}()
	select {
	case err := <-first:
		if err != nil {
			return errors.Join(err, w.stop())
		}
	case <-time.After(r.closeLimit()):
		// The worker comes back when the mount is gone.
		m.kill()
		<-first
		return errors.Join(skipped(fmt.Sprintf("close(2) had not returned after %v without an answer of the store", r.closeLimit())), w.stop())
	}
	if _, err := w.do(call{Op: "create", Files: r.storePending, Size: 4}); err != nil {
		return errors.Join(err, w.stop())
	}
	return w.stop()
}

// entriesDir is the directory that has very many names.
const entriesDir = "million"

// fillEntries lists the directory; look says that it looks at each file, too, as
// ls -l does, so that the kernel knows them all.
func (r *storeRun) fillEntries(look bool) func(ctx context.Context, m *mount) error {
	return func(ctx context.Context, m *mount) error {
		listed := make(chan error, 1)
		go func() { listed <- wantNames(filepath.Join(m.dir, entriesDir), r.storeEntries, look) }()
		select {
		case err := <-listed:
			return err
		case <-ctx.Done():
		case <-time.After(r.storeLimit):
		}
		m.kill()
		<-listed
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("> %v: %w", r.storeLimit, errTooLong)
	}
}

// wantNames reads a directory to its end, which shows n names.
func wantNames(dir string, n int, look bool) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	got := 0
	for {
		names, err := d.Readdirnames(10_000)
		got += len(names)
		for _, name := range names {
			if !look {
				break
			}
			if _, err := os.Lstat(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return wantCount("names in the listing", got, n)
		}
		if err != nil {
			return fmt.Errorf("after %d names: %w", got, err)
		}
		if got > n {
			return fmt.Errorf("the listing of %d names does not end after %d", n, got)
		}
	}
}
