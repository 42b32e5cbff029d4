package protocol

import (
	"bufio"
	"bytes"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/bmatcuk/doublestar/v4"
)

// A pattern means what doublestar says, whatever is made of it, and what is fixed
// in it really is.
func FuzzPattern(f *testing.F) {
	for _, p := range []string{"*.go", "src/**/*.go", "{a,b/{c,d}}/*", `a\{b,c}`, "[a-c]/x", "{,a}*", "./x/", "**", "{[}],b}", "a/{b,}/c"} {
		f.Add(p, "src/a.go")
	}
	f.Fuzz(func(t *testing.T, glob, name string) {
		if len(glob) > 200 || len(name) > 200 || path.Clean("/"+name) != "/"+name || name == "" {
			return
		}
		pat, err := parsePattern(glob)
		if err != nil {
			if doublestar.ValidatePattern(glob) && glob != "" && !strings.Contains(glob, "\x00") && !strings.Contains(glob, "{") {
				t.Errorf("%q is refused: %v", glob, err)
			}
			return
		}
		full := strings.TrimPrefix(strings.TrimSuffix(glob, "/"), "./")
		subject := name
		if pat.base {
			subject = path.Base(name)
		}
		got := pat.match(name, true)
		if !strings.ContainsAny(full, `[\`) { // in classes and escapes braces are read in more than one way
			if want, err := doublestar.Match(full, subject); err == nil && got != want {
				t.Errorf("%q matches %q: %v, doublestar says %v (as %q)", glob, name, got, want, pat.alts)
			}
		}
		if pat.match(name, false) && !got {
			t.Errorf("%q matches %q only without hidden names", glob, name)
		}
		for _, a := range pat.alts {
			if !pat.base && matches(a.glob, name) && !strings.HasPrefix(name+"/", a.fixed) {
				t.Errorf("%q matches %q, which does not begin with %q", a.glob, name, a.fixed)
			}
		}
		if d := pat.depth(); got && d > 0 && strings.Count(name, "/")+1 > d {
			t.Errorf("%q matches %q, deeper than %d", glob, name, d)
		}
	})
}

// A search finds in a text the lines that the regular expression matches, as one
// that holds all of it does.
func FuzzGrep(f *testing.F) {
	f.Add("a.c", "abc\nxyz\r\nadc", uint8(1), uint8(0))
	f.Add("^$", "\n\n\nx", uint8(0), uint8(2))
	f.Add("(?i)É", "é\nÉ\n\xff", uint8(3), uint8(3))
	f.Fuzz(func(t *testing.T, expr, text string, before, after uint8) {
		re, err := regexp.Compile(expr)
		if err != nil || strings.Contains(text, "\x00") || len(text) > 4000 {
			return
		}
		g := &grep{re: re, GrepOptions: GrepOptions{Output: Content, Before: int(before % 8), After: int(after % 8)}}
		var got []Match
		if err := scan(strings.NewReader(text), g, func(m Match) bool { got = append(got, m); return true }); err != nil {
			t.Fatal(err)
		}
		lines := strings.SplitAfter(text, "\n")
		if lines[len(lines)-1] == "" {
			lines = lines[:len(lines)-1]
		}
		hit := func(i int) bool { return i >= 0 && i < len(lines) && re.Match(trimEOL([]byte(lines[i]))) }
		var want []Match
		for i, l := range lines {
			m := Match{Line: int64(i + 1), Text: string(trimEOL([]byte(l))), Context: !hit(i)}
			near := !m.Context
			for d := 1; d <= g.Before && !near; d++ {
				near = hit(i + d)
			}
			for d := 1; d <= g.After && !near; d++ {
				near = hit(i - d)
			}
			if near {
				want = append(want, m)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q in %q, %d before, %d after:\n%+v\nwant\n%+v", expr, text, g.Before, g.After, got, want)
		}
	})
}

// An edit replaces what strings.ReplaceAll does, and knows the lines.
func FuzzReplace(f *testing.F) {
	f.Add("aXbX\nX", "X", "yy")
	f.Add("aaaa", "aa", "")
	f.Fuzz(func(t *testing.T, text, old, new string) {
		if old == "" {
			return
		}
		tmp, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		defer tmp.Close()
		done, err := replace(strings.NewReader(text), tmp, []byte(old), []byte(new))
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, done.size)
		if _, err := tmp.ReadAt(got, 0); err != nil && done.size > 0 {
			t.Fatal(err)
		}
		if want := strings.ReplaceAll(text, old, new); string(got) != want || done.count != int64(strings.Count(text, old)) {
			t.Errorf("%q with %q for %q: %q, %d times; want %q", text, new, old, got, done.count, want)
		}
		rest, line := text, int64(1)
		for _, l := range done.lines {
			i := strings.Index(rest, old)
			if line += int64(strings.Count(rest[:i], "\n")); l != line {
				t.Errorf("%q in %q is said to be in line %d, not %d", old, text, l, line)
			}
			line += int64(strings.Count(old, "\n"))
			rest = rest[i+len(old):]
		}
	})
}

// Lines that are read piece by piece are the whole.
func FuzzLines(f *testing.F) {
	f.Add("a\nb\r\n\nc", uint8(1), uint8(0))
	f.Add(strings.Repeat("x", 40)+"\ny\n", uint8(0), uint8(7))
	f.Fuzz(func(t *testing.T, text string, limit, room uint8) {
		if len(text) > 1000 { // each piece is read from the beginning
			return
		}
		if limit == 0 && room == 0 {
			limit = 1
		}
		total := int64(strings.Count(text, "\n"))
		if text != "" && !strings.HasSuffix(text, "\n") {
			total++
		}
		var all bytes.Buffer
		cut := false
		for next := int64(0); ; {
			var out bytes.Buffer
			r := &lineReader{br: bufio.NewReaderSize(strings.NewReader(text), 16), w: &out,
				ReadOptions: ReadOptions{Offset: next, Limit: int64(limit), MaxBytes: int64(room), CountBytes: -1}}
			if err := r.lines(); err != nil {
				t.Fatal(err)
			}
			if room > 0 && out.Len() > int(room) {
				t.Fatalf("%d bytes, and there was room for %d", out.Len(), room)
			}
			if r.res.Total == nil || *r.res.Total != total {
				t.Fatalf("%q has %d lines, not %v", text, total, r.res.Total)
			}
			all.Write(out.Bytes())
			cut = cut || r.res.Cut
			if !r.res.More {
				break
			}
			if r.res.Next <= next {
				t.Fatalf("it goes on at %d after %d", r.res.Next, next)
			}
			next = r.res.Next
		}
		if !cut && all.String() != text {
			t.Errorf("%q, limit %d, room %d: piece by piece it is %q", text, limit, room, all.String())
		}
	})
}
