package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// bystander works in one directory of a mount while something goes on in another,
// and tells how long it was kept waiting.
type bystander struct {
	dir    string // of the mount
	beside string // outside: what the machine itself keeps waiting
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu    sync.Mutex
	worst waits
	err   error
}

// waits are the longest times that operations took.
type waits struct {
	stat   time.Duration // of a file that is known, asked of the mount each time
	create time.Duration // and remove, of a file
	beside time.Duration // the stat, outside of the mount
}

func (w waits) String() string {
	ms := func(d time.Duration) string { return fmt.Sprintf("%.0f", float64(d)/1e6) }
	return ms(w.stat) + ", " + ms(w.create) + " (" + ms(w.beside) + ") ms"
}

// watch starts a bystander in a new directory of a mount, and beside it.
func watch(mount, beside string) (*bystander, error) {
	b := &bystander{dir: filepath.Join(mount, "bystander"), beside: beside}
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return nil, err
	}
	for _, dir := range []string{b.dir, b.beside} {
		if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	b.cancel = cancel
	stat := func(dir string) func() error {
		return func() error {
			var st unix.Statx_t
			// The kernel must not answer by itself.
			return unix.Statx(unix.AT_FDCWD, filepath.Join(dir, "file"), unix.AT_STATX_FORCE_SYNC, unix.STATX_BASIC_STATS, &st)
		}
	}
	b.loop(ctx, time.Millisecond, stat(b.dir), func(w *waits) *time.Duration { return &w.stat })
	b.loop(ctx, time.Millisecond, stat(b.beside), func(w *waits) *time.Duration { return &w.beside })
	seq := 0
	b.loop(ctx, 20*time.Millisecond, func() error {
		name := filepath.Join(b.dir, fmt.Sprint("new", seq))
		seq++
		if err := os.WriteFile(name, []byte("content"), 0o644); err != nil {
			return err
		}
		return os.Remove(name)
	}, func(w *waits) *time.Duration { return &w.create })
	return b, nil
}

// loop does do again and again, with pauses.
func (b *bystander) loop(ctx context.Context, pause time.Duration, do func() error, of func(*waits) *time.Duration) {
	b.done.Go(func() {
		for ctx.Err() == nil {
			began := time.Now()
			err := do()
			took := time.Since(began)
			b.mu.Lock()
			*of(&b.worst) = max(*of(&b.worst), took)
			if b.err == nil {
				b.err = err
			}
			b.mu.Unlock()
			time.Sleep(pause)
		}
	})
}

// take returns the longest times since it was last called.
func (b *bystander) take() waits {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := b.worst
	b.worst = waits{}
	return w
}

// stop ends it and returns what failed.
func (b *bystander) stop() error {
	b.cancel()
	b.done.Wait()
	return b.err
}
