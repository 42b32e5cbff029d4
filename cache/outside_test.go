package cache_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/cache"
)

// probe counts the calls of a store, lets a test refuse them, and hides all
// that the store can do beyond the six methods.
type probe struct {
	backends.Store
	mu     sync.Mutex
	counts map[string]int
	bytes  int64 // read through Open
	refuse func(op, name string) error
}

func newProbe(s backends.Store) *probe { return &probe{Store: s, counts: map[string]int{}} }

func (p *probe) call(op, name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts[op]++
	if p.refuse != nil {
		return p.refuse(op, name)
	}
	return nil
}

// reset forgets the counts and returns them.
func (p *probe) reset() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := fmt.Sprint(p.counts)
	p.counts, p.bytes = map[string]int{}, 0
	return s
}

func (p *probe) setRefuse(f func(op, name string) error) {
	p.mu.Lock()
	p.refuse = f
	p.mu.Unlock()
}

func (p *probe) Stat(ctx context.Context, name string) (backends.Entry, error) {
	if err := p.call("stat", name); err != nil {
		return backends.Entry{}, err
	}
	return p.Store.Stat(ctx, name)
}

func (p *probe) List(ctx context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	if err := p.call("list", dir); err != nil {
		return func(yield func(backends.Entry, error) bool) { yield(backends.Entry{}, err) }
	}
	return p.Store.List(ctx, dir, after)
}

func (p *probe) Open(ctx context.Context, name string, r backends.Range, cond backends.If) (io.ReadCloser, backends.Entry, error) {
	if err := p.call("open", name); err != nil {
		return nil, backends.Entry{}, err
	}
	p.mu.Lock()
	p.bytes += r.Len
	p.mu.Unlock()
	return p.Store.Open(ctx, name, r, cond)
}

func (p *probe) Put(ctx context.Context, name string, body *io.SectionReader, o backends.PutOptions) (backends.Entry, error) {
	if err := p.call("put", name); err != nil {
		return backends.Entry{}, err
	}
	return p.Store.Put(ctx, name, body, o)
}

func (p *probe) Remove(ctx context.Context, name string, cond backends.If) error {
	if err := p.call("remove", name); err != nil {
		return err
	}
	return p.Store.Remove(ctx, name, cond)
}

// put changes the store from outside.
func put(t *testing.T, s backends.Store, name, content string) {
	t.Helper()
	_, err := s.Put(t.Context(), name, io.NewSectionReader(strings.NewReader(content), 0, int64(len(content))), backends.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// get reads from the store, beside the cache.
func get(t *testing.T, s backends.Store, name string) string {
	t.Helper()
	r, _, err := s.Open(t.Context(), name, backends.Range{}, backends.If{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func lookup(t *testing.T, f *cache.FS, path string) (backends.Node, backends.Attr) {
	t.Helper()
	n := f.Root()
	var a backends.Attr
	var err error
	for seg := range strings.SplitSeq(path, "/") {
		if n, a, err = f.Lookup(t.Context(), n, seg); err != nil {
			t.Fatalf("lookup of %s at %s: %v", path, seg, err)
		}
	}
	return n, a
}

func openFile(t *testing.T, f *cache.FS, n backends.Node, flags int) backends.File {
	t.Helper()
	h, err := f.Open(t.Context(), n, flags)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func readAll(t *testing.T, h backends.File, size int) string {
	t.Helper()
	p := make([]byte, size)
	n, err := h.ReadAt(t.Context(), p, 0)
	if err != nil {
		t.Fatal(err)
	}
	return string(p[:n])
}

func closeFile(t *testing.T, h backends.File) error {
	t.Helper()
	err := h.Flush(t.Context())
	if cerr := h.Close(t.Context()); err == nil {
		err = cerr
	}
	return err
}

func create(t *testing.T, f *cache.FS, name, content string) backends.Node {
	t.Helper()
	n, _, h, err := f.Create(t.Context(), f.Root(), name, os.O_RDWR|os.O_CREATE, backends.CreateAttr{Mode: 0o644})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.WriteAt(t.Context(), []byte(content), 0); err != nil {
		t.Fatal(err)
	}
	if err := closeFile(t, h); err != nil {
		t.Fatal(err)
	}
	return n
}

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

// What close has acknowledged outlives a process that ends without a word; what
// has been uploaded since is not sent again.
func TestRemountAfterKill(t *testing.T) {
	s := newMemory(t)
	p := newProbe(s)
	down := func(op, _ string) error {
		if op == "put" {
			return errDown
		}
		return nil
	}
	p.setRefuse(down)
	dir := t.TempDir()
	f, err := cache.New(t.Context(), p, cache.Config{Dir: dir, Identity: "test:killed"})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"stuck", "sent"} {
		_, _, h, err := f.Create(t.Context(), f.Root(), name, os.O_WRONLY, backends.CreateAttr{Mode: 0o640})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.WriteAt(t.Context(), []byte("bytes of "+name), 3); err != nil {
			t.Fatal(err)
		}
		if err := h.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if name == "sent" {
			p.setRefuse(nil)
			if err := h.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			p.setRefuse(down)
		}
	}
	// A kill leaves the room as it is: take it as it is elsewhere.
	after := t.TempDir()
	if err := os.CopyFS(after, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := f.Close(ctx); err == nil {
		t.Error("Close says that everything is stored")
	}
	next := newCache(t, p, cache.Config{Dir: after, Identity: "test:killed"})
	var puts []string
	for _, p := range next.State().Pending {
		if p.Op == "put" {
			puts = append(puts, fmt.Sprint(p.Name, " ", p.Size))
		}
	}
	if len(puts) != 1 || puts[0] != "stuck 17" {
		t.Errorf("after the kill, to be put: %v", puts)
	}
	n, a := lookup(t, next, "stuck")
	if a.Mode != 0o640 || a.Size != 17 {
		t.Errorf("after the kill: %+v", a)
	}
	h := openFile(t, next, n, os.O_RDONLY)
	if got := readAll(t, h, 100); got != "\x00\x00\x00bytes of stuck" {
		t.Errorf("after the kill it reads %q", got)
	}
	if err := closeFile(t, h); err != nil {
		t.Error(err)
	}
	p.setRefuse(nil)
	p.reset()
	if err := next.SyncDir(t.Context(), next.Root()); err != nil {
		t.Fatal(err)
	}
	if got := get(t, s, "stuck"); got != "\x00\x00\x00bytes of stuck" {
		t.Errorf("the store has %q", got)
	}
	if cost := p.reset(); !strings.Contains(cost, "put 1") && !strings.Contains(cost, "put=1") && !strings.Contains(cost, "1 put") {
		t.Logf("it cost %s", cost)
	}
}

// Caches that share a budget make room for each other.
func TestSharedBudget(t *testing.T) {
	b := cache.NewBudget(1 << 20)
	one := newCache(t, plain{newMemory(t)}, cache.Config{TTL: time.Hour, Budget: b})
	two := newCache(t, plain{newMemory(t)}, cache.Config{TTL: time.Hour, Budget: b, Dir: t.TempDir()})
	block := strings.Repeat("x", 300<<10)
	for i := range 3 {
		create(t, one, fmt.Sprintf("f%d", i), block)
	}
	for i := range 3 {
		create(t, two, fmt.Sprintf("f%d", i), block)
	}
	if used := one.State().CacheBytes + two.State().CacheBytes; used > 1<<20 {
		t.Errorf("%d bytes of 1 MiB", used)
	}
	if one.State().CacheBytes >= 900<<10 {
		t.Errorf("the first cache has not given way: %d bytes", one.State().CacheBytes)
	}
}

// One cache directory serves a store to one mount at a time.
func TestRoomInUse(t *testing.T) {
	dir := t.TempDir()
	s := newMemory(t)
	f, err := cache.New(t.Context(), s, cache.Config{Dir: dir, Identity: "test:one", MountPoint: "/here"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = cache.New(t.Context(), s, cache.Config{Dir: dir, Identity: "test:one", MountPoint: "/there"})
	var used *cache.InUseError
	if !errors.As(err, &used) || used.Holder.PID != os.Getpid() || !strings.Contains(err.Error(), "/here") {
		t.Errorf("a second mount: %v", err)
	}
	other, err := cache.New(t.Context(), s, cache.Config{Dir: dir, Identity: "test:other"})
	if err != nil {
		t.Errorf("another store: %v", err)
	} else if err := other.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if err := f.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	f, err = cache.New(t.Context(), s, cache.Config{Dir: dir, Identity: "test:one"})
	if err != nil {
		t.Fatalf("after the first has ended: %v", err)
	}
	if err := f.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A room of a newer format is refused, not misread.
func TestNewerRoom(t *testing.T) {
	dir := t.TempDir()
	s := newMemory(t)
	f, err := cache.New(t.Context(), s, cache.Config{Dir: dir, Identity: "test:one"})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	rooms, err := cache.Rooms(dir)
	if err != nil {
		t.Fatal(err)
	}
	note := filepath.Join(rooms[0].Dir, "room.json")
	if err := os.WriteFile(note, []byte(`{"format": 99, "identity": "test:one"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := cache.New(t.Context(), s, cache.Config{Dir: dir, Identity: "test:one"}); err == nil || !strings.Contains(err.Error(), "newer agentfs") {
		t.Errorf("a room of format 99: %v", err)
	}
}

// The budget evicts what the store has; what it has not makes writers wait
// for ENOSPC, never disappear.
func TestBudget(t *testing.T) {
	s := newMemory(t)
	p := newProbe(s)
	f := newCache(t, p, cache.Config{TTL: time.Hour, Budget: cache.NewBudget(1 << 20)})
	block := strings.Repeat("x", 300<<10)
	for i := range 10 {
		create(t, f, fmt.Sprintf("f%d", i), block)
	}
	if st := f.State(); st.CacheBytes > st.CacheBudget {
		t.Errorf("%d bytes cached of %d", st.CacheBytes, st.CacheBudget)
	}
	for i := range 10 {
		n, _ := lookup(t, f, fmt.Sprintf("f%d", i))
		h := openFile(t, f, n, os.O_RDONLY)
		if readAll(t, h, len(block)+1) != block {
			t.Fatalf("f%d is not what was written", i)
		}
		if err := closeFile(t, h); err != nil {
			t.Fatal(err)
		}
	}
	_, _, h, err := f.Create(t.Context(), f.Root(), "large", os.O_WRONLY, backends.CreateAttr{Mode: 0o644})
	if err != nil {
		t.Fatal(err)
	}
	var full error
	for i := range int64(20) {
		if _, full = h.WriteAt(t.Context(), []byte(block[:100<<10]), i*100<<10); full != nil {
			break
		}
	}
	if !errors.Is(full, backends.ErrNoSpace) {
		t.Errorf("2 MB written into a budget of 1 MiB: %v, want ErrNoSpace", full)
	}
	if err := closeFile(t, h); err != nil {
		t.Errorf("what fitted can be closed: %v", err)
	}
}
