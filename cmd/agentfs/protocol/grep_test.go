package protocol_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/cmd/agentfs/protocol"
)

// grep returns the lines that Grep finds as PATH:LINE:TEXT, context with "-".
func grep(t *testing.T, s backends.Store, pattern, path string, o protocol.GrepOptions) (lines []string, err error) {
	t.Helper()
	_, err = tree(s).Grep(t.Context(), pattern, path, o, func(m protocol.Match) error {
		sep := ":"
		if m.Context {
			sep = "-"
		}
		lines = append(lines, fmt.Sprintf("%s%s%d%s%s", m.Path, sep, m.Line, sep, m.Text))
		return nil
	})
	return lines, err
}

func TestGrep(t *testing.T) {
	s := newStore(t, map[string]string{
		"a.txt":   "one\nTwo\nthree\nfour\r\nfive\nsix\nno newline: one",
		"b/c.go":  "func one() {}\n",
		"b/d.bin": "one\x00one\n",
		"b/e.txt": "1+1\n",
		"empty":   "",
	})
	for _, c := range []struct {
		name, pattern, path string
		o                   protocol.GrepOptions
		want                []string
	}{
		{"all", "one", "/", protocol.GrepOptions{}, []string{"/a.txt:1:one", "/a.txt:7:no newline: one", "/b/c.go:1:func one() {}"}},
		{"below", "one", "/b", protocol.GrepOptions{}, []string{"/b/c.go:1:func one() {}"}},
		{"one file", "^t", "a.txt", protocol.GrepOptions{}, []string{"/a.txt:3:three"}},
		{"case", "^t", "a.txt", protocol.GrepOptions{IgnoreCase: true}, []string{"/a.txt:2:Two", "/a.txt:3:three"}},
		{"fixed", "1+1", "/", protocol.GrepOptions{Fixed: true}, []string{"/b/e.txt:1:1+1"}},
		{"dos", "four$", "/", protocol.GrepOptions{}, []string{"/a.txt:4:four"}},
		{"glob", "one", "/", protocol.GrepOptions{Glob: "*.go"}, []string{"/b/c.go:1:func one() {}"}},
		{"glob path", "one", "/", protocol.GrepOptions{Glob: "b/*.go"}, []string{"/b/c.go:1:func one() {}"}},
		{"context", "three", "a.txt", protocol.GrepOptions{Before: 1, After: 2}, []string{"/a.txt-2-Two", "/a.txt:3:three", "/a.txt-4-four", "/a.txt-5-five"}},
		{"context overlaps", "o", "a.txt", protocol.GrepOptions{Before: 2, After: 1}, []string{
			"/a.txt:1:one", "/a.txt:2:Two", "/a.txt-3-three", "/a.txt:4:four", "/a.txt-5-five", "/a.txt-6-six", "/a.txt:7:no newline: one"}},
		{"glob from the root", "one", "/b", protocol.GrepOptions{Glob: "/**/*.go"}, []string{"/b/c.go:1:func one() {}"}},
		{"glob elsewhere", "one", "/b", protocol.GrepOptions{Glob: "/*.txt"}, nil},
		{"files", "o", "/", protocol.GrepOptions{Output: protocol.Files, After: 2}, []string{"/a.txt:0:", "/b/c.go:0:"}},
		{"limit", "o", "/", protocol.GrepOptions{Limit: 2, After: 1}, []string{"/a.txt:1:one", "/a.txt:2:Two", "/a.txt-3-three"}},
		{"limit of files", "o", "/", protocol.GrepOptions{Output: protocol.Files, Limit: 1}, []string{"/a.txt:0:"}},
		{"none", "absent", "/", protocol.GrepOptions{}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := grep(t, s, c.pattern, c.path, c.o)
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("got %q, %v\nwant %q", got, err, c.want)
			}
		})
	}
	var bad *protocol.PatternError
	if _, err := grep(t, s, "(", "/", protocol.GrepOptions{}); !errors.As(err, &bad) || !errors.Is(err, fs.ErrInvalid) || !strings.HasPrefix(err.Error(), "error parsing regexp") {
		t.Errorf("bad pattern: %v", err)
	}
	if _, err := grep(t, s, "x", "/none", protocol.GrepOptions{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

// Lines longer than the buffer are found wherever the match lies, also across
// the border of two windows.
func TestGrepLongLines(t *testing.T) {
	const mib = 1 << 20
	for _, at := range []int{0, 100, mib - 3, mib, 2*mib - 3, 3*mib - 6} {
		line := strings.Repeat("x", at) + "NEEDLE" + strings.Repeat("y", 3*mib-at)
		s := newStore(t, map[string]string{"f": "short\n" + line + "\nNEEDLE\n"})
		got, err := grep(t, s, "NEEDLE", "/", protocol.GrepOptions{})
		if err != nil || len(got) != 2 || !strings.Contains(got[0], "NEEDLE") || len(got[0]) > 1000 || got[1] != "/f:3:NEEDLE" {
			t.Errorf("at %d: %d lines, %v", at, len(got), err)
		}
	}
}

// With many files and many matches the order is that of the walk, and leaving
// early ends everything.
func TestGrepOrder(t *testing.T) {
	files := map[string]string{}
	var want []string
	for i := range 60 {
		name := fmt.Sprintf("d%d/f%02d", i/20, i)
		files[name] = strings.Repeat("match\n", 200)
		for l := range 200 {
			want = append(want, fmt.Sprintf("/%s:%d:match", name, l+1))
		}
	}
	s := newStore(t, files)
	few := &protocol.Tree{Store: s, Parallel: 4}
	var got []string
	res, err := few.Grep(t.Context(), "match", "/", protocol.GrepOptions{}, func(m protocol.Match) error {
		got = append(got, fmt.Sprintf("%s:%d:%s", m.Path, m.Line, m.Text))
		return nil
	})
	if err != nil || !slices.Equal(got, want) || res.Files != 60 || res.Matches != 12000 || res.Searched != 60 {
		t.Errorf("%d lines in another order than the %d expected, %+v, %v", len(got), len(want), res, err)
	}
	enough := errors.New("enough")
	n := 0
	_, err = few.Grep(t.Context(), "match", "/", protocol.GrepOptions{}, func(protocol.Match) error {
		if n++; n == 300 {
			return enough
		}
		return nil
	})
	if n != 300 || err != enough {
		t.Errorf("%d lines, %v; want 300", n, err)
	}
	counts := map[string]int64{}
	res, err = few.Grep(t.Context(), "match", "/d1", protocol.GrepOptions{Output: protocol.Counts}, func(m protocol.Match) error {
		counts[m.Path] = m.Count
		return nil
	})
	if err != nil || len(counts) != 20 || counts["/d1/f20"] != 200 || res.Matches != 4000 {
		t.Errorf("counts %v, %+v, %v", counts, res, err)
	}
}

// unreadable fails to open one file.
type unreadable struct {
	backends.Store
	name string
}

func (u unreadable) Open(ctx context.Context, name string, r backends.Range, cond backends.If) (io.ReadCloser, backends.Entry, error) {
	if name == u.name {
		return nil, backends.Entry{}, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return u.Store.Open(ctx, name, r, cond)
}

// A file that can't be read does not end the search in the others.
func TestGrepGoesOn(t *testing.T) {
	s := unreadable{newStore(t, map[string]string{"a": "x\n", "b": "x\n", "c": "x\n"}), "b"}
	var found []string
	res, err := tree(s).Grep(t.Context(), "x", "/", protocol.GrepOptions{}, func(m protocol.Match) error {
		found = append(found, m.Path)
		return nil
	})
	if err != nil || !slices.Equal(found, []string{"/a", "/c"}) {
		t.Errorf("found %q, %v", found, err)
	}
	if res.FailedCount != 1 || res.Failed[0].Path != "/b" || res.Failed[0].Kind != protocol.KindPermission || !errors.Is(res.Err(), fs.ErrPermission) {
		t.Errorf("failures %+v", res.Failures)
	}
}

func TestGrepCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tree(newStore(t, map[string]string{"a": "x"})).Grep(ctx, "x", "/", protocol.GrepOptions{}, func(protocol.Match) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want Canceled", err)
	}
}

// What is returned has a bound, if one is given: of a long line comes the part
// around the match, in whole characters, and what has no room any more is told.
func TestGrepBounds(t *testing.T) {
	wide := strings.Repeat("é", 1000) + "needle" + strings.Repeat("é", 1000) + "\n"
	s := newStore(t, map[string]string{"f": wide + "short needle\n" + wide + wide, "g": "needle\n"})
	grep := func(o protocol.GrepOptions) (found []protocol.Match, res protocol.GrepResult) {
		t.Helper()
		res, err := tree(s).Grep(t.Context(), "needle|$^", "/", o, func(m protocol.Match) error {
			found = append(found, m)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return found, res
	}
	found, res := grep(protocol.GrepOptions{MaxText: 101})
	if len(found) != 5 || res.Truncated {
		t.Fatalf("%+v, %+v", found, res)
	}
	for i, m := range found {
		long := i != 1 && i != 4
		if m.Cut != long || len(m.Text) > 101 || long && len(m.Text) < 95 || !strings.Contains(m.Text, "needle") || !utf8.ValidString(m.Text) {
			t.Errorf("line %d of %s is %q, cut %v", m.Line, m.Path, m.Text, m.Cut)
		}
	}
	if found, res = grep(protocol.GrepOptions{MaxBytes: 100}); len(found) != 0 || !res.Truncated {
		t.Errorf("without room: %+v, %+v", found, res)
	}
	if found, res = grep(protocol.GrepOptions{MaxText: 20, MaxBytes: 50}); len(found) != 2 || !res.Truncated {
		t.Errorf("with room for two: %+v, %+v", found, res)
	}
	if found, _ = grep(protocol.GrepOptions{}); len(found[0].Text) != len(wide)-1 || found[0].Cut {
		t.Errorf("without bounds a line has %d bytes", len(found[0].Text))
	}
}
