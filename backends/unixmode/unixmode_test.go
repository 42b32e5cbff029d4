package unixmode_test

import (
	"io/fs"
	"os"
	"syscall"
	"testing"

	"github.com/agentfs/agentfs/backends/unixmode"
)

// Every type and every bit survives the way there and back.
func TestThereAndBack(t *testing.T) {
	for _, typ := range []uint32{syscall.S_IFREG, syscall.S_IFDIR, syscall.S_IFLNK, syscall.S_IFIFO, syscall.S_IFSOCK, syscall.S_IFBLK, syscall.S_IFCHR} {
		for perm := uint32(0); perm <= 0o7777; perm += 0o111 {
			if got := unixmode.To(unixmode.From(typ | perm)); got != typ|perm {
				t.Errorf("%o comes back as %o", typ|perm, got)
			}
		}
	}
	if m := unixmode.From(0o2775); m != fs.ModeSetgid|0o775 {
		t.Errorf("02775 is %v", m)
	}
}

// It agrees with package os about what is on this machine.
func TestLikeOS(t *testing.T) {
	for _, name := range []string{"/", "/dev/null", "/tmp", "/proc/self/exe", os.Args[0]} {
		fi, err := os.Lstat(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := unixmode.From(fi.Sys().(*syscall.Stat_t).Mode); got != fi.Mode() {
			t.Errorf("%s is %v, and os says %v", name, got, fi.Mode())
		}
	}
}
