package journal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"testing"
)

// format2 makes a journal as a program of format 2 has left it after a kill: with
// records and, unless it is nil, a bundle.
func format2(t *testing.T, records map[string]string, bundle []byte) (dir string) {
	t.Helper()
	dir = t.TempDir()
	mustClose(t, mustOpen(t, dir, quiet))
	d, err := openDB(dir+"/"+dbName, "rw")
	if err != nil {
		t.Fatal(err)
	}
	put, err := d.prepare("INSERT OR REPLACE INTO kv (key, seq, value) VALUES (?, ?, ?)")
	if err != nil {
		t.Fatal(err)
	}
	seq := int64(0)
	for k, v := range records {
		seq++
		if err := put.run([]byte(k), seq, []byte(v)); err != nil {
			t.Fatal(err)
		}
	}
	if bundle != nil {
		seq++
		if err := put.run([]byte(bundleKey), seq, bundle); err != nil {
			t.Fatal(err)
		}
	}
	// The number of the last commit is in its record only.
	if err := d.run("UPDATE meta SET seq = 1, boot = 'this boot', primed = 3", "PRAGMA user_version=2"); err != nil {
		t.Fatal(err)
	}
	put.s.Close()
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
	a, err := openAck(dir + "/" + ackName)
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	if err := a.setAcked(uint64(seq)); err != nil {
		t.Fatal(err)
	}
	if err := a.setFolded(uint64(seq)); err != nil {
		t.Fatal(err)
	}
	if err := a.f.Truncate(ackSize2); err != nil {
		t.Fatal(err)
	}
	return dir
}

func (b *Batch) bundle() []byte {
	p := b.appendTo(make([]byte, 4))
	binary.LittleEndian.PutUint32(p, crc32.ChecksumIEEE(p[4:]))
	return p
}

// A journal of format 2 is read as it is, bundle and all, and is of this format, which
// an older program refuses, with the first commit.
func TestFormat2(t *testing.T) {
	var b Batch
	want := map[string]string{"a": "before", "z": "after", "n/000/x": "between"}
	with := map[string]string{"a": "bundled", "z": "after"}
	b.Put("a", []byte("bundled"))
	b.Delete("n/000/x")
	for i := range 200 {
		k, v := fmt.Sprintf("n/%03d", i), fmt.Sprint(i)
		b.Put(k, []byte(v))
		with[k] = v
	}
	for _, bundle := range [][]byte{nil, b.bundle()} {
		dir := format2(t, want, bundle)
		now := want
		if bundle != nil {
			now = with
		}
		version := func(j *Journal) int64 {
			v, err := j.db.number("PRAGMA user_version")
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		for range 2 {
			if n, err := Count(dir, ""); n != int64(len(now)) || err != nil {
				t.Errorf("Count = %d, %v; want %d", n, err, len(now))
			}
			j := mustOpen(t, dir, quiet)
			wantSilence(t, j)
			wantContents(t, j, now)
			if v := version(j); v != 2 {
				t.Errorf("format %d without a commit", v)
			}
			mustClose(t, j)
		}
		j := mustOpen(t, dir, quiet)
		put(t, j, "k", "w")
		if v := version(j); v != format {
			t.Errorf("format %d after a commit", v)
		}
		after := t.TempDir() // a kill
		copyFiles(t, dir, after)
		now["k"] = "w"
		for _, j := range []*Journal{j, mustOpen(t, after, quiet)} {
			wantSilence(t, j)
			wantContents(t, j, now)
			mustClose(t, j)
			j = mustOpen(t, j.dir, quiet)
			wantSilence(t, j)
			wantContents(t, j, now)
			mustClose(t, j)
		}
		delete(now, "k")
	}
}

// A garbled bundle is told, and the rest is there.
func TestGarbledBundle(t *testing.T) {
	var b Batch
	for i := range 200 {
		b.Put(fmt.Sprint(i), []byte("v"))
	}
	bundle := b.bundle()
	bundle[rand.IntN(len(bundle))] ^= 1
	j := mustOpen(t, format2(t, map[string]string{"k": "v"}, bundle), quiet)
	defer mustClose(t, j)
	if j.Damage() == "" {
		t.Error("nothing is said of it")
	}
	wantContents(t, j, map[string]string{"k": "v"})
}

// A batch that is garbled, or ends too early, is none.
func TestParseBatch(t *testing.T) {
	var b Batch
	for i := range 50 {
		b.Put(fmt.Sprint(i), make([]byte, i))
		b.Delete(fmt.Sprint(i, "x"))
		b.DeletePrefix(fmt.Sprint(i, "y"))
	}
	p := b.appendTo(nil)
	if got, err := parseBatch(p); err != nil || got.Len() != b.Len() || string(got.buf) != string(b.buf) {
		t.Fatalf("parsed: %v", err)
	}
	for i := range p {
		if _, err := parseBatch(p[:i]); err == nil {
			t.Errorf("a batch ends after %d bytes and nobody sees it", i)
		}
	}
	for range 2000 { // no sum here, but no panic either
		q := append([]byte{}, p...)
		q[rand.IntN(len(q))] = byte(rand.Uint32())
		_, _ = parseBatch(q)
	}
}
