package cache

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// When the journal has lost some of what it was told, what that named is not removed.
func TestPartlyLostJournal(t *testing.T) {
	for _, size := range []int{5000, 200 << 10} {
		l := newLeaving(t)
		l.down.Store(true)
		first, second := strings.Repeat("1", size), strings.Repeat("2", size)
		l.write(l.create("first"), first)
		if err := l.f.catchUpNow(); err != nil {
			t.Fatal(err)
		}
		log := func(dir string) string {
			t.Helper()
			names, err := filepath.Glob(filepath.Join(dir, "rooms", "*", "journal-*.log"))
			if err != nil || len(names) != 1 {
				t.Fatal(names, err)
			}
			return names[0]
		}
		fi, err := os.Stat(log(l.dir))
		if err != nil {
			t.Fatal(err)
		}
		l.write(l.create("second"), second)
		after := t.TempDir()
		if err := os.CopyFS(after, os.DirFS(l.dir)); err != nil {
			t.Fatal(err)
		}
		l.close()
		if err := os.Truncate(log(after), fi.Size()); err != nil {
			t.Fatal(err)
		}
		l.dir = after
		l.open()
		l.want("first", first)
		aside, err := filepath.Glob(filepath.Join(after, "rooms", "*", "content.damaged-*", "*"))
		if err != nil || len(aside) != 1 {
			t.Fatalf("%d bytes: set aside %v, %v", size, aside, err)
		}
		if b, err := os.ReadFile(aside[0]); err != nil || string(b) != second {
			t.Errorf("%d bytes: %d are set aside, %v", size, len(b), err)
		}
	}
}
