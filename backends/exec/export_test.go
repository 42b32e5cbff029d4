package exec

import "time"

// Failures are the errors that have a name in the protocol.
var Failures = failures

// EndWithin makes s wait less for its program's end.
func (s *Store) EndWithin(end, term time.Duration) { s.end, s.term = end, term }

// PID returns the process of the program that runs, 0 if none does.
func (s *Store) PID() int {
	s.keeper.mu.Lock()
	defer s.keeper.mu.Unlock()
	if s.keeper.session == nil || s.keeper.session.failure() != nil {
		return 0
	}
	return s.keeper.session.p.cmd.Process.Pid
}
