package journal

import (
	"os"
	"path/filepath"
	"sync"
)

// here has the journals that this process has open. Its own database must not be
// opened by other means than SQLite: closing any descriptor of a file takes away
// the locks that the process has on it.
var here struct {
	mu   sync.Mutex
	open map[*Journal]os.FileInfo // of the file with the numbers
}

func (j *Journal) appear() error {
	fi, err := j.ack.f.Stat()
	if err != nil {
		return err
	}
	here.mu.Lock()
	defer here.mu.Unlock()
	if here.open == nil {
		here.open = map[*Journal]os.FileInfo{}
	}
	here.open[j] = fi
	return nil
}

func (j *Journal) disappear() {
	here.mu.Lock()
	defer here.mu.Unlock()
	delete(here.open, j)
}

// openHere returns the journal in dir if this process has it open, else nil.
func openHere(dir string) *Journal {
	fi, err := os.Stat(filepath.Join(dir, ackName))
	if err != nil {
		return nil
	}
	here.mu.Lock()
	defer here.mu.Unlock()
	for j, its := range here.open {
		if os.SameFile(fi, its) {
			return j
		}
	}
	return nil
}
