package cli

import (
	"bytes"
	"testing"
	"time"

	"github.com/agentfs/agentfs/cache"
)

// Progress counts a large file while it is sent, what is copied inside the
// store, and what comes to it meanwhile.
func TestMeter(t *testing.T) {
	const mib = 1 << 20
	var m meter
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		after time.Duration
		w     work
		want  string
	}{
		{0, work{pending: 3, bytes: 100 * mib, sent: 7}, "waiting for the stores: 0 of 3 changes, 0 B of 100 MiB"},
		// 40 MiB of a large file.
		{2 * time.Second, work{pending: 3, bytes: 100 * mib, sent: 7 + 40*mib}, "waiting for the stores: 0 of 3 changes, 40 MiB of 100 MiB, 20 MiB/s, about 3s left"},
		// One is copied without a byte sent, one fails.
		{4 * time.Second, work{pending: 2, bytes: 50 * mib, sent: 7 + 40*mib, failing: 1, first: "outage"}, "waiting for the stores: 1 of 3 changes, 50 MiB of 100 MiB, 13 MiB/s, about 4s left; 1 tried again (outage)"},
		// It stands still: nothing is claimed of the time left.
		{30 * time.Second, work{pending: 2, bytes: 50 * mib, sent: 7 + 40*mib}, "waiting for the stores: 1 of 3 changes, 50 MiB of 100 MiB"},
		{60 * time.Second, work{pending: 1, sent: 7 + 90*mib}, "waiting for the stores: 2 of 3 changes, 100 MiB of 100 MiB, 1.7 MiB/s"},
		{61 * time.Second, work{sent: 7 + 90*mib}, "waiting for the stores: finishing"},
	} {
		got := m.report(at.Add(c.after), c.w).String()
		if got != c.want {
			t.Errorf("after %s\ngot  %s\nwant %s", c.after, got, c.want)
		}
	}
}

// Waiting is pointless when all that is left needs somebody.
func TestPointless(t *testing.T) {
	denied, down := map[string]int64{"permission": 1}, map[string]int64{"outage": 1}
	for _, c := range []struct {
		name string
		all  []cache.Status
		want bool
	}{
		{"nothing left", []cache.Status{{}}, false},
		{"not tried", []cache.Status{{PendingCount: 1}}, false},
		{"denied", []cache.Status{{}, {PendingCount: 1, ErrorKinds: denied}}, true},
		{"denied and not tried", []cache.Status{{PendingCount: 2, ErrorKinds: denied}}, false},
		{"down", []cache.Status{{PendingCount: 1, ErrorKinds: down}}, false},
		{"another is down", []cache.Status{{PendingCount: 1, ErrorKinds: denied}, {PendingCount: 1, ErrorKinds: down}}, false},
	} {
		if got := pointless(c.all); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// Where there is no terminal, a line comes from time to time.
func TestDisplayPlain(t *testing.T) {
	var b bytes.Buffer
	d := newDisplay(&b, "")
	r := endReport{Pending: 2, Stored: 1}
	d.show(r)
	if b.Len() > 0 {
		t.Errorf("at once: %q", b.String())
	}
	d.last = d.last.Add(-plainEvery)
	d.show(r)
	d.show(r)
	if want := "agentfs: waiting for the stores: 1 of 3 changes\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}
