package fs

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/memory"
	"github.com/agentfs/agentfs/backends/memory/memorytest"
)

// needFuse skips the test where nothing can be mounted.
func needFuse(t testing.TB) {
	t.Helper()
	if err := checkFuse(false); err != nil {
		missing(t, err.Error())
	}
}

// missing skips a test for what this machine lacks, and fails it where nothing
// may be lacking.
func missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip(what)
}

func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// mountFS mounts fsys on a fresh directory until the test ends.
func mountFS(t testing.TB, fsys backends.FileSystem, o Options) (string, *Server) {
	t.Helper()
	needFuse(t)
	dir := filepath.Join(t.TempDir(), "mnt")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if o.Log == nil {
		o.Log = testLog(t)
	}
	s, err := Mount(dir, fsys, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Unmount(); err != nil {
			t.Errorf("unmount: %v", err)
		}
		s.Wait()
	})
	return dir, s
}

func newMemory(t testing.TB, c memory.Config) backends.FileSystem {
	t.Helper()
	return newStore(t, c).FileSystem()
}

// newStore makes a memory store that belongs to the user of the test.
func newStore(t testing.TB, c memory.Config) *memory.Store {
	t.Helper()
	c.UID, c.GID = uint32(os.Getuid()), uint32(os.Getgid())
	return memorytest.New(t, c)
}

// kinds are the ways in which the data of a file in memory can travel.
var kinds = []struct {
	name   string
	memory memory.Config
	opts   Options
}{
	{"passthrough", memory.Config{}, Options{}},
	{"tmpfs", memory.Config{}, Options{NoPassthrough: true}},
	{"heap", memory.Config{NoTmpfs: true}, Options{}},
}

// eachKind runs f on a mount of memory of each kind.
func eachKind(t *testing.T, f func(t *testing.T, dir string)) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			dir, s := mountFS(t, newMemory(t, k.memory), k.opts)
			if k.name == "passthrough" && !s.Passthrough() {
				missing(t, "passing files through needs root and Linux 6.9")
			}
			f(t, dir)
		})
	}
}

// posixExceptions are tests of posixtest that are not run, with the reason.
var posixExceptions = map[string]string{
	"FcntlFlockLocksFile": "wants a second descriptor of the same process to be refused a POSIX lock, but these belong to the process (fcntl(2)); " +
		"no directory of Linux passes, and posixtest itself leaves it out for one. TestLocks covers two processes",
}

// TestPosix runs go-fuse's own POSIX tests.
func TestPosix(t *testing.T) {
	for name, test := range posixtest.All {
		t.Run(name, func(t *testing.T) {
			if why, ok := posixExceptions[name]; ok {
				t.Skip(why)
			}
			if name == "OpenSymlinkRace" {
				// It is slow and about names; how data travels is all the same.
				dir, _ := mountFS(t, newMemory(t, memory.Config{}), Options{})
				test(t, dir)
				return
			}
			eachKind(t, test)
		})
	}
}
