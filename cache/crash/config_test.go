package crash_test

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/cache"
)

// How long the tests work. The environment counts where no flag is given, for
// runs over several packages.
var (
	kills     = flag.Int("crash.kills", number("AGENTFS_CRASH_KILLS", 0), "processes to kill in each variant; 0 is a few")
	crashSeed = flag.Uint64("crash.seed", uint64(number("AGENTFS_CRASH_SEED", 0)), "seed of all random tests; 0 is a new one")
	workers   = flag.Int("crash.workers", 4, "goroutines in each process that is killed")
	crashOps  = flag.Int("crash.ops", 120, "operations of each of them")
	sequences = flag.Int("crash.sequences", number("AGENTFS_CRASH_SEQUENCES", 0), "random sequences of TestTreeRandom; 0 is as many as fit into some seconds")
	fsxOps    = flag.Int("crash.fsx", number("AGENTFS_CRASH_FSX", 0), "operations of each variant of TestFsx; 0 is 20000, or as many as fit into some seconds")
	mounts    = flag.Int("crash.writes", number("AGENTFS_CRASH_WRITES", 50), "writes of each machine in TestTwoMounts")
)

func number(env string, def int) int {
	if n, err := strconv.Atoi(os.Getenv(env)); err == nil {
		return n
	}
	return def
}

// seed returns the seed of a test, which it also says.
func seed(t testing.TB) uint64 {
	s := *crashSeed
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("to repeat: -run '^%s$' -crash.seed=%d", t.Name(), s)
	return s
}

// config is the configuration of every cache in these tests. Their durability
// is that of AGENTFS_DURABILITY, "" for the default.
func config(dir string) cache.Config {
	return cache.Config{
		Dir: dir, Identity: "test:crash", TTL: time.Hour,
		Durability:   os.Getenv("AGENTFS_DURABILITY"),
		Grace:        20 * time.Millisecond, // many sends in a short test
		Straggling:   3 * maxLate,
		NoAttributes: !keepsAttributes,
		Log:          slog.New(slog.NewTextHandler(logFile{filepath.Join(dir, "log")}, nil)),
	}
}

// logFile is where all processes of a cache directory write what happens, in
// their order.
type logFile struct{ name string }

// Write implements io.Writer. That a disk is full is no failure of a log.
func (l logFile) Write(p []byte) (int, error) {
	f, err := os.OpenFile(l.name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return 0, err
	}
	_, err = f.Write(p)
	return len(p), errors.Join(err, f.Close())
}

// keepsAttributes says that modes and links are part of the model.
var keepsAttributes = os.Getenv("AGENTFS_CRASH_ATTRS") != ""

// journaled reports whether the cache keeps a journal, and with it the promises
// that a cache can't keep without: it then knows durability=writeback.
var journaled = sync.OnceValue(func() bool {
	dir, err := os.MkdirTemp("", "agentfs-crash-*")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	c := config(dir)
	c.Durability = "writeback"
	f, err := cache.New(context.Background(), nothing{}, c)
	if err != nil {
		return false
	}
	_ = f.Close(context.Background()) // it is empty
	return true
})

// nothing is a store that nobody asks anything.
type nothing struct{ backends.Store }

// seconds is a context for one call.
func seconds(n int) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), time.Duration(n)*time.Second)
}
