package journal

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
)

// large returns a batch that becomes a bundle: it changes every second of what
// want has and adds as much, and it does the same to want.
func large(r *rand.Rand, want map[string]string) *Batch {
	b := &Batch{}
	for i := range 2 * defaultBundleMin {
		k := fmt.Sprintf("n/%03d", r.IntN(4*defaultBundleMin))
		if r.IntN(4) == 0 {
			b.Delete(k)
			delete(want, k)
			continue
		}
		v := fmt.Sprintf("%d of %d", i, r.Uint32())
		b.Put(k, []byte(v))
		want[k] = v
	}
	return b
}

// held returns a copy of the journal as a kill would leave it after commit, with
// the bundle not yet spread.
func held(t *testing.T, dir string, commit func(j *Journal)) string {
	t.Helper()
	j := mustOpen(t, dir, quiet)
	j.tending.end() // nobody spreads it
	commit(j)
	after := t.TempDir()
	copyFiles(t, dir, after)
	mustClose(t, j)
	return after
}

// A bundle that was not spread before a kill is there for everybody who reads,
// also from outside, and nothing that is committed later comes before it.
func TestBundleAfterKill(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	want := map[string]string{"a": "before", "z": "after", "n/000/x": "between"}
	dir := t.TempDir()
	j := mustOpen(t, dir, quiet)
	put(t, j, "a", "before", "z", "after", "n/000/x", "between")
	mustClose(t, j)
	for round := range 4 {
		dir = held(t, dir, func(j *Journal) {
			wantContents(t, j, want)
			if err := j.Commit(large(r, want)); err != nil {
				t.Fatal(err)
			}
			if j.bundle == nil {
				t.Fatal("there is no bundle")
			}
			wantContents(t, j, want)
			if round%2 == 1 {
				// Spreads the first, and stands before the next one.
				put(t, j, "a", fmt.Sprint(round))
				want["a"] = fmt.Sprint(round)
				if err := j.Commit(large(r, want)); err != nil {
					t.Fatal(err)
				}
			}
		})
		before := sizes(t, dir)
		if n, err := Count(dir, ""); n != int64(len(want)) || err != nil {
			t.Errorf("round %d: Count = %d, %v; want %d", round, n, err, len(want))
		}
		if n, err := Count(dir, "a", "bef"); n != 1 && round == 0 || err != nil {
			t.Errorf("round %d: Count of one with a text = %d, %v", round, n, err)
		}
		if after := sizes(t, dir); !maps.Equal(before, after) {
			t.Errorf("Count has changed %v to %v", before, after)
		}
	}
	j = mustOpen(t, dir, quiet)
	wantSilence(t, j)
	wantContents(t, j, want)
	var b Batch
	b.DeletePrefix("n/")
	if err := j.Commit(&b); err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(want, func(k, _ string) bool { return k[0] == 'n' })
	wantContents(t, j, want)
	mustClose(t, j)
}

// What an earlier process has left as a bundle is no commit of this one: what is
// to be said of damage and of a restart is said until there is one.
func TestBundleIsNoCommit(t *testing.T) {
	want := map[string]string{}
	dir := held(t, t.TempDir(), func(j *Journal) {
		if err := j.Commit(large(rand.New(rand.NewPCG(3, 4)), want)); err != nil {
			t.Fatal(err)
		}
	})
	other := quiet
	other.bootID = "another boot"
	for range 2 {
		j := mustOpen(t, dir, other)
		if !j.Rebooted() {
			t.Error("it does not say that the machine was restarted")
		}
		wantContents(t, j, want)
		mustClose(t, j)
	}
}

// A journal without bundles becomes one that an older program refuses with the
// first that it gets.
func TestBundleFormat(t *testing.T) {
	dir := t.TempDir()
	j := mustOpen(t, dir, quiet)
	put(t, j, "k", "v")
	if err := j.db.run("PRAGMA user_version=1"); err != nil {
		t.Fatal(err)
	}
	mustClose(t, j)
	version := func(j *Journal) int64 {
		v, err := j.db.number("PRAGMA user_version")
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	j = mustOpen(t, dir, quiet)
	wantSilence(t, j)
	put(t, j, "k", "w")
	if v := version(j); v != 1 {
		t.Errorf("format %d without a bundle", v)
	}
	want := map[string]string{"k": "w"}
	if err := j.Commit(large(rand.New(rand.NewPCG(5, 6)), want)); err != nil {
		t.Fatal(err)
	}
	j.turn.Lock()
	if v := version(j); v != format {
		t.Errorf("format %d with a bundle", v)
	}
	j.turn.Unlock()
	wantContents(t, j, want)
	mustClose(t, j)
}

// A garbled bundle is told, and the rest is there.
func TestGarbledBundle(t *testing.T) {
	want := map[string]string{}
	b := large(rand.New(rand.NewPCG(7, 8)), want)
	blob := b.encode()
	if got, err := decodeBatch(blob); err != nil || got.Len() != b.Len() {
		t.Fatalf("decoded: %v", err)
	}
	for range 200 {
		i := rand.IntN(len(blob))
		blob[i] ^= 1
		if _, err := decodeBatch(blob); err == nil {
			t.Errorf("byte %d of a bundle is wrong and nobody sees it", i)
		}
		blob[i] ^= 1
		if _, err := decodeBatch(blob[:i]); err == nil {
			t.Errorf("a bundle ends after %d bytes and nobody sees it", i)
		}
	}
	dir := held(t, t.TempDir(), func(j *Journal) {
		put(t, j, "k", "v")
		blob[len(blob)-1] ^= 1
		put(t, j, bundleKey, string(blob))
	})
	j := mustOpen(t, dir, quiet)
	defer mustClose(t, j)
	if j.Damage() == "" {
		t.Error("nothing is said of it")
	}
	wantContents(t, j, map[string]string{"k": "v"})
}
