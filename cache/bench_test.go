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

// BenchmarkRenameListed1000 renames a directory of 40 with 25 files each that the store
// has and a mount has listed: each time it is the mount's first change.
func BenchmarkRenameListed1000(b *testing.B) {
	m := newMemory(b)
	for i := range 1000 {
		put(b, m, fmt.Sprintf("tree/dir%02d/file-%04d.txt", i/25, i), "some text")
	}
	for range b.N {
		b.StopTimer()
		f := benchCacheOf(b, plain{m}, time.Minute)
		ctx := context.Background()
		if list := listAll(b, f, f.Root()); list != 1041 {
			b.Fatalf("%d names", list)
		}
		b.StartTimer()
		if err := f.Rename(ctx, f.Root(), "tree", f.Root(), "moved", 0); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := f.Rename(ctx, f.Root(), "moved", f.Root(), "tree", 0); err != nil {
			b.Fatal(err)
		}
		if err := f.Close(ctx); err != nil {
			b.Fatal(err)
		}
	}
}

// listAll lists all below n, and returns how many names that are.
func listAll(b *testing.B, f *cache.FS, n backends.Node) (names int) {
	b.Helper()
	list, err := f.ReadDir(context.Background(), n)
	if err != nil {
		b.Fatal(err)
	}
	for _, e := range list {
		child, _, err := f.Lookup(context.Background(), n, e.Name)
		if err != nil {
			b.Fatal(err)
		}
		names++
		if e.Mode.IsDir() {
			names += listAll(b, f, child)
		}
	}
	return names
}

func benchCache(b *testing.B) *cache.FS {
	b.Helper()
	f := benchCacheOf(b, plain{newMemory(b)}, 0)
	b.Cleanup(func() { _ = f.Close(context.Background()) })
	return f
}

func benchCacheOf(b *testing.B, s backends.Store, grace time.Duration) *cache.FS {
	b.Helper()
	f, err := cache.New(context.Background(), s, cache.Config{Dir: b.TempDir(), Identity: "bench", TTL: time.Hour, Durability: "writeback", Grace: grace})
	if err != nil {
		b.Fatal(err)
	}
	return f
}
