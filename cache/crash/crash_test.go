package crash_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/faulty"
	"github.com/agentfs/agentfs/cache"
)

// crash is a series of processes over one store and one cache directory, each
// killed, and the model of what they have to leave.
type crash struct {
	t     *testing.T
	r     *rand.Rand
	seed  uint64
	place place
	cache string
	fault string
	// budget is the most of the cache's that a process gets, 0 for the default;
	// disk, if not nil, limits the cache
	// directory's file system while a process lives.
	budget int64
	disk   func(room int64)
	// calm, if not nil, makes the store one without faults of its own, or not.
	calm func(bool)

	m   *model
	log []string // what the last process reported
	n   struct{ kills, ops, failed, doubts, drained int }
}

func newCrash(t *testing.T, p place, fault string) *crash {
	t.Helper()
	s := seed(t)
	c := &crash{
		t: t, seed: s, r: rand.New(rand.NewPCG(s, 100)), place: p, fault: fault,
		cache: filepath.Join(t.TempDir(), "cache"), m: newModel(),
	}
	c.m.lax, c.m.attrs = !journaled(), keepsAttributes
	c.m.history = map[string][]string{}
	return c
}

// fatal ends the test, and says what the last process did. The cache directory
// is kept as it is: what the journal has then is what there is to go on.
func (c *crash) fatal(format string, args ...any) {
	c.t.Helper()
	last := c.log[max(0, len(c.log)-40):]
	if dir, err := os.MkdirTemp("", "agentfs-crash-*"); err == nil {
		out, err := exec.Command("cp", "-a", c.cache, dir).CombinedOutput()
		c.t.Logf("the cache directory is kept in %s (%v%s)", dir, err, out)
	}
	if f, err := os.CreateTemp("", "agentfs-crash-*.log"); err == nil {
		_, werr := f.WriteString(c.place.transcript.String())
		c.t.Logf("all that the processes reported, and what the store was asked, is in %s (%v)", f.Name(), errors.Join(werr, f.Close()))
	}
	c.t.Fatalf("kill %d: %s\nthe last operations:\n%s", c.n.kills, fmt.Sprintf(format, args...), strings.Join(last, "\n"))
}

// begin makes the directories of the workers.
func (c *crash) begin() {
	c.t.Helper()
	f, end := c.open(false)
	d := newDriver(f)
	ctx, cancel := seconds(60)
	defer cancel()
	dirs := []string{sharedDir}
	for w := range *workers {
		dirs = append(dirs, home(w))
	}
	for _, dir := range dirs {
		o := op{Kind: opMkdir, Path: dir}
		if r, err := d.do(ctx, o, c.m); r != asWanted {
			c.fatal("%v: %v", o, err)
		}
		c.m.done(o)
	}
	end(true)
	c.stored()
}

// open opens the cache here. With quiet the store takes no changes, so that
// what the journal has stays there. end closes it.
func (c *crash) open(quiet bool) (f *cache.FS, end func(orderly bool)) {
	c.t.Helper()
	direct, err := c.place.open()
	if err != nil {
		c.fatal("opening the store: %v", err)
	}
	store := direct
	if quiet {
		store = faulty.Store(store, faulty.On(faulty.Mutating(), faulty.Fail(errDown)))
	}
	f, err = cache.New(context.Background(), store, config(c.cache))
	if err != nil {
		c.fatal("opening the cache: %v", err)
	}
	return f, func(orderly bool) {
		c.t.Helper()
		n := 60
		ctx, cancel := seconds(n)
		if !orderly {
			cancel()
			ctx, cancel = context.WithTimeout(context.Background(), 20*time.Millisecond)
		}
		defer cancel()
		if err := f.Close(ctx); err != nil && orderly {
			c.fatal("closing the cache: %v", err)
		}
		if err := backends.CloseStore(direct); err != nil {
			c.fatal("closing the store: %v", err)
		}
	}
}

// stored compares the store with the model, of which nothing is open.
func (c *crash) stored() {
	c.t.Helper()
	got, err := c.place.look()
	if err != nil {
		c.fatal("reading the store: %v", err)
	}
	if bad := compare(got, c.m.exact()); len(bad) > 0 && c.fault != faultLate {
		c.fatal("the store:\n%s", strings.Join(bad, "\n"))
	}
	c.n.drained++
}

// round runs one process, kills it, and looks what it has left.
func (c *crash) round() {
	c.t.Helper()
	c.n.kills++
	c.place.transcript.add(fmt.Sprint("process ", c.n.kills))
	k := killed{after: c.r.IntN(*workers * *crashOps * 5 / 4)}
	if c.r.IntN(4) == 0 {
		k.after = c.r.IntN(20) // soon after the start
	}
	k.delay = time.Duration(c.r.IntN(3000)) * time.Microsecond
	k.close = c.r.IntN(2) == 0
	if c.r.IntN(6) == 0 {
		k.early = time.Duration(1 + c.r.IntN(100_000_000)) // in the middle of opening
	}
	if c.disk != nil {
		c.disk(c.some(2 << 20))
	}
	c.live(k)
	if c.disk != nil {
		c.disk(64 << 20)
	}
	c.verify(c.r.IntN(2) == 0)
}

// some returns a part of n, but not next to nothing.
func (c *crash) some(n int64) int64 { return n/10 + int64(c.r.Float64()*float64(n)*9/10) }

// live runs a process until it is killed, and follows what it reports.
func (c *crash) live(k killed) {
	c.t.Helper()
	state := filepath.Join(c.t.TempDir(), "state")
	if err := saveListing(state, c.m.exact()); err != nil {
		c.fatal("%v", err)
	}
	text, err := json.Marshal(task{
		Place: c.place, Cache: c.cache, Fault: c.fault, Budget: c.some(c.budget), Workers: *workers, Ops: *crashOps,
		Seed: c.r.Uint64(), State: state, Lax: c.m.lax,
	})
	if err != nil {
		c.fatal("%v", err)
	}
	p, err := startProcess(string(text))
	if err != nil {
		c.fatal("starting a process: %v", err)
	}
	w := newWatcher(c.place)
	c.log = nil
	running := map[int]op{}
	done, dying := 0, false
	var problem string
	die := func() {
		if !dying {
			dying = true
			time.AfterFunc(k.delay, p.kill)
		}
	}
	if k.early > 0 {
		time.AfterFunc(k.early, p.kill)
	}
	late := time.AfterFunc(2*time.Minute, p.kill)
	for lines := bufio.NewReader(p.reports); ; {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			break // half a line says nothing
		}
		c.log = append(c.log, string(bytes.TrimSpace(line)))
		c.place.transcript.add(c.log[len(c.log)-1])
		var r report
		if err := json.Unmarshal(line, &r); err != nil {
			problem = fmt.Sprintf("a report that can't be read: %v", err)
			die()
			break
		}
		switch r.What {
		case "begin":
			c.m.begin(r.Op)
			running[r.Op.W] = r.Op
		case "done":
			o := running[r.Op.W]
			delete(running, r.Op.W)
			if say := c.done(o, r); say != "" && problem == "" {
				problem = say
			}
			if done++; done >= k.after {
				die()
			}
		case "idle":
			// In the middle of what the background still has to do.
			k.delay = time.Duration(c.r.IntN(150)) * time.Millisecond
			if k.close {
				// What is still open is stored as it is.
				c.m.begin(op{Kind: opBarrier, Path: "."})
				p.stdin.Close()
			}
			die()
		case "broken":
			if c.disk == nil {
				problem = "it could not begin: " + r.Err
			}
		}
	}
	p.end()
	c.place.settle()
	if !late.Stop() {
		problem = "it stood still"
	}
	w.stop()
	for _, o := range running {
		c.m.unsure(o)
	}
	c.n.ops += done
	c.n.doubts += len(c.m.doubts)
	if problem != "" {
		c.fatal("%s\n%s", problem, p.stderr.String())
	}
	if bad := p.stderr.String(); strings.Contains(bad, "DATA RACE") || strings.Contains(bad, "panic") {
		c.fatal("the process said:\n%s", bad)
	}
	defer func() {
		if err := w.check(c.m.history); err != nil && c.fault != faultLate {
			c.fatal("while it ran, %v", err)
		}
	}()
}

// done changes the model by what became of o, or says what is wrong with it.
func (c *crash) done(o op, r report) string {
	switch r.Outcome {
	case asWanted:
		if c.m.expect(o) == nil {
			c.m.done(o)
		}
	case wrong:
		return fmt.Sprintf("%v: %s", o, r.Err)
	case notTried, failed:
		c.n.failed++
		if r.Outcome == failed {
			c.m.unsure(o)
		}
		if (c.fault == "" || c.fault == "slow") && c.budget == 0 {
			return fmt.Sprintf("%v failed: %s", o, r.Err)
		}
	}
	return ""
}

// verify opens the cache again and compares all of it with the model, and
// after an orderly end the store as well.
func (c *crash) verify(orderly bool) {
	c.t.Helper()
	if c.calm != nil {
		c.calm(true)
		defer c.calm(false)
	}
	f, end := c.open(!orderly)
	ctx, cancel := seconds(60)
	defer cancel()
	got, err := readTree(ctx, f)
	if err != nil {
		c.fatal("reading the tree after a kill: %v", err)
	}
	if bad := c.m.check(got); len(bad) > 0 {
		c.fatal("after a kill:\n%s", strings.Join(bad, "\n"))
	}
	c.m.adopt(got)
	if orderly {
		err := f.SyncDir(ctx, f.Root())
		for err != nil && c.fault == faultLate && ctx.Err() == nil {
			time.Sleep(100 * time.Millisecond) // what is in the way has only just come
			err = f.SyncDir(ctx, f.Root())
		}
		if err != nil {
			c.fatal("a barrier without faults: %v", err)
		}
		switch {
		case c.fault == faultLate:
			c.storedLate()
		case c.r.IntN(2) == 0: // the barrier alone has to be enough
			c.stored()
		}
		if s := f.State(); len(s.Conflicts) > 0 {
			c.fatal("conflicts with nobody: %+v", s.Conflicts)
		}
	}
	end(orderly)
	if orderly && c.fault != faultLate {
		c.stored()
	}
}

// process is one that is going to be killed.
type process struct {
	cmd     *exec.Cmd
	reports *os.File
	stdin   *os.File
	stderr  *bytes.Buffer
	ended   chan struct{}
}

// startProcess runs this binary with a task in place of tests. It dies with us:
// the kernel watches the thread that started it, which therefore waits for it.
func startProcess(task string) (*process, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	in, inW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p := &process{reports: r, stdin: inW, stderr: &bytes.Buffer{}, ended: make(chan struct{})}
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), childEnv+"="+task)
	p.cmd.Stdin, p.cmd.Stderr, p.cmd.ExtraFiles = in, p.stderr, []*os.File{w}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // killed, as a rule
			close(p.ended)
		}
	}()
	err = <-started
	return p, errors.Join(err, w.Close(), in.Close())
}

func (p *process) kill() { _ = p.cmd.Process.Kill() }

// end waits for the end of a process that was killed or has closed.
func (p *process) end() {
	<-p.ended
	p.reports.Close()
	p.stdin.Close()
}

// run kills n processes.
func (c *crash) run(n int) {
	c.t.Helper()
	if *kills > 0 {
		n = *kills
	}
	c.begin()
	for range n {
		c.round()
	}
	c.verify(true)
	c.t.Logf("%d kills, %d operations, %d failed, %d in doubt, the store compared %d times",
		c.n.kills, c.n.ops, c.n.failed, c.n.doubts, c.n.drained)
}

// A process that is killed at any moment loses nothing that it acknowledged,
// and nothing comes back that it had removed or replaced: whatever the store
// does meanwhile. In the end the store has exactly the tree.
func TestCrash(t *testing.T) {
	for _, fault := range []string{"healthy", "down", "slow", "flaky", "cut"} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			if faults[fault] == nil {
				fault = ""
			}
			newCrash(t, newPlace(t, false), fault).run(6)
		})
	}
}

// So it is when the cache has hardly any room, and when the disk under it is
// full.
func TestCrashFull(t *testing.T) {
	t.Run("budget", func(t *testing.T) {
		t.Parallel()
		c := newCrash(t, newPlace(t, false), "")
		c.budget = 400 << 10
		c.run(5)
	})
	t.Run("disk", func(t *testing.T) {
		t.Parallel()
		c := newCrash(t, newPlace(t, false), "")
		c.budget = 1 << 40
		c.disk = smallDisk(t, c.cache)
		c.run(5)
	})
}

// smallDisk puts a file system of its own under dir, and returns what says how
// much room there is left on it.
func smallDisk(t *testing.T, dir string) func(room int64) {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "only root may mount a file system of a size")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64m"); err != nil {
		missing(t, fmt.Sprintf("a tmpfs can't be mounted here: %v", err))
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return func(room int64) {
		var st syscall.Statfs_t
		if err := syscall.Statfs(dir, &st); err != nil {
			t.Fatal(err)
		}
		size := fmt.Sprintf("size=%d", int64(st.Blocks-st.Bfree)*st.Bsize+room)
		if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, size); err != nil {
			t.Fatal(err)
		}
	}
}

// And on a real S3 server.
func TestCrashS3(t *testing.T) {
	for _, fault := range []string{"healthy", "flaky"} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, true)
			if faults[fault] == nil {
				fault = ""
			}
			newCrash(t, p, fault).run(3)
		})
	}
}

// missing skips a test that needs what is not here; with CI=true it fails.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip(what)
}
