package auditlog

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"
)

// Filter says which records are wanted; what is empty takes all.
type Filter struct {
	// Since and Until bound the time, Until not included.
	Since, Until time.Time
	// Paths are doublestar patterns; one of them matches Path or To. One
	// without a slash is compared with the last part.
	Paths []string
	// Processes are pids, or doublestar patterns of programs: with a slash of
	// the whole path, else of its last part.
	Processes []string
	// Ops are kinds of operations.
	Ops []string
	// Results are "ok", names of errnos, or "error" for all of these.
	Results []string
	// Users are user ids.
	Users []int
}

// ResultError stands for every result but "ok" in a [Filter].
const ResultError = "error"

// Check returns an error that names a pattern that is none.
func (f *Filter) Check() error {
	for _, p := range slices.Concat(f.Paths, f.Processes) {
		if !doublestar.ValidatePattern(p) {
			return fmt.Errorf("%q is not a pattern: there are * ? [a-z] {a,b} and **", p)
		}
	}
	return nil
}

// Match reports whether l is wanted. A record about the records themselves is
// about all of them, so only time, operation and result count.
func (f *Filter) Match(l *Line) bool {
	switch {
	case !f.Since.IsZero() && l.Time.Before(f.Since), !f.Until.IsZero() && !l.Time.Before(f.Until):
		return false
	case len(f.Ops) > 0 && !slices.Contains(f.Ops, l.Op):
		return false
	case len(f.Results) > 0 && !slices.ContainsFunc(f.Results, func(r string) bool {
		return r == ResultError && l.Result != ResultOK || strings.EqualFold(r, l.Result)
	}):
		return false
	case l.Op == OpAudit:
		return true
	case len(f.Users) > 0 && !slices.Contains(f.Users, int(l.UID)):
		return false
	case len(f.Paths) > 0 && !slices.ContainsFunc(f.Paths, func(p string) bool {
		return matches(p, l.Path) || l.To != "" && matches(p, l.To)
	}):
		return false
	case len(f.Processes) > 0 && !slices.ContainsFunc(f.Processes, func(p string) bool {
		return p == strconv.FormatUint(uint64(l.PID), 10) || l.Exe != "" && matches(p, l.Exe)
	}):
		return false
	}
	return true
}

// matches reports whether the pattern is that of name, or of its last part if
// the pattern has no slash.
func matches(pattern, name string) bool {
	if !strings.Contains(pattern, "/") {
		name = path.Base(name)
	}
	return doublestar.MatchUnvalidated(pattern, name)
}
