package cache_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/cache"
)

// BenchmarkCreate is what tar does for each small file.
func BenchmarkCreate(b *testing.B) {
	f := benchCache(b)
	ctx := context.Background()
	data := make([]byte, 4096)
	b.ResetTimer()
	for i := range b.N {
		n, _, h, err := f.Create(ctx, f.Root(), fmt.Sprintf("f%06d", i), os.O_WRONLY, backends.CreateAttr{Mode: 0o644})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := h.WriteAt(ctx, data, 0); err != nil {
			b.Fatal(err)
		}
		if _, err := f.SetAttr(ctx, n, backends.AttrChange{Set: backends.SetMtime, Mtime: time.Unix(1, 0)}); err != nil {
			b.Fatal(err)
		}
		if err := h.Flush(ctx); err != nil {
			b.Fatal(err)
		}
		_ = h.Close(ctx)
	}
}

// BenchmarkRenameDir1000 renames a directory with a thousand stored files.
func BenchmarkRenameDir1000(b *testing.B) {
	f := benchCache(b)
	ctx := context.Background()
	d, _, err := f.Mkdir(ctx, f.Root(), "d0", backends.CreateAttr{Mode: 0o755})
	if err != nil {
		b.Fatal(err)
	}
	for i := range 1000 {
		_, _, h, err := f.Create(ctx, d, fmt.Sprintf("f%06d", i), os.O_WRONLY, backends.CreateAttr{Mode: 0o644})
		if err != nil {
			b.Fatal(err)
		}
		_ = h.Flush(ctx)
		_ = h.Close(ctx)
	}
	b.ResetTimer()
	for i := range b.N {
		b.StopTimer()
		if err := f.SyncDir(ctx, f.Root()); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if err := f.Rename(ctx, f.Root(), fmt.Sprint("d", i), f.Root(), fmt.Sprint("d", i+1), 0); err != nil {
			b.Fatal(err)
		}
	}
}

func benchCache(b *testing.B) *cache.FS {
	b.Helper()
	m := newMemory(b)
	f, err := cache.New(context.Background(), plain{m}, cache.Config{Dir: b.TempDir(), Identity: "bench", TTL: time.Hour, Durability: "writeback"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = f.Close(context.Background()) })
	return f
}
