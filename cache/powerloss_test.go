package cache_test

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/cache"
	"github.com/agentfs/agentfs/cache/journal"
)

// What was written after the last flush may not be on the disk after a power
// loss: it is kept, large or small, and is not taken for the file.
func TestPowerLoss(t *testing.T) {
	for _, size := range []int{10, 100_000} {
		p := newProbe(newMemory(t))
		p.setRefuse(refusing("put"))
		want := strings.Repeat("x", size)
		dir := t.TempDir()
		cfg := cache.Config{Dir: dir, Identity: "test:power", Grace: time.Minute} // nothing is tried before the room is copied
		f, err := cache.New(t.Context(), p, cfg)
		if err != nil {
			t.Fatal(err)
		}
		d, _, err := f.Mkdir(t.Context(), f.Root(), "d", backends.CreateAttr{Mode: fs.ModeDir | 0o755})
		if err != nil {
			t.Fatal(err)
		}
		h := newFile(t, f, d, "f")
		writeAt(t, h, want, 0)
		if err := h.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		cfg.Dir = t.TempDir()
		if err := os.CopyFS(cfg.Dir, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		p.setRefuse(nil)
		if err := closeFile(t, h); err != nil {
			t.Error(err)
		}
		if err := f.Close(t.Context()); err != nil {
			t.Error(err)
		}
		rebooted(t, cfg.Dir)
		next := newCache(t, newMemory(t), cfg)
		d, _ = lookup(t, next, "d")
		if _, _, err := next.Lookup(t.Context(), d, "f"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("size %d: looked up after the power loss: %v", size, err)
		}
		rooms, err := cache.Rooms(cfg.Dir)
		if err != nil || len(rooms) != 1 || len(rooms[0].Kept) != 1 {
			t.Fatalf("size %d: rooms %+v, %v; want one with one kept file", size, rooms, err)
		}
		if name := rooms[0].Kept[0].Name; name != "d/f" {
			t.Errorf("it says that it belongs to %q", name)
		}
		if got, err := os.ReadFile(rooms[0].Kept[0].File); err != nil || string(got) != want {
			t.Errorf("size %d: %d bytes are kept, %v", size, len(got), err)
		}
	}
}

// rebooted makes the journals below dir those of another boot of the machine.
func rebooted(t *testing.T, dir string) {
	t.Helper()
	inJournal(t, dir, "UPDATE meta SET boot = 'another'")
}

// inJournal changes the journals below dir.
func inJournal(t *testing.T, dir, change string) {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "rooms", "*", "journal.db"))
	if err != nil || len(all) == 0 {
		t.Fatalf("journals %v, %v", all, err)
	}
	for _, name := range all {
		// All of it into the table.
		j, err := journal.Open(filepath.Dir(name))
		if err != nil {
			t.Fatal(err)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		db, err := sql.Open("sqlite", name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec(change); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// What a content was to replace stays in the store if a power loss has taken the
// content: its name is that of the old one again.
func TestPowerLossOfAReplacement(t *testing.T) {
	for _, moved := range []bool{false, true} {
		p := newProbe(newMemory(t))
		put(t, p.Store, "f", "what the store has")
		p.setRefuse(refusing("put"))
		dir := t.TempDir()
		cfg := cache.Config{Dir: dir, Identity: "test:power"}
		f, err := cache.New(t.Context(), p, cfg)
		if err != nil {
			t.Fatal(err)
		}
		from, to := "tmp", "f"
		if moved { // and then changed
			from, to = "f", "g"
			if err := f.Rename(t.Context(), f.Root(), from, f.Root(), to, 0); err != nil {
				t.Fatal(err)
			}
			n, _ := lookup(t, f, to)
			h := openFile(t, f, n, os.O_RDWR|os.O_TRUNC)
			writeAt(t, h, "new", 0)
			if err := closeFile(t, h); err != nil {
				t.Fatal(err)
			}
		} else {
			create(t, f, from, "new")
			if err := f.Rename(t.Context(), f.Root(), from, f.Root(), to, 0); err != nil {
				t.Fatal(err)
			}
		}
		cfg.Dir = t.TempDir()
		if err := os.CopyFS(cfg.Dir, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_ = f.Close(ctx)
		cancel()
		p.setRefuse(nil)
		rebooted(t, cfg.Dir)
		next := newCache(t, p, cfg)
		if err := next.SyncDir(t.Context(), next.Root()); err != nil {
			t.Error(err)
		}
		if rooms, err := cache.Rooms(cfg.Dir); err != nil || len(rooms) != 1 || len(rooms[0].Kept) != 1 {
			t.Errorf("rooms %+v, %v; want one with one kept file", rooms, err)
		}
		if got := get(t, p.Store, "f"); got != "what the store has" {
			t.Errorf("moved %t: after the power loss the store has %q", moved, got)
		}
		if _, _, err := next.Lookup(t.Context(), next.Root(), "f"); err != nil {
			t.Errorf("moved %t: looked up after the power loss: %v", moved, err)
		}
	}
}

// Where a power loss has taken all of a content, the journal has a record of it
// nevertheless: it is not taken for an empty file, which would replace what the
// store has.
func TestPowerLossOfAllBytes(t *testing.T) {
	for _, size := range []int{10, 100_000} {
		p := newProbe(newMemory(t))
		put(t, p.Store, "f", "what the store has")
		p.setRefuse(refusing("put"))
		dir := t.TempDir()
		cfg := cache.Config{Dir: dir, Identity: "test:power"}
		f, err := cache.New(t.Context(), p, cfg)
		if err != nil {
			t.Fatal(err)
		}
		n, _ := lookup(t, f, "f")
		h := openFile(t, f, n, os.O_RDWR|os.O_TRUNC)
		writeAt(t, h, strings.Repeat("x", size), 0)
		if err := h.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		cfg.Dir = t.TempDir()
		if err := os.CopyFS(cfg.Dir, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		_ = closeFile(t, h)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_ = f.Close(ctx)
		cancel()
		p.setRefuse(nil)
		all, err := filepath.Glob(filepath.Join(cfg.Dir, "rooms", "*", "content", "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range all {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
		rebooted(t, cfg.Dir)
		next := newCache(t, p, cfg)
		if err := next.SyncDir(t.Context(), next.Root()); err != nil {
			t.Error(err)
		}
		if got := get(t, p.Store, "f"); got != "what the store has" {
			t.Errorf("size %d: after the power loss the store has %q", size, got)
		}
	}
}

// A content whose record in the journal is damaged is kept for somebody to look
// at, and not removed.
func TestDamagedMap(t *testing.T) {
	p := newProbe(newMemory(t))
	put(t, p.Store, "f", text(3<<20))
	p.setRefuse(refusing("put"))
	dir := t.TempDir()
	cfg := cache.Config{Dir: dir, Identity: "test:damaged", Grace: time.Minute}
	f, err := cache.New(t.Context(), p, cfg)
	if err != nil {
		t.Fatal(err)
	}
	n, _ := lookup(t, f, "f")
	h := openFile(t, f, n, os.O_RDWR)
	writeAt(t, h, "what was written here", 1<<20)
	if err := closeFile(t, h); err != nil {
		t.Fatal(err)
	}
	cfg.Dir = t.TempDir()
	if err := os.CopyFS(cfg.Dir, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	_ = f.Close(ctx)
	cancel()
	p.setRefuse(nil)
	inJournal(t, cfg.Dir, "UPDATE kv SET value = x'7b' WHERE key >= CAST('x/' AS BLOB) AND key < CAST('y' AS BLOB)")
	newCache(t, p, cfg)
	rooms, err := cache.Rooms(cfg.Dir)
	if err != nil || len(rooms) != 1 || len(rooms[0].Kept) != 1 {
		t.Fatalf("rooms %+v, %v; want one with one kept file", rooms, err)
	}
	b, err := os.ReadFile(rooms[0].Kept[0].File)
	if err != nil || !strings.Contains(string(b), "what was written here") {
		t.Errorf("%d bytes are kept, %v", len(b), err)
	}
}

// When the journal is lost, the contents that only it knew are not removed.
func TestLostJournal(t *testing.T) {
	p := newProbe(newMemory(t))
	dir := t.TempDir()
	cfg := cache.Config{Dir: dir, Identity: "test:lost", Grace: time.Minute}
	f, err := cache.New(t.Context(), p, cfg)
	if err != nil {
		t.Fatal(err)
	}
	create(t, f, "f", "what was written here")
	cfg.Dir = t.TempDir()
	if err := os.CopyFS(cfg.Dir, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(t.Context()); err != nil {
		t.Error(err)
	}
	rooms, err := filepath.Glob(filepath.Join(cfg.Dir, "rooms", "*"))
	if err != nil || len(rooms) != 1 {
		t.Fatal(rooms, err)
	}
	if err := os.WriteFile(filepath.Join(rooms[0], "journal.db"), []byte(strings.Repeat("garbage", 2000)), 0o600); err != nil {
		t.Fatal(err)
	}
	newCache(t, p, cfg)
	aside, err := filepath.Glob(filepath.Join(rooms[0], "content.damaged-*", "slab"))
	if err != nil || len(aside) != 1 {
		t.Fatalf("set aside: %v, %v", aside, err)
	}
	if b, err := os.ReadFile(aside[0]); err != nil || !strings.Contains(string(b), "what was written here") {
		t.Errorf("%d bytes are there, %v", len(b), err)
	}
}
