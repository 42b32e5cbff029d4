package semantics

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends/s3/s3test"
)

// What was read or written once is in the cache directory, also after an unmount
// and, from some seconds after it was closed on, after a kill (SIGKILL): the next
// mount with that directory asks the store for the version, and for no byte of
// what has still the version that is here. A content that has another one is
// fetched. A file of the cache that was cut, changed or removed by somebody else,
// between two mounts or in one while it is not open, is fetched again, too, and
// so is one that was cut while it is open; nobody reads anything else than what
// the store has.
func TestCacheOutlivesTheMount(t *testing.T) {
	server := s3test.Versitygw(t)
	proxy := s3test.NewProxy(t, server)
	cache := t.TempDir()
	contents := map[string]string{"small": strings.Repeat("small ", 1000), "large": strings.Repeat("0123456789abcdef", 200_000)}
	for name, c := range contents {
		putObject(t, server, keyPrefix+name, c)
	}
	mounted := func() *metered { return meteredBy(t, proxy, server, cache) }
	reads := func(m *metered, fetches bool, what string) {
		t.Helper()
		m.moved()
		for name, c := range contents {
			if got := read(t, m.path(name)); got != c {
				t.Errorf("%s: %s reads %s, want %s", what, name, brief(got), brief(c))
			}
		}
		if _, got := m.moved(); (got > 0) != fetches {
			t.Errorf("%s: %d bytes were asked for", what, got)
		}
	}

	m := mounted()
	reads(m, true, "the first mount")
	m.unmount(t)

	m = mounted()
	reads(m, false, "the second mount")
	write(t, m.path("written"), "what was written")
	contents["written"] = "what was written"
	m.sync()
	within(t, 20*time.Second, "in the index", func() bool { return m.indexed() == 3 })
	m.kill()

	m = mounted()
	reads(m, false, "after a kill")
	m.unmount(t)
	contents["small"] = strings.ToUpper(contents["small"])
	putObject(t, server, keyPrefix+"small", contents["small"])
	m = mounted()
	reads(m, true, "after a foreign change")
	m.unmount(t)

	spoils := []struct {
		how   string
		spoil func(name string) error
	}{
		{"cut", func(name string) error { return os.Truncate(name, 1) }},
		{"changed", func(name string) error { return os.WriteFile(name, make([]byte, size(t, name)), 0o600) }},
		{"removed", os.Remove},
	}
	for _, s := range spoils {
		all := func() {
			t.Helper()
			names, err := filepath.Glob(filepath.Join(cache, "rooms", "*", "content", "*"))
			if err != nil || len(names) < len(contents) {
				t.Fatalf("%d files in the cache, %v", len(names), err)
			}
			for _, name := range names {
				if size(t, name) > 0 {
					ok(t, s.how, s.spoil(name))
				}
			}
		}
		all()
		m = mounted()
		reads(m, true, s.how+" between two mounts")
		all()
		for name := range contents {
			dropPages(t, m.path(name))
		}
		reads(m, true, s.how+" under a mount")
		m.unmount(t)
	}

	// The mount that somebody removed the slab of the small files under had it open
	// to its end; the one after it has no such file.
	m = mounted()
	reads(m, true, "after one whose slab was removed")
	m.unmount(t)

	m = mounted()
	f, err := os.Open(m.path("large"))
	ok(t, "open", err)
	defer f.Close()
	reads(m, false, "before it is cut")
	names, err := filepath.Glob(filepath.Join(cache, "rooms", "*", "content", "*"))
	ok(t, "the cache's files", err)
	for _, name := range names {
		ok(t, "cut", os.Truncate(name, min(100, size(t, name))))
	}
	dropPages(t, m.path("large"))
	got, err := io.ReadAll(f)
	ok(t, "read", err)
	if string(got) != contents["large"] {
		t.Errorf("cut while it is open: it reads %s", brief(string(got)))
	}
}

// dropPages makes the kernel forget a file's content.
func dropPages(t testing.TB, name string) {
	t.Helper()
	f, err := os.Open(name)
	ok(t, "open", err)
	defer f.Close()
	ok(t, "fadvise", unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
}

func size(t testing.TB, name string) int64 {
	t.Helper()
	st, err := os.Stat(name)
	ok(t, "stat", err)
	return st.Size()
}

// indexed returns how many contents the next mount will find.
func (m *metered) indexed() (n int) {
	m.t.Helper()
	var s struct {
		Routes []struct {
			Cache struct {
				Stats struct {
					Indexed int `json:"indexed"`
				} `json:"stats"`
			} `json:"cache"`
		} `json:"routes"`
	}
	ok(m.t, "status", json.Unmarshal([]byte(read(m.t, m.path(".agentfs/status"))), &s))
	return s.Routes[0].Cache.Stats.Indexed
}
