package cache_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/cache"
)

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
