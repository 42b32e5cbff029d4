package s3_test

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/s3"
	"github.com/agentfs/agentfs/backends/s3/s3test"
)

// Keys that no path can express are left out and touched by nothing; the rest
// of their directory is listed.
func TestStrangeKeys(t *testing.T) {
	srv := s3test.Fake(t)
	log, logged := logTo()
	s := srv.Store(t, func(c *s3.Config) { c.Prefix = "p"; c.Log = log })
	long := strings.Repeat("n", 256)
	for _, k := range []string{
		"p/ok", "p//double", "p/a//b", "p/a/./b", "p/../up", "p/..", "p/" + long, "p/a/" + long + "/x", "p/.agentfs-x", "p/a/.agentfs/y",
		"p/a/file", "other", "p", "p0",
	} {
		srv.Put(t, k, "content of "+k)
	}
	before := srv.Keys(t)
	want(t, "root", keys(t, s.List(t.Context(), ".", "")), []string{"a/", "ok"})
	want(t, "a", keys(t, s.List(t.Context(), "a", "")), []string{"file"})
	var walked []string
	for e, err := range s.Walk(t.Context(), ".", "") {
		if err != nil {
			t.Fatal(err)
		}
		walked = append(walked, e.Name)
	}
	want(t, "walk", walked, []string{"a/file", "ok"})
	if !strings.Contains(logged(), "can't be shown") || !strings.Contains(logged(), "p/..") {
		t.Errorf("the log doesn't name the key: %s", logged())
	}
	for _, name := range []string{".agentfs-x", "a/.agentfs/y"} {
		_, err := s.Stat(t.Context(), name)
		wantIs(t, "Stat of a reserved name", err, fs.ErrNotExist)
		_, err = s.Put(t.Context(), name, section(""), backends.PutOptions{})
		wantIs(t, "Put of a reserved name", err, backends.ErrReserved)
		wantIs(t, "Mkdir of a reserved name", s.Mkdir(t.Context(), name, backends.AttrChange{}), backends.ErrReserved)
	}
	// What can't be seen is still there: the directory isn't empty.
	if err := s.Remove(t.Context(), "a/file", backends.If{}); err != nil {
		t.Fatal(err)
	}
	wantIs(t, "Remove", s.Remove(t.Context(), "a", backends.If{}), backends.ErrNotEmpty)
	if after := srv.Keys(t); len(after) != len(before)-1 {
		t.Errorf("keys %q became %q", before, after)
	}
}

func TestKeyLimits(t *testing.T) {
	s := s3test.Fake(t).Store(t, func(c *s3.Config) { c.Prefix = "prefix" })
	seg := strings.Repeat("s", 100)
	deep := strings.TrimSuffix(strings.Repeat(seg+"/", 10), "/") // 1009 bytes
	fits := deep + strings.Repeat("x", 1024-len("prefix/")-len(deep))
	put(t, s, fits, "x", backends.If{})
	_, err := s.Put(t.Context(), fits+"y", section(""), backends.PutOptions{})
	wantIs(t, "a key of 1025 bytes", err, backends.ErrNameTooLong)
	wantIs(t, "a marker of 1025 bytes", s.Mkdir(t.Context(), fits[:len(fits)-1]+"y", backends.AttrChange{}), backends.ErrNameTooLong)
	_, err = s.Put(t.Context(), "a\xffb", section(""), backends.PutOptions{})
	wantIs(t, "not UTF-8", err, backends.ErrIllegalName)
	_, err = s.Stat(t.Context(), fits)
	wantIs(t, "the longest name", err, nil)
}

// A directory hides the file of its name, wherever the page ends between the
// two, and the marker of a directory is never its own child.
func TestHiddenByDirectory(t *testing.T) {
	srv := s3test.Fake(t)
	for _, k := range []string{"x", "x-1", "x.2", "x/in", "y", "y.1", "z/", "z/in", "m/"} {
		srv.Put(t, k, "content of "+k)
	}
	for page := 1; page <= 12; page++ {
		log, logged := logTo()
		s := srv.Store(t, small(page), func(c *s3.Config) { c.Log = log })
		what := fmt.Sprintf("pages of %d", page)
		want(t, what, keys(t, s.List(t.Context(), ".", "")), []string{"m/", "x-1", "x.2", "x/", "y", "y.1", "z/"})
		want(t, what, keys(t, s.List(t.Context(), "z", "")), []string{"in"})
		want(t, what, keys(t, s.List(t.Context(), "m", "")), nil)
		var walked []string
		for e, err := range s.Walk(t.Context(), ".", "") {
			if err != nil {
				t.Fatal(err)
			}
			walked = append(walked, e.Name)
		}
		want(t, "walk in "+what, walked, []string{"m", "x-1", "x.2", "x/in", "y", "y.1", "z", "z/in"})
		if !strings.Contains(logged(), "hides") {
			t.Errorf("%s: nothing logged", what)
		}
		for name, below := range map[string][]string{"x": {"x/in"}, "x-1": nil, "y": nil, "z": {"z/in"}, "m": nil} {
			e, p, err := s.StatWalk(t.Context(), name)
			if err != nil || e.Name != name || e.IsDir() != strings.Contains("xzm", name) {
				t.Errorf("%s: StatWalk(%q) = %+v, %v", what, name, e, err)
			}
			var walked []string
			for _, e := range p.Entries {
				walked = append(walked, e.Name)
			}
			want(t, fmt.Sprintf("StatWalk(%q) in %s", name, what), walked, below)
		}
		_, _, err := s.StatWalk(t.Context(), "x.")
		wantIs(t, "StatWalk of what others begin with", err, fs.ErrNotExist)
	}
	s := srv.Store(t)
	e, err := s.Stat(t.Context(), "x")
	if err != nil || !e.IsDir() {
		t.Fatalf("Stat(x) = %+v, %v", e, err)
	}
	_, _, err = s.Open(t.Context(), "x", backends.Range{}, backends.If{})
	wantIs(t, "Open(x)", err, backends.ErrIsDir)
	_, err = s.Put(t.Context(), "x", section("new"), backends.PutOptions{})
	wantIs(t, "Put(x)", err, backends.ErrIsDir)
	_, err = s.Put(t.Context(), "m", section("new"), backends.PutOptions{If: backends.If{Absent: true}})
	wantIs(t, "Put(m) if absent", err, fs.ErrExist)
	if c, ok := srv.Get(t, "x"); c != "content of x" || !ok {
		t.Errorf("the hidden object has become %q", c)
	}
	if _, ok := srv.Get(t, "m"); ok {
		t.Error("a refused Put left an object beside the directory")
	}
}

// Listings resume after any key, and no request is wasted on what lies below
// the directory that was the last.
func TestListAfter(t *testing.T) {
	onBoth(t, func(t *testing.T, srv s3test.Server) {
		var all []string
		for i := range 7 {
			srv.Put(t, fmt.Sprintf("d/f%d", i), "x")
			srv.Put(t, fmt.Sprintf("d/s%d/a", i), "x")
			srv.Put(t, fmt.Sprintf("d/s%d/b", i), "x")
		}
		for _, f := range []string{"f%d", "s%d/"} {
			for i := range 7 {
				all = append(all, fmt.Sprintf(f, i))
			}
		}
		for _, page := range []int{1, 2, 3, 1000} {
			s := srv.Store(t, small(page))
			want(t, "all", keys(t, s.List(t.Context(), "d", "")), all)
			for i, k := range all {
				want(t, "after "+k, keys(t, s.List(t.Context(), "d", k)), all[i+1:])
			}
			want(t, "after s3", keys(t, s.List(t.Context(), "d", "s3")), all[10:])
			want(t, "after s3/a", keys(t, s.List(t.Context(), "d", "s3/a")), all[11:])
		}
	})
}

// A consumer that stops early pays for one page only.
func TestListIsLazy(t *testing.T) {
	srv := s3test.Fake(t)
	for i := range 50 {
		srv.Put(t, fmt.Sprintf("f%02d", i), "x")
	}
	p := s3test.NewProxy(t, srv)
	s := srv.Through(p).Store(t, small(10))
	for range s.List(t.Context(), ".", "") {
		break
	}
	if n := p.Total(); n != 1 {
		t.Errorf("%d requests for the first entry", n)
	}
}
