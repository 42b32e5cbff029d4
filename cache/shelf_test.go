package cache_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/cache"
)

// shelfTest is a store with contents and a cache directory that outlives its
// caches.
type shelfTest struct {
	*testing.T
	p      *probe
	dir    string
	budget *cache.Budget
	f      *cache.FS // mounted now
}

func newShelfTest(t *testing.T, contents map[string]string) *shelfTest {
	s := &shelfTest{T: t, p: newProbe(newMemory(t)), dir: t.TempDir()}
	for name, c := range contents {
		put(t, s.p.Store, name, c)
	}
	s.mount()
	t.Cleanup(s.unmount)
	return s
}

func (s *shelfTest) mount() {
	s.Helper()
	f, err := cache.New(context.Background(), s.p, cache.Config{Dir: s.dir, Identity: "test:shelf", TTL: time.Hour, Budget: s.budget})
	if err != nil {
		s.Fatal(err)
	}
	s.f = f
}

func (s *shelfTest) unmount() {
	s.Helper()
	if s.f == nil {
		return
	}
	if err := s.f.Close(context.Background()); err != nil {
		s.Error(err)
	}
	s.f = nil
}

// remount ends the mount, lets between do what it likes and mounts anew.
func (s *shelfTest) remount(between func()) {
	s.Helper()
	s.unmount()
	if between != nil {
		between()
	}
	s.mount()
}

// read reads a whole file.
func (s *shelfTest) read(name string) string {
	s.Helper()
	n, a := lookup(s.T, s.f, name)
	h := openFile(s.T, s.f, n, os.O_RDONLY)
	got := readAll(s.T, h, int(a.Size))
	if err := closeFile(s.T, h); err != nil {
		s.Error(err)
	}
	return got
}

// want reads a file and counts the GETs that it took.
func (s *shelfTest) want(name, content string, gets int) {
	s.Helper()
	s.p.reset()
	if got := s.read(name); got != content {
		s.Errorf("%s has %d bytes, %.20q …; want %d, %.20q …", name, len(got), got, len(content), content)
	}
	if n := s.p.count("open"); n != gets {
		s.Errorf("reading %s took %d GETs, want %d", name, n, gets)
	}
}

// files returns the files of the room that have contents: one for each large
// one, and the slab.
func (s *shelfTest) files() (all []string) {
	s.Helper()
	names, err := filepath.Glob(filepath.Join(s.dir, "rooms", "*", "content", "*"))
	if err != nil {
		s.Fatal(err)
	}
	for _, name := range names {
		if st, err := os.Stat(name); err == nil && st.Size() > 0 && filepath.Base(name) != "slab.heads" {
			all = append(all, name)
		}
	}
	return all
}

func (p *probe) count(op string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts[op]
}

// text returns n bytes that are not all alike.
func text(n int) string {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return string(b)
}

// What was read in one mount costs the next one no GET, large or small.
func TestContentsOutliveTheMount(t *testing.T) {
	small, large := text(5000), text(3<<20)
	s := newShelfTest(t, map[string]string{"d/small": small, "large": large, "empty": ""})
	s.want("d/small", small, 1)
	s.read("large")
	for range 2 {
		s.remount(nil)
		s.want("d/small", small, 0)
		s.want("large", large, 0)
		s.want("empty", "", 0)
		if st := s.f.State(); st.CacheBytes != int64(len(small)+len(large)) || st.Stats.Adopted != 2 || st.Stats.Indexed != 2 {
			t.Errorf("%d bytes, %+v", st.CacheBytes, st.Stats)
		}
	}
	s.remount(nil)
	if got := s.f.State().CacheBytes; got != int64(len(small)+len(large)) {
		t.Errorf("what nobody has asked for counts %d bytes", got)
	}
}

// Of a file of which a part was read, the next mount has that part.
func TestPartsOutliveTheMount(t *testing.T) {
	large := text(4 << 20)
	s := newShelfTest(t, map[string]string{"large": large})
	piece := func(off int64) string {
		n, _ := lookup(t, s.f, "large")
		h := openFile(t, s.f, n, os.O_RDONLY)
		defer func() { _ = closeFile(t, h) }()
		p := make([]byte, 1000)
		if _, err := h.ReadAt(t.Context(), p, off); err != nil {
			t.Fatal(err)
		}
		return string(p)
	}
	piece(3 << 20)
	s.remount(nil)
	s.p.reset()
	if piece(3<<20) != large[3<<20:3<<20+1000] || s.p.count("open") != 0 {
		t.Errorf("a part that was here: %s", s.p.reset())
	}
	if piece(1<<20) != large[1<<20:1<<20+1000] || s.p.count("open") != 1 {
		t.Errorf("a part that was not: %s", s.p.reset())
	}
	s.remount(nil)
	s.p.reset()
	if piece(3<<20) != large[3<<20:3<<20+1000] || piece(1<<20) != large[1<<20:1<<20+1000] || s.p.count("open") != 0 {
		t.Errorf("both parts: %s", s.p.reset())
	}
}

// A version from elsewhere, between two mounts or during one, is not taken for
// the one that is here.
func TestForeignChangeBetweenMounts(t *testing.T) {
	old, now := text(5000), strings.ToUpper(text(5000))
	s := newShelfTest(t, map[string]string{"f": old})
	s.read("f")
	s.remount(func() { put(t, s.p.Store, "f", now) })
	s.want("f", now, 1)
	s.remount(nil)
	s.want("f", now, 0)
}

// What this side has written or renamed is here after a remount, under the name
// that it has then.
func TestOwnChangesOutliveTheMount(t *testing.T) {
	s := newShelfTest(t, map[string]string{"read": "what was read"})
	s.read("read")
	create(t, s.f, "written", "what was written")
	if err := s.f.Rename(t.Context(), s.f.Root(), "read", s.f.Root(), "renamed", 0); err != nil {
		t.Fatal(err)
	}
	s.remount(nil)
	s.want("renamed", "what was read", 0)
	s.want("written", "what was written", 0)
	// Appended to, it is sent whole, and is here whole.
	n, _ := lookup(t, s.f, "written")
	h := openFile(t, s.f, n, os.O_WRONLY)
	if _, err := h.WriteAt(t.Context(), []byte(" and more"), 16); err != nil {
		t.Fatal(err)
	}
	if err := closeFile(t, h); err != nil {
		t.Fatal(err)
	}
	s.remount(nil)
	if got := get(t, s.p.Store, "written"); got != "what was written and more" {
		t.Errorf("the store has %q", got)
	}
	s.want("written", "what was written and more", 0)
}

// spoilt are the things that can happen to a file of the cache.
var spoilt = map[string]func(name string) error{
	"a flipped bit": func(name string) error {
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		b[len(b)/2] ^= 1
		return os.WriteFile(name, b, 0o600)
	},
	"cut":    func(name string) error { return os.Truncate(name, 100) },
	"empty":  func(name string) error { return os.Truncate(name, 0) },
	"gone":   os.Remove,
	"zeroed": zeroed,
}

// zeroed cuts a file and makes it as long as it was.
func zeroed(name string) error {
	st, err := os.Stat(name)
	if err != nil {
		return err
	}
	if err := os.Truncate(name, 0); err != nil {
		return err
	}
	return os.Truncate(name, st.Size())
}

// Whatever happens to a file of the cache between two mounts, or in one while
// nobody has it open, the reader gets the right bytes.
func TestDamagedFiles(t *testing.T) {
	for how, spoil := range spoilt {
		for _, size := range []int{5000, 300 << 10, 3 << 20} {
			content := text(size)
			again := func(s *shelfTest) {
				s.Helper()
				files := s.files()
				if len(files) != 1 {
					s.Fatalf("%d files have contents", len(files))
				}
				if err := spoil(files[0]); err != nil {
					s.Fatal(err)
				}
			}
			t.Run(fmt.Sprint(how, size), func(t *testing.T) {
				s := newShelfTest(t, map[string]string{"f": content})
				s.read("f")
				s.remount(func() { again(s) })
				s.p.reset()
				if s.read("f") != content {
					t.Error("after a remount it reads something else")
				}
				if s.p.count("open") == 0 {
					t.Error("nothing was fetched")
				}
				s.remount(nil)
				s.want("f", content, 0)
				again(s) // in the running mount, while nobody has it open
				s.p.reset()
				if s.read("f") != content {
					t.Error("in the running mount it reads something else")
				}
				if s.p.count("open") == 0 && (how != "gone" || size > 64<<10) { // the slab is open
					t.Error("in the running mount nothing was fetched")
				}
				s.remount(nil)
				if s.read("f") != content {
					t.Error("at last it reads something else")
				}
			})
		}
	}
}

// A file of the cache that is cut while a reader has it open is fetched again,
// also where more was put behind the cut meanwhile.
func TestCutUnderAReader(t *testing.T) {
	content := text(4 << 20)
	s := newShelfTest(t, map[string]string{"f": content})
	n, _ := lookup(t, s.f, "f")
	h := openFile(t, s.f, n, os.O_RDONLY)
	read := func(off int64) {
		t.Helper()
		p := make([]byte, 1000)
		if _, err := h.ReadAt(t.Context(), p, off); err != nil || !bytes.Equal(p, []byte(content[off:off+1000])) {
			t.Errorf("at %d: %v", off, err)
		}
	}
	cut := func() {
		t.Helper()
		files := s.files()
		for range 500 { // a reader has its bytes before they are in the file
			if len(files) > 0 {
				break
			}
			time.Sleep(10 * time.Millisecond)
			files = s.files()
		}
		if len(files) == 0 {
			t.Fatal("the cache has no file")
		}
		if err := os.Truncate(files[0], 10); err != nil {
			t.Fatal(err)
		}
	}
	read(2 << 20)
	cut()
	read(2 << 20)
	cut()
	read(3 << 20)
	read(2 << 20)
	if err := closeFile(t, h); err != nil {
		t.Error(err)
	}
}

// What is changed before it was read is sent right: a damaged file of the cache
// never gets to the store.
func TestDamageIsNotSent(t *testing.T) {
	for _, size := range []int{5000, 9 << 20} {
		content := text(size)
		s := newShelfTest(t, map[string]string{"f": content})
		s.read("f")
		s.remount(func() {
			if err := spoilt["a flipped bit"](s.files()[0]); err != nil {
				t.Fatal(err)
			}
		})
		n, _ := lookup(t, s.f, "f")
		h := openFile(t, s.f, n, os.O_WRONLY)
		if _, err := h.WriteAt(t.Context(), []byte("more"), int64(size)); err != nil {
			t.Fatal(err)
		}
		if err := closeFile(t, h); err != nil {
			t.Fatal(err)
		}
		s.unmount()
		if got := get(t, s.p.Store, "f"); got != content+"more" {
			t.Errorf("the store has other bytes than were written (%d bytes)", len(got))
		}
	}
}

// A killed process leaves what it had put into the index; what it had not takes
// no room.
func TestKilledShelf(t *testing.T) {
	content := text(200 << 10)
	s := newShelfTest(t, map[string]string{"a": content, "b": content + "b"})
	s.read("a")
	for deadline := time.Now().Add(20 * time.Second); s.f.State().Stats.Indexed == 0; {
		if time.Now().After(deadline) {
			t.Fatal("nothing is in the index")
		}
		time.Sleep(20 * time.Millisecond)
	}
	s.read("b")
	after := t.TempDir()
	if err := os.CopyFS(after, os.DirFS(s.dir)); err != nil { // a kill leaves the room as it is
		t.Fatal(err)
	}
	s.unmount()
	s.dir = after
	s.mount()
	st := s.f.State()
	if files := s.files(); st.Stats.Indexed != int64(len(files)) || st.CacheBytes < int64(len(content)) {
		t.Errorf("%d files, %d rows, %d bytes", len(files), st.Stats.Indexed, st.CacheBytes)
	}
	s.want("a", content, 0)
	if got := s.read("b"); got != content+"b" {
		t.Error("what was not in the index reads otherwise")
	}
}

// The budget holds over remounts, also when it shrinks, and takes first what
// was used longest ago, whichever mount that was.
func TestBudgetOverRemounts(t *testing.T) {
	contents := map[string]string{}
	for _, name := range []string{"a/1", "b/1", "c/1", "d/1"} {
		contents[name] = name + text(100<<10)
		// Nobody who reads those goes through the files one after another, so that
		// none is read ahead.
		contents[name[:2]+"2"] = "not read"
	}
	s := newShelfTest(t, contents)
	for _, name := range []string{"a/1", "b/1", "c/1"} {
		s.read(name)
	}
	s.read("a/1") // b is the oldest now
	s.budget = cache.NewBudget(250 << 10)
	s.remount(nil)
	if got := s.f.State(); got.CacheBytes > 250<<10 || got.CacheBytes == 0 {
		t.Errorf("%d bytes after a remount with a budget of 250 KiB", got.CacheBytes)
	}
	s.want("a/1", contents["a/1"], 0)
	s.want("d/1", contents["d/1"], 1) // c has to go
	s.want("a/1", contents["a/1"], 0)
	s.budget = cache.NewBudget(250 << 10)
	s.remount(nil)
	s.want("d/1", contents["d/1"], 0)
	s.want("a/1", contents["a/1"], 0)
	s.want("b/1", contents["b/1"], 1)
	n := 0
	for _, name := range s.files() {
		if filepath.Base(name) != "slab" { // one that nobody has read may have been read ahead
			n++
		}
	}
	if n > 2 {
		t.Errorf("%d files where there is room for two", n)
	}
}

// Of several routes with one budget the one gives way whose content was used
// longest ago, not the one that needs the room.
func TestSharedBudgetTakesTheOldest(t *testing.T) {
	block := text(300 << 10)
	b := cache.NewBudget(1 << 20)
	mount := func() (*shelfTest, *shelfTest) {
		one, two := newShelfTest(t, nil), newShelfTest(t, nil)
		for _, s := range []*shelfTest{one, two} {
			for i := range 3 {
				put(t, s.p.Store, fmt.Sprint("f", i), block)
			}
			s.budget = b
			s.remount(nil)
		}
		return one, two
	}
	one, two := mount()
	one.read("f0")
	two.read("f0")
	two.read("f1")
	two.read("f2") // one's f0 is the oldest of all
	one.want("f0", block, 1)
	two.want("f1", block, 0)
	two.want("f2", block, 0)
	two.want("f0", block, 1)
}

// An index that can't be used costs what is in it and nothing else.
func TestDamagedIndex(t *testing.T) {
	content := text(5000)
	s := newShelfTest(t, map[string]string{"f": content})
	s.read("f")
	s.remount(func() {
		names, _ := filepath.Glob(filepath.Join(s.dir, "rooms", "*", "index.db"))
		if len(names) != 1 {
			t.Fatalf("indexes: %v", names)
		}
		if err := os.WriteFile(names[0], []byte(strings.Repeat("damage", 1000)), 0o600); err != nil {
			t.Fatal(err)
		}
	})
	if n := len(s.files()); n != 0 {
		t.Errorf("%d files that no index knows", n)
	}
	s.want("f", content, 1)
	s.remount(nil)
	s.want("f", content, 0)
}

// Files that nobody knows, as a killed process may leave them, are removed.
func TestUnknownFiles(t *testing.T) {
	s := newShelfTest(t, map[string]string{"f": "content"})
	s.read("f")
	s.remount(func() {
		dirs, _ := filepath.Glob(filepath.Join(s.dir, "rooms", "*", "content"))
		if err := os.WriteFile(filepath.Join(dirs[0], "spare-1-1"), make([]byte, 1<<20), 0o600); err != nil {
			t.Fatal(err)
		}
	})
	if n := len(s.files()); n != 1 {
		t.Errorf("%d files", n)
	}
	s.want("f", "content", 0)
}

// With a ttl of 0 every open asks the store for its version, and no content that
// is here is fetched.
func TestWarmWithoutTTL(t *testing.T) {
	s := newShelfTest(t, map[string]string{"f": "content"})
	s.read("f")
	s.unmount()
	f := newCache(t, s.p, cache.Config{Dir: s.dir, Identity: "test:shelf", TTL: 0})
	s.f = f
	defer func() { s.f = nil }()
	for range 3 {
		s.p.reset()
		if got := s.read("f"); got != "content" || s.p.count("open") != 0 || s.p.count("stat") != 1 {
			t.Errorf("%q for %s", got, s.p.reset())
		}
	}
	put(t, s.p.Store, "f", "another")
	s.want("f", "another", 1)
}

// A handle that was opened before a foreign change goes on with what it opened,
// from the cache; who opens the name gets the new content.
func TestOldHandleAfterForeignChange(t *testing.T) {
	old, now := text(5000), "now"
	s := newShelfTest(t, map[string]string{"f": old})
	s.read("f")
	s.unmount()
	f := newCache(t, s.p, cache.Config{Dir: s.dir, Identity: "test:shelf", TTL: 0})
	n, _ := lookup(t, f, "f")
	h := openFile(t, f, n, os.O_RDONLY)
	put(t, s.p.Store, "f", now)
	m, a := lookup(t, f, "f")
	if m == n || a.Size != int64(len(now)) {
		t.Errorf("the name shows the old content: %+v", a)
	}
	if got := readAll(t, h, len(old)); got != old {
		t.Error("the old handle reads something else")
	}
	g := openFile(t, f, m, os.O_RDONLY)
	if got := readAll(t, g, 100); got != now {
		t.Errorf("the new handle reads %q", got)
	}
	for _, h := range []backends.File{h, g} {
		if err := closeFile(t, h); err != nil {
			t.Error(err)
		}
	}
}

// A removed file takes no room, in this mount or the next.
func TestRemovedFromTheShelf(t *testing.T) {
	s := newShelfTest(t, map[string]string{"f": text(5000), "g": text(6000)})
	s.read("f")
	s.read("g")
	s.remount(nil)
	s.read("f")
	for _, name := range []string{"f", "g"} {
		if err := s.f.Unlink(t.Context(), s.f.Root(), name); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.f.SyncDir(t.Context(), s.f.Root()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.f.Lookup(t.Context(), s.f.Root(), "f"); err == nil {
		t.Fatal("it is still there")
	} else if !os.IsNotExist(err) && err != fs.ErrNotExist {
		t.Fatal(err)
	}
	if got := s.f.State().CacheBytes; got != 6000 {
		t.Errorf("%d bytes: what nobody has opened stays until it is the oldest", got)
	}
}
