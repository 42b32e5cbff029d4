package cache

import (
	"os"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/memory"
	"github.com/agentfs/agentfs/backends/memory/memorytest"
)

// A writer who needs the room of a content that the index is just summing gets it: that
// gives way, and is no reason to refuse the writer.
func TestRoomOfWhatIsBeingSummed(t *testing.T) {
	m := memorytest.New(t, memory.Config{NoTmpfs: true, Size: 1 << 30})
	f := newOver(t, sixMethods{m}, Config{TTL: time.Hour, Budget: NewBudget(12 << 20)})
	a := newInternal(t, f, "a", 10<<20)
	if err := f.SyncDir(t.Context(), f.Root()); err != nil {
		t.Fatal(err)
	}
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-end:
				return
			default:
			}
			a.mu.Lock()
			c, base := a.c, a.base
			a.mu.Unlock()
			c.mu.Lock()
			c.shelved = shelved{} // else once would do
			c.mu.Unlock()
			if _, what := c.shelve(base, time.Now().UnixNano(), false); what == shelveLater {
				time.Sleep(50 * time.Millisecond) // the index comes back later as well
			}
		}
	}()
	newInternal(t, f, "b", 8<<20)
	close(end)
	<-ended
}

// newInternal creates a file of so many bytes.
func newInternal(t *testing.T, f *FS, name string, size int) *file {
	t.Helper()
	n, _, h, err := f.Create(t.Context(), f.Root(), name, os.O_RDWR, backends.CreateAttr{Mode: 0o644})
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, size)
	for i := range p {
		p[i] = byte(i)
	}
	if _, err := h.WriteAt(t.Context(), p, 0); err != nil {
		t.Error(err)
	}
	if err := h.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	if err := h.Close(t.Context()); err != nil {
		t.Error(err)
	}
	own, err := f.tree.Own(n)
	if err != nil {
		t.Fatal(err)
	}
	return own.Data.(*file)
}
