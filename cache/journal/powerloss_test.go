package journal

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// powered is a journal beside a model of what its disk has for certain.
type powered struct {
	*testing.T
	opt    options
	j      *Journal
	states []map[string]string // after each commit; its key id has the index
	synced int                 // the last one that is on the disk
	// size is how much is on the disk of each segment, segments what each was last, and
	// acks what the file with the numbers has been: it may be any of these.
	size     map[string]int64
	segments map[string][]byte
	acks     [][]byte
}

func newPowered(t *testing.T) *powered {
	p := &powered{T: t, opt: quiet, states: []map[string]string{{}}, size: map[string]int64{}, segments: map[string][]byte{}}
	p.opt.slice = 1 + rand.IntN(4)
	p.j = mustOpen(t, t.TempDir(), p.opt)
	p.note()
	return p
}

func (p *powered) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

func (p *powered) names(dir string) []string {
	p.Helper()
	names, err := segmentNames(dir)
	p.must(err)
	return names
}

// note remembers the files as they are.
func (p *powered) note() {
	b, err := os.ReadFile(filepath.Join(p.j.dir, ackName))
	p.must(err)
	p.acks = append(p.acks, b)
	for _, name := range p.names(p.j.dir) {
		p.segments[filepath.Base(name)], err = os.ReadFile(name)
		p.must(err)
	}
}

// isSynced notes that all that was committed is on the disk.
func (p *powered) isSynced() {
	p.synced = len(p.states) - 1
	for _, name := range p.names(p.j.dir) {
		fi, err := os.Stat(name)
		p.must(err)
		p.size[filepath.Base(name)] = fi.Size()
	}
}

func (p *powered) commit() {
	want := maps.Clone(p.states[len(p.states)-1])
	var b Batch
	for range 1 + rand.IntN(5) {
		k := fmt.Sprintf("%c/%d", 'a'+rand.IntN(3), rand.IntN(6))
		switch rand.IntN(6) {
		case 0:
			b.Delete(k)
			delete(want, k)
		case 1:
			b.DeletePrefix(k[:2])
			maps.DeleteFunc(want, func(x, _ string) bool { return strings.HasPrefix(x, k[:2]) })
		default:
			want[k] = fmt.Sprint(rand.Int(), strings.Repeat("z", rand.IntN(300)))
			b.Put(k, []byte(want[k]))
		}
	}
	want["id"] = fmt.Sprint(len(p.states))
	b.Put("id", []byte(want["id"]))
	p.must(p.j.Commit(&b))
	p.states = append(p.states, want)
}

// step does one of the things that a journal does.
func (p *powered) step() {
	j := p.j
	switch rand.IntN(10) {
	default:
		p.commit()
	case 5:
		p.must(j.Sync())
		p.isSynced()
	case 6, 7, 8:
		j.turn.Lock()
		defer j.turn.Unlock()
		if some := j.freeze(); some && rand.IntN(3) > 0 {
			begun := j.frozen.begun
			p.must(j.spread())
			if !begun {
				p.isSynced()
			}
		}
	case 9:
		j.turn.Lock()
		defer j.turn.Unlock()
		_, err := j.checkpoint()
		p.must(err)
	}
}

// spoil does to a copy of the files what a power loss may do.
func (p *powered) spoil(dir string) {
	writeFile(p.T, filepath.Join(dir, ackName), p.acks[rand.IntN(len(p.acks))])
	wal := filepath.Join(dir, dbName+"-wal")
	if fi, err := os.Stat(wal); err == nil { // its last sync was before it was emptied
		p.must(os.Truncate(wal, rand.Int64N(fi.Size()+1)))
	}
	there := map[string]bool{}
	for _, name := range p.names(dir) {
		there[filepath.Base(name)] = true
		b, err := os.ReadFile(name)
		p.must(err)
		size := p.size[filepath.Base(name)]
		at := size + rand.Int64N(int64(len(b))-size+1)
		switch rand.IntN(5) {
		case 0:
			b = b[:at]
		case 1:
			clear(b[at:]) // the size is on the disk, the bytes are not
		case 2:
			clear(b[at:min(int64(len(b)), at+rand.Int64N(200))])
		case 3:
			if size == 0 {
				p.must(os.Remove(name))
				continue
			}
		}
		writeFile(p.T, name, b)
	}
	for name, b := range p.segments { // that it was removed is not on the disk
		if !there[name] && p.size[name] == int64(len(b)) && rand.IntN(3) == 0 {
			writeFile(p.T, filepath.Join(dir, name), b)
		}
	}
}

// next goes on after a kill or a power loss, and returns whether commits are lost.
func (p *powered) next() bool {
	least := len(p.states) - 1
	dir := asKilled(p.T, p.j)
	if rand.IntN(3) > 0 {
		least = p.synced
		p.spoil(dir)
	}
	p.j = mustOpen(p.T, dir, p.opt)
	got := contents(p.T, p.j)
	n, _ := strconv.Atoi(got["id"])
	if n < least || n >= len(p.states) || !maps.Equal(got, p.states[n]) {
		p.Fatalf("of %d commits %d are there, at least %d have to be; Damage %q", len(p.states)-1, n, least, p.j.Damage())
	}
	lost := n < len(p.states)-1
	p.states = p.states[:n+1]
	p.size, p.segments = map[string]int64{}, map[string][]byte{}
	p.must(p.j.Sync())
	p.isSynced()
	return lost
}

// TestPowerLossAnywhere: whatever a power loss makes of what was not synced, what is there
// afterwards is a state that once was, not older than the last sync, also where one power loss
// follows another.
func TestPowerLossAnywhere(t *testing.T) {
	losses := 0
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); {
		p := newPowered(t)
		for range 80 {
			if rand.IntN(6) > 0 {
				p.step()
			} else if p.next() {
				losses++
			}
			p.note()
		}
	}
	t.Logf("commits were lost %d times", losses)
}
