// Package lasterror remembers what the failed calls of processes ran into, so
// that who got an errno can ask what it means.
//
// "The calling process" is rarely the one that asks: a shell runs a command that
// fails, and then cat to read why; an agent runs one shell for the first and
// another for the second. So a failure is kept with the ancestors of the process
// that had it, and whoever asks gets those that are nearest in the family: its
// own, else those of its parent and of what the parent has started, else of the
// grandparent, and so on. A family ends at a process of another user and at the
// init of the machine or container. Processes in another pid namespace, which
// can't be seen, are one family for each user.
//
// Nobody is shown the failure of another user; root is shown all.
package lasterror

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/audit"
	"github.com/agentfs/agentfs/backends/process"
)

const (
	// maxFailures bounds how many failures are kept, and maxLookups how many
	// lookups of names that aren't there, which are no failure more often than
	// they are one.
	maxFailures = 512
	maxLookups  = 256
	// maxOfProcess bounds how many of those are of one process, so that one
	// that fails all the time leaves room for others.
	maxOfProcess = 8
	// maxShown bounds how many Of returns.
	maxShown = 5
)

// Failure is one failed call.
type Failure struct {
	audit.Op
	// Process is who called; zero if it can't be seen.
	Process process.Process
	// Exe is the program that it ran.
	Exe string

	family []process.ID
}

// Failures remembers failed calls. The zero value is ready for use; its methods
// may be called by many goroutines at once.
type Failures struct {
	processes process.Table

	mu      sync.Mutex
	failed  []Failure // oldest first
	lookups []Failure
}

// Add remembers op, which has failed. It has to be called before the caller
// gets its answer: until then its process is there to be looked at.
func (s *Failures) Add(op *audit.Op) {
	f := Failure{Op: *op}
	if all := s.processes.Ancestors(op.Caller.PID); len(all) > 0 {
		f.Process, f.family = all[0], ids(all)
	}
	lookup := op.Kind == audit.Lookup
	if !lookup && f.Process.PID != 0 {
		f.Exe = f.Process.Exe()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if lookup {
		s.lookups = add(s.lookups, f, 1, maxLookups)
	} else {
		s.failed = add(s.failed, f, maxOfProcess, maxFailures)
	}
}

func ids(all []process.Process) []process.ID {
	out := make([]process.ID, len(all))
	for i, p := range all {
		out[i] = p.ID
	}
	return out
}

// add appends f and drops what is too old: of the same caller, or of all.
func add(all []Failure, f Failure, ofProcess, most int) []Failure {
	oldest, n := -1, 0
	for i := range all {
		if all[i].sameCaller(&f) {
			if n++; oldest < 0 {
				oldest = i
			}
		}
	}
	if n >= ofProcess {
		all = slices.Delete(all, oldest, oldest+1)
	} else if len(all) >= most {
		all = slices.Delete(all, 0, 1)
	}
	return append(all, f)
}

func (f *Failure) sameCaller(g *Failure) bool {
	return f.Process.ID == g.Process.ID && f.Caller.UID == g.Caller.UID
}

// Made forgets that the name path was not there: who makes a file looks first
// whether there is one, which is no failure then.
func (s *Failures) Made(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lookups = slices.DeleteFunc(s.lookups, func(f Failure) bool { return f.Path == path })
}

// Of returns what the family of the caller in ctx ran into, the last first.
// relation says whose failures these are: 0 for the caller's own process, 1 for
// its parent and what the parent started, and so on; it is 0, too, for a caller
// that can't be seen.
func (s *Failures) Of(ctx context.Context) (all []Failure, relation int) {
	caller, ok := backends.CallerFrom(ctx)
	if !ok {
		return nil, 0
	}
	family := ids(s.processes.Ancestors(caller.PID))
	s.mu.Lock()
	defer s.mu.Unlock()
	visible := func(f *Failure) bool { return f.Caller.UID == caller.UID || caller.UID == 0 }
	if len(family) == 0 {
		return s.pick(func(f *Failure) bool { return f.Process.PID == 0 && f.Caller.UID == caller.UID }), 0
	}
	for i, id := range family {
		all = s.pick(func(f *Failure) bool { return visible(f) && slices.Contains(f.family, id) })
		if len(all) > 0 {
			return all, i
		}
	}
	return nil, 0
}

// pick returns the newest failures that match.
func (s *Failures) pick(match func(*Failure) bool) (all []Failure) {
	for _, list := range [][]Failure{s.failed, s.lookups} {
		for i := range list {
			if match(&list[i]) {
				all = append(all, list[i])
			}
		}
	}
	slices.SortStableFunc(all, func(a, b Failure) int { return b.Time.Compare(a.Time) })
	return all[:min(len(all), maxShown)]
}

// Age returns how long ago f was, in whole seconds.
func (f *Failure) Age(now time.Time) time.Duration {
	return max(now.Sub(f.Time), 0).Truncate(time.Second)
}
