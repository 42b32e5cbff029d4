package cache_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/agentfs/agentfs/cache"
)

// A file that was being renamed in the store when it was removed here, and the
// process killed, is not taken for an empty file that somebody else has put there.
func TestRemovedDuringACopyThenKill(t *testing.T) {
	p := newProbe(newMemory(t))
	put(t, p.Store, "a", text(2<<20))
	dir := t.TempDir()
	cfg := cache.Config{Dir: dir, Identity: "test:copied"}
	f, err := cache.New(t.Context(), p, cfg)
	if err != nil {
		t.Fatal(err)
	}
	begun, end := make(chan struct{}, 10), make(chan struct{})
	p.setRefuse(func(op, name string) error {
		if op == "put" && name == "b" {
			begun <- struct{}{}
			<-end
			return errDown
		}
		return nil
	})
	lookup(t, f, "a")
	if err := f.Rename(t.Context(), f.Root(), "a", f.Root(), "b", 0); err != nil {
		t.Fatal(err)
	}
	<-begun
	if err := f.Unlink(t.Context(), f.Root(), "b"); err != nil {
		t.Fatal(err)
	}
	cfg.Dir = t.TempDir()
	if err := os.CopyFS(cfg.Dir, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	close(end)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := f.Close(ctx); err != nil {
		t.Error(err)
	}
	p.setRefuse(nil)
	put(t, p.Store, "b", "") // somebody else's
	next := newCache(t, p, cfg)
	if err := next.SyncDir(t.Context(), next.Root()); err != nil {
		t.Error(err)
	}
	if got := get(t, p.Store, "b"); got != "" {
		t.Errorf("theirs has become %q", got)
	}
}
