package process

import (
	"os"
	"os/exec"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// A thread is told by the process that it is in.
func TestThread(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	done := make(chan uint32)
	go func() { // on another thread than the locked one
		runtime.LockOSThread()
		done <- uint32(unix.Gettid())
		<-done
	}()
	tid := <-done
	defer close(done)
	var table Table
	var p Process
	for _, id := range []uint32{tid, uint32(os.Getpid())} {
		var ok bool
		p, ok = table.Of(id)
		if !ok || p.PID != uint32(os.Getpid()) || p.Parent != uint32(os.Getppid()) || p.UID != uint32(os.Geteuid()) || p.Start == 0 {
			t.Errorf("Of(%d) = %+v, %v; this is process %d of %d", id, p, ok, os.Getpid(), os.Getppid())
		}
	}
	if exe, err := os.Executable(); err != nil || p.Exe() != exe {
		t.Errorf("Exe = %q, want %q (%v)", p.Exe(), exe, err)
	}
}

func TestUnseen(t *testing.T) {
	var table Table
	if p, ok := table.Of(0); ok {
		t.Errorf("Of(0) = %+v", p)
	}
	if p, ok := table.Of(1 << 30); ok {
		t.Errorf("Of a thread that there is not = %+v", p)
	}
	if a := table.Ancestors(0); a != nil {
		t.Errorf("Ancestors(0) = %v", a)
	}
}

// A name with brackets and spaces does not confuse what is read after it.
func TestAncestorsOfAChild(t *testing.T) {
	dir := t.TempDir()
	odd := dir + "/a) b 1 (c"
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(odd, b, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(odd, "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	var table Table
	all := table.Ancestors(uint32(cmd.Process.Pid))
	if len(all) < 2 || all[0].PID != uint32(cmd.Process.Pid) || all[1].PID != uint32(os.Getpid()) {
		t.Fatalf("Ancestors = %+v, want %d and then %d", all, cmd.Process.Pid, os.Getpid())
	}
	if all[0].Exe() != odd || all[0].Start < all[1].Start {
		t.Errorf("%+v is not the child of %+v", all[0], all[1])
	}
}

func BenchmarkRead(b *testing.B) {
	for b.Loop() {
		if _, ok := read(uint32(os.Getpid())); !ok {
			b.Fatal("not seen")
		}
	}
}

func BenchmarkExe(b *testing.B) {
	p, _ := read(uint32(os.Getpid()))
	for b.Loop() {
		p.Exe()
	}
}
