package crash_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/cache"
)

// machine is one of two that write the same file.
type machine struct {
	name string
	c    *cache.FS
	// told are the contents that were acknowledged, or of which close said that
	// they are in a conflict, in order.
	told []string
	n    int // acknowledged
}

// ledger is a store that notes what is put into it, and refuses nothing. Every
// change has to say what it derives from: then the store itself sees to it that
// nobody replaces what he has not seen.
type ledger struct {
	backends.Store
	t     *testing.T
	blind sync.Once
	mu    sync.Mutex
	put   map[string]bool // contents
}

func (l *ledger) Put(ctx context.Context, name string, body *io.SectionReader, opts backends.PutOptions) (backends.Entry, error) {
	if opts.If == (backends.If{}) {
		l.blind.Do(func() { l.t.Errorf("a put of %s would replace whatever is there", name) })
	}
	data, err := io.ReadAll(io.NewSectionReader(body, 0, body.Size()))
	if err != nil {
		return backends.Entry{}, err
	}
	e, err := l.Store.Put(ctx, name, body, opts)
	if err == nil {
		l.mu.Lock()
		l.put[string(data)] = true
		l.mu.Unlock()
	}
	return e, err
}

func (l *ledger) Remove(ctx context.Context, name string, cond backends.If) error {
	if cond.Match == "" {
		l.blind.Do(func() { l.t.Errorf("a removal of %s would take whatever is there", name) })
	}
	return l.Store.Remove(ctx, name, cond)
}

// content is one that no other write has, of many blocks that all name it.
func (x *machine) content(i int) string {
	return strings.Repeat(fmt.Sprintf("%s-%06d\n", x.name, i), 500+i%7*300)
}

// write replaces the file as a program does, and says whether it heard of a
// conflict.
func (x *machine) write(ctx context.Context, i int) error {
	text := x.content(i)
	_, _, h, err := x.c.Create(ctx, x.c.Root(), "f", os.O_RDWR|os.O_CREATE|os.O_TRUNC, backends.CreateAttr{Mode: 0o644})
	if err == nil {
		_, err = h.WriteAt(ctx, []byte(text), 0)
		if err == nil {
			err = h.Flush(ctx)
		}
		// Of a conflict that close heard of, RELEASE has nothing new to say.
		if cerr := h.Close(ctx); err == nil {
			err = cerr
		}
	}
	if err == nil {
		x.n++
	}
	if err == nil || errors.Is(err, backends.ErrChanged) {
		x.told = append(x.told, text)
	}
	return err
}

// Two machines that write the same file all the time lose nothing that nobody
// saw. What was acknowledged to either reaches the store, unless the same
// machine replaced it before; there only a change takes it away that says it
// derives from it. Every content in the store is whole, and beside the name are
// as many as conflicts were reported.
func TestTwoMounts(t *testing.T) {
	for _, ttl := range []time.Duration{0, 5 * time.Second} {
		t.Run(fmt.Sprint("ttl=", ttl), func(t *testing.T) {
			t.Parallel()
			twoMounts(t, ttl)
		})
	}
}

func twoMounts(t *testing.T, ttl time.Duration) {
	store := &ledger{Store: newRemembering(plain{newMemory(t)}), t: t, put: map[string]bool{}}
	var both [2]*machine
	for i := range both {
		c := config(t.TempDir())
		c.TTL = ttl
		f, err := cache.New(t.Context(), store, c)
		if err != nil {
			t.Fatal(err)
		}
		both[i] = &machine{name: string(rune('a' + i)), c: f}
	}
	var wg sync.WaitGroup
	for _, x := range both {
		wg.Go(func() {
			for i := range *mounts {
				ctx, cancel := seconds(30)
				if err := x.write(ctx, i); err != nil && !errors.Is(err, backends.ErrChanged) {
					t.Errorf("write %d of %s: %v", i, x.name, err)
				}
				cancel()
				time.Sleep(time.Duration(i%5) * time.Millisecond)
			}
		})
	}
	wg.Wait()
	conflicts := 0
	for _, x := range both {
		ctx, cancel := seconds(60)
		defer cancel()
		// A barrier may find a conflict, and says so once.
		for x.c.SyncDir(ctx, x.c.Root()) != nil && ctx.Err() == nil {
		}
		conflicts += len(x.c.State().Conflicts)
		if err := x.c.Close(ctx); err != nil {
			t.Errorf("closing %s: %v", x.name, err)
		}
	}
	got, err := readStore(t.Context(), store, ".")
	if err != nil {
		t.Fatal(err)
	}
	beside := 0
	for path, e := range got {
		if path != "f" && !strings.HasPrefix(path, "f.conflict-") {
			t.Errorf("%s is in the store", path)
		}
		if path != "f" {
			beside++
		}
		line, _, _ := strings.Cut(string(e.data), "\n")
		if whole := strings.Repeat(line+"\n", len(e.data)/max(1, len(line)+1)); len(e.data) > 0 && whole != string(e.data) {
			t.Errorf("%s holds a mix of contents", path)
		}
	}
	for _, x := range both {
		if len(x.told) > 0 && !store.put[x.told[len(x.told)-1]] {
			t.Errorf("what was acknowledged last to %s never was in the store", x.name)
		}
	}
	if len(got) == 0 || string(got["f"].data) == "" {
		t.Error("nothing is left under the name")
	}
	if beside != conflicts {
		t.Errorf("%d conflicts were reported, and %d contents are beside the name", conflicts, beside)
	}
	t.Logf("%d and %d writes acknowledged, %d conflicts", both[0].n, both[1].n, conflicts)
}
