package journal

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// logged is a journal with numbered commits in its log, as a kill leaves it.
type logged struct {
	dir  string
	ends []int64 // by number: the size of the log after the commit
	want []map[string]string
}

// makeLogged makes one with n commits, after the first half of which f is called.
func makeLogged(t *testing.T, n int, f func(*Journal)) *logged {
	t.Helper()
	dir := t.TempDir()
	j := mustOpen(t, dir, quiet)
	l := &logged{dir: t.TempDir(), ends: []int64{j.logSize()}, want: []map[string]string{{}}}
	state := map[string]string{}
	for i := 1; i <= n; i++ {
		var b Batch
		k, v := fmt.Sprintf("key %d", i%17), fmt.Sprintf("%d %s", i, strings.Repeat("x", i*37%2500))
		b.Put(k, []byte(v))
		state[k] = v
		if i%5 == 0 { // the number is in meta, not in a record
			k := fmt.Sprintf("key %d", i%7)
			b.Delete(k)
			delete(state, k)
		}
		if err := j.Commit(&b); err != nil {
			t.Fatal(err)
		}
		if i == n/2 && f != nil {
			f(j)
		}
		copied := map[string]string{}
		for k, v := range state {
			copied[k] = v
		}
		l.ends, l.want = append(l.ends, j.logSize()), append(l.want, copied)
	}
	copyFiles(t, dir, l.dir)
	return l
}

// intact returns how many commits lie wholly before place in the log.
func (l *logged) intact(place int64) int {
	n := 0
	for i := 1; i < len(l.ends); i++ {
		if l.ends[i] <= place {
			n = i
		}
	}
	return n
}

// damage copies l and changes the copy's log.
func (l *logged) damage(t *testing.T, f func(log []byte) []byte) string {
	t.Helper()
	dir := t.TempDir()
	copyFiles(t, l.dir, dir)
	name := filepath.Join(dir, dbName+"-wal")
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, f(b), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestDamagedLog cuts off and garbles the log at random places: the commits before
// are there, and Damage speaks if and only if an acknowledged one is not.
func TestDamagedLog(t *testing.T) {
	const commits = 120
	l := makeLogged(t, commits, nil)
	size := l.ends[commits]
	places := []int64{0, 1, 31, 32, 33, size - 1, size}
	for range 20 {
		places = append(places, rand.Int64N(size), l.ends[rand.IntN(commits+1)])
	}
	for i, place := range places {
		garble := i%2 == 0 && place < size
		dir := l.damage(t, func(log []byte) []byte {
			if garble {
				log[place] ^= byte(1 + rand.IntN(255))
				return log
			}
			return log[:place]
		})
		what := fmt.Sprintf("log of %d bytes, place %d, garbled %t", size, place, garble)
		checkDamaged(t, what, dir, l, l.intact(place))
	}
}

// checkDamaged checks that the first k commits are left of l in dir.
func checkDamaged(t *testing.T, what, dir string, l *logged, k int) {
	t.Helper()
	commits := len(l.ends) - 1
	if n, err := Count(dir, ""); err != nil || n != int64(len(l.want[k])) {
		t.Errorf("%s: Count %d, %v; want %d", what, n, err, len(l.want[k]))
	}
	var j *Journal
	for range 2 { // it says it again as long as nothing is committed
		if j != nil {
			mustClose(t, j)
		}
		j = mustOpen(t, dir, quiet)
		wantContents(t, j, l.want[k])
		if lost := commits - k; (j.Damage() != "") != (lost > 0) ||
			lost > 0 && !strings.Contains(j.Damage(), fmt.Sprintf(" last %d ", lost)) {
			t.Fatalf("%s: %d of %d commits are lost, Damage says %q", what, lost, commits, j.Damage())
		}
	}
	put(t, j, "after", "it")
	mustClose(t, j)
	j = mustOpen(t, dir, quiet)
	if j.Damage() != "" {
		t.Errorf("%s: after a commit Damage still says %q", what, j.Damage())
	}
	if got := contents(t, j); got["after"] != "it" || len(got) != len(l.want[k])+1 {
		t.Errorf("%s: after a commit there are %d records", what, len(got))
	}
	mustClose(t, j)
}

// TestDamagedLogHalfFolded: once pages have been moved into the database, a log
// that has lost them leaves a mixture of states. That is told from a log that has
// lost only what came later, and from one that is lost as a whole.
func TestDamagedLogHalfFolded(t *testing.T) {
	const commits = 80
	l := makeLogged(t, commits, func(j *Journal) {
		// A reader keeps the log from being begun anew.
		d, err := openDB(j.path(dbName), "ro&vfs=unix-excl")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.close() })
		if err := d.run("BEGIN", "SELECT * FROM kv"); err != nil {
			t.Fatal(err)
		}
		j.turn.Lock()
		defer j.turn.Unlock()
		if whole, err := j.fold(); whole || err != nil {
			t.Fatalf("fold beside a reader: whole %t, %v", whole, err)
		}
	})
	for range 25 {
		place := rand.Int64N(l.ends[commits])
		if rand.IntN(2) == 0 {
			place = l.ends[rand.IntN(commits)]
		}
		dir := l.damage(t, func(log []byte) []byte { return log[:place] })
		what := fmt.Sprintf("log of %d bytes, cut at %d", l.ends[commits], place)
		switch k := l.intact(place); {
		case place < l.ends[0]: // nothing in it is whole
			checkDamaged(t, what, dir, l, commits/2)
		case k >= commits/2:
			checkDamaged(t, what, dir, l, k)
		default:
			j := mustOpen(t, dir, quiet)
			if len(aside(t, dir)) != 1 || j.Damage() == "" {
				t.Errorf("%s: %d commits are left of %d that were being folded; Damage says %q", what, k, commits/2, j.Damage())
			}
			wantContents(t, j, nil)
			mustClose(t, j)
		}
	}
}

func writeFile(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// aside returns what was moved aside in dir, without the suffixes.
func aside(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, dbName+".damaged-*[0-9]"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestDamagedDatabase: what can't be used is moved aside as it is, and a new
// journal is begun.
func TestDamagedDatabase(t *testing.T) {
	garbage := make([]byte, 100)
	for i := range garbage {
		garbage[i] = byte(rand.Uint32())
	}
	foreign := filepath.Join(t.TempDir(), "foreign")
	d, err := openDB(foreign, "rwc")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.run("CREATE TABLE kv (key, seq, value)", "CREATE TABLE meta (seq, boot)"); err != nil {
		t.Fatal(err)
	}
	d.close()

	for _, c := range []struct {
		what string
		do   func(b []byte) []byte
	}{
		{"header", func(b []byte) []byte { copy(b, garbage); return b }},
		{"text", func([]byte) []byte { return []byte("Dear diary,\n") }},
		{"zeros", func(b []byte) []byte { clear(b); return b }},
		{"half", func(b []byte) []byte { return b[:len(b)/2] }},
		{"page", func(b []byte) []byte { clear(b[3*pageSize : 4*pageSize]); return b }},
		{"foreign", func([]byte) []byte {
			b, err := os.ReadFile(foreign)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}},
	} {
		t.Run(c.what, func(t *testing.T) {
			dir := t.TempDir()
			j := mustOpen(t, dir, quiet)
			fill(t, j, 1000)
			mustClose(t, j)
			name := filepath.Join(dir, dbName)
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			b = c.do(b)
			writeFile(t, name, b)

			j = mustOpen(t, dir, quiet)
			moved := aside(t, dir)
			if len(moved) != 1 || !strings.Contains(j.Damage(), moved[0]) {
				t.Fatalf("moved aside %v, Damage %q", moved, j.Damage())
			}
			t.Log(j.Damage())
			if now, err := os.ReadFile(moved[0]); err != nil || !bytes.Equal(now, b) {
				t.Errorf("the damaged file was changed: %v", err)
			}
			if !j.Rebooted() {
				t.Error("it can't be told whether the machine was booted anew, and Rebooted says no")
			}
			wantContents(t, j, nil)
			mustClose(t, j)

			j = mustOpen(t, dir, quiet)
			if j.Damage() == "" || len(aside(t, dir)) != 1 {
				t.Errorf("the second time: Damage %q, moved aside %v", j.Damage(), aside(t, dir))
			}
			put(t, j, "k", "v")
			mustClose(t, j)

			j = mustOpen(t, dir, quiet)
			wantSilence(t, j)
			wantContents(t, j, map[string]string{"k": "v"})
		})
	}
}

// TestMissingDatabase: also of a database that is gone or empty something was
// acknowledged, and a log without its database is kept.
func TestMissingDatabase(t *testing.T) {
	l := makeLogged(t, 10, nil)
	for _, do := range []func(string) error{os.Remove, func(name string) error { return os.Truncate(name, 0) }} {
		dir := l.damage(t, func(log []byte) []byte { return log })
		if err := do(filepath.Join(dir, dbName)); err != nil {
			t.Fatal(err)
		}
		j := mustOpen(t, dir, quiet)
		if !strings.Contains(j.Damage(), "is missing") {
			t.Errorf("Damage %q", j.Damage())
		}
		if logs, _ := filepath.Glob(filepath.Join(dir, "*.damaged-*-wal")); len(logs) != 1 {
			t.Errorf("logs moved aside: %v", logs)
		}
		wantContents(t, j, nil)
		mustClose(t, j)
	}
}

// TestDamagedNumbers: without the numbers nothing can be said, and nothing is.
func TestDamagedNumbers(t *testing.T) {
	for _, do := range []func(string) error{
		os.Remove,
		func(name string) error { return os.Truncate(name, 20) },
		func(name string) error { return os.WriteFile(name, bytes.Repeat([]byte("x"), 100), 0o600) },
	} {
		dir := t.TempDir()
		j := mustOpen(t, dir, quiet)
		put(t, j, "k", "v")
		mustClose(t, j)
		if err := do(filepath.Join(dir, ackName)); err != nil {
			t.Fatal(err)
		}
		j = mustOpen(t, dir, quiet)
		wantSilence(t, j)
		wantContents(t, j, map[string]string{"k": "v"})
		put(t, j, "k", "w")
		mustClose(t, j)
	}
}

// TestPowerLoss: commits that were not synced may be lost with the power. That is
// said, too, but as what it is.
func TestPowerLoss(t *testing.T) {
	l := makeLogged(t, 10, nil)
	dir := l.damage(t, func(log []byte) []byte { return log[:l.ends[7]] })
	opt := quiet
	opt.bootID = "the next boot"
	j := mustOpen(t, dir, opt)
	if !j.Rebooted() || !strings.Contains(j.Damage(), "last 3 ") || !strings.Contains(j.Damage(), "restarted") {
		t.Errorf("Rebooted %t, Damage %q", j.Rebooted(), j.Damage())
	}
	wantContents(t, j, l.want[7])
}

// TestNewerFormat: it is refused, and nothing is changed.
func TestNewerFormat(t *testing.T) {
	dir := t.TempDir()
	j := mustOpen(t, dir, quiet)
	put(t, j, "k", "v")
	mustClose(t, j)
	name := filepath.Join(dir, dbName)
	d, err := openDB(name, "rw")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.run("PRAGMA user_version=7"); err != nil {
		t.Fatal(err)
	}
	d.close()
	before, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(dir)
	var v *VersionError
	if !errors.As(err, &v) || v.Format != 7 || v.Known != format || v.File != name {
		t.Fatalf("Open: %v", err)
	}
	t.Log(err)
	if after, err := os.ReadFile(name); err != nil || !bytes.Equal(before, after) {
		t.Errorf("a journal of a newer format was changed: %v", err)
	}
}
