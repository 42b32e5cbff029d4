package cache_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/cache"
)

// The kernel may read by itself what is all here, of a store that takes no changes,
// and nothing else.
func TestWhatTheKernelMayReadByItself(t *testing.T) {
	content := strings.Repeat("all of it, ", 200_000)
	s := newMemory(t)
	put(t, s, "large", content)
	put(t, s, "small", "small")
	dir := t.TempDir()
	lent := func(f *cache.FS, name string, read bool) bool {
		t.Helper()
		n, _ := lookup(t, f, name)
		h := openFile(t, f, n, os.O_RDONLY)
		defer closeFile(t, h)
		if got := ""; read {
			if got = readAll(t, h, len(content)+1); got != content[:len(got)] && got != "small" {
				t.Errorf("%s has another content", name)
			}
		}
		fd, ok := h.(backends.Descriptor).Descriptor()
		if !ok {
			return false
		}
		p := make([]byte, len(content)+1)
		if n, err := syscall.Pread(fd, p, 0); err != nil || string(p[:n]) != content {
			t.Errorf("the file that the kernel may read has %d bytes, %v", n, err)
		}
		return true
	}
	// A reader has the bytes before they are in the file.
	soon := func(f *cache.FS, name string) bool {
		t.Helper()
		for range 500 {
			if lent(f, name, true) {
				return true
			}
			time.Sleep(10 * time.Millisecond)
		}
		return false
	}
	mount := func(readOnly bool, do func(f *cache.FS)) {
		f, err := cache.New(t.Context(), s, cache.Config{Dir: dir, Identity: "test:lent", TTL: time.Hour, ReadOnly: readOnly})
		if err != nil {
			t.Fatal(err)
		}
		do(f)
		if err := f.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	mount(false, func(f *cache.FS) {
		for range 2 {
			if lent(f, "large", true) {
				t.Error("a file that could be written is to be read by the kernel itself: it would write, too")
			}
		}
	})
	spoil := func() {
		t.Helper()
		names, err := filepath.Glob(filepath.Join(dir, "rooms", "*", "content", "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if st, err := os.Stat(name); err == nil && st.Size() == int64(len(content)) {
				p := []byte("spoilt")
				file, err := os.OpenFile(name, os.O_WRONLY, 0)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := file.WriteAt(p, 1<<20); err != nil {
					t.Fatal(err)
				}
				file.Close()
				return
			}
		}
		t.Fatal("no file has the content")
	}
	mount(true, func(f *cache.FS) {
		if lent(f, "large", false) {
			t.Error("a file of an earlier mount is to be read before anybody has looked whether it is right")
		}
		if !soon(f, "large") || !lent(f, "large", false) {
			t.Error("what is all here and right is not to be read by the kernel itself")
		}
		spoil()
		if lent(f, "large", false) {
			t.Error("a file that somebody has written to is to be read")
		}
		if !soon(f, "large") {
			t.Error("what was fetched again is not to be read by the kernel itself")
		}
		for range 2 {
			if lent(f, "small", true) {
				t.Error("a small file lies among others, and is to be read by the kernel")
			}
		}
	})
}
