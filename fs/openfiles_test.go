package fs

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/memory"
)

// counted counts the files that are open.
type counted struct {
	backends.ForwardFiles
	open atomic.Int64
}

type countedFile struct {
	backends.ForwardFile
	c *counted
}

func (c *counted) Open(ctx context.Context, n backends.Node, flags int) (backends.File, error) {
	f, err := c.FileSystem.Open(ctx, n, flags)
	if err != nil {
		return nil, err
	}
	c.open.Add(1)
	return &countedFile{backends.ForwardFile{File: f}, c}, nil
}

func (f *countedFile) Close(ctx context.Context) error {
	f.c.open.Add(-1)
	return f.File.Close(ctx)
}

// A mount that ends closes what the kernel has not released: it drops that when
// the connection is cut.
func TestEndClosesFiles(t *testing.T) {
	if os.Geteuid() != 0 {
		missing(t, "needs root, to cut the connection (umount -f)")
	}
	c := &counted{ForwardFiles: backends.ForwardFiles{FileSystem: newMemory(t, memory.Config{NoTmpfs: true})}}
	dir, s := mountFS(t, c, Options{})
	name := filepath.Join(dir, "f")
	if err := os.WriteFile(name, []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
	}
	if n := c.open.Load(); n != 2 {
		t.Fatalf("%d files are open instead of 2", n)
	}
	_ = unix.Unmount(dir, unix.MNT_FORCE) // busy, but cut off
	select {
	case <-s.done:
	case <-time.After(30 * time.Second):
		t.Fatal("the mount does not end")
	}
	if n := c.open.Load(); n != 0 {
		t.Errorf("%d files are open after the end", n)
	}
}
