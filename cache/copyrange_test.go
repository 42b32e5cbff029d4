package cache_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/cache"
)

// copyAll copies src over the beginning of dst, as cp does.
func copyAll(t *testing.T, c *cache.FS, src, dst backends.File) {
	t.Helper()
	for at := int64(0); ; {
		n, err := c.CopyRange(t.Context(), src, at, dst, at, 1<<40)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return
		}
		at += n
	}
}

// copyFile is cp, without the sync.
func copyFile(t *testing.T, c *cache.FS, from, to string) {
	t.Helper()
	n, _ := lookup(t, c, from)
	src := openFile(t, c, n, os.O_RDONLY)
	dst := newFile(t, c, c.Root(), to)
	copyAll(t, c, src, dst)
	for _, h := range []backends.File{dst, src} {
		if err := closeFile(t, h); err != nil {
			t.Fatal(err)
		}
	}
}

func storeAll(t *testing.T, c *cache.FS) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := c.SyncDir(ctx, c.Root()); err != nil {
		t.Fatal(err)
	}
}

const copySize = 5 << 18

// Nothing of a copy goes through this machine, whatever else happens to either
// file before the store has it.
func TestCopyRange(t *testing.T) {
	model := letters(copySize, 1)
	for name, then := range map[string]func(t *testing.T, c *cache.FS) (here map[string]string){
		"nothing": func(*testing.T, *cache.FS) map[string]string { return map[string]string{"f": model} },
		"source removed": func(t *testing.T, c *cache.FS) map[string]string {
			if err := c.Unlink(t.Context(), c.Root(), "f"); err != nil {
				t.Fatal(err)
			}
			return map[string]string{"f": ""}
		},
		"source renamed": func(t *testing.T, c *cache.FS) map[string]string {
			rename(t, c, c.Root(), "f", c.Root(), "h")
			return map[string]string{"f": "", "h": model}
		},
		"source changed": func(t *testing.T, c *cache.FS) map[string]string {
			n, _ := lookup(t, c, "f")
			h := openFile(t, c, n, os.O_RDWR)
			writeAt(t, h, "new", 100)
			if err := closeFile(t, h); err != nil {
				t.Error(err)
			}
			return map[string]string{"f": model[:100] + "new" + model[103:]}
		},
		"source overwritten": func(t *testing.T, c *cache.FS) map[string]string {
			create(t, c, "x", "other")
			rename(t, c, c.Root(), "x", c.Root(), "f")
			return map[string]string{"f": "other"}
		},
		"copied again": func(t *testing.T, c *cache.FS) map[string]string {
			copyFile(t, c, "g", "h")
			copyFile(t, c, "f", "i")
			return map[string]string{"f": model, "h": model, "i": model}
		},
		"copy over source": func(t *testing.T, c *cache.FS) map[string]string {
			copyFile(t, c, "g", "h")
			rename(t, c, c.Root(), "h", c.Root(), "f")
			return map[string]string{"f": model, "h": ""}
		},
	} {
		for _, state := range []string{"far", "written"} {
			t.Run(name+","+state, func(t *testing.T) {
				m := newParts(t)
				s := newMeter(m, m)
				dir := t.TempDir()
				c := newCache(t, s, cache.Config{Dir: dir, TTL: time.Hour, Durability: "writeback", Grace: time.Hour})
				if state == "far" {
					put(t, m, "f", model)
				} else {
					create(t, c, "f", model)
					storeAll(t, c)
				}
				s.reset()
				copyFile(t, c, "f", "g")
				want := then(t, c)
				want["g"] = model
				storeAll(t, c)
				if in, out := s.reset(); in > 3*smallPart || out > 3*smallPart {
					t.Errorf("%d bytes were sent, %d fetched", in, out)
				}
				for name, want := range want {
					if want == "" {
						if _, err := m.Stat(t.Context(), name); err == nil {
							t.Errorf("%s is still there", name)
						}
						continue
					}
					if got := get(t, m, name); got != want {
						t.Errorf("the store has %d other bytes in %s", len(got), name)
					}
					n, _ := lookup(t, c, name)
					h := openFile(t, c, n, os.O_RDONLY)
					if readAll(t, h, len(want)+1) != want {
						t.Errorf("%s reads as something else", name)
					}
					if err := closeFile(t, h); err != nil {
						t.Error(err)
					}
				}
				if x := c.State().Conflicts; len(x) > 0 {
					t.Errorf("conflicts: %+v", x)
				}
				noUploads(t, m)
			})
		}
	}
}

// A copy that the store does not have yet survives the end of the mount, and a
// source that others have changed meanwhile is never made up.
func TestCopyRangeRemount(t *testing.T) {
	for _, theirs := range []bool{false, true} {
		t.Run(fmt.Sprint("changed elsewhere=", theirs), func(t *testing.T) {
			m := newParts(t)
			s := newProbe(m)
			both := struct {
				backends.Store
				backends.Uploader
			}{s, m}
			dir := t.TempDir()
			conf := cache.Config{Dir: dir, Identity: "test:" + t.Name(), TTL: time.Hour, Grace: time.Hour}
			c, err := cache.New(t.Context(), both, conf)
			if err != nil {
				t.Fatal(err)
			}
			model := letters(copySize, 1)
			put(t, m, "f", model)
			copyFile(t, c, "f", "g")
			n, _ := lookup(t, c, "g")
			h := openFile(t, c, n, os.O_RDWR)
			writeAt(t, h, "mine", copySize)
			if err := closeFile(t, h); err != nil {
				t.Fatal(err)
			}
			over, cancel := context.WithCancel(t.Context())
			cancel()
			if err := c.Close(over); err == nil {
				t.Fatal("all is stored already")
			}
			if theirs {
				put(t, m, "f", "theirs")
			}
			conf.Grace = 0
			c = newCache(t, both, conf)
			n, a := lookup(t, c, "g")
			if a.Size != copySize+4 {
				t.Errorf("it has %d bytes", a.Size)
			}
			h = openFile(t, c, n, os.O_RDONLY)
			p := make([]byte, 1000)
			if _, err := h.ReadAt(t.Context(), p, 1<<19); theirs != errors.Is(err, backends.ErrChanged) || !theirs && string(p) != model[1<<19:1<<19+1000] {
				t.Errorf("a read of it: %v, %.10q", err, p)
			}
			_ = h.Close(t.Context())
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			err = c.SyncDir(ctx, c.Root())
			if !theirs {
				if err != nil || get(t, m, "g") != model+"mine" {
					t.Errorf("the store has something else, %v", err)
				}
				return
			}
			if _, err := m.Stat(ctx, "g"); err == nil {
				t.Error("something was made up")
			}
			x := c.State().Conflicts
			if len(x) != 1 {
				t.Fatalf("conflicts: %+v", x)
			}
			if b, err := os.ReadFile(x[0].Ours); err != nil || !strings.HasSuffix(string(b), "mine") {
				t.Errorf("what was written is not kept: %v", err)
			}
		})
	}
}

// Two files that have taken bytes of each other, and are to be stored, don't wait for each
// other: neither when both are closed nor when one is being written again.
func TestCopyRangeBothWays(t *testing.T) {
	for _, again := range []bool{false, true} {
		t.Run(fmt.Sprint("written again=", again), func(t *testing.T) {
			m := newParts(t)
			c := newCache(t, m, cache.Config{TTL: time.Hour, Durability: "writeback", Grace: time.Hour})
			model := [2]string{letters(copySize, 1), letters(copySize, 2)}
			var h [2]backends.File
			names := []string{"a", "b"}
			for i, name := range names {
				put(t, m, name, model[i])
			}
			for i, name := range names {
				n, _ := lookup(t, c, name)
				h[i] = openFile(t, c, n, os.O_RDWR)
			}
			const piece = 1 << 20
			for i := range h {
				if n, err := c.CopyRange(t.Context(), h[i], 0, h[1-i], copySize, piece); n != piece || err != nil {
					t.Fatal(n, err)
				}
			}
			model = [2]string{model[0] + model[1][:piece], model[1] + model[0][:piece]}
			for i := range h {
				if err := closeFile(t, h[i]); err != nil {
					t.Fatal(err)
				}
			}
			if again {
				n, _ := lookup(t, c, "a")
				w := openFile(t, c, n, os.O_RDWR)
				writeAt(t, w, "late", 5)
				model[0] = model[0][:5] + "late" + model[0][9:]
				defer w.Close(t.Context())
			}
			storeAll(t, c)
			for i, name := range names {
				if get(t, m, name) != model[i] {
					t.Errorf("the store has another %s", name)
				}
			}
		})
	}
}

// Copies between files, with changes of all of them in between, are those of
// arrays of bytes.
func TestCopyRangeAgainstBytes(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	rounds := 4
	if testing.Short() {
		rounds = 1
	}
	for range rounds {
		m := newParts(t)
		c := newCache(t, m, cache.Config{TTL: time.Hour, Durability: "writeback", Grace: time.Duration(1+r.IntN(20)) * time.Millisecond, Budget: cache.NewBudget(20 << 20)})
		names := []string{"a", "b", "c"}
		model := map[string][]byte{}
		for i, name := range names {
			model[name] = []byte(letters(1+r.IntN(2<<20), seed+uint64(i)))
			put(t, m, name, string(model[name]))
		}
		var done []string
		check := func(name string) {
			n, _ := lookup(t, c, name)
			h := openFile(t, c, n, os.O_RDONLY)
			if got := readAll(t, h, 8<<20); got != string(model[name]) {
				t.Fatalf("%s is wrong:\n%s", name, strings.Join(done, "\n"))
			}
			_ = h.Close(t.Context())
		}
		for range 150 {
			from, to := names[r.IntN(3)], names[r.IntN(3)]
			off, at, n := r.IntN(2<<20), r.IntN(2<<20), r.IntN(1<<uint(r.IntN(22)))
			op := r.IntN(8)
			done = append(done, fmt.Sprint(op, " ", from, " ", off, " to ", to, " ", at, " ", n))
			nf, _ := lookup(t, c, from)
			switch op {
			case 0, 1, 2, 3:
				nt, _ := lookup(t, c, to)
				src, dst := openFile(t, c, nf, os.O_RDONLY), openFile(t, c, nt, os.O_RDWR)
				k, err := c.CopyRange(t.Context(), src, int64(off), dst, int64(at), int64(n))
				if err != nil && !errors.Is(err, os.ErrInvalid) {
					t.Fatal(err)
				}
				if k > 0 {
					b := model[to]
					if grow := at + int(k) - len(b); grow > 0 {
						b = append(b, make([]byte, grow)...)
					}
					copy(b[at:], model[from][off:off+int(k)])
					model[to] = b
				}
				_, _ = dst.Close(t.Context()), src.Close(t.Context())
			case 4, 5:
				h := openFile(t, c, nf, os.O_RDWR)
				text := letters(1+n/4, seed+uint64(len(done)))
				writeAt(t, h, text, int64(off))
				b := model[from]
				if grow := off + len(text) - len(b); grow > 0 {
					b = append(b, make([]byte, grow)...)
				}
				copy(b[off:], text)
				model[from] = b
				_ = h.Close(t.Context())
			case 6:
				if from != to {
					rename(t, c, c.Root(), from, c.Root(), to)
					rename(t, c, c.Root(), to, c.Root(), from)
					model[to] = []byte(letters(100_000, seed+uint64(len(done))))
					create(t, c, to, string(model[to]))
				}
			case 7:
				if r.IntN(3) == 0 {
					storeAll(t, c)
				}
				check(from)
			}
		}
		storeAll(t, c)
		for _, name := range names {
			check(name)
			if get(t, m, name) != string(model[name]) {
				t.Fatalf("the store has something else in %s:\n%s", name, strings.Join(done, "\n"))
			}
		}
		if x := c.State().Conflicts; len(x) > 0 {
			t.Fatalf("conflicts: %+v\n%s", x, strings.Join(done, "\n"))
		}
	}
}
