package policy

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/bmatcuk/doublestar/v4"
	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// A path is "" for the root and "/a/b" for everything else, so that a slash
// stands before every segment, in paths as in patterns. ("*" alone would match
// an empty name.)

// space is one way to compare names.
type space int

const (
	exact  space = iota // byte for byte
	folded              // without case and Unicode form
	spaces
)

// fold returns s without what caseless matching ignores: Unicode's canonical
// caseless matching, in composed form so that one letter stays one.
func fold(s string) string {
	ascii := true
	upper := false
	for i := range len(s) {
		ascii = ascii && s[i] < utf8.RuneSelf
		upper = upper || 'A' <= s[i] && s[i] <= 'Z'
	}
	switch {
	case ascii && !upper:
		return s
	case ascii:
		return strings.ToLower(s)
	}
	return norm.NFC.String(cases.Fold().String(norm.NFD.String(strings.ToValidUTF8(s, "\uFFFD"))))
}

// parsePattern returns a pattern as it is matched with paths, or what is wrong
// with it. One that begins with a slash counts from the root, one without any
// slash is compared with the last segment at any depth, and others begin with
// "**/".
func parsePattern(s string) (string, error) {
	switch {
	case s == "":
		return "", errors.New("the pattern is empty; / is the root, ** is everything")
	case !utf8.ValidString(s):
		return "", fmt.Errorf("%q is not UTF-8", s)
	case strings.IndexByte(s, 0) >= 0:
		return "", fmt.Errorf("%q has a NUL byte, which no name has", s)
	case !doublestar.ValidatePattern(s):
		return "", fmt.Errorf("%q is not a pattern (it knows * ? [a-z] {a,b} and ** for any number of directories; a backslash takes a character as it is)", s)
	case s == "/":
		return "", nil
	case s == "**":
		return "/**", nil
	case strings.HasSuffix(s, "/"):
		return "", fmt.Errorf("%q ends in a slash; write %q, which holds for what is below as well", s, strings.TrimRight(s, "/"))
	case !strings.Contains(s, "/"):
		s = "/**/" + s
	case strings.HasPrefix(s, "**/"):
		s = "/" + s
	case s[0] != '/':
		return "", fmt.Errorf("%q: a pattern with a slash begins with one, as %q does, or with **/", s, "/"+s)
	}
	for seg := range strings.SplitSeq(s[1:], "/") {
		if seg == "" || seg == "." || seg == ".." {
			return "", fmt.Errorf("%q: no path has a segment %q", s, seg)
		}
	}
	return s, nil
}

func match(pattern, path string) bool { return doublestar.MatchUnvalidated(pattern, path) }

// special are the characters that mean something in a pattern, besides * and ?.
const special = `{[\`

// mayMatchBelow reports whether pattern could match a path below dir. It may
// say so of one that can't; it is never wrong when it says no.
func mayMatchBelow(pattern, dir string) bool {
	for dir != "" {
		if pattern == "" {
			return false
		}
		var pseg, dseg string
		pseg, pattern = cutSegment(pattern)
		if pseg == "**" || strings.ContainsAny(pseg, special) {
			return true
		}
		dseg, dir = cutSegment(dir)
		if !match(pseg, dseg) {
			return false
		}
	}
	return pattern != ""
}

// cutSegment splits the first segment off a path or a pattern.
func cutSegment(s string) (seg, rest string) {
	s = s[1:]
	if i := strings.IndexByte(s, '/'); i >= 0 {
		return s[:i], s[i:]
	}
	return s, ""
}

// matchesAllBelow reports whether pattern surely matches every path below dir.
// It may say no of one that does.
func matchesAllBelow(pattern, dir string) bool {
	return strings.HasSuffix(pattern, "/**") && !strings.ContainsAny(pattern, special) && match(pattern, dir)
}
