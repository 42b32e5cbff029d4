package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// smallDisk returns a directory on a file system of 1 MiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	small := t.TempDir()
	if err := syscall.Mount("none", small, "tmpfs", 0, "size=1m"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("a small file system can't be mounted (are we root?): %v", err)
		}
		t.Skipf("a small file system can't be mounted: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(small, syscall.MNT_DETACH) })
	return small
}

// TestFullGroup: a batch for which there is no room fails, alone; what waited with
// it is committed.
func TestFullGroup(t *testing.T) {
	j := mustOpen(t, filepath.Join(smallDisk(t), "journal"), quiet)
	put(t, j, "before", "1")
	var batches []*Batch
	for i := range 5 {
		b := &Batch{}
		b.Put(fmt.Sprint(i), []byte("small"))
		b.Put("last", fmt.Append(nil, i))
		if i == 2 {
			b.Put("big", make([]byte, 2<<20))
		}
		batches = append(batches, b)
	}
	for i, err := range queueUp(j, batches...)() {
		if (err != nil) != (i == 2) || err != nil && !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("batch %d: %v", i, err)
		}
	}
	want := map[string]string{"before": "1", "0": "small", "1": "small", "3": "small", "4": "small", "last": "4"}
	wantContents(t, j, want)
	after := t.TempDir()
	copyFiles(t, j.dir, after)
	k := mustOpen(t, after, quiet)
	wantSilence(t, k)
	wantContents(t, k, want)
	mustClose(t, j)
	wantSilence(t, mustOpen(t, j.dir, quiet))
}

// TestFullOfThePast: a disk that is full of what was overtaken long ago is not full, once
// there is a little room to move (the cache has a reserve for that).
func TestFullOfThePast(t *testing.T) {
	small := smallDisk(t)
	reserve := filepath.Join(small, "reserve")
	writeFile(t, reserve, make([]byte, 400<<10))
	j := mustOpen(t, filepath.Join(small, "journal"), quiet)
	want := map[string]string{}
	full := 0
	for n := range 2000 {
		k, v := fmt.Sprintf("n/%d", n%100), fmt.Sprintf("%d %s", n, strings.Repeat("x", 500))
		var b Batch
		b.Put(k, []byte(v))
		err := j.Commit(&b)
		if errors.Is(err, syscall.ENOSPC) && full == 0 {
			full = n
			if err := os.Remove(reserve); err != nil {
				t.Fatal(err)
			}
			err = j.Commit(&b)
		}
		if err != nil {
			t.Fatalf("commit %d: %v", n, err)
		}
		want[k] = v
	}
	if full == 0 {
		t.Error("it was never full")
	}
	wantContents(t, j, want)
	mustClose(t, j)
	j = mustOpen(t, j.dir, quiet)
	wantSilence(t, j)
	wantContents(t, j, want)
}

// TestFullDisk fills a small file system: what was acknowledged stays, what failed
// is not there, and with some room it goes on.
func TestFullDisk(t *testing.T) {
	small := smallDisk(t)
	writeFile(t, filepath.Join(small, "ballast"), make([]byte, 300<<10))

	dir := filepath.Join(small, "journal")
	j := mustOpen(t, dir, quiet)
	want := map[string]string{}
	n := 0
	// commit commits until something fails, and returns how many it did.
	commit := func() int {
		for from := n; ; n++ {
			v := fmt.Sprint(n, make([]byte, 500))
			var b Batch
			b.Put(fmt.Sprintf("a/%d", n), []byte(v))
			b.Put("last", fmt.Append(nil, n))
			if err := j.Commit(&b); err != nil {
				if !errors.Is(err, syscall.ENOSPC) {
					t.Fatalf("commit %d: %v", n, err)
				}
				return n - from
			}
			want[fmt.Sprintf("a/%d", n)], want["last"] = v, fmt.Sprint(n)
		}
	}
	if commit() == 0 {
		t.Fatal("nothing was committed")
	}
	wantContents(t, j, want)
	if err := os.Remove(filepath.Join(small, "ballast")); err != nil {
		t.Fatal(err)
	}
	if more := commit(); more == 0 {
		t.Error("nothing was committed after room was made")
	}
	wantContents(t, j, want)
	t.Logf("%d commits of 1 KB in 1 MB", n)

	// A kill at the worst moment, and a start on a full disk.
	after := t.TempDir()
	copyFiles(t, dir, after)
	k := mustOpen(t, after, quiet)
	wantSilence(t, k)
	wantContents(t, k, want)
	_ = j.Close()
	j = mustOpen(t, dir, quiet)
	wantSilence(t, j)
	wantContents(t, j, want)
}

// A user's share that is used up is as good as a full disk.
func TestFull(t *testing.T) {
	for err, full := range map[error]bool{
		&os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}: true,
		&os.PathError{Op: "write", Path: "x", Err: syscall.EDQUOT}: true,
		&os.PathError{Op: "write", Path: "x", Err: syscall.EIO}:    false,
	} {
		if Full(err) != full {
			t.Errorf("%v: %t", err, !full)
		}
	}
}
