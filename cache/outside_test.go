package cache_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/cache"
)

// A content from outside gets a new node; a handle opened before reads what it
// opened if that is here, and otherwise hears that it is gone. Never a mix.
func TestForeignVersion(t *testing.T) {
	s := newMemory(t)
	f := newCache(t, plain{s}, cache.Config{TTL: 0})
	put(t, s, "read", "old old old")
	put(t, s, "unread", "old old old")

	n1, a1 := lookup(t, f, "read")
	h1 := openFile(t, f, n1, os.O_RDONLY)
	defer h1.Close(t.Context())
	if got := readAll(t, h1, 100); got != "old old old" {
		t.Fatalf("read %q", got)
	}
	nu, _ := lookup(t, f, "unread")
	hu := openFile(t, f, nu, os.O_RDONLY)
	defer hu.Close(t.Context())

	put(t, s, "read", "new")
	put(t, s, "unread", "new")
	n2, a2 := lookup(t, f, "read")
	if n2 == n1 || a2.ID == a1.ID || a2.Version == a1.Version {
		t.Errorf("the new content has the node of the old one: %v %v", a1, a2)
	}
	h2 := openFile(t, f, n2, os.O_RDONLY)
	defer h2.Close(t.Context())
	if got := readAll(t, h2, 100); got != "new" {
		t.Errorf("a handle opened after the change reads %q", got)
	}
	if got := readAll(t, h1, 100); got != "old old old" {
		t.Errorf("a handle opened before the change reads %q", got)
	}
	if _, err := hu.ReadAt(t.Context(), make([]byte, 100), 0); !errors.Is(err, backends.ErrChanged) {
		t.Errorf("reading a version that is gone: %v, want ErrChanged", err)
	}
}

// When the store holds another content than the one a change derives from,
// close says so, the store's keeps the name and ours is beside it.
func TestConflict(t *testing.T) {
	s := newMemory(t)
	f := newCache(t, plain{s}, cache.Config{TTL: time.Hour})
	n := create(t, f, "doc", "base")
	h := openFile(t, f, n, os.O_RDWR)
	if _, err := h.WriteAt(t.Context(), []byte("ours"), 0); err != nil {
		t.Fatal(err)
	}
	put(t, s, "doc", "theirs")
	if err := h.Flush(t.Context()); !errors.Is(err, backends.ErrChanged) {
		t.Errorf("close over a change from outside: %v, want ErrChanged", err)
	}
	if got := get(t, s, "doc"); got != "theirs" {
		t.Errorf("the store has %q under the name", got)
	}
	st := f.State()
	if len(st.Conflicts) != 1 || st.Conflicts[0].Name != "doc" || !strings.HasPrefix(st.Conflicts[0].Ours, "doc.conflict-") {
		t.Fatalf("status shows conflicts %v", st.Conflicts)
	}
	if got := get(t, s, st.Conflicts[0].Ours); got != "ours" {
		t.Errorf("beside it is %q", got)
	}
	// The handle follows its content.
	if _, err := h.WriteAt(t.Context(), []byte("more"), 4); err != nil {
		t.Fatal(err)
	}
	if err := closeFile(t, h); err != nil {
		t.Fatal(err)
	}
	if got := get(t, s, st.Conflicts[0].Ours); got != "oursmore" {
		t.Errorf("after a further write: %q", got)
	}
	n2, _ := lookup(t, f, "doc")
	if n2 == n {
		t.Error("the name still leads to our content")
	}
}

// Two that create the same name keep both contents too.
func TestCreateConflict(t *testing.T) {
	s := newMemory(t)
	f := newCache(t, plain{s}, cache.Config{TTL: time.Hour})
	_, _, h, err := f.Create(t.Context(), f.Root(), "new", os.O_RDWR|os.O_EXCL, backends.CreateAttr{Mode: 0o644})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.WriteAt(t.Context(), []byte("ours"), 0); err != nil {
		t.Fatal(err)
	}
	put(t, s, "new", "theirs")
	if err := closeFile(t, h); !errors.Is(err, backends.ErrChanged) {
		t.Errorf("close: %v, want ErrChanged", err)
	}
	if got := get(t, s, "new"); got != "theirs" {
		t.Errorf("the name holds %q", got)
	}
	if got := get(t, s, f.State().Conflicts[0].Ours); got != "ours" {
		t.Errorf("beside it is %q", got)
	}
}

// A removal against a change keeps the change.
func TestDeleteAgainstChange(t *testing.T) {
	s := newMemory(t)
	f := newCache(t, plain{s}, cache.Config{TTL: time.Hour})
	create(t, f, "doc", "base")
	put(t, s, "doc", "theirs")
	if err := f.Unlink(t.Context(), f.Root(), "doc"); !errors.Is(err, backends.ErrChanged) {
		t.Errorf("unlink: %v, want ErrChanged", err)
	}
	if got := get(t, s, "doc"); got != "theirs" {
		t.Errorf("the store has %q", got)
	}
	n, _ := lookup(t, f, "doc")
	h := openFile(t, f, n, os.O_RDONLY)
	defer h.Close(t.Context())
	if got := readAll(t, h, 10); got != "theirs" {
		t.Errorf("reads %q", got)
	}
}

// Names that come and go outside are seen after the ttl, and by a listing.
func TestFreshness(t *testing.T) {
	s := newMemory(t)
	f := newCache(t, plain{s}, cache.Config{TTL: 50 * time.Millisecond})
	put(t, s, "d/a", "1")
	d, _ := lookup(t, f, "d")
	names := func() (all []string) {
		list, err := f.ReadDir(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			all = append(all, e.Name)
		}
		return all
	}
	if got := fmt.Sprint(names()); got != "[a]" {
		t.Fatal(got)
	}
	put(t, s, "d/b", "2")
	if err := s.Remove(t.Context(), "d/a", backends.If{}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(60 * time.Millisecond)
	if got := fmt.Sprint(names()); got != "[b]" {
		t.Errorf("after the ttl the directory shows %s", got)
	}
	if _, _, err := f.Lookup(t.Context(), d, "a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a removed name: %v", err)
	}
}

// One listing answers for a whole directory, the names it lacks included.
func TestListingAnswersLookups(t *testing.T) {
	s := newMemory(t)
	for i := range 50 {
		put(t, s, fmt.Sprintf("d/f%02d", i), "x")
	}
	p := newProbe(s)
	f := newCache(t, p, cache.Config{TTL: time.Hour})
	d, _ := lookup(t, f, "d")
	// The first in a directory asks for its records as well.
	if got := p.reset(); got != "map[list:1 stat:1]" {
		t.Errorf("a lookup cost %s", got)
	}
	if _, err := f.ReadDir(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		lookup(t, f, fmt.Sprintf("d/f%02d", i))
		if _, _, err := f.Lookup(t.Context(), d, fmt.Sprintf("missing%d", i)); !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	if got := p.reset(); got != "map[list:1]" {
		t.Errorf("a listing and 100 lookups cost %s", got)
	}
}

// What was created, read back, renamed and removed here asks for nothing that
// is known.
func TestRequestCounts(t *testing.T) {
	s := newMemory(t)
	p := newProbe(s)
	f := newCache(t, p, cache.Config{TTL: time.Hour})
	if _, err := f.ReadDir(t.Context(), f.Root()); err != nil {
		t.Fatal(err)
	}
	p.reset()
	n := create(t, f, "a", "content")
	if got := p.reset(); got != "map[put:1]" {
		t.Errorf("a new file cost %s", got)
	}
	h := openFile(t, f, n, os.O_RDONLY)
	if got := readAll(t, h, 100); got != "content" {
		t.Errorf("reads %q", got)
	}
	if err := closeFile(t, h); err != nil {
		t.Fatal(err)
	}
	if got := p.reset(); got != "map[]" {
		t.Errorf("reading it back cost %s", got)
	}
	if err := f.Rename(t.Context(), f.Root(), "a", f.Root(), "b", 0); err != nil {
		t.Fatal(err)
	}
	if got := p.reset(); got != "map[put:1 remove:1]" {
		t.Errorf("renaming it cost %s", got)
	}
	if err := f.Unlink(t.Context(), f.Root(), "b"); err != nil {
		t.Fatal(err)
	}
	if got := p.reset(); got != "map[remove:1]" {
		t.Errorf("removing it cost %s", got)
	}
}

// Ranges of a large object are fetched as they are read; changing a part needs
// none of the rest until it is uploaded.
func TestRanges(t *testing.T) {
	s := newMemory(t)
	big := strings.Repeat("0123456789abcdef", 1<<20) // 16 MiB
	put(t, s, "big", big)
	p := newProbe(s)
	f := newCache(t, p, cache.Config{TTL: time.Hour})
	n, _ := lookup(t, f, "big")
	h := openFile(t, f, n, os.O_RDWR)
	buf := make([]byte, 1000)
	at := int64(9<<20 + 12345)
	if _, err := h.ReadAt(t.Context(), buf, at); err != nil || string(buf) != big[at:at+1000] {
		t.Fatalf("a read in the middle: %v, right: %v", err, string(buf) == big[at:at+1000])
	}
	if p.bytes > 256<<10 {
		t.Errorf("a read of 1000 bytes fetched %d", p.bytes)
	}
	p.reset()
	if _, err := h.WriteAt(t.Context(), []byte("CHANGED"), 5<<20); err != nil {
		t.Fatal(err)
	}
	if got := p.reset(); got != "map[]" {
		t.Errorf("a write asked the store: %s", got)
	}
	if err := closeFile(t, h); err != nil {
		t.Fatal(err)
	}
	want := big[:5<<20] + "CHANGED" + big[5<<20+7:]
	if get(t, s, "big") != want {
		t.Error("the object is not what was written")
	}
}

var errDown = errors.New("the store is down")

// An upload that fails is close's error, the bytes stay, and the background
// brings them to the store when it is back.
func TestUploadRetried(t *testing.T) {
	s := newMemory(t)
	p := newProbe(s)
	f := newCache(t, p, cache.Config{TTL: time.Hour})
	p.setRefuse(func(op, _ string) error {
		if op == "put" {
			return errDown
		}
		return nil
	})
	_, _, h, err := f.Create(t.Context(), f.Root(), "a", os.O_WRONLY, backends.CreateAttr{Mode: 0o644})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.WriteAt(t.Context(), []byte("precious"), 0); err != nil {
		t.Fatal(err)
	}
	if err := closeFile(t, h); !errors.Is(err, errDown) {
		t.Errorf("close: %v, want the store's error", err)
	}
	st := f.State()
	if len(st.Pending) != 1 || st.Pending[0].Error != errDown.Error() || st.PendingBytes != 8 {
		t.Errorf("status shows %+v", st.Pending)
	}
	n, _ := lookup(t, f, "a")
	h = openFile(t, f, n, os.O_RDONLY)
	if got := readAll(t, h, 100); got != "precious" {
		t.Errorf("meanwhile it reads %q", got)
	}
	if err := closeFile(t, h); err != nil {
		t.Fatal(err)
	}
	p.setRefuse(nil)
	for range 500 {
		if len(f.State().Pending) == 0 {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if got := get(t, s, "a"); got != "precious" {
		t.Errorf("the store has %q", got)
	}
}
