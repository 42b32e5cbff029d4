package cache

import (
	"os"
	"runtime"
	"sync"
	"testing"
)

// Each spare file is given away once, and those that are left go with the room.
func TestSpares(t *testing.T) {
	s := &spares{dir: t.TempDir(), since: 1}
	var mu sync.Mutex
	got := map[string]*layer{}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for mine := 0; mine < spareFiles; {
				l := s.take()
				if l == nil {
					runtime.Gosched()
					continue
				}
				mine++
				mu.Lock()
				if got[l.path] != nil {
					t.Errorf("%s was given away twice", l.path)
				}
				got[l.path] = l
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	s.end()
	if l := s.take(); l != nil {
		t.Errorf("%s after the end", l.path)
	}
	there, err := os.ReadDir(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(there) != len(got) {
		t.Errorf("%d files are there, %d were given away", len(there), len(got))
	}
	for _, l := range got {
		if _, err := l.file.WriteString("x"); err != nil {
			t.Error(err)
		}
		l.drop()
	}
	if there, err := os.ReadDir(s.dir); err != nil || len(there) > 0 {
		t.Errorf("%v are left (%v)", there, err)
	}
}
