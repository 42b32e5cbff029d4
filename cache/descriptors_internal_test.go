package cache

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
)

// Of a hundred files that are read and written at once, by several, few are open
// here, and each has what was written to it: also what lost its name meanwhile, and
// what is sent while it is written.
func TestFewFilesAreOpen(t *testing.T) {
	const files, size, most = 100, 200 << 10, 8
	f, m := newOverMemory(t, time.Hour)
	f.descriptors.most = most
	ctx := t.Context()
	handles, want := make([]*handle, files), make([][]byte, files)
	for i := range files {
		name := fmt.Sprint("f", i)
		want[i] = bytes.Repeat([]byte{byte(i)}, size)
		_, _, h, err := f.Create(ctx, f.Root(), name, os.O_RDWR, backends.CreateAttr{Mode: 0o644})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.WriteAt(ctx, want[i], 0); err != nil {
			t.Fatal(err)
		}
		handles[i] = h.(*handle)
	}
	open := func() (n int) {
		for _, h := range handles {
			h.c.mu.Lock()
			if h.c.layer != nil && h.c.layer.file != nil {
				n++
			}
			h.c.mu.Unlock()
		}
		return n
	}
	if n := open(); n != most || f.descriptors.count() != most {
		t.Errorf("%d files are open of %d, %d are counted; the limit is %d", n, files, f.descriptors.count(), most)
	}
	for i := range files {
		if i%3 == 0 {
			if err := handles[i].Flush(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if i%5 == 1 {
			if err := f.Unlink(ctx, f.Root(), fmt.Sprint("f", i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	const workers = 4
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(7, uint64(w)))
			for range 500 {
				i := r.IntN(files/workers)*workers + w
				off := r.IntN(size - 1000)
				if r.IntN(3) == 0 {
					p := make([]byte, 1000)
					for j := range p {
						p[j] = byte(r.Uint32())
					}
					if _, err := handles[i].WriteAt(ctx, p, int64(off)); err != nil {
						t.Error(err)
					}
					copy(want[i][off:], p)
				}
				p := make([]byte, 1000)
				if n, err := handles[i].ReadAt(ctx, p, int64(off)); err != nil || n != len(p) || !bytes.Equal(p, want[i][off:off+len(p)]) {
					t.Errorf("f%d at %d: %d bytes, %v, other bytes than were written", i, off, n, err)
				}
			}
		})
	}
	wg.Wait()
	// What happened to be busy when room was looked for may be over.
	if n := open(); n > most+workers {
		t.Errorf("%d files are open, the limit is %d", n, most)
	}
	for _, h := range handles {
		if err := h.Close(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.SyncDir(ctx, f.Root()); err != nil {
		t.Fatal(err)
	}
	if n := open(); n != 0 || f.descriptors.count() != 0 {
		t.Errorf("all are closed and in the store: %d are open, %d are counted", n, f.descriptors.count())
	}
	for i := range files {
		r, _, err := m.Open(ctx, fmt.Sprint("f", i), backends.Range{}, backends.If{})
		if i%5 == 1 {
			if err == nil {
				t.Errorf("f%d was removed and is in the store", i)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if _, err := got.ReadFrom(r); err != nil || !bytes.Equal(got.Bytes(), want[i]) {
			t.Errorf("the store has %d bytes of f%d, %v, others than were written", got.Len(), i, err)
		}
		r.Close()
	}
}

// Who reads files of the store has few open, too, and a file that somebody else has
// cut while it was closed here is fetched again.
func TestFewFilesAreOpenToRead(t *testing.T) {
	const files, size, most = 30, 100 << 10, 4
	f, m := newOverMemory(t, time.Hour)
	f.descriptors.most = most
	ctx := t.Context()
	var handles []*handle
	for i := range files {
		name := fmt.Sprint("f", i)
		body := bytes.NewReader(bytes.Repeat([]byte{byte(i)}, size))
		if _, err := m.Put(ctx, name, io.NewSectionReader(body, 0, size), backends.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range files {
		n, _, err := f.Lookup(ctx, f.Root(), fmt.Sprint("f", i))
		if err != nil {
			t.Fatal(err)
		}
		h, err := f.Open(ctx, n, os.O_RDONLY)
		if err != nil {
			t.Fatal(err)
		}
		handles = append(handles, h.(*handle))
	}
	all := make([]byte, size)
	for round := range 3 {
		for i, h := range handles {
			if n, err := h.ReadAt(ctx, all, 0); err != nil || n != size || !bytes.Equal(all, bytes.Repeat([]byte{byte(i)}, size)) {
				t.Fatalf("round %d, f%d: %d bytes, %v", round, i, n, err)
			}
		}
		if n := f.descriptors.count(); n != most {
			t.Errorf("round %d: %d files are open, the limit is %d", round, n, most)
		}
		h := handles[round]
		h.c.mu.Lock()
		path, closed := h.c.layer.path, h.c.layer.file == nil
		h.c.mu.Unlock()
		if !closed {
			t.Fatalf("round %d: the file that was read longest ago is open", round)
		}
		if err := os.Truncate(path, 10); err != nil {
			t.Fatal(err)
		}
	}
	for _, h := range handles {
		if err := h.Close(ctx); err != nil {
			t.Error(err)
		}
	}
}
