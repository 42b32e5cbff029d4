package journal

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// refuse makes writes to a segment fail, and cutting it off, until the returned function
// is called.
func refuse(t *testing.T, s *segment) func() {
	t.Helper()
	f, err := os.Open(s.f.Name())
	if err != nil {
		t.Fatal(err)
	}
	was := s.f
	s.f = f
	return func() { s.f = was; f.Close() }
}

// TestTornAppend: what the kernel has taken of an append that failed, and that could not be
// cut off, does not count once there are later commits.
func TestTornAppend(t *testing.T) {
	for _, folded := range []bool{false, true} {
		j := mustOpen(t, t.TempDir(), quiet)
		put(t, j, "a", "1")
		var failed Batch
		failed.Put("failed", []byte("2"))
		s := j.current
		allow := refuse(t, s)
		if err := j.Commit(&failed); err == nil {
			t.Fatal("it did not fail")
		}
		allow()
		p := appendRecord(nil, j.held, j.seq+1, &failed)
		p = appendRecord(p, j.seq+1, j.seq+2, &failed)
		if _, err := s.f.WriteAt(p, s.end); err != nil {
			t.Fatal(err)
		}
		if folded {
			j.turn.Lock()
			j.freeze()
			j.turn.Unlock()
		}
		put(t, j, "gained", "3") // as long as the other one
		k := mustOpen(t, asKilled(t, j), quiet)
		wantSilence(t, k)
		wantContents(t, k, map[string]string{"a": "1", "gained": "3"})
		foldBeside(t, j)
		wantContents(t, j, map[string]string{"a": "1", "gained": "3"})
	}
}

// TestTableSyncFails: after a sync of SQLite's log that failed, a second one says nothing
// of what the first has dropped. The log stays.
func TestTableSyncFails(t *testing.T) {
	j := mustOpen(t, t.TempDir(), quiet)
	put(t, j, "a", "1")
	was := j.wal
	closed, err := os.OpenFile(was.Name(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	j.wal = closed
	j.tidy()
	j.wal = was
	j.tidy()
	if names, err := segmentNames(j.dir); err != nil || len(names) != 1 {
		t.Errorf("segments %v, %v", names, err)
	}
	put(t, j, "b", "2")
	k := mustOpen(t, asKilled(t, j), quiet)
	wantSilence(t, k)
	wantContents(t, k, map[string]string{"a": "1", "b": "2"})
}

// TestCloseSyncs: if the table can't take the log, that is on the disk after Close.
func TestCloseSyncs(t *testing.T) {
	j := mustOpen(t, t.TempDir(), quiet)
	put(t, j, "a", "1")
	begin := j.stmts.begin
	broken, err := j.db.prepare("INSERT INTO meta VALUES (NULL, NULL, NULL)")
	if err != nil {
		t.Fatal(err)
	}
	j.turn.Lock()
	j.freeze()
	j.stmts.begin = broken
	if err := begin.s.Close(); err != nil {
		t.Fatal(err)
	}
	if j.spread() == nil {
		t.Error("it did not fail")
	}
	j.turn.Unlock()
	put(t, j, "b", "2")
	if err := j.Close(); err == nil {
		t.Error("Close says nothing")
	}
	if j.sync.err == nil && j.sync.upto < j.seq {
		t.Errorf("commits up to %d are on the disk, there are %d", j.sync.upto, j.seq)
	}
}

// TestSyncOfEarlierSegments: a sync that failed for an earlier process may have left pages
// that the kernel takes for written.
func TestSyncOfEarlierSegments(t *testing.T) {
	j := mustOpen(t, t.TempDir(), quiet)
	put(t, j, "a", "1")
	j = mustOpen(t, asKilled(t, j), quiet)
	names, err := segmentNames(j.dir)
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	fi, err := os.Stat(names[0])
	if err != nil {
		t.Fatal(err)
	}
	// What the disk has if they were not.
	f, err := os.OpenFile(names[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(make([]byte, fi.Size()), 0); err != nil {
		t.Fatal(err)
	}
	if err := j.Sync(); err != nil {
		t.Fatal(err)
	}
	k := mustOpen(t, asKilled(t, j), quiet)
	wantSilence(t, k)
	wantContents(t, k, map[string]string{"a": "1"})
}

// TestNoRoomForTheFirst: a segment for whose first record there is no room is not left
// behind.
func TestNoRoomForTheFirst(t *testing.T) {
	j := mustOpen(t, filepath.Join(smallDisk(t), "journal"), quiet)
	var b Batch
	b.Put("k", []byte(strings.Repeat("x", 2<<20)))
	if err := j.Commit(&b); err == nil {
		t.Fatal("there was room")
	} else if !strings.Contains(err.Error(), syscall.ENOSPC.Error()) {
		t.Fatal(err)
	}
	mustClose(t, j)
	if names, err := segmentNames(j.dir); err != nil || len(names) != 0 {
		t.Errorf("left behind: %v, %v", names, err)
	}
}
