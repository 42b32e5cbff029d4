package journal

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// syncState is how much of the journal is on the disk.
type syncState struct {
	mu   sync.Mutex // held while the kernel writes; others then find their part done
	upto uint64     // number of the last commit that is on the disk
	err  error      // of the first sync that failed
	// segments are all of the log, the oldest first.
	segments []*segment

	table    sync.Mutex // held while the kernel writes SQLite's log
	tableErr error      // of the first sync of that which failed
}

func (s *syncState) add(g *segment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.segments = append(s.segments, g)
}

// remove removes the file of a segment, of which nothing is needed any more.
func (s *syncState) remove(g *segment) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := os.Remove(g.f.Name()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	s.segments = slices.DeleteFunc(s.segments, func(x *segment) bool { return x == g })
	_ = g.f.Close()
	return nil
}

func (s *syncState) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, g := range s.segments {
		errs = append(errs, g.f.Close())
	}
	s.segments = nil
	return errors.Join(errs...)
}

// Sync brings all that was committed before to the disk: when it returns nil, a
// power loss leaves it in place.
//
// An error is final, all later calls return it as well: the kernel may have dropped
// what it could not write, and a second attempt would find nothing to do.
func (j *Journal) Sync() error { return j.syncUpto(j.done.Load()) }

// syncUpto is Sync of the commits up to number want.
func (j *Journal) syncUpto(want uint64) error {
	s := &j.sync
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	if s.upto >= want {
		return nil
	}
	if err := s.repeat(); err != nil {
		return err
	}
	upto := j.done.Load()
	if s.err = s.write(); s.err == nil {
		s.upto = upto
	}
	return s.err
}

// syncTable brings SQLite's log to the disk. An error is final here, too: what the
// kernel has dropped would be moved into the database, and the log be removed for it.
func (j *Journal) syncTable() error {
	s := &j.sync
	s.table.Lock()
	defer s.table.Unlock()
	if s.tableErr == nil {
		s.tableErr = j.wal.Sync()
	}
	return s.tableErr
}

// repeat writes what earlier processes have left once more: if a sync has failed for one
// of them, the kernel takes for written what it has dropped. mu is held.
func (s *syncState) repeat() error {
	for _, g := range s.segments {
		if g.again == nil {
			continue
		}
		if _, err := g.f.WriteAt(g.again, 0); err != nil {
			return err
		}
		g.again = nil
	}
	return nil
}

// write brings the log to the disk. What is not in it any more was brought there
// before it left. mu is held.
func (s *syncState) write() error {
	for i, g := range s.segments {
		if g.whole {
			continue
		}
		if err := g.f.Sync(); err != nil {
			return err
		}
		if !g.named {
			if err := syncDir(filepath.Dir(g.f.Name())); err != nil {
				return err
			}
			g.named = true
		}
		g.whole = i < len(s.segments)-1 // nothing is added to it any more
	}
	return nil
}
