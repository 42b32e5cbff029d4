package index_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/agentfs/agentfs/cache/index"
)

func open(t *testing.T, dir string) (*index.Index, string) {
	t.Helper()
	x, problem, err := index.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = x.Close() })
	return x, problem
}

func apply(t *testing.T, x *index.Index, c index.Change) []index.Entry {
	t.Helper()
	replaced, err := x.Apply(c)
	if err != nil {
		t.Fatal(err)
	}
	return replaced
}

func entry(file, key, version string, used int64) index.Entry {
	return index.Entry{
		File: file, Key: key, Version: version, Size: 300, Bytes: 110, Used: used,
		Ranges: [][2]int64{{0, 100}, {290, 300}}, Sums: []uint32{1, 1 << 31},
	}
}

// An index gives back what it was given, also after it was closed, or copied as
// a kill leaves it.
func TestFind(t *testing.T) {
	dir := t.TempDir()
	x, _ := open(t, dir)
	e := entry("f1", "a/\xff\x00b", "v1", 7)
	apply(t, x, index.Change{Put: []index.Entry{e}})
	killed := t.TempDir()
	if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{dir, killed} {
		x, problem := open(t, d)
		if problem != "" {
			t.Error(problem)
		}
		got, ok, err := x.Find(e.Key, "v1")
		if err != nil || !ok || !reflect.DeepEqual(got, e) {
			t.Errorf("found %+v, %v, %v", got, ok, err)
		}
		if _, ok, err := x.Find(e.Key, "v2"); ok || err != nil {
			t.Errorf("another version: %v, %v", ok, err)
		}
	}
}

// Of one object, and of one file, there is one entry; those that give way are
// named.
func TestReplace(t *testing.T) {
	x, _ := open(t, t.TempDir())
	apply(t, x, index.Change{Put: []index.Entry{entry("f1", "a", "v1", 1), entry("f2", "b", "v1", 2)}})
	replaced := apply(t, x, index.Change{Put: []index.Entry{entry("f3", "a", "v1", 3), entry("f2", "b", "v2", 4)}})
	if len(replaced) != 1 || replaced[0].File != "f1" || replaced[0].Used != 1 {
		t.Errorf("replaced: %+v", replaced)
	}
	if _, ok, _ := x.Find("b", "v1"); ok {
		t.Error("a file has two entries")
	}
	if n, err := x.Count(); n != 2 || err != nil {
		t.Errorf("%d entries, %v", n, err)
	}
}

// The oldest come first, a touch makes one younger.
func TestOldest(t *testing.T) {
	x, _ := open(t, t.TempDir())
	apply(t, x, index.Change{Put: []index.Entry{entry("f1", "a", "v", 1), entry("f2", "b", "v", 2), entry("f3", "c", "v", 3)}})
	apply(t, x, index.Change{Touch: map[string]int64{"f1": 9}, Drop: []string{"f3"}})
	got, err := x.Oldest(9, 10)
	if err != nil || len(got) != 1 || got[0].File != "f2" || got[0].Bytes != 110 {
		t.Errorf("%+v, %v", got, err)
	}
	if r, err := x.Ranges("f1"); err != nil || !reflect.DeepEqual(r, [][2]int64{{0, 100}, {290, 300}}) {
		t.Errorf("%v, %v", r, err)
	}
}

// What is no index of this format is replaced by an empty one, and said.
func TestUnusable(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, file string){
		"not a database": func(t *testing.T, file string) {
			if err := os.WriteFile(file, []byte(strings.Repeat("no database ", 1000)), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"cut": func(t *testing.T, file string) {
			if err := os.Truncate(file, 4096); err != nil {
				t.Fatal(err)
			}
		},
		"of a newer format": func(t *testing.T, file string) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			b[63] = 99 // user_version, big-endian; see the SQLite file format
			if err := os.WriteFile(file, b, 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			x, _ := open(t, dir)
			apply(t, x, index.Change{Put: []index.Entry{entry("f1", "a", "v1", 1)}})
			if err := x.Close(); err != nil {
				t.Fatal(err)
			}
			spoil(t, filepath.Join(dir, "index.db"))
			x, problem := open(t, dir)
			if !strings.Contains(problem, "index.db") {
				t.Errorf("problem %q", problem)
			}
			if n, err := x.Count(); n != 0 || err != nil {
				t.Errorf("%d entries, %v", n, err)
			}
			apply(t, x, index.Change{Put: []index.Entry{entry("f1", "a", "v1", 1)}})
		})
	}
}

// A full round of an entry's ranges through the database is in TestFind; here
// are bytes that no entry has.
func FuzzUnpack(f *testing.F) {
	f.Add([]byte{1, 0, 4, 1, 2, 3, 4})
	f.Add([]byte{255, 255, 255, 255, 255, 255, 255, 255, 255, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		ranges, err := index.Unpack(b, 1<<20)
		if err != nil {
			return
		}
		at := int64(-1)
		for _, r := range ranges {
			if r[0] < at || r[1] <= r[0] || r[1] > 1<<20 {
				t.Fatalf("%v", ranges)
			}
			at = r[1]
		}
	})
}
