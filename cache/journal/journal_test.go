package journal

import (
	"fmt"
	"testing"
)

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	j, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	var b Batch
	b.Put("a/1", []byte("one"))
	b.Put("a/2", nil)
	b.Put("b/1", []byte("x"))
	if err := j.Commit(&b); err != nil {
		t.Fatal(err)
	}
	b.Reset()
	b.DeletePrefix("b")
	b.Delete("nothing")
	if err := j.Commit(&b); err != nil {
		t.Fatal(err)
	}
	n, err := Count(dir, "a/")
	t.Log(n, err, j.Size())
	if err := j.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j, err = Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	if err := j.All(func(k string, v []byte) error { got += fmt.Sprintf("%s=%s;", k, v); return nil }); err != nil {
		t.Fatal(err)
	}
	if got != "a/1=one;a/2=;" {
		t.Error(got)
	}
	if j.Damage() != "" || j.Rebooted() {
		t.Error(j.Damage(), j.Rebooted())
	}
	j.Close()
}
