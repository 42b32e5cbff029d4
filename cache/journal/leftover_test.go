package journal

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// asKilled returns a copy of j's files as a kill at this moment would leave them.
func asKilled(t *testing.T, j *Journal) string {
	t.Helper()
	dir := t.TempDir()
	copyFiles(t, j.dir, dir)
	return dir
}

// foldBeside does what tend does beside commits: what is frozen goes into the table, and
// the segments of which it has all go.
func foldBeside(t *testing.T, j *Journal) {
	t.Helper()
	j.turn.Lock()
	defer j.turn.Unlock()
	for j.frozen != nil {
		if err := j.spread(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := j.checkpoint(); err != nil {
		t.Fatal(err)
	}
}

// TestSegmentWithoutRecords: a segment that has no record, because a process was killed
// before its first or the disk was full, has the name that the next one begins with.
func TestSegmentWithoutRecords(t *testing.T) {
	j := mustOpen(t, t.TempDir(), quiet)
	put(t, j, "a", "1")
	dir := asKilled(t, j)
	s, err := newSegment(dir, j.seq+1, "this boot")
	if err != nil {
		t.Fatal(err)
	}
	s.f.Close()

	j = mustOpen(t, dir, quiet)
	wantSilence(t, j)
	put(t, j, "b", "2")
	foldBeside(t, j)
	put(t, j, "c", "3")
	j = mustOpen(t, asKilled(t, j), quiet)
	wantSilence(t, j)
	wantContents(t, j, map[string]string{"a": "1", "b": "2", "c": "3"})
}

// TestLostFuture: what lies behind a place that a power loss has garbled is gone, and does
// not come back when later commits have got the numbers of what is missing.
func TestLostFuture(t *testing.T) {
	j := mustOpen(t, t.TempDir(), quiet)
	for i := range 6 {
		put(t, j, fmt.Sprint("old ", i), "")
		if i == 2 {
			j.turn.Lock()
			j.freeze()
			j.turn.Unlock()
		}
	}
	dir := asKilled(t, j)
	names, err := segmentNames(dir)
	if err != nil || len(names) != 2 {
		t.Fatal(names, err)
	}
	fi, err := os.Stat(names[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(names[0], fi.Size()-1); err != nil {
		t.Fatal(err)
	}
	// It is never synced.
	if err := os.Remove(filepath.Join(dir, ackName)); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"old 0": "", "old 1": ""}
	for i := range 4 {
		j = mustOpen(t, dir, quiet)
		if i == 0 {
			if logs, _ := filepath.Glob(filepath.Join(dir, "*.damaged-*.log")); len(logs) != 1 || !strings.Contains(j.Damage(), logs[0]) {
				t.Errorf("moved aside: %v, Damage %q", logs, j.Damage())
			}
		}
		wantContents(t, j, want)
		key := fmt.Sprint("new ", i)
		put(t, j, key, "")
		want[key] = ""
		dir = asKilled(t, j)
	}
	wantContents(t, mustOpen(t, dir, quiet), want)
}

// TestManyKills: who is killed again and again does not leave more and more segments, each
// of which takes a descriptor.
func TestManyKills(t *testing.T) {
	dir := t.TempDir()
	want := map[string]string{}
	for i := range 3 * manySegments {
		j := mustOpen(t, dir, quiet)
		put(t, j, fmt.Sprint(i), "x")
		want[fmt.Sprint(i)] = "x"
		dir = asKilled(t, j)
	}
	opt := options{bootID: "this boot", logLimit: defaultLogLimit, idle: time.Millisecond}
	j := mustOpen(t, dir, opt)
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		names, err := segmentNames(dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(names) == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d segments", len(names))
		}
	}
	wantContents(t, j, want)
}

// TestCountWithoutNumbers: a journal that has lost its numbers still has something.
func TestCountWithoutNumbers(t *testing.T) {
	j := mustOpen(t, t.TempDir(), quiet)
	put(t, j, "a", "1")
	dir := asKilled(t, j)
	if err := os.Remove(filepath.Join(dir, ackName)); err != nil {
		t.Fatal(err)
	}
	if n, err := Count(dir, ""); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}
