package cache_test

import (
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agentfs/agentfs/cache"
)

// What was written after the last flush may not be on the disk after a power
// loss: it is kept, large or small, and is not taken for the file.
func TestPowerLoss(t *testing.T) {
	for _, size := range []int{10, 100_000} {
		p := newProbe(newMemory(t))
		p.setRefuse(refusing("put"))
		want := strings.Repeat("x", size)
		dir := t.TempDir()
		cfg := cache.Config{Dir: dir, Identity: "test:power"}
		f, err := cache.New(t.Context(), p, cfg)
		if err != nil {
			t.Fatal(err)
		}
		h := newFile(t, f, f.Root(), "f")
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
		if _, _, err := next.Lookup(t.Context(), next.Root(), "f"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("size %d: looked up after the power loss: %v", size, err)
		}
		rooms, err := cache.Rooms(cfg.Dir)
		if err != nil || len(rooms) != 1 || len(rooms[0].Kept) != 1 {
			t.Fatalf("size %d: rooms %+v, %v; want one with one kept file", size, rooms, err)
		}
		if got, err := os.ReadFile(rooms[0].Kept[0].File); err != nil || string(got) != want {
			t.Errorf("size %d: %d bytes are kept, %v", size, len(got), err)
		}
	}
}

// rebooted makes the journals below dir those of another boot of the machine.
func rebooted(t *testing.T, dir string) {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "rooms", "*", "journal.db"))
	if err != nil || len(all) == 0 {
		t.Fatalf("journals %v, %v", all, err)
	}
	for _, name := range all {
		db, err := sql.Open("sqlite", name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec("UPDATE meta SET boot = 'another'"); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
