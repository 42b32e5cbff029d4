package journal

import "sync"

// syncState is how much of the journal is on the disk.
type syncState struct {
	mu   sync.Mutex // held while the kernel writes; others then find their part done
	upto uint64     // number of the last commit that is on the disk
	err  error      // of the first sync that failed
}

// Sync brings all that was committed before to the disk: when it returns nil, a
// power loss leaves it in place.
//
// An error is final, all later calls return it as well: the kernel may have dropped
// what it could not write, and a second attempt would find nothing to do.
func (j *Journal) Sync() error { return j.syncLog() }

// syncLog is all of Sync: what is not in the log any more was synced in the
// database before it left the log.
func (j *Journal) syncLog() error {
	want := j.done.Load()
	s := &j.sync
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	if s.upto >= want {
		return nil
	}
	upto := j.done.Load()
	if s.err = j.log.Sync(); s.err == nil {
		s.upto = upto
	}
	return s.err
}
