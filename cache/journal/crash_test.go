package journal

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// childEnv names, in the environment of a child of a test, what it does, and
// with which directory.
const childEnv = "JOURNAL_TEST_CHILD"

func TestMain(m *testing.M) {
	if what, dir, ok := strings.Cut(os.Getenv(childEnv), ":"); ok {
		if err := children[what](dir); err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var children = map[string]func(dir string) error{
	"commit": childCommits,
	"churn":  childChurns,
}

// start starts a child.
func start(t *testing.T, what, dir string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+what+":"+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd, bufio.NewScanner(out)
}

// restless are options with which as much as possible goes on beside commits.
var restless = options{bootID: "this boot", logLimit: 128 << 10, idle: time.Millisecond}

const crashWriters = 4

// childCommits commits numbered batches from several goroutines and prints
// "WRITER NUMBER" after each. A batch sets three keys of its writer to the number,
// adds a record of its own, and removes that of the one 20 before.
func childCommits(dir string) error {
	j, err := open(dir, restless)
	if err != nil {
		return err
	}
	if j.Damage() != "" || j.Rebooted() {
		return fmt.Errorf("damage %q, rebooted %t", j.Damage(), j.Rebooted())
	}
	from := make([]int, crashWriters)
	if err := j.All(func(key string, value []byte) error {
		var w int
		if n, _ := fmt.Sscanf(key, "%d/a", &w); n == 1 && strings.HasSuffix(key, "/a") {
			from[w], _ = strconv.Atoi(string(value))
		}
		return nil
	}); err != nil {
		return err
	}
	var wg sync.WaitGroup
	for w := range crashWriters {
		wg.Go(func() {
			for n := from[w] + 1; ; n++ {
				var b Batch
				number := fmt.Append(nil, n)
				b.Put(fmt.Sprintf("%d/a", w), number)
				b.Put(fmt.Sprintf("%d/b", w), number)
				b.Put(fmt.Sprintf("%d/r%06d", w, n), make([]byte, n*37%3000))
				b.Delete(fmt.Sprintf("%d/r%06d", w, n-20))
				b.Put(fmt.Sprintf("%d/c", w), number)
				if err := j.Commit(&b); err != nil {
					fmt.Println("failed:", err)
					return
				}
				// One write(2) to a pipe is not torn.
				fmt.Printf("%d %d\n", w, n)
			}
		})
	}
	wg.Wait()
	return errors.New("all writers have failed")
}

// TestKill kills a process that commits, again and again: what it has acknowledged
// is there, and nothing is there in part.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	rounds, end := 40, time.Now().Add(8*time.Second)
	total := 0
	for round := 0; round < rounds && time.Now().Before(end); round++ {
		cmd, lines := start(t, "commit", dir)
		acked := make([]int, crashWriters)
		var timer *time.Timer
		for lines.Scan() {
			if timer == nil {
				timer = time.AfterFunc(time.Duration(rand.IntN(60_000))*time.Microsecond, func() { _ = cmd.Process.Kill() })
			}
			var w, n int
			if _, err := fmt.Sscan(lines.Text(), &w, &n); err != nil {
				t.Fatalf("child says %q", lines.Text())
			}
			acked[w] = n
			total++
		}
		if err := cmd.Wait(); cmd.ProcessState.ExitCode() != -1 {
			t.Fatalf("round %d: the child ended by itself: %v", round, err)
		}
		checkAfterKill(t, dir, acked)
	}
	t.Logf("%d commits acknowledged", total)
	if total == 0 {
		t.Error("no commit was acknowledged")
	}
}

func checkAfterKill(t *testing.T, dir string, acked []int) {
	t.Helper()
	counted, err := Count(dir, "")
	if err != nil {
		t.Fatalf("Count after a kill: %v", err)
	}
	j := mustOpen(t, dir, restless)
	wantSilence(t, j)
	got := contents(t, j)
	mustClose(t, j)
	if counted != int64(len(got)) {
		t.Errorf("Count found %d records, All %d", counted, len(got))
	}
	for w, least := range acked {
		a := got[fmt.Sprintf("%d/a", w)]
		n, _ := strconv.Atoi(a)
		if n < least || least > 0 && n > least+1 {
			t.Fatalf("writer %d: %d was acknowledged, %d is there", w, least, n)
		}
		want := map[string]string{}
		if n > 0 {
			want[fmt.Sprintf("%d/a", w)], want[fmt.Sprintf("%d/b", w)], want[fmt.Sprintf("%d/c", w)] = a, a, a
		}
		for i := max(1, n-19); i <= n; i++ {
			want[fmt.Sprintf("%d/r%06d", w, i)] = string(make([]byte, i*37%3000))
		}
		for k, v := range got {
			if strings.HasPrefix(k, fmt.Sprintf("%d/", w)) {
				if u, ok := want[k]; !ok || u != v {
					t.Errorf("writer %d, which was at %d: %s is there with %d bytes", w, n, k, len(v))
				}
				delete(want, k)
			}
		}
		if len(want) > 0 {
			t.Errorf("writer %d, which was at %d: %d records are missing", w, n, len(want))
		}
	}
}

// childChurns keeps the number of keys below n/ at 100 while everything changes.
func childChurns(dir string) error {
	j, err := open(dir, options{bootID: "this boot", logLimit: 3 << 20, idle: time.Millisecond})
	if err != nil {
		return err
	}
	var b Batch
	for i := range 100 {
		b.Put(fmt.Sprintf("n/%d", i), nil)
	}
	for i := 0; ; i++ {
		if err := j.Commit(&b); err != nil {
			return err
		}
		if i == 0 {
			fmt.Println("ready")
		}
		b.Reset()
		b.Delete(fmt.Sprintf("n/%d", i))
		b.Put(fmt.Sprintf("other/%d", i%500), make([]byte, i*31%5000))
		b.Put(fmt.Sprintf("n/%d", i+100), make([]byte, i*17%1000))
	}
}

// TestCountFromOutside counts while another process commits as fast as it can, and
// after it was killed.
func TestCountFromOutside(t *testing.T) {
	dir := t.TempDir()
	cmd, lines := start(t, "churn", dir)
	lines.Scan()
	before := sizes(t, dir)
	n := 0
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); n++ {
		got, err := Count(dir, "n/")
		if err != nil || got != 100 {
			t.Fatalf("Count %d: %d, %v; want 100", n, got, err)
		}
	}
	t.Logf("%d counts; sizes %v, then %v", n, before, sizes(t, dir))
	if j, err := open(dir, quiet); err == nil {
		j.Close()
		t.Error("a journal that is in use was opened")
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	before = sizes(t, dir)
	got, err := Count(dir, "n/")
	if err != nil || got != 100 {
		t.Errorf("Count after the kill: %d, %v", got, err)
	}
	if after := sizes(t, dir); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("Count changed the files from %v to %v", before, after)
	}
}

func sizes(t *testing.T, dir string) map[string]int64 {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]int64{}
	for _, e := range all {
		if fi, err := e.Info(); err == nil {
			m[e.Name()] = fi.Size()
		}
	}
	return m
}

// TestCount of what is not there, was closed, and is open here.
func TestCount(t *testing.T) {
	dir := t.TempDir()
	want := func(n int64, prefix string) {
		t.Helper()
		if got, err := Count(dir, prefix); got != n || err != nil {
			t.Errorf("Count of %q = %d, %v; want %d", prefix, got, err, n)
		}
	}
	want(0, "")
	if n, err := Count(dir+"/nothing", ""); n != 0 || err != nil {
		t.Errorf("Count without a directory: %d, %v", n, err)
	}
	j := mustOpen(t, dir, quiet)
	want(0, "")
	put(t, j, "a", "", "a/1", "", "a/2", "", "b", "", "\xff", "", "\xff\xff", "")
	want(6, "")
	want(2, "a/")
	want(2, "\xff")
	want(1, "\xff\xff")
	mustClose(t, j)
	before := fmt.Sprint(sizes(t, dir))
	want(6, "")
	want(3, "a")
	if after := fmt.Sprint(sizes(t, dir)); after != before {
		t.Errorf("Count changed the files from %v to %v", before, after)
	}
	if err := os.WriteFile(dir+"/"+dbName, []byte("no journal"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := Count(dir, ""); err == nil {
		t.Errorf("Count of garbage: %d", n)
	}
}

// BenchmarkOpenAfterKill opens what a killed process has left, with a log that is
// as large as it gets.
func BenchmarkOpenAfterKill(b *testing.B) {
	j := mustOpen(b, b.TempDir(), options{bootID: "this boot", logLimit: 1 << 40, idle: time.Hour})
	value := make([]byte, 200)
	for i := 0; j.size.Load() < defaultLogLimit; i++ {
		put(b, j, benchKey(i), string(value))
	}
	for b.Loop() {
		b.StopTimer()
		dir := b.TempDir()
		copyFiles(b, j.dir, dir)
		b.StartTimer()
		k, err := open(dir, quiet)
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		k.Close()
		b.StartTimer()
	}
}

// copyFiles copies a journal as a kill at this moment would leave it.
func copyFiles(t testing.TB, from, to string) {
	t.Helper()
	entries, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name := e.Name()
		in, err := os.Open(from + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		out, err := os.Create(to + "/" + name)
		if err == nil {
			_, err = io.Copy(out, in)
		}
		in.Close()
		if e := out.Close(); err != nil || e != nil {
			t.Fatal(err, e)
		}
	}
}
