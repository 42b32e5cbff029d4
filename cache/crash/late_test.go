package crash_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
)

// late is a server that carries out some puts a while after it has said that it failed, and
// whoever sent them has sent them again, given up or been killed. There is no telling then
// what a name has in the store at any one moment, but for the end of it. So it is with files
// in directories that are always there: else a late one brings a directory with it.
type late struct {
	transcribed
	mu      sync.Mutex
	r       *rand.Rand
	calm    bool // all is carried out at once
	pending sync.WaitGroup
}

const maxLate = 300 * time.Millisecond

var errReset = errors.New("connection reset")

func (s *late) Put(ctx context.Context, name string, body *io.SectionReader, opts backends.PutOptions) (backends.Entry, error) {
	s.mu.Lock()
	after, is := time.Duration(s.r.Int64N(int64(maxLate))), !s.calm && s.r.IntN(10) == 0
	s.mu.Unlock()
	if !is || opts.Operation == "" || strings.Count(name, "/") > 1 {
		return s.transcribed.Put(ctx, name, body, opts)
	}
	data, err := io.ReadAll(body)
	if err != nil {
		return backends.Entry{}, err
	}
	s.to.add("store: late: Put " + name + " op " + opts.Operation)
	s.pending.Go(func() {
		time.Sleep(after)
		_, _ = s.transcribed.Put(context.Background(), name, io.NewSectionReader(bytes.NewReader(data), 0, int64(len(data))), opts)
	})
	return backends.Entry{}, errReset
}

// TestCrashLate is TestCrash over a server that carries out later what it has refused: what
// was removed meanwhile, also by the next process, does not stay there, and nobody sees it.
func TestCrashLate(t *testing.T) {
	t.Parallel()
	all := &transcript{}
	m := newMemory(t)
	s := &late{transcribed: transcribed{newRemembering(plain{m}), all}}
	socket, idle := serve(t, s)
	t.Cleanup(s.pending.Wait)
	c := newCrash(t, place{Socket: socket, direct: m, idle: idle, transcript: all}, faultLate)
	s.r = rand.New(rand.NewPCG(c.seed, 200))
	c.calm = func(calm bool) {
		s.mu.Lock()
		s.calm = calm
		s.mu.Unlock()
	}
	c.run(6)
}

// faultLate is no fault of the client's side.
const faultLate = "late"

// storedLate is crash.stored of a store that may still get something, while the cache is
// open that takes it away again.
func (c *crash) storedLate() {
	c.t.Helper()
	var bad []string
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		got, err := c.place.look()
		if err != nil {
			c.fatal("reading the store: %v", err)
		}
		if bad = compare(got, c.m.exact()); len(bad) == 0 {
			c.n.drained++
			return
		}
	}
	c.fatal("the store:\n%s", strings.Join(bad, "\n"))
}
