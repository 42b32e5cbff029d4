package attrs

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/faulty"
)

// every has one Attr of each kind, under names of all kinds.
var every = map[string]Attr{
	"mode":                   {Version: "v1", Mode: ptr(uint32(0o4755))},
	"mode 0":                 {Version: "v1", Mode: ptr(uint32(0))},
	"owner":                  {Version: "v1", UID: ptr(uint32(0)), GID: ptr(uint32(1<<32 - 2))},
	"times":                  {Version: "v1", Mtime: ptr(int64(-1)), Atime: ptr(int64(1767225600123456789))},
	"link":                   {Version: "v1", Symlink: true, Target: "../other"},
	"link\xff\xfe":           {Version: "v1", Symlink: true, Target: "\x80 no UTF-8"},
	"xattrs":                 {Version: "v1", Xattrs: map[string][]byte{"user.a": {}, "user.b": {0, 1, 0xff}, "user.\xff": []byte("x")}},
	"dir":                    {Mode: ptr(uint32(0o2775))},
	".":                      {Mode: ptr(uint32(0o1777))},
	"\"quoted\"\n<&>\u2028":  {Version: "\"etag\"", Mode: ptr(uint32(0o600))},
	"\ufffd":                 {Version: "v\xff", Mode: ptr(uint32(0o600))},
	strings.Repeat("ü", 127): {Version: "v1", Mode: ptr(uint32(0o640))},
}

func TestSaveAndLoad(t *testing.T) {
	for _, dir := range []string{".", "some/dir"} {
		s := newMemory(t)
		saved := mustSave(t, s, dir, nil, every, nil)
		for _, d := range []*Dir{saved, load(t, s, dir, nil), load(t, s, dir, saved)} {
			if d.Len() != len(every) || len(d.Skipped()) != 0 {
				t.Errorf("%s: %d names, skipped %v", dir, d.Len(), d.Skipped())
			}
			for name, a := range every {
				want(t, d, name, a)
				wantNothing(t, d, name, a.Version+"x")
			}
			if got := slices.Sorted(maps.Keys(maps.Collect(d.All()))); !slices.Equal(got, sortedKeys(every)) {
				t.Errorf("%s: All has %q", dir, got)
			}
			if es := d.Records(dir); len(es) != 1 || es[0].Name != listed(t, s, dir)[0].Name || es[0].Version != listed(t, s, dir)[0].Version {
				t.Errorf("%s: records %+v", dir, es)
			}
		}
	}
}

// The record lists are short; without any there is nothing to know.
func TestNoRecords(t *testing.T) {
	s := newMemory(t)
	var none *Dir
	for _, d := range []*Dir{none, load(t, s, ".", nil), mustSave(t, s, ".", nil, nil, nil)} {
		wantNothing(t, d, "a", "")
		if d.Len() != 0 || len(d.Records(".")) != 0 || len(d.Skipped()) != 0 || len(maps.Collect(d.All())) != 0 {
			t.Errorf("%+v", d)
		}
	}
}

func TestLastWriterWins(t *testing.T) {
	s := newMemory(t)
	mode := func(m uint32) map[string]Attr { return map[string]Attr{"f": {Version: "v", Mode: &m}} }
	a := mustSave(t, s, ".", nil, mode(1), nil)
	a = mustSave(t, s, ".", a, mode(2), nil)
	b := load(t, s, ".", nil)
	// A machine whose clock is a day behind saw what it changes.
	b, err := save(t.Context(), s, ".", b, mode(3), nil, maxTrust, now()-24*60*60*1e9)
	if err != nil {
		t.Fatal(err)
	}
	want(t, b, "f", mode(3)["f"])
	want(t, load(t, s, ".", a), "f", mode(3)["f"])
	// One entry counts; one for another version hides it.
	other := mustSave(t, s, ".", b, map[string]Attr{"f": {Version: "w"}}, nil)
	wantNothing(t, other, "f", "v")
	want(t, other, "f", Attr{Version: "w"})
	gone := mustSave(t, s, ".", other, map[string]Attr{"f": {Removed: true, Version: "w"}}, nil)
	wantNothing(t, gone, "f", "w")
	wantNothing(t, load(t, s, ".", nil), "f", "w")
	if gone.Len() != 0 {
		t.Errorf("%d names", gone.Len())
	}
}

// What is saved is the caller's no longer.
func TestNoSharedMemory(t *testing.T) {
	m, x := uint32(0o600), []byte("x")
	d := mustSave(t, newMemory(t), ".", nil, map[string]Attr{"f": {Mode: &m, Xattrs: map[string][]byte{"user.x": x}}}, nil)
	m, x[0] = 0, 'y'
	want(t, d, "f", Attr{Mode: ptr(uint32(0o600)), Xattrs: map[string][]byte{"user.x": []byte("x")}})
}

func TestBadChanges(t *testing.T) {
	s := faulty.Store(newMemory(t))
	for name, a := range map[string]Attr{
		"": {}, "..": {}, "a/b": {}, "a\x00": {},
		"mode": {Mode: ptr(uint32(0o100644))},
	} {
		if _, err := Save(t.Context(), s, ".", nil, map[string]Attr{name: a, "good": {}}, nil, maxTrust); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
	large := map[string]Attr{"f": {Xattrs: map[string][]byte{"user.x": make([]byte, maxEntry)}}}
	if _, err := Save(t.Context(), s, ".", nil, large, nil, maxTrust); !errors.Is(err, backends.ErrTooLarge) {
		t.Errorf("large: %v", err)
	}
	if n := s.Calls(); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// A directory that has not changed is not read again; of one that has, what is
// new.
func TestLoadRequests(t *testing.T) {
	mem := newMemory(t)
	s := faulty.Store(mem)
	a := mustSave(t, s, ".", nil, every, nil)
	b := load(t, mem, ".", nil)
	es := listed(t, mem, ".")
	s.ResetCalls()
	for _, prev := range []*Dir{a, b} {
		d, err := Load(t.Context(), s, ".", es, time.Time{}, prev)
		if err != nil || d != prev {
			t.Errorf("%v, %v", d, err)
		}
	}
	if n := s.Calls(); n != 0 {
		t.Errorf("%d requests for a directory that has not changed", n)
	}
	a = mustSave(t, s, ".", a, map[string]Attr{"new": {}}, nil)
	es = listed(t, mem, ".")
	s.ResetCalls()
	if _, err := Load(t.Context(), s, ".", es, time.Time{}, b); err != nil {
		t.Fatal(err)
	}
	if n := s.Calls(); n != 1 || s.Calls("Open") != 1 {
		t.Errorf("%d requests for one new record", n)
	}
	s.ResetCalls()
	mustSave(t, s, ".", a, map[string]Attr{"new": {}}, nil)
	if n := s.Calls(); n != 1 || s.Calls("Put") != 1 {
		t.Errorf("%d requests to save", n)
	}
}

// The records of a large directory are listed in one request, and found beside
// what sorts next to them.
func TestListRecords(t *testing.T) {
	s := newMemory(t)
	d := mustSave(t, s, "d", nil, every, nil)
	for _, name := range []string{".agentfs", ".agentfs-attrs", ".agentfs-attrs!", ".agentfs-attrs.", "a"} {
		put(t, s, "d/"+name, "x")
	}
	if err := s.Mkdir(t.Context(), "d/.agentfs-attrs-dir", backends.AttrChange{}); err != nil {
		t.Fatal(err)
	}
	es, err := listRecords(t.Context(), s, "d")
	if err != nil || len(es) != 2 {
		t.Errorf("%v, %v", es, err)
	}
	if got, err := Load(t.Context(), s, "d", es, time.Time{}, d); err != nil || got != d {
		t.Errorf("%v, %v: a directory is no record", got, err)
	}
	if es, err := listRecords(t.Context(), s, "missing"); err != nil || len(es) != 0 {
		t.Errorf("%v, %v", es, err)
	}
}

// Many machines that save at the same time lose nothing, whatever they merge
// meanwhile.
func TestManyMachines(t *testing.T) {
	const machines, saves = 6, 60
	s := newMemory(t)
	last := make([]map[string]Attr, machines)
	var wg sync.WaitGroup
	for m := range machines {
		last[m] = map[string]Attr{}
		wg.Go(func() {
			var d *Dir
			for i := range saves {
				changes := map[string]Attr{}
				for j := range 3 {
					changes[fmt.Sprintf("machine %d, file %d", m, (i*7+j)%50)] = Attr{Version: "v", Mtime: ptr(int64(i))}
				}
				// All change this one; what it holds in the end, the clock says.
				changes["everybody's"] = Attr{Version: "v", UID: ptr(uint32(m)), Mtime: ptr(int64(i))}
				maps.Copy(last[m], changes)
				d = mustSave(t, s, "d", d, changes, func(string, backends.Version) bool { return true })
				for name, a := range changes {
					if name != "everybody's" { // others' may be seen as well
						want(t, d, name, a)
					}
				}
			}
		})
	}
	wg.Wait()
	d := load(t, s, "d", nil)
	for m := range machines {
		for name, a := range last[m] {
			if name != "everybody's" {
				want(t, d, name, a)
			}
		}
	}
	a, ok := d.Lookup("everybody's", "v")
	if !ok || *a.Mtime != saves-1 {
		t.Errorf("%+v, %v is nobody's last change", a, ok)
	}
	// How many are left the moment that all stop, chance decides; the next one who
	// saves merges them.
	left := len(d.records)
	mustSave(t, s, "d", d, map[string]Attr{"last": {Version: "v", Mtime: ptr(int64(1))}}, func(string, backends.Version) bool { return true })
	if n := len(listed(t, s, "d")); n > maxRecords {
		t.Errorf("%d records are left, and after the next save %d", left, n)
	}
}
