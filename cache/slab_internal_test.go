package cache

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// Slots do what files do, whatever lay in them before, also after another
// process has taken the slab over.
func TestSlots(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	s := &slab{dir: t.TempDir()}
	defer func() { s.end() }()
	want := map[string][]byte{}
	layers := map[string]*layer{}
	pick := func() (name string) {
		for name = range layers {
			break
		}
		return name
	}
	for step := range 3000 {
		name := pick()
		switch what := r.IntN(20); {
		case what == 0 || len(layers) == 0:
			l := s.take()
			if l == nil {
				t.Fatalf("step %d: no slot", step)
			}
			layers[l.name()], want[l.name()] = l, nil
		case what == 1:
			layers[name].drop()
			delete(layers, name)
			delete(want, name)
		case what == 2:
			// The next process, which knows the names.
			s.end()
			s = &slab{dir: s.dir}
			wanted := map[string]bool{}
			for name := range layers {
				l, ok := s.named(name)
				if !ok {
					t.Fatalf("step %d: %s is no slot", step, name)
				}
				layers[name], wanted[name] = l, true
			}
			if err := s.keep(wanted); err != nil {
				t.Fatal(err)
			}
		case what < 6:
			size := r.Int64N(slotSize + 1)
			if err := layers[name].truncate(size); err != nil {
				t.Fatalf("step %d: truncate to %d: %v", step, size, err)
			}
			want[name] = resized(want[name], size)
		case what < 8 && len(want[name]) > 0:
			off := r.Int64N(int64(len(want[name])))
			end := off + r.Int64N(slotSize)
			if err := layers[name].zero(off, end); err != nil {
				t.Fatalf("step %d: zero: %v", step, err)
			}
			clear(want[name][off:min(end, int64(len(want[name])))])
		default:
			off := r.Int64N(slotSize)
			p := make([]byte, r.Int64N(slotSize-off+1))
			for i := range p {
				p[i] = byte(r.Uint32()) | 1
			}
			if n, err := layers[name].slot.WriteAt(p, off); n != len(p) || err != nil {
				t.Fatalf("step %d: write: %d, %v", step, n, err)
			}
			if len(p) > 0 {
				want[name] = resized(want[name], max(int64(len(want[name])), off+int64(len(p))))
				copy(want[name][off:], p)
			}
		}
		for name, l := range layers {
			got := make([]byte, slotSize+1)
			n, err := l.slot.ReadAt(got, 0)
			if !errors.Is(err, io.EOF) || !bytes.Equal(got[:n], want[name]) {
				t.Fatalf("step %d: %s: %d bytes that differ from the %d wanted (%v)", step, name, n, len(want[name]), err)
			}
			if size, _, err := l.stat(); size != int64(len(want[name])) || err != nil && size > 0 {
				t.Fatalf("step %d: %s: size %d (%v), want %d", step, name, size, err, len(want[name]))
			}
		}
	}
}

func resized(b []byte, size int64) []byte {
	if size < int64(len(b)) {
		return b[:size]
	}
	return append(b, make([]byte, size-int64(len(b)))...)
}

// What is too large for a slot is refused, and a slot says when it was written
// last: not when nothing changes.
func TestSlotBounds(t *testing.T) {
	s := &slab{dir: t.TempDir()}
	defer s.end()
	l := s.take()
	if _, _, err := l.stat(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a slot that nothing was written to: %v", err)
	}
	if n, err := l.slot.WriteAt(make([]byte, 2), slotSize-1); n != 0 || err == nil {
		t.Errorf("a write over the end: %d, %v", n, err)
	}
	if err := l.truncate(slotSize + 1); err == nil {
		t.Error("a slot was made too long")
	}
	if err := l.truncate(7); err != nil {
		t.Fatal(err)
	}
	_, was, _ := l.stat()
	if err := l.truncate(7); err != nil {
		t.Fatal(err)
	}
	if _, now, _ := l.stat(); !now.Equal(was) {
		t.Errorf("written at %v, and now at %v", was, now)
	}
}

// Names that are not quite those of slots, and heads that are damaged or
// another's, are found out.
func TestForeignSlots(t *testing.T) {
	s := &slab{dir: t.TempDir()}
	defer s.end()
	l := s.take()
	if _, err := l.slot.WriteAt([]byte("mine"), 0); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "slot-", "slot-0", "slot-0-1x", "slot-00-1", "spare-1-1", "1-2-3"} {
		if _, ok := s.named(name); ok {
			t.Errorf("%q is a slot", name)
		}
	}
	other := (&slot{n: l.slot.n, turn: l.slot.turn + 1}).name()
	if o, ok := s.named(other); !ok || o.slot.length != 0 {
		t.Errorf("the next content of a slot has what the one before had")
	}
	heads := filepath.Join(s.dir, headsName)
	b, err := os.ReadFile(heads)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		damaged := bytes.Clone(b)
		damaged[i] ^= 4
		if err := os.WriteFile(heads, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if d, _ := s.named(l.name()); d.slot.length != 0 {
			t.Errorf("a head whose byte %d is damaged is believed", i)
		}
	}
}
