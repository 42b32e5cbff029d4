package cache

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// spareFiles is how many empty files a room has ready.
const spareFiles = 32

// spares are empty files for contents to come. Making a file takes a host file
// system longer than everything else that a small write does, so the next ones
// are made while the writer is busy with this one.
type spares struct {
	dir string
	// since tells them from those of earlier processes.
	since int64

	mu      sync.Mutex
	ready   []*layer
	made    uint64
	filling bool
	ended   bool
	filled  sync.WaitGroup
}

// take returns a layer with an open, empty file; nil if there is none ready.
func (s *spares) take() (l *layer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.ready); n > 0 {
		l, s.ready = s.ready[n-1], s.ready[:n-1]
	}
	if !s.filling && !s.ended && len(s.ready) < spareFiles/2 {
		s.filling = true
		s.filled.Go(s.fill)
	}
	return l
}

func (s *spares) fill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.ready) < spareFiles && !s.ended {
		s.made++
		path := fmt.Sprintf("%s/spare-%x-%x", s.dir, s.since, s.made)
		s.mu.Unlock()
		f, err := openPlain(path, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL)
		s.mu.Lock()
		if err != nil {
			break // whoever needs one meets the same, and says so
		}
		s.ready = append(s.ready, &layer{path: path, file: f, refs: 1})
	}
	s.filling = false
}

// end removes those that nobody has taken. No more are made.
func (s *spares) end() {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.filled.Wait()
	for _, l := range s.ready {
		l.drop()
	}
	s.ready = nil
}
