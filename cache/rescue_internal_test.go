package cache

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// When the journal has lost some of what it was told, what that named is not removed,
// also if only an earlier start, which ended too soon, was told.
func TestPartlyLostJournal(t *testing.T) {
	for _, c := range []struct {
		size  int
		later bool
	}{{5000, false}, {200 << 10, false}, {5000, true}, {200 << 10, true}} {
		size := c.size
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
		if c.later {
			dir := filepath.Dir(log(after))
			if err := (&room{dir: dir}).oweRescue(); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(filepath.Join(dir, "journal.ack")); err != nil { // it says nothing of a loss any more
				t.Fatal(err)
			}
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
		if (&room{dir: filepath.Dir(filepath.Dir(aside[0]))}).owesRescue() {
			t.Error("it is to be done again")
		}
	}
}

// Of a slot that was used again, what is there now is without a name, although the slot has one.
func TestLastOfASlot(t *testing.T) {
	s := &slab{dir: t.TempDir()}
	write := func(text string) (name string) {
		l := s.take()
		if _, err := l.slot.WriteAt([]byte(text), 0); err != nil {
			t.Fatal(err)
		}
		name = l.name()
		l.drop()
		return name
	}
	first, second := write("first"), write("second")
	s.end()
	if len(slotsOf(map[string]bool{first: true, second: true})) != 1 {
		t.Fatalf("%s and %s are two slots: nothing is tested", first, second)
	}
	for used, want := range map[string]string{first: "second", second: ""} {
		got := ""
		err := s.lastOf(map[string]bool{used: true}, func(name string, p []byte) error {
			if name != second {
				t.Errorf("it is called %s, not %s", name, second)
			}
			got += string(p)
			return nil
		})
		if err != nil || got != want {
			t.Errorf("%s has a name: %q, %v, want %q", used, got, err, want)
		}
	}
}
