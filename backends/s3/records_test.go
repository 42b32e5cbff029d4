package s3_test

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/s3"
	"github.com/agentfs/agentfs/backends/s3/s3test"
)

// Records are files for a caller of the lean form, and for nobody else; other
// reserved names are for nobody.
func TestRecords(t *testing.T) {
	srv := s3test.Fake(t)
	ctx := t.Context()
	normal := srv.Store(t, func(c *s3.Config) { c.Prefix = "p" })
	lean := normal.Lean()
	record, below := backends.RecordPrefix+"-1", "d/"+backends.RecordPrefix+"-2"
	for _, name := range []string{record, below} {
		e := put(t, lean, name, "record", backends.If{Absent: true})
		got, err := lean.Stat(ctx, name)
		got.Operation = "" // only Stat tells
		if err != nil || got != e {
			t.Errorf("Stat(%q) = %+v, %v, want %+v", name, got, err, e)
		}
		if b, _, err := read(ctx, lean, name, backends.Range{}, backends.If{}); err != nil || string(b) != "record" {
			t.Errorf("Open(%q): %q, %v", name, b, err)
		}
		_, err = normal.Stat(ctx, name)
		wantIs(t, "Stat in the normal form", err, fs.ErrNotExist)
		_, err = normal.Put(ctx, name, section("x"), backends.PutOptions{})
		wantIs(t, "Put in the normal form", err, backends.ErrReserved)
		wantIs(t, "CheckName", lean.(backends.NameChecker).CheckName(name), backends.ErrReserved)
	}
	srv.Put(t, "p/.agentfs-other", "x")
	srv.Put(t, "p/.agentfs/"+record, "x")
	srv.Put(t, "p/"+record+"x/below", "x")
	want(t, "lean List", keys(t, lean.List(ctx, ".", "")), []string{record, "d/"})
	want(t, "lean List of d", keys(t, lean.List(ctx, "d", "")), []string{backends.RecordPrefix + "-2"})
	var walked []string
	for e, err := range backends.Walk(ctx, lean, ".", "") {
		if err != nil {
			t.Fatal(err)
		}
		walked = append(walked, e.Name)
	}
	want(t, "lean Walk", walked, []string{record, below})
	want(t, "normal List", keys(t, normal.List(ctx, ".", "")), []string{"d/"})
	for _, name := range []string{".agentfs-other", ".agentfs/" + record, record + "x/below"} {
		_, err := lean.Put(ctx, name, section(""), backends.PutOptions{})
		wantIs(t, "Put of "+name, err, backends.ErrReserved)
	}
	wantIs(t, "Mkdir", lean.Mkdir(ctx, record, backends.AttrChange{}), backends.ErrReserved)
	wantIs(t, "Remove in the normal form", normal.Remove(ctx, record, backends.If{}), fs.ErrNotExist)
	wantIs(t, "Remove", lean.Remove(ctx, record, backends.If{}), nil)
	wantIs(t, "RemoveMany", backends.RemoveMany(ctx, lean, []backends.Removal{{Name: below}})[0], nil)
	want(t, "keys", srv.Keys(t), []string{"p/" + record + "x/below", "p/.agentfs-other", "p/.agentfs/" + record})
}

// Whoever expects few entries, such as the records of a large directory, gets a small page;
// if he takes all after all, he gets them by large ones.
func TestFewOfALargeDirectory(t *testing.T) {
	const files, records = 300, 10
	srv := s3test.Fake(t)
	p := s3test.NewProxy(t, srv)
	lean := srv.Through(p).Store(t).Lean()
	var all []string
	for i := range records {
		all = append(all, fmt.Sprintf("%s-%02d", backends.RecordPrefix, i))
	}
	for i := range files {
		all = append(all, fmt.Sprintf("f%03d", i))
	}
	for _, name := range all {
		srv.Put(t, "d/"+name, "x")
	}
	var mu sync.Mutex
	var pages []string
	p.Inject(func(r s3test.Request) s3test.Fault {
		mu.Lock()
		defer mu.Unlock()
		pages = append(pages, r.Query.Get("max-keys"))
		return s3test.Fault{}
	})
	n := 0
	few := backends.ExpectEntries(t.Context(), 50)
	for e, err := range lean.List(few, "d", backends.RecordPrefix) {
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(e.Base(), backends.RecordPrefix) {
			break
		}
		n++
	}
	if n != records || !slices.Equal(pages, []string{"50"}) {
		t.Errorf("%d records in pages of %q", n, pages)
	}
	pages = nil
	want(t, "all from the records on", keys(t, lean.List(few, "d", backends.RecordPrefix)), all)
	if !slices.Equal(pages, []string{"50", "1000"}) {
		t.Errorf("all in pages of %q", pages)
	}
}
