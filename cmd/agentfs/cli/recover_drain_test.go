package cli

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agentfs/agentfs/cache"
)

// drainer is a program with a buffer for what it says.
func drainer(t *testing.T) (*program, *bytes.Buffer) {
	t.Helper()
	for k, v := range map[string]string{"AWS_EC2_METADATA_DISABLED": "true", "AWS_REGION": "us-east-1"} {
		t.Setenv(k, v)
	}
	var out bytes.Buffer
	return &program{backends: Backends(), out: &out, err: &out, log: logFlags{level: "info", format: "text"}}, &out
}

func mustRoute(t *testing.T, arg string) routeConfig {
	t.Helper()
	rc, err := parseRouteFlag(arg)
	if err != nil {
		t.Fatal(err)
	}
	return rc
}

// Recover opens a room's store as the room says, or as the user says if it is
// the same one, and leaves alone what somebody uses.
func TestRecoverOpens(t *testing.T) {
	s, dir := newS3Server(t, "b"), t.TempDir()
	p, out := drainer(t)
	log := slog.New(slog.DiscardHandler)
	rc := mustRoute(t, s.route("/d", "b", "&read_only=true"))
	r, err := p.openRoute(t.Context(), rc, false, log)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll([]openRoute{r}, log)
	drain := func(room cache.RoomStatus, c *config) error {
		out.Reset()
		given, err := p.openGiven(t.Context(), c, log)
		if err != nil {
			t.Fatal(err)
		}
		defer closeAll(given, log)
		return p.drainRooms(t.Context(), &recoverFlags{}, given, dir, []cache.RoomStatus{room}, log)
	}
	room := cache.RoomStatus{Dir: filepath.Join(dir, "rooms", "r"), Identity: r.identity, Pending: 2, Origin: rc.origin()}
	if err := drain(room, &config{}); err != nil {
		t.Error(err)
	}
	contains(t, out.String(), r.identity+": everything is stored (2 changes).")

	room.Origin = nil
	if err := drain(room, &config{}); exitStatus(err) != exitNotStored {
		t.Errorf("without an origin: exit status %d", exitStatus(err))
	}
	if err := drain(room, &config{}); err == nil || !strings.Contains(err.Error(), "--route or --config; its bytes are in "+room.Dir) {
		t.Errorf("without an origin: %v", err)
	}
	if err := drain(room, &config{routes: []routeConfig{mustRoute(t, "/m=memory:"), mustRoute(t, "/l=local:/none"), rc}}); err != nil {
		t.Errorf("with the route given: %v", err)
	}
	other := mustRoute(t, s.route("/d", "other", ""))
	room.Origin = other.origin()
	if err := drain(room, &config{}); err == nil || !strings.Contains(err.Error(), "names another store") {
		t.Errorf("another store: %v", err)
	}
	room.Holder = &cache.Holder{PID: 7, MountPoint: "/mnt/x"}
	if err := drain(room, &config{}); err != nil {
		t.Error(err)
	}
	contains(t, out.String(), "2 changes are not stored; in use by process 7 at /mnt/x")
}

// The list says what recover would do and how the store was mounted.
func TestRecoverList(t *testing.T) {
	p, out := drainer(t)
	rc := mustRoute(t, "/data=s3://b/p")
	p.listRooms("/c", []cache.RoomStatus{
		{Dir: "/c/rooms/1", Identity: "s3 b", Pending: 3, Origin: rc.origin()},
		{Dir: "/c/rooms/2", Identity: "s3 c", Pending: -1},
		{Dir: "/c/rooms/3", Identity: "s3 d", Pending: 1, Holder: &cache.Holder{PID: 7, MountPoint: "/mnt"}},
		{Dir: "/c/rooms/4", Identity: "s3 e"},
	}, true)
	contains(t, out.String(), "s3 b\n  3 changes are not stored\n  in /c/rooms/1\n  was mounted as /data from s3://b/p\n",
		"s3 c\n  its journal can't be read\n", "name the store with --route or --config", "s3 d\n  1 change is not stored; in use by process 7 at /mnt, which stores the rest")
	if strings.Contains(out.String(), "s3 e") {
		t.Errorf("a room with nothing is shown:\n%s", out)
	}
}

// A cache directory that is not there is not made by looking.
func TestRecoverNoCacheDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	if _, errOut, status := run(t, "recover", "--cache-dir", dir); status != exitFailed || !strings.Contains(errOut, dir) {
		t.Errorf("exit status %d: %s", status, errOut)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("it was made")
	}
}
