package protocol

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// PatternError means that a pattern of Glob or Grep has a mistake. It is an
// [fs.ErrInvalid].
type PatternError struct {
	// Text says in one line what is wrong, and what the pattern may be.
	Text string
}

// Error implements error.
func (e *PatternError) Error() string { return e.Text }

// Unwrap returns fs.ErrInvalid.
func (e *PatternError) Unwrap() error { return fs.ErrInvalid }

// pattern is a glob in the language of doublestar: * ? [a-z] {a,b} and **,
// which stands for any number of directories.
type pattern struct {
	alts []alternative
	base bool // matches the last element only, at any depth
	dirs bool // matches directories only
}

// alternative is one of the patterns that a pattern with {a,b} stands for.
type alternative struct {
	glob  string
	segs  []string // glob, cut at its slashes
	fixed string   // what every match begins with, before the first special character
}

// maxAlternatives is how many patterns one with braces is made into; one that
// stands for more is matched as it is.
const maxAlternatives = 64

func parsePattern(p string) (pattern, error) {
	wrong := func() (pattern, error) {
		return pattern{}, &PatternError{fmt.Sprintf("%q is not a pattern (it knows * ? [a-z] {a,b} and ** for any number of directories)", p)}
	}
	if p == "" || strings.IndexByte(p, 0) >= 0 || !doublestar.ValidatePattern(p) {
		return wrong()
	}
	glob, dirs := strings.CutSuffix(p, "/")
	pat := pattern{base: !strings.Contains(p, "/"), dirs: dirs}
	for _, g := range alternatives(strings.TrimPrefix(glob, "./")) {
		if !doublestar.ValidatePattern(g) {
			return wrong()
		}
		pat.alts = append(pat.alts, newAlternative(g, pat.base))
	}
	return pat, nil
}

func newAlternative(glob string, base bool) alternative {
	a := alternative{glob: glob, segs: strings.Split(glob, "/")}
	if !base {
		a.fixed = fixedPart(glob)
	}
	return a
}

// fixedPart returns the text before a pattern's first special character,
// without its escapes.
func fixedPart(glob string) string {
	var b strings.Builder
	for i := 0; i < len(glob); i++ {
		switch glob[i] {
		case '*', '?', '[', '{':
			return b.String()
		case '\\':
			if i++; i == len(glob) {
				return b.String()
			}
		}
		b.WriteByte(glob[i])
	}
	return b.String()
}

// alternatives returns the patterns that one with braces stands for.
func alternatives(glob string) []string {
	all := expand(glob)
	if len(all) > maxAlternatives {
		return []string{glob}
	}
	return all
}

// expand replaces the first braces of glob by each of what they offer, and goes
// on with the rest. What has more than maxAlternatives is cut.
func expand(glob string) []string {
	from, to, commas := firstBraces(glob)
	if to < 0 {
		return []string{glob}
	}
	var all []string
	ends := append(commas, to)
	begin := from + 1
	for _, end := range ends {
		all = append(all, expand(glob[:from]+glob[begin:end]+glob[to+1:])...)
		if begin = end + 1; len(all) > maxAlternatives {
			break
		}
	}
	return all
}

// firstBraces returns where the first braces begin and end and where the commas
// between what they offer are; to is -1 if there are none.
func firstBraces(glob string) (from, to int, commas []int) {
	from = -1
	depth, class := 0, false
	for i := 0; i < len(glob); i++ {
		switch c := glob[i]; {
		case c == '\\':
			i++
		case class:
			class = c != ']'
		case c == '[':
			class = true
		case c == '{':
			if depth++; depth == 1 {
				from = i
			}
		case c == ',' && depth == 1:
			commas = append(commas, i)
		case c == '}' && depth > 0:
			if depth--; depth == 0 {
				return from, i, commas
			}
		}
	}
	return from, -1, nil
}

// match reports whether p matches name, which is relative to where the pattern
// begins. A part of name that begins with a dot is matched only by a part of the
// pattern that does, unless hidden.
func (p pattern) match(name string, hidden bool) bool {
	return slices.ContainsFunc(p.alts, func(a alternative) bool {
		if p.base {
			return matches(a.glob, path.Base(name)) && (hidden || a.shows(name))
		}
		return matches(a.glob, name) && (hidden || a.shows(name))
	})
}

// matches is doublestar.Match for a pattern that is known to be valid.
func matches(glob, name string) bool { return doublestar.MatchUnvalidated(glob, name) }

// shows reports whether every part of name that begins with a dot is one that
// the pattern asks for.
func (a alternative) shows(name string) bool {
	for seg := range strings.SplitSeq(name, "/") {
		if strings.HasPrefix(seg, ".") && !slices.ContainsFunc(a.segs, func(g string) bool {
			return strings.HasPrefix(g, ".") && matches(g, seg)
		}) {
			return false
		}
	}
	return true
}

// depth returns how many parts every match has at most, or 0 for any number.
func (p pattern) depth() int {
	most := 0
	for _, a := range p.alts {
		if p.base || strings.Contains(a.glob, "**") || strings.ContainsAny(a.glob, `{[\`) {
			return 0
		}
		most = max(most, len(a.segs))
	}
	return most
}

// leads reports whether a directory, relative to where the pattern begins, may
// have matches in it; for patterns of a known depth.
func (p pattern) leads(dir string) bool {
	n := strings.Count(dir, "/") + 1
	return slices.ContainsFunc(p.alts, func(a alternative) bool {
		return len(a.segs) > n && matches(strings.Join(a.segs[:n], "/"), dir)
	})
}
