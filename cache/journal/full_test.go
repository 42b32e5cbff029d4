package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestFullGroup: a batch for which there is no room fails, alone; what waited with
// it is committed.
func TestFullGroup(t *testing.T) {
	j := mustOpen(t, t.TempDir(), quiet)
	put(t, j, "before", "1")
	if _, err := j.db.number("PRAGMA max_page_count=20"); err != nil {
		t.Fatal(err)
	}
	var batches []*Batch
	for i := range 5 {
		b := &Batch{}
		b.Put(fmt.Sprint(i), []byte("small"))
		b.Put("last", fmt.Append(nil, i))
		if i == 2 {
			b.Put("big", make([]byte, 30*pageSize))
		}
		batches = append(batches, b)
	}
	for i, err := range queueUp(j, batches...)() {
		if (err != nil) != (i == 2) || err != nil && !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("batch %d: %v", i, err)
		}
	}
	wantContents(t, j, map[string]string{"before": "1", "0": "small", "1": "small", "3": "small", "4": "small", "last": "4"})
	mustClose(t, j)
	wantSilence(t, mustOpen(t, j.dir, quiet))
}

// TestFullDisk fills a small file system: what was acknowledged stays, what failed
// is not there, and with some room it goes on.
func TestFullDisk(t *testing.T) {
	small := t.TempDir()
	if err := syscall.Mount("none", small, "tmpfs", 0, "size=1m"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("a small file system can't be mounted (are we root?): %v", err)
		}
		t.Skipf("a small file system can't be mounted: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(small, syscall.MNT_DETACH) })
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
