package local_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/local"
)

// descriptors counts those that are open below dir.
func descriptors(t *testing.T, dir string) (n int) {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	for _, d := range list {
		if to, err := os.Readlink("/proc/self/fd/" + d.Name()); err == nil && strings.HasPrefix(to, dir+"/") {
			n++
		}
	}
	return n
}

// Nodes that nobody knows any more give their descriptors back.
func TestDescriptorsOfForgottenNodes(t *testing.T) {
	s, dir := newStore(t)
	f := s.FileSystem()
	const files = 500
	var nodes []backends.Node
	for i := range files {
		name := fmt.Sprint("f", i)
		must(t, os.WriteFile(filepath.Join(dir, name), nil, 0o644))
		n, _, err := f.Lookup(t.Context(), f.Root(), name)
		must(t, err)
		nodes = append(nodes, n)
	}
	if got := descriptors(t, dir); got != files {
		t.Fatalf("%d descriptors with %d nodes: the test shows nothing", got, files)
	}
	for _, n := range nodes {
		f.Forget(n)
	}
	nodes = nil
	deadline := time.Now().Add(10 * time.Second)
	for descriptors(t, dir) > 0 {
		if time.Now().After(deadline) {
			t.Fatalf("%d descriptors are still open", descriptors(t, dir))
		}
		runtime.GC()
		time.Sleep(10 * time.Millisecond)
	}
}

// An unlinked file's space is free as soon as it is forgotten, not when some
// collection comes.
func TestForgetFreesUnlinked(t *testing.T) {
	s, dir := newStore(t)
	f := s.FileSystem()
	ctx := t.Context()
	n, _, file, err := f.Create(ctx, f.Root(), "f", os.O_RDWR|os.O_CREATE|os.O_EXCL, backends.CreateAttr{Mode: 0o644})
	must(t, err)
	must(t, file.Close(ctx))
	must(t, f.Unlink(ctx, f.Root(), "f"))
	if _, err := f.Attr(ctx, n); err != nil {
		t.Errorf("Attr of an unlinked file that is known: %v", err)
	}
	if got := descriptors(t, dir); got != 1 {
		t.Errorf("%d descriptors of an unlinked file that is known, want 1", got)
	}
	f.Forget(n)
	if got := descriptors(t, dir); got != 0 {
		t.Errorf("%d descriptors after Forget", got)
	}
	f.Forget(n)
	if _, err := f.Attr(ctx, n); err == nil {
		t.Error("Attr of a forgotten, unlinked file succeeded")
	}
	runtime.KeepAlive(n)
}

// Running out of descriptors costs a collection and not an error.
func TestOutOfDescriptors(t *testing.T) {
	s, dir := newStore(t)
	f := s.FileSystem()
	const limit = 300
	for i := range 3 * limit {
		must(t, os.WriteFile(filepath.Join(dir, fmt.Sprint("f", i)), nil, 0o644))
	}
	var old unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit, Max: old.Max}))
	defer func() { must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &old)) }()
	for i := range 3 * limit {
		if _, _, err := f.Lookup(t.Context(), f.Root(), fmt.Sprint("f", i)); err != nil {
			t.Fatalf("Lookup %d with a limit of %d descriptors: %v", i, limit, err)
		}
	}
}

// A host mount below the directory is crossed, with ids of its own.
func TestMountBelow(t *testing.T) {
	if os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("mounting needs root")
		}
		t.Skip("mounting needs root")
	}
	s, dir := newStore(t)
	mnt := filepath.Join(dir, "mnt")
	must(t, os.Mkdir(mnt, 0o755))
	if err := unix.Mount("tmpfs", mnt, "tmpfs", 0, "size=1m"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("mounting a tmpfs: %v", err)
		}
		t.Skipf("mounting a tmpfs: %v", err)
	}
	defer func() {
		if err := unix.Unmount(mnt, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	f := s.FileSystem()
	ctx := t.Context()
	n, _, err := f.Lookup(ctx, f.Root(), "mnt")
	must(t, err)
	attr := backends.CreateAttr{Mode: 0o644}
	child, a, file, err := f.Create(ctx, n, "f", os.O_RDWR|os.O_CREATE|os.O_EXCL, attr)
	must(t, err)
	defer file.Close(ctx)
	if a.ID < 1<<47 || a.ID >= 1<<48 || child.ID() != a.ID {
		t.Errorf("the id on another device is %#x", a.ID)
	}
	list, err := f.ReadDir(ctx, n)
	must(t, err)
	if len(list) != 1 || list[0].ID != a.ID {
		t.Errorf("ReadDir has %+v, want the id %#x", list, a.ID)
	}
	if _, err := s.Put(ctx, "mnt/g", body("x"), backends.PutOptions{}); err != nil {
		t.Errorf("Put on a mount below: %v", err)
	}
	if err := f.Rename(ctx, n, "f", f.Root(), "f", 0); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Rename between devices: %v, want ErrUnsupported", err)
	}
	if err := f.Rmdir(ctx, f.Root(), "mnt"); !errors.Is(err, backends.ErrBusy) {
		t.Errorf("Rmdir of a mount point: %v, want ErrBusy", err)
	}
	full := body(strings.Repeat("x", 2<<20))
	if _, err := s.Put(ctx, "mnt/full", full, backends.PutOptions{}); !errors.Is(err, backends.ErrNoSpace) {
		t.Errorf("Put on a full device: %v, want ErrNoSpace", err)
	}
	for e, err := range s.List(ctx, "mnt", "") {
		must(t, err)
		if e.Name != "mnt/f" && e.Name != "mnt/g" {
			t.Errorf("a Put that failed left %s", e.Name)
		}
	}
}

// Forget may come while somebody still asks: no call may then reach another
// file through a descriptor number that was given out again.
func TestForgetInUse(t *testing.T) {
	s, _ := newStore(t)
	f := s.FileSystem()
	ctx := t.Context()
	for round := range 100 {
		name := fmt.Sprint("f", round)
		n, _, file, err := f.Create(ctx, f.Root(), name, os.O_RDWR|os.O_CREATE|os.O_EXCL, backends.CreateAttr{Mode: 0o600})
		must(t, err)
		must(t, file.Close(ctx))
		must(t, f.Unlink(ctx, f.Root(), name))
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				if i == 0 {
					f.Forget(n)
					if g, err := os.Open("/dev/null"); err == nil { // takes the number
						defer g.Close()
					}
					return
				}
				for range 20 {
					if a, err := f.Attr(ctx, n); err == nil && (a.ID != n.ID() || !a.Mode.IsRegular()) {
						t.Errorf("Attr of node %d reached %+v", n.ID(), a)
					}
				}
			})
		}
		wg.Wait()
	}
}

// Who made a file that nobody may write can set its length while it is open, also
// where agentfs is not root. Packs of git are such files, and fast-import does that.
func TestTruncateOfReadOnlyMode(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o777))
	s, err := local.New(dir)
	must(t, err)
	defer s.Close()
	uid := os.Getuid()
	if uid == 0 {
		uid = 65534
		runtime.LockOSThread()
		must(t, unix.Setfsuid(uid))
		defer func() { must(t, unix.Setfsuid(0)); runtime.UnlockOSThread() }()
	}
	f := s.FileSystem()
	n, _, h, err := f.Create(t.Context(), f.Root(), "pack", os.O_RDWR, backends.CreateAttr{Mode: 0o444, UID: uint32(uid), GID: uint32(os.Getgid())})
	must(t, err)
	_, err = f.SetAttr(t.Context(), n, backends.AttrChange{Set: backends.SetSize, Size: 100})
	must(t, err)
	must(t, h.Close(t.Context()))
	if _, err = f.SetAttr(t.Context(), n, backends.AttrChange{Set: backends.SetSize, Size: 10}); !errors.Is(err, os.ErrPermission) {
		t.Errorf("once it is closed: %v, want EACCES", err)
	}
}
