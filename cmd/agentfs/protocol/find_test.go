package protocol_test

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/cmd/agentfs/protocol"
)

// globbed returns the paths that Glob finds, and whether there are more.
func globbed(t *testing.T, s backends.Store, glob string, o protocol.GlobOptions) (paths []string, more bool) {
	t.Helper()
	res, err := tree(s).Glob(t.Context(), glob, "/", o, func(it protocol.Item) error {
		paths = append(paths, it.Path)
		return nil
	})
	if err != nil || res.Matches != int64(len(paths)) {
		t.Errorf("glob %s: %+v, %v", glob, res, err)
	}
	return paths, res.Truncated
}

// Names that begin with a dot are matched by a part that does, or as asked.
func TestGlobHidden(t *testing.T) {
	s := newStore(t, map[string]string{".env": "", "a/.env": "", ".git/config": "", "a/x": "", ".git/.y": ""})
	for _, c := range []struct {
		glob   string
		hidden bool
		want   string
	}{
		{"*", false, "/a/ /a/x"},
		{"**", false, "/a/ /a/x"},
		{".env", false, "/.env /a/.env"},
		{".*", false, "/.env /.git/ /.git/.y /a/.env"},
		{"**/.env", false, "/.env /a/.env"},
		{".git/*", false, "/.git/config"},
		{"{.git,a}/*", false, "/.git/config /a/x"},
		{"*/*", false, "/a/x"},
		{"*/*", true, "/.git/.y /.git/config /a/.env /a/x"},
		{"config", true, "/.git/config"},
		{"config", false, ""},
	} {
		if got, _ := globbed(t, s, c.glob, protocol.GlobOptions{Hidden: c.hidden}); strings.Join(got, " ") != c.want {
			t.Errorf("%s, hidden %v: %q, want %q", c.glob, c.hidden, got, c.want)
		}
	}
}

// By time it is the last changed first, and a limit says that there is more.
func TestGlobOrderAndLimit(t *testing.T) {
	s := newStore(t, nil)
	var want []string
	for i := range 20 {
		name := fmt.Sprintf("d/f%02d", (i*7)%20)
		put(t, s, name, "x")
		at := backends.AttrChange{Set: backends.SetMtime, Mtime: time.Unix(int64(1000+i), 0)}
		if err := backends.SetAttr(t.Context(), s, name, at); err != nil {
			t.Fatal(err)
		}
		want = append(want, "/"+name)
	}
	slices.Reverse(want)
	if got, more := globbed(t, s, "f*", protocol.GlobOptions{Sort: protocol.ByTime}); more || !slices.Equal(got, want) {
		t.Errorf("by time: %q", got)
	}
	if got, more := globbed(t, s, "f*", protocol.GlobOptions{Sort: protocol.ByTime, Limit: 3}); !more || !slices.Equal(got, want[:3]) {
		t.Errorf("the last three: %q, more %v", got, more)
	}
	slices.Sort(want)
	for _, glob := range []string{"f*", "d/f*", "**/f*"} {
		for limit, hasMore := range map[int64]bool{3: true, 19: true, 20: false, 21: false} {
			n := min(int(limit), 20)
			if got, more := globbed(t, s, glob, protocol.GlobOptions{Limit: limit}); more != hasMore || !slices.Equal(got, want[:n]) {
				t.Errorf("%s, at most %d: %q, more %v", glob, limit, got, more)
			}
		}
	}
	if _, err := tree(s).Glob(t.Context(), "*", "/", protocol.GlobOptions{Sort: "size"}, nil); protocol.KindOf(err) != protocol.KindInvalid {
		t.Errorf("another order: %v", err)
	}
}

// counting counts the entries that listings were made to yield.
type counting struct {
	backends.Store
	entries int
	dirs    []string
}

func (c *counting) count(dir string, in iter.Seq2[backends.Entry, error]) iter.Seq2[backends.Entry, error] {
	c.dirs = append(c.dirs, dir)
	return func(yield func(backends.Entry, error) bool) {
		for e, err := range in {
			c.entries++
			if !yield(e, err) {
				return
			}
		}
	}
}

func (c *counting) List(ctx context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	return c.count(dir, c.Store.List(ctx, dir, after))
}

func (c *counting) Walk(ctx context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	return c.count(dir, backends.Walk(ctx, c.Store, dir, after))
}

// What is fixed in a pattern goes down to the store: a listing begins there and
// ends where nothing can match any more.
func TestGlobAsksForNoMore(t *testing.T) {
	files := map[string]string{"other/x": "", "logs/app": "", "logs/2026-01-01/a.log": ""}
	for i := range 300 {
		files[fmt.Sprintf("logs/%04d-12-31/a.log", 1700+i)] = ""
		files[fmt.Sprintf("logs/%04d-12-31/a.log", 2100+i)] = ""
	}
	for _, c := range []struct {
		glob string
		most int // entries that may be looked at
		dirs string
	}{
		{"logs/2026-*/*.log", 4, "logs logs/2026-01-01"},
		{"logs/2026-*/**", 4, "logs"},
		{"/logs/2026-01-01/a.log", 2, "logs/2026-01-01"},
		{"logs/{2026-01-01,2026-02}/*.log", 4, "logs/2026-01-01 logs/2026-02"},
		{"logs/2026-*/{a,b}.log", 4, "logs logs/2026-01-01"},
		{"none/*/x", 1, "none"},
	} {
		s := &counting{Store: newStore(t, files)}
		got, _ := globbed(t, s, c.glob, protocol.GlobOptions{})
		want := []string{"/logs/2026-01-01/a.log"}
		if strings.HasPrefix(c.glob, "none") {
			want = nil
		}
		if c.glob == "logs/2026-*/**" {
			want = append([]string{"/logs/2026-01-01/"}, want...)
		}
		if !slices.Equal(got, want) || s.entries > c.most || strings.Join(s.dirs, " ") != c.dirs {
			t.Errorf("%s: %q; %d entries looked at (at most %d), listed %q (want %s)", c.glob, got, s.entries, c.most, s.dirs, c.dirs)
		}
	}
}
