package cli

import (
	"bytes"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/agentfs/agentfs/cache"
)

// busyStatus is the status of a mount with something of everything.
func busyStatus() mountStatus {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	return mountStatus{
		MountPoint: "/mnt/x", Version: "v1", Started: at, CacheDir: "/c",
		Pending: 5, PendingBytes: 3 << 20, Conflicts: 2, Errors: 2,
		Routes: []routeStatus{
			{Path: "/", Backend: "memory", TotalBytes: 100, FreeBytes: 50},
			{Path: "/a \"b\"\\", Backend: "s3", Durability: "writeback", Pending: 5, Cache: &cache.Status{
				Pending: []cache.Pending{
					{Name: "d/big", Op: "put", Size: 3 << 20, Running: true},
					{Name: "new\nline", Op: "remove"},
					{Name: "o", Op: "put", Open: true},
					{Name: "p", Op: "put", Error: "AccessDenied"},
				},
				PendingCount: 5, PendingBytes: 3 << 20,
				Conflicts: []cache.Conflict{
					{Name: "d/c", Ours: "d/c.conflict-h-t", Time: at},
					{Name: "e", Ours: "/c/rooms/r/kept/e", Time: at},
				},
				Errors: []cache.Problem{
					{Name: "p", Op: "put", Kind: "permission", Error: "AccessDenied", Since: at, Attempts: 3, Next: at.Add(time.Minute)},
					{Name: "d/q", Op: "remove", Kind: "outage", Error: "connection refused", Since: at, Attempts: 1, Next: at},
				},
				ErrorKinds: map[string]int64{"permission": 1, "outage": 1},
				Stats:      cache.Stats{UploadBytes: 1000},
			}},
		},
		Left: []cache.RoomStatus{{Identity: "s3 other", Pending: 7}, {Identity: "s3 bad", Pending: -1}},
	}
}

func TestStatusTables(t *testing.T) {
	st := busyStatus()
	for _, c := range []struct {
		name  string
		write func(*bytes.Buffer)
		want  []string
	}{
		{"pending", func(b *bytes.Buffer) { writePending(b, st) }, []string{
			"CHANGE   SIZE      STATE         PATH                     ERROR\n",
			"put      3.0 MiB   under way     /a \"b\"\\/d/big            \n",
			"remove   0 B       waiting       \"/a \\\"b\\\"\\\\/new\\nline\"   \n",
			"put      0 B       open ",
			"put      0 B       tried again   /a \"b\"\\/p                AccessDenied\n",
			"... and 1 more\n",
		}},
		{"conflicts", func(b *bytes.Buffer) { writeConflicts(b, st) }, []string{
			"2026-03-01T12:00:00Z   /mnt/x/a \"b\"\\/d/c   /mnt/x/a \"b\"\\/d/c.conflict-h-t\n",
			"/mnt/x/a \"b\"\\/e     /c/rooms/r/kept/e\n",
		}},
		{"errors", func(b *bytes.Buffer) { writeErrors(b, st) }, []string{
			"permission: put /mnt/x/a \"b\"\\/p\n  since 2026-03-01T12:00:00Z, 3 attempts, next 2026-03-01T12:01:00Z: AccessDenied\n  -> the credentials lack s3:PutObject",
			"outage: remove /mnt/x/a \"b\"\\/d/q\n", "-> nothing to do",
		}},
		{"status", func(b *bytes.Buffer) { writeStatus(b, st, "/mnt/x") }, []string{
			"on this disk, then in the store", "5 changes wait (3.0 MiB) to be stored", "2 changes could not be stored so far",
			"2 conflicts", "agentfs recover --cache-dir /c", "s3 other: 7 changes are not stored\n", "s3 bad: its journal can't be read\n",
		}},
	} {
		var b bytes.Buffer
		c.write(&b)
		contains(t, b.String(), c.want...)
	}
}

// The statistics are in the text format of Prometheus, with every counter.
func TestStats(t *testing.T) {
	st := busyStatus()
	stats := reflect.ValueOf(&st.Routes[1].Cache.Stats).Elem()
	for i := range stats.NumField() {
		stats.Field(i).SetInt(int64(70000 + i))
	}
	var b bytes.Buffer
	writeStats(&b, st)
	for i := range stats.NumField() {
		if !strings.Contains(b.String(), fmt.Sprintf("} %d\n", 70000+i)) {
			t.Errorf("%s is missing", stats.Type().Field(i).Name)
		}
	}
	contains(t, b.String(),
		`agentfs_info{version="v1",mount_point="/mnt/x"} 1`,
		`agentfs_pending_changes{route="/a \"b\"\\"} 5`,
		`agentfs_failing_changes{route="/a \"b\"\\",kind="permission"} 1`,
		`agentfs_failing_changes{route="/a \"b\"\\",kind="quota"} 0`,
		`agentfs_route_free_bytes{route="/"} 50`)
	// Every sample follows the help and type of its family, once.
	line := regexp.MustCompile(`^([a-z_]+)(\{[a-z_]+="(\\.|[^"\\])*"(,[a-z_]+="(\\.|[^"\\])*")*\})? -?[0-9]+$`)
	family, seen := "", map[string]bool{}
	for l := range strings.Lines(b.String()) {
		l = strings.TrimSuffix(l, "\n")
		if rest, ok := strings.CutPrefix(l, "# HELP "); ok {
			family, _, _ = strings.Cut(rest, " ")
			if seen[family] {
				t.Errorf("%s comes twice", family)
			}
			seen[family] = true
		} else if rest, ok := strings.CutPrefix(l, "# TYPE "); ok {
			if name, kind, _ := strings.Cut(rest, " "); name != family || kind != "gauge" && kind != "counter" {
				t.Errorf("type: %s", l)
			}
		} else if m := line.FindStringSubmatch(l); m == nil || m[1] != family {
			t.Errorf("sample of %s: %s", family, l)
		}
	}
}

func TestWorkBelow(t *testing.T) {
	st := busyStatus()
	st.Routes[1].Path = "/data"
	whole := work{pending: 5, bytes: 3 << 20, sent: 1000, failing: 2, first: "permission"}
	// Five are pending and four are shown, so the route's numbers stand for it.
	for _, p := range []string{"/", "/data", "/data/d"} {
		if got := st.workBelow(p); got != whole {
			t.Errorf("%s: %+v", p, got)
		}
	}
	st.Routes[1].Cache.PendingCount = 4
	if got, want := st.workBelow("/data/d"), (work{pending: 1, bytes: 3 << 20, sent: 1000, failing: 1, first: "outage"}); got != want {
		t.Errorf("/data/d: %+v, want %+v", got, want)
	}
	for _, p := range []string{"/dat", "/data/dd", "/other"} {
		if got := st.workBelow(p); got.pending != 0 {
			t.Errorf("%s: %+v", p, got)
		}
	}
}
