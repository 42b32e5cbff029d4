package local

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Both ways of opening agree, on what is there and on what is refused.
func TestOpenBeneath(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "a/b"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a/b/f"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"a/link": "b", "flink": "a/b/f", "out": "/etc"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for way, open := range map[string]func(int, string, int, uint32) (int, error){"openat2": openBeneath, "steps": openBySteps} {
		for name, want := range map[string][]error{
			".":          nil,
			"a":          nil,
			"a/b/f":      nil,
			"nope":       {unix.ENOENT},
			"a/nope/f":   {unix.ENOENT},
			"a/b/f/x":    {unix.ENOTDIR},
			"a/link/f":   {unix.ELOOP, unix.ENOTDIR},
			"out/passwd": {unix.ELOOP, unix.ENOTDIR},
			"flink":      {unix.ELOOP},
		} {
			fd, err := open(int(root.Fd()), name, unix.O_RDONLY, 0)
			if err == nil {
				if err := unix.Close(fd); err != nil {
					t.Error(err)
				}
			}
			ok := err == nil && want == nil
			for _, w := range want {
				ok = ok || err == w
			}
			if !ok {
				t.Errorf("%s of %q: %v, want one of %v", way, name, err, want)
			}
		}
	}
}
