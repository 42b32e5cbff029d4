package auditlog

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestFilter(t *testing.T) {
	at := time.Date(2026, 11, 28, 9, 0, 0, 0, time.UTC)
	l := Line{Time: at, Op: "rename", Path: "/data/a.txt", To: "/team/b.md", PID: 42, UID: 7, Exe: "/usr/bin/mv", Result: "EACCES"}
	for _, c := range []struct {
		name string
		f    Filter
		want bool
	}{
		{"nothing", Filter{}, true},
		{"since", Filter{Since: at}, true},
		{"since later", Filter{Since: at.Add(1)}, false},
		{"until, not included", Filter{Until: at}, false},
		{"until", Filter{Until: at.Add(1)}, true},
		{"path below", Filter{Paths: []string{"/data/**"}}, true},
		{"new path", Filter{Paths: []string{"/team/*"}}, true},
		{"last part", Filter{Paths: []string{"*.txt"}}, true},
		{"one of several", Filter{Paths: []string{"/x", "*.{md,go}"}}, true},
		{"another path", Filter{Paths: []string{"/data"}}, false},
		{"pid", Filter{Processes: []string{"42"}}, true},
		{"another pid", Filter{Processes: []string{"4"}}, false},
		{"program", Filter{Processes: []string{"mv"}}, true},
		{"program's path", Filter{Processes: []string{"/usr/*/mv"}}, true},
		{"another program", Filter{Processes: []string{"cp"}}, false},
		{"operation", Filter{Ops: []string{"link", "rename"}}, true},
		{"another operation", Filter{Ops: []string{"link"}}, false},
		{"result", Filter{Results: []string{"eacces"}}, true},
		{"any error", Filter{Results: []string{"error"}}, true},
		{"no error", Filter{Results: []string{"ok"}}, false},
		{"user", Filter{Users: []int{0, 7}}, true},
		{"another user", Filter{Users: []int{0}}, false},
		{"all kinds have to match", Filter{Paths: []string{"/data/**"}, Ops: []string{"link"}}, false},
	} {
		if err := c.f.Check(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if got := c.f.Match(&l); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	notice := Line{Time: at, Op: OpAudit, Result: "dropped"}
	if f := (Filter{Paths: []string{"/data/**"}, Users: []int{7}}); !f.Match(&notice) {
		t.Error("a filter by path hides that records are missing")
	}
	if err := (&Filter{Paths: []string{"[a"}}).Check(); err == nil || !strings.Contains(err.Error(), "[a") {
		t.Errorf("a wrong pattern: %v", err)
	}
}

// What is no record is counted and left out; a line that is being written isn't
// looked at.
func TestScan(t *testing.T) {
	text := `{"op":"open","path":"/a"}` + "\nnot JSON\n{}\n" + strings.Repeat("x", 3<<20) + "\n" + `{"op":"close"}` + "\n" + `{"op":"open"`
	var got []string
	damaged, err := Scan(strings.NewReader(text), func(l *Line, _ []byte) error {
		got = append(got, l.Op)
		return nil
	})
	if err != nil || damaged < 3 || !slices.Equal(got, []string{"open", "close"}) {
		t.Errorf("%q, %d damaged, %v", got, damaged, err)
	}
}

// Who follows gets every record once, over rotations.
func TestFollow(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit")
	l, _ := open(t, Config{File: file, MaxSize: 4096, Keep: 100})
	if err := do(l, "0"); err != nil {
		t.Fatal(err)
	}
	until(t, "the first record", func() bool {
		b, err := os.ReadFile(file)
		return err == nil && len(b) > 0
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const batch, batches = 30, 6 // of which two or so fit into a file
	next := make(chan string, batch)
	ended := make(chan error, 1)
	go func() {
		_, err := Read(ctx, file, true, func(l *Line, _ []byte) error {
			next <- l.Path
			return nil
		})
		ended <- err
	}()
	for i := range batch * batches {
		if got := <-next; got != fmt.Sprintf("/%d", i) {
			t.Fatalf("record %d is of %s", i, got)
		}
		if i%batch != 0 {
			continue
		}
		for j := range batch {
			if err := do(l, fmt.Sprint(i+j+1)); err != nil {
				t.Fatal(err)
			}
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	closeLog(t, l)
}

func FuzzScan(f *testing.F) {
	f.Add([]byte(`{"time":"2026-11-28T09:00:00Z","op":"open","path":"/a","pid":1,"uid":0,"result":"ok"}` + "\n"))
	f.Add([]byte("{\"op\":\"audit\",\"since\":null}\n\n\x00\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		lines := 0
		damaged, err := Scan(strings.NewReader(string(b)), func(l *Line, raw []byte) error {
			(&Filter{Paths: []string{"/**"}, Results: []string{"error"}}).Match(l)
			lines++
			return nil
		})
		if err != nil || lines+damaged != strings.Count(string(b), "\n") {
			t.Errorf("%d records and %d damaged lines of %q: %v", lines, damaged, b, err)
		}
	})
}
