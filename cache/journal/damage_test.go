package journal

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// logged is a journal with numbered commits in its log, as a kill leaves it.
type logged struct {
	dir  string
	ends []int64 // by number: the size of the segment after the commit
	want []map[string]string
}

// makeLogged makes one with n commits.
func makeLogged(t *testing.T, n int) *logged {
	t.Helper()
	j := mustOpen(t, t.TempDir(), quiet)
	l := &logged{dir: t.TempDir(), ends: []int64{0}, want: []map[string]string{{}}}
	l.commit(t, j, n)
	copyFiles(t, j.dir, l.dir)
	return l
}

// commit makes n more commits.
func (l *logged) commit(t *testing.T, j *Journal, n int) {
	t.Helper()
	for range n {
		i := len(l.ends)
		state := maps.Clone(l.want[i-1])
		var b Batch
		k, v := fmt.Sprintf("key %d", i%17), fmt.Sprintf("%d %s", i, strings.Repeat("x", i*37%2500))
		b.Put(k, []byte(v))
		state[k] = v
		if i%5 == 0 {
			k := fmt.Sprintf("key %d", i%7)
			b.Delete(k)
			delete(state, k)
		}
		if err := j.Commit(&b); err != nil {
			t.Fatal(err)
		}
		l.ends, l.want = append(l.ends, j.current.end), append(l.want, state)
	}
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

// damage copies l and changes a segment of the copy's log.
func (l *logged) damage(t *testing.T, segment int, f func(log []byte) []byte) string {
	t.Helper()
	dir := t.TempDir()
	copyFiles(t, l.dir, dir)
	names, err := segmentNames(dir)
	if err != nil || segment >= len(names) {
		t.Fatalf("segments %v, %v", names, err)
	}
	name := names[segment]
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
	l := makeLogged(t, commits)
	size := l.ends[commits]
	places := []int64{0, 1, 31, 32, 33, size - 1, size}
	for range 20 {
		places = append(places, rand.Int64N(size), l.ends[rand.IntN(commits+1)])
	}
	for i, place := range places {
		garble := i%2 == 0 && place < size
		dir := l.damage(t, 0, func(log []byte) []byte {
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

// TestDamagedLogHalfFolded: while commits go into the table, a log that has lost some of
// them leaves a mixture of states. That is told from one that has lost only what came
// later.
func TestDamagedLogHalfFolded(t *testing.T) {
	const half, commits = 40, 80
	opt := quiet
	opt.slice = 5
	j := mustOpen(t, t.TempDir(), opt)
	l := &logged{dir: t.TempDir(), ends: []int64{0}, want: []map[string]string{{}}}
	l.commit(t, j, half)
	j.turn.Lock()
	if !j.freeze() {
		t.Fatal("there is nothing to bring into the table")
	}
	if err := j.spread(); err != nil || j.frozen == nil {
		t.Fatalf("a slice of it: %v, all: %t", err, j.frozen == nil)
	}
	j.turn.Unlock()
	l.commit(t, j, commits-half)
	copyFiles(t, j.dir, l.dir)

	checkDamaged(t, "nothing was damaged", l.damage(t, 0, func(log []byte) []byte { return log }), l, commits)
	for range 25 {
		i := half + rand.IntN(commits-half)
		what := fmt.Sprintf("the second segment is cut behind commit %d", i)
		end := l.ends[i]
		if i == half {
			end = 0
		}
		checkDamaged(t, what, l.damage(t, 1, func(log []byte) []byte { return log[:end] }), l, i)
	}
	for range 25 {
		place := rand.Int64N(l.ends[half])
		dir := l.damage(t, 0, func(log []byte) []byte { return log[:place] })
		j := mustOpen(t, dir, quiet)
		if len(aside(t, dir)) != 1 || j.Damage() == "" || !j.Lost() {
			t.Errorf("the first segment is cut at %d of %d; Damage says %q", place, l.ends[half], j.Damage())
		}
		if logs, _ := filepath.Glob(filepath.Join(dir, "*.damaged-*.log")); len(logs) != 2 {
			t.Errorf("segments moved aside: %v", logs)
		}
		wantContents(t, j, nil)
		mustClose(t, j)
	}
}

// TestDamagedTableLog: SQLite's own log may lose what it likes while the log has it,
// but not once its pages were being moved into the database.
func TestDamagedTableLog(t *testing.T) {
	const commits = 60
	for _, moved := range []bool{false, true} {
		opt := quiet
		opt.slice = 3
		j := mustOpen(t, t.TempDir(), opt)
		l := &logged{dir: t.TempDir(), ends: []int64{0}, want: []map[string]string{{}}}
		l.commit(t, j, commits)
		// A reader keeps what he reads.
		d, err := openDB(j.path(dbName), "ro&vfs=unix-excl")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.close() })
		if err := d.run("BEGIN", "SELECT * FROM kv"); err != nil {
			t.Fatal(err)
		}
		j.turn.Lock()
		for j.freeze() {
			if err := j.spread(); err != nil {
				t.Fatal(err)
			}
		}
		if moved {
			if whole, err := j.checkpoint(); whole || err != nil {
				t.Fatalf("checkpoint beside a reader: whole %t, %v", whole, err)
			}
		}
		j.turn.Unlock()
		copyFiles(t, j.dir, l.dir)
		fi, err := j.wal.Stat()
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			place := rand.Int64N(fi.Size())
			dir := l.damage(t, 0, func(log []byte) []byte { return log })
			if err := os.Truncate(filepath.Join(dir, dbName+"-wal"), place); err != nil {
				t.Fatal(err)
			}
			what := fmt.Sprintf("SQLite's log is cut at %d of %d, moved %t", place, fi.Size(), moved)
			if !moved {
				checkDamaged(t, what, dir, l, commits)
				continue
			}
			j := mustOpen(t, dir, quiet)
			if len(aside(t, dir)) != 1 || j.Damage() == "" {
				t.Errorf("%s: Damage says %q", what, j.Damage())
			}
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
	l := makeLogged(t, 10)
	for _, do := range []func(string) error{os.Remove, func(name string) error { return os.Truncate(name, 0) }} {
		dir := l.damage(t, 0, func(log []byte) []byte { return log })
		if err := do(filepath.Join(dir, dbName)); err != nil {
			t.Fatal(err)
		}
		j := mustOpen(t, dir, quiet)
		if !strings.Contains(j.Damage(), "is missing") {
			t.Errorf("Damage %q", j.Damage())
		}
		if logs, _ := filepath.Glob(filepath.Join(dir, "*.damaged-*.log")); len(logs) != 1 {
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
	l := makeLogged(t, 10)
	dir := l.damage(t, 0, func(log []byte) []byte { return log[:l.ends[7]] })
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

// TestLost: nothing is left of what was acknowledged, which is so until there is a commit.
func TestLost(t *testing.T) {
	l := makeLogged(t, 3)
	for what, do := range map[string]func(dir string) error{
		"the log's head": func(dir string) error {
			names, err := segmentNames(dir)
			if err != nil {
				return err
			}
			return os.WriteFile(names[0], bytes.Repeat([]byte("x"), int(l.ends[3])), 0o600)
		},
		"the database": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, dbName), bytes.Repeat([]byte("x"), 10000), 0o600)
		},
		"no database": func(dir string) error { return os.Remove(filepath.Join(dir, dbName)) },
	} {
		dir := l.damage(t, 0, func(log []byte) []byte { return log })
		if err := do(dir); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			j := mustOpen(t, dir, quiet)
			if !j.Lost() || j.Damage() == "" {
				t.Errorf("%s: Lost %t, Damage %q", what, j.Lost(), j.Damage())
			}
			mustClose(t, j)
		}
		j := mustOpen(t, dir, quiet)
		put(t, j, "k", "v")
		mustClose(t, j)
		if j = mustOpen(t, dir, quiet); j.Lost() {
			t.Errorf("%s: lost although there was a commit", what)
		}
	}
	if j := mustOpen(t, l.damage(t, 0, func(log []byte) []byte { return log[:l.ends[2]] }), quiet); j.Lost() {
		t.Error("lost although most of it is there")
	}
	if j := mustOpen(t, t.TempDir(), quiet); j.Lost() {
		t.Error("a new one is lost")
	}
}

// TestNumbersOfTheOneBefore: a power loss just after a new journal was begun leaves the
// numbers of the damaged one. They say nothing of the new one.
func TestNumbersOfTheOneBefore(t *testing.T) {
	dir := t.TempDir()
	for i := range 5 {
		j := mustOpen(t, dir, quiet)
		put(t, j, fmt.Sprint(i), "")
		mustClose(t, j)
	}
	before, err := os.ReadFile(filepath.Join(dir, ackName))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, dbName), bytes.Repeat([]byte("x"), 10000))
	j := mustOpen(t, dir, quiet)
	put(t, j, "k", "v")
	dir = asKilled(t, j)
	writeFile(t, filepath.Join(dir, ackName), before)
	j = mustOpen(t, dir, quiet)
	if j.Damage() != "" {
		t.Error(j.Damage())
	}
	wantContents(t, j, map[string]string{"k": "v"})
}
