package fs

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/posixtest"
	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends/memory"
)

// serve mounts memory in another process, with one processor: a server that
// waited for its own mount would hang there.
func serve(t *testing.T) (string, *exec.Cmd) {
	t.Helper()
	needFuse(t)
	dir := filepath.Join(t.TempDir(), "mnt")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := helper0(t, "serve", dir)
	cmd.Env = append(cmd.Env, "GOMAXPROCS=1")
	t.Cleanup(func() { unmount(dir, false, true) })
	startHelper(t, cmd)
	return dir, cmd
}

func TestOneProcessor(t *testing.T) {
	dir, cmd := serve(t)
	for name, test := range posixtest.All {
		if _, ok := posixExceptions[name]; ok || name == "OpenSymlinkRace" {
			continue // the latter is slow, and TestPosix has it
		}
		t.Run(name, func(t *testing.T) {
			sub := filepath.Join(dir, name)
			if err := os.Mkdir(sub, 0o755); err != nil {
				t.Fatal(err)
			}
			test(t, sub)
		})
	}
	if err := unmount(dir, false, false); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the server ended with %v", err)
	}
}

func TestStaleMountPoint(t *testing.T) {
	dir, cmd := serve(t)
	if Stale(dir) {
		t.Error("a live mount is stale")
	}
	cmd.Process.Kill()
	cmd.Wait()
	if !Stale(dir) {
		t.Fatal("the mount of a killed server is not stale")
	}
	if _, err := Mount(dir, newMemory(t, memory.Config{NoTmpfs: true}), Options{}); !errors.Is(err, ErrStale) || !strings.Contains(err.Error(), dir) {
		t.Errorf("mounting on a stale mount point: %v", err)
	}
	if err := ClearStale(dir); err != nil {
		t.Fatal(err)
	}
	if Stale(dir) {
		t.Error("still stale after it was cleared")
	}
	if err := ClearStale(dir); err != nil {
		t.Errorf("clearing what is not stale: %v", err)
	}
	if _, err := os.ReadDir(dir); err != nil {
		t.Errorf("the mount point after it was cleared: %v", err)
	}
}

func TestBadMountPoints(t *testing.T) {
	needFuse(t)
	tmp := t.TempDir()
	file := filepath.Join(tmp, "file")
	full := filepath.Join(tmp, "full dir")
	if err := errors.Join(os.WriteFile(file, nil, 0o644), os.Mkdir(full, 0o755), os.WriteFile(filepath.Join(full, "x"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	mounted, _ := mountFS(t, newMemory(t, memory.Config{NoTmpfs: true}), Options{FsName: "first"})
	fsys := newMemory(t, memory.Config{NoTmpfs: true})
	for _, c := range []struct{ path, says string }{
		{filepath.Join(tmp, "missing"), "mkdir -p"},
		{file, "not a directory"},
		{full, `"x"`},
		{mounted, "umount"},
	} {
		s, err := Mount(c.path, fsys, Options{})
		if err == nil {
			s.Unmount()
			t.Errorf("%s: mounted", c.path)
			continue
		}
		if msg := err.Error(); !strings.Contains(msg, c.path) || !strings.Contains(msg, c.says) || strings.Contains(msg, "\n") {
			t.Errorf("%s: %q is not one line with the path and %q", c.path, msg, c.says)
		}
	}
}

func TestUserAllowOther(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "fuse.conf")
	for text, want := range map[string]bool{
		"":                                false,
		"#user_allow_other\n":             false,
		"mount_max = 9\nuser_allow_other": true,
		"  user_allow_other  \n":          true,
	} {
		if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := userAllowOther(conf); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
	if userAllowOther(conf + ".missing") {
		t.Error("a missing file allows")
	}
}

func TestUnmountOfABusyMount(t *testing.T) {
	needFuse(t)
	dir := filepath.Join(t.TempDir(), "mnt")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s, err := Mount(dir, newMemory(t, memory.Config{NoTmpfs: true}), Options{Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "held")
	if err := os.WriteFile(name, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := helper0(t, "hold", name)
	startHelper(t, cmd)
	var busy *BusyError
	if err := s.Unmount(); !errors.As(err, &busy) {
		t.Fatalf("unmount of a busy mount: %v", err)
	}
	if msg := busy.Error(); !strings.Contains(msg, name) || !strings.Contains(msg, "pid ") {
		t.Errorf("%q doesn't say who uses what", msg)
	}
	if _, err := os.Stat(name); err == nil {
		t.Error("the mount point is not detached")
	}
	cmd.Process.Kill()
	cmd.Wait()
	ended := make(chan struct{})
	go func() { s.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("the mount goes on after the last user has gone")
	}
	if err := s.Unmount(); err != nil {
		t.Errorf("unmount of what has ended: %v", err)
	}
}

func TestMountOptions(t *testing.T) {
	dir, s := mountFS(t, newMemory(t, memory.Config{}), Options{ReadOnly: true, FsName: "my source", AllowOther: os.Geteuid() == 0})
	if err := os.WriteFile(filepath.Join(dir, "f"), nil, 0o644); !errors.Is(err, unix.EROFS) {
		t.Errorf("writing on a read-only mount: %v", err)
	}
	mi, ok := findMount(dir)
	if !ok || mi.source != "my source" || mi.fsType != "fuse."+TypeName {
		t.Errorf("mount table: %+v", mi)
	}
	if !s.Options().ReadOnly || s.MountPoint() != dir {
		t.Errorf("the server says %+v on %s", s.Options(), s.MountPoint())
	}
	if os.Geteuid() == 0 {
		if kb, err := os.ReadFile("/sys/class/bdi/" + mi.device + "/read_ahead_kb"); err == nil && strings.TrimSpace(string(kb)) != "1024" {
			t.Errorf("read-ahead is %s KiB", kb)
		}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil || st.Blocks == 0 || st.Namelen != 255 {
		t.Errorf("statfs: %v, %d blocks, names of %d", err, st.Blocks, st.Namelen)
	}
}

func TestUnmountByOthers(t *testing.T) {
	dir, s := mountFS(t, newMemory(t, memory.Config{NoTmpfs: true}), Options{})
	if err := unmount(dir, false, false); err != nil {
		t.Fatal(err)
	}
	s.Wait()
}
