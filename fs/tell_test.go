package fs

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/memory"
)

// lookups counts the names that are looked up, by the kernel or for it.
type lookups struct {
	shortValid
	n atomic.Int64
}

func (l *lookups) Lookup(ctx context.Context, p backends.Node, name string) (backends.Node, backends.Attr, error) {
	l.n.Add(1)
	n, a, err := l.FileSystem.Lookup(ctx, p, name)
	a.Valid = 10 * time.Second
	return n, a, err
}

// Of a large directory whose names are all that somebody wants no file is looked
// up; of whoever looks at the files each is looked up once, most of them with the
// listing.
func TestLargeDirectoryIsToldByNames(t *testing.T) {
	const count = 3 * tellAll
	fsys := &lookups{shortValid: shortValid{newMemory(t, memory.Config{NoTmpfs: true})}}
	makeFiles(t, fsys.FileSystem, count)
	dir, _ := mountFS(t, fsys, Options{})
	fsys.n.Store(0)
	if names := openDir(t, dir).rest(); len(names) != count {
		t.Errorf("%d names", len(names))
	}
	if n := fsys.n.Load(); n > 10 {
		t.Errorf("%d names were looked up for a listing of names", n)
	}
	d := openDir(t, dir)
	seen := 0
	for entries := d.next(); len(entries) > 0; entries = d.next() {
		for _, e := range entries {
			if _, err := os.Lstat(filepath.Join(dir, e.name)); err != nil {
				t.Fatal(err)
			}
			seen++
		}
	}
	if n := fsys.n.Load(); seen != count || n < count || n > count+count/10 {
		t.Errorf("%d names were looked up to see %d files", n, seen)
	}
}

// A file system whose listing changes with each reading, and takes a while.
type longListing struct {
	listed
	wait time.Duration
}

func (l *longListing) ReadDir(ctx context.Context, n backends.Node) ([]backends.DirEntry, error) {
	select {
	case <-time.After(l.wait):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	l.mu.Lock()
	l.stamp++
	l.mu.Unlock()
	return l.listed.ReadDir(ctx, n)
}

// A listing may take longer than other operations, and one that took so long that
// it does not count any more is not read a second time.
func TestLongListing(t *testing.T) {
	l := &longListing{listed: listed{FileSystem: newMemory(t, memory.Config{NoTmpfs: true})}, wait: 400 * time.Millisecond}
	makeFiles(t, l.FileSystem, 10)
	l.set(1, 0)
	dir, _ := mountFS(t, l, Options{Timeout: 200 * time.Millisecond})
	es, err := os.ReadDir(dir)
	if err != nil || len(es) != 10 {
		t.Errorf("%d entries, %v", len(es), err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reads != 1 {
		t.Errorf("it was read %d times", l.reads)
	}
}

// keeper takes the holder of a mount.
type keeper struct {
	listed
	mu     sync.Mutex
	holder backends.NodeHolder
}

func (k *keeper) OnHold(h backends.NodeHolder) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.holder = h
}

// What is kept of a listing goes when the file system forgets the directory's
// names, but not under a reader's feet; a listing after that is whole.
func TestListingIsReleased(t *testing.T) {
	const count = 3000
	k := &keeper{listed: listed{FileSystem: newMemory(t, memory.Config{NoTmpfs: true})}}
	makeFiles(t, k.FileSystem, count)
	k.set(1, time.Hour)
	dir, srv := mountFS(t, k, Options{})
	root := func() *inode {
		v, ok := srv.m.dirs.Load(k.Root().ID())
		if !ok {
			t.Fatal("the root was not looked into")
		}
		return v.(*inode)
	}
	has := func() bool {
		n := root()
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.listing != nil
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	d := &dirStream{t: t, fd: fd}
	first := len(d.next())
	k.holder.Release(k.Root(), nil)
	if !has() {
		t.Error("the listing is gone while it is read")
	}
	if n := first + len(d.rest()); n != count {
		t.Errorf("%d names", n)
	}
	if err := unix.Close(fd); err != nil {
		t.Fatal(err)
	}
	for range 200 { // the kernel says so a moment later
		if k.holder.Release(k.Root(), nil); !has() {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if has() {
		t.Error("the listing is kept")
	}
	for range 2 {
		if names := openDir(t, dir).rest(); len(names) != count {
			t.Errorf("%d names", len(names))
		}
	}
}
