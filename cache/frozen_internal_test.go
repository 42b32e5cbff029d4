package cache

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
)

// What is in kept/ stays as it is, and so does what a handle sees that is still open:
// also if its local file is closed meanwhile, or a program goes on writing.
func TestKeptWhileItIsOpen(t *testing.T) {
	for _, size := range []int{5000, 200 << 10} {
		want := []byte("one" + strings.Repeat("x", size))
		for what, change := range map[string]func(l *leaving, h *handle) ([]byte, error){
			"closed": func(_ *leaving, h *handle) ([]byte, error) {
				h.c.mu.Lock()
				defer h.c.mu.Unlock()
				if h.c.layer.file != nil {
					h.c.layer.shut() // as descriptors may
				}
				return want, nil
			},
			"write": func(_ *leaving, h *handle) ([]byte, error) {
				_, err := h.WriteAt(t.Context(), []byte("two"), 0)
				return append([]byte("two"), want[3:]...), err
			},
			"write beyond": func(_ *leaving, h *handle) ([]byte, error) {
				_, err := h.WriteAt(t.Context(), []byte("two"), int64(len(want)))
				return append(bytes.Clone(want), "two"...), err
			},
			"cut": func(_ *leaving, h *handle) ([]byte, error) { return want[:7], h.f.truncate(7) },
			"cut to nothing": func(_ *leaving, h *handle) ([]byte, error) {
				return nil, h.f.truncate(0)
			},
			"grow": func(_ *leaving, h *handle) ([]byte, error) {
				return append(bytes.Clone(want), 0, 0), h.Allocate(t.Context(), 0, int64(len(want)+2), 0)
			},
			"punch": func(_ *leaving, h *handle) ([]byte, error) {
				err := h.Allocate(t.Context(), 0, 3, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE)
				return append(make([]byte, 3), want[3:]...), err
			},
		} {
			l := newLeaving(t)
			l.has("d/f", string(want[3:]))
			h := l.handle("d/f", os.O_RDWR)
			l.want("d/f", string(want[3:]))
			m, _ := l.f.merging(l.f.tree.Root())
			end, err := m.begin()
			if err != nil {
				t.Fatal(err)
			}
			m.drop("d", mustAt(t, l.f, "d"))
			end()
			if _, err := h.WriteAt(t.Context(), want, 0); err != nil {
				t.Fatal(err)
			}
			if err := h.Flush(t.Context()); !errors.Is(err, backends.ErrChanged) {
				t.Fatalf("the flush of a file without a directory: %v", err)
			}
			now, err := change(l, h)
			if err != nil {
				t.Errorf("%d, %s: %v", size, what, err)
			}
			p := make([]byte, len(now)+1)
			if n, err := h.ReadAt(t.Context(), p, 0); err != nil || !bytes.Equal(p[:n], now) {
				t.Errorf("%d, %s: the handle reads %d bytes, %.10q …, want %d, %.10q …, %v", size, what, n, p[:n], len(now), now, err)
			}
			if err := h.Close(t.Context()); err != nil {
				t.Errorf("%d, %s: %v", size, what, err)
			}
			all, _ := filepath.Glob(filepath.Join(l.f.room.dir, "kept", "*-f"))
			if len(all) != 1 {
				t.Fatalf("%d, %s: kept are %q", size, what, all)
			}
			if kept, err := os.ReadFile(all[0]); err != nil || !bytes.Equal(kept, want) {
				t.Errorf("%d, %s: kept are %d bytes, %.10q …, want %d, %v", size, what, len(kept), kept, len(want), err)
			}
		}
	}
}

// The bytes by which an attempt is known whose outcome nobody has heard are still its
// own when a program goes on writing to the file that has lost its name, in this
// process or the next one.
func TestRemovedAfterALostPutAndWritten(t *testing.T) {
	for _, kill := range []bool{false, true} {
		l := newLeaving(t)
		l.blind.Store(true)
		l.lost.Store(true)
		l.write(l.create("f"), strings.Repeat("lost", 50_000))
		if err := l.f.SyncDir(t.Context(), l.f.Root()); err == nil {
			t.Fatal("nothing was lost")
		}
		l.down.Store(true)
		if err := l.f.Rename(t.Context(), l.f.Root(), "f", l.f.Root(), "g", 0); err != nil {
			t.Fatal(err)
		}
		if kill {
			l.kill()
		}
		l.write(l.handle("g", os.O_RDWR), "now")
		l.down.Store(false)
		l.lost.Store(false)
		if err := l.f.SyncDir(t.Context(), l.f.Root()); err != nil {
			t.Fatal(err)
		}
		if e, err := l.store.Stat(t.Context(), "f"); err == nil {
			t.Errorf("kill %t: it was renamed, and is in the store: %+v", kill, e)
		}
		l.want("g", "now"+strings.Repeat("lost", 50_000)[3:])
	}
}
