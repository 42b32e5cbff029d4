package cache_test

import (
	"fmt"
	"io/fs"
	"testing"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/s3/s3test"
	"github.com/agentfs/agentfs/cache"
)

// An object with the same bytes has the same version in S3. A new file that is
// like one which had its name before does not get that one's mode, although the
// process was killed that knew what is recorded of it.
func TestModeOfTheFileBefore(t *testing.T) {
	p := newProbe(s3test.Fake(t).Store(t).Lean())
	next := killedWith(t, p, "test:before", func(f *cache.FS) {
		n := create(t, f, "f", "alike")
		setAttr(t, f, n, backends.AttrChange{Set: backends.SetMode, Mode: 0o700})
		syncAll(t, f)
		if err := f.Unlink(t.Context(), f.Root(), "f"); err != nil {
			t.Fatal(err)
		}
		syncAll(t, f)
		p.setRefuse(refusing("put"))
		create(t, f, "f", "alike")
	})
	p.setRefuse(nil)
	syncAll(t, next)
	if _, a := lookup(t, next, "f"); a.Mode != 0o644 {
		t.Errorf("after the kill its mode is %v", a.Mode)
	}
	if _, a := lookup(t, newCache(t, p, cache.Config{}), "f"); a.Mode != 0o644 {
		t.Errorf("for others its mode is %v", a.Mode)
	}
}

// A new directory does not get the mode of one that had its name before, also
// where what surrounds it is too large to be listed for a lookup.
func TestModeOfTheDirectoryBefore(t *testing.T) {
	p := newProbe(newMemory(t))
	for i := range 1000 {
		put(t, p.Store, fmt.Sprint("f", i), "")
	}
	one := described(t, p, cache.Config{Identity: "test:one"})
	mkdir(t, one, "d", 0o700)
	syncAll(t, one)
	if err := one.Rmdir(t.Context(), one.Root(), "d"); err != nil {
		t.Fatal(err)
	}
	syncAll(t, one)
	two := described(t, p, cache.Config{Identity: "test:two"})
	mkdir(t, two, "d", 0o755)
	syncAll(t, two)
	if _, err := two.ReadDir(t.Context(), two.Root()); err != nil {
		t.Fatal(err)
	}
	if _, a := lookup(t, two, "d"); a.Mode != fs.ModeDir|0o755 {
		t.Errorf("its mode is %v", a.Mode)
	}
}
